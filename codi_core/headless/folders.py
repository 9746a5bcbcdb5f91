"""Where a run finds the user's files, puts its results and keeps what is only shown for a while."""

from __future__ import annotations

import re
import tempfile
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from ..errors import GraphError


@dataclass(frozen=True)
class Folders:
    """inputs: searched in this order."""

    inputs: tuple[Path, ...]
    output: Path
    temp: Path


_ANYWHERE = Folders((Path(),), Path(), Path(tempfile.gettempdir()))

# A variable of the context: nodes reach their folders through functions of the host, not through arguments.
current: ContextVar[Folders] = ContextVar("folders", default=_ANYWHERE)


def find_input(name: str, where: str) -> Path:
    """The first file of that name in the input folders; `where` begins the GraphError if there is none."""
    folders = current.get().inputs
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    searched = ", ".join(str(folder.resolve()) for folder in folders)
    raise GraphError(
        f"{where}: wanted a file, got {name!r}, which is not in {searched}; put it there or "
        "name another one with --input"
    )


def next_output(prefix: str, suffix: str) -> Path:
    """A new file in the output folder: `prefix_00001_.suffix`, counted on from what is there.

    Raises GraphError for a prefix that leads out of the folder or has a placeholder in it.
    """
    output = current.get().output.resolve()
    base = (output / prefix).resolve()
    if "%" in prefix or not base.is_relative_to(output) or base == output:
        raise GraphError(
            f"wanted a filename_prefix below the output folder, got {prefix!r}; leave out placeholders and .."
        )
    return base.with_name(f"{base.name}_{next_number(base):05}_{suffix}")


def next_number(base: Path) -> int:
    """One more than the highest N of the files `base_N_…`, so that a new one overwrites none."""
    taken = re.compile(re.escape(base.name) + r"_(\d+)_.*", re.IGNORECASE)
    names = (taken.fullmatch(path.name) for path in base.parent.glob("*"))
    return max((int(match[1]) for match in names if match), default=0) + 1
