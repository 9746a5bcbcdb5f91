"""`codi convert`: official checkpoint files to a model folder. `codi download`: files of the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.progress import Progress, TaskID

from ..errors import CheckpointError, choose
from ..parts import DTYPES
from ..terminal import progress_bars
from .conversion import FoundPart, OnProgress, convert
from .download import OFFICIAL_REPOSITORY, download


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
        for note in _notes(part):
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
