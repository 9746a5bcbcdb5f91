"""What the editor sends, without what only the editor needs."""

from __future__ import annotations

from typing import Any

ONLY_IN_THE_EDITOR = ("audioUI", "preview", "previewMode", "video-preview")
"""Fields that the frontend adds to nodes, and so, in some versions, to what it sends; the server ignores them."""


def what_is_run(prompt: dict[str, Any]) -> dict[str, Any]:
    """A prompt in API format as the server takes it."""
    return {
        name: node | {"inputs": {key: each for key, each in node["inputs"].items() if key not in ONLY_IN_THE_EDITOR}}
        for name, node in prompt.items()
    }
