"""`codi convert`: official checkpoint files to a model folder. `codi download`: files of the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress, TaskID

from ..errors import choose
from ..parts import DTYPES
from ..terminal import progress_bars
from .conversion import OnProgress, convert, notes
from .download import OFFICIAL_REPOSITORY, download


def convert_command(files: Sequence[Path], dtype: str | None, tokenizers: Path | None, *, as_json: bool) -> None:
    """Convert with progress on stderr, then list the parts on stdout. files: the sources, and last the folder.

    Raises CheckpointError for unusable files or folders, ConfigError for an unknown dtype.
    """
    *sources, destination = files
    chosen = None if dtype is None else DTYPES[choose("dtype", dtype, DTYPES)]
    with progress_bars() as bars:
        found = convert(sources, destination, dtype=chosen, tokenizers=tokenizers, on_progress=_shown_in(bars))
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
        for note in notes(part, destination):
            print(f"  {note}")


def download_command(repository: str | None, destination: Path, files: str, *, as_json: bool) -> None:
    """Download with progress on stderr, then list the files on stdout. repository: by default the published weights.

    Raises CheckpointError for what cannot be had.
    """
    with progress_bars() as bars:
        show = _shown_in(bars)
        fetched = download(
            repository or OFFICIAL_REPOSITORY,
            destination,
            files=files,
            on_bytes=lambda name, here, total: show(str(destination), here, total),
        )
    if as_json:
        print(json.dumps({"folder": str(destination), "files": list(map(str, fetched))}))
        return
    for file in fetched:
        print(file)


def _shown_in(bars: Progress) -> OnProgress:
    """Shows each name's bytes in a bar of its own."""
    tasks: dict[str, TaskID] = {}

    def show(name: str, done: int, total: int) -> None:
        if name not in tasks:
            tasks[name] = bars.add_task(f"{name} (MB)", total=total // 10**6)
        bars.update(tasks[name], completed=done // 10**6)

    return show
