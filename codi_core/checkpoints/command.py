"""`codi convert`: official checkpoint files to a model folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, choose
from ..parts import DTYPES
from ..terminal import progress_bars
from .conversion import FoundPart, convert


def convert_command(files: Sequence[Path], dtype: str | None, tokenizers: Path | None, *, as_json: bool) -> None:
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

        found = convert(sources, destination, dtype=chosen, tokenizers=tokenizers, on_progress=show)
    if as_json:
        rows = [
            {
                "part": part.name,
                "source": str(part.source),
                "joint": part.aligned,
                "tokenizers_missing": part.tokenizers_missing,
            }
            for part in found
        ]
        print(json.dumps({"folder": str(destination), "parts": rows}))
        return
    for part in found:
        print(f"{destination / part.name}  from {part.source}")
        for note in _notes(part):
            print(f"  {note}")


def _notes(part: FoundPart) -> Iterator[str]:
    """What artists should know about a part as it came out."""
    if part.aligned is False:
        yield "has no environment encoder and connectors: its outputs do not see those made together with them"
    if part.tokenizers_missing:
        yield (
            f"cannot read or write text without the vocabulary of {', '.join(part.tokenizers_missing)}: the hub could "
            "not be reached. Remove this part, download that repository's small files into a folder of its name, and "
            "convert again with --tokenizers and the folder around it"
        )
