"""ComfyUI's editor in a page of Chromium."""

from __future__ import annotations

import json
import os
from typing import Any

READY = "window.app?.graph && Object.keys(LiteGraph.registered_node_types).length > 100"
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.VueNodes.Enabled": False, "Comfy.Locale": "en"}
START_MS = 120_000


def launch_chromium(driver: Any) -> Any:
    """CHROMIUM_PATH: where it is, if not where Debian has it."""
    path = os.environ.get("CHROMIUM_PATH", "/usr/bin/chromium")
    return driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])


def open_editor(page: Any, url: str, **settings: Any) -> None:
    """Until it can be used. settings: of the editor, beside or instead of SETTINGS."""
    for name, value in (SETTINGS | settings).items():
        page.request.post(f"{url}/api/settings/{name}", data=json.dumps(value))
    page.goto(url)
    page.wait_for_function(READY, timeout=START_MS)
