"""`codi convert`: official checkpoint files to a model folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, choose
from ..parts import DTYPES
from ..terminal import progress_bars
from .conversion import FoundPart, convert


def convert_command(files: Sequence[Path], dtype: str | None, *, as_json: bool) -> None:
    """Convert with progress on stderr, then list the parts on stdout. files: the sources, and last the folder.

    Raises CheckpointError for unusable files or folders, ConfigError for an unknown dtype.
    """
    *sources, destination = files
    if not sources:
        raise CheckpointError(
            f"wanted checkpoint files and a folder to write to, got only {destination}; name the folder last"
        )
    chosen = None if dtype is None else DTYPES[choose("dtype", dtype, DTYPES)]
    with progress_bars() as bars:
        tasks: dict[str, Any] = {}

        def show(part: str, written: int, total: int) -> None:
            if part not in tasks:
                tasks[part] = bars.add_task(f"{part} (MB)", total=total // 10**6)
            bars.update(tasks[part], completed=written // 10**6)

        found = convert(sources, destination, dtype=chosen, on_progress=show)
    if as_json:
        rows = [{"part": part.name, "source": str(part.source), "joint": part.aligned} for part in found]
        print(json.dumps({"folder": str(destination), "parts": rows}))
        return
    for part in found:
        print(f"{destination / part.name}  from {part.source}{_alignment_note(part)}")


def _alignment_note(part: FoundPart) -> str:
    """What artists should know about outputs made together."""
    if part.aligned is False:
        return "  without environment encoder and connectors: made together, its outputs do not see the others"
    return ""
