"""What a node shows: as much of ComfyUI's `comfy_api.latest.ui` as is in use, under the same names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from .. import media
from ..host_values import from_host
from ..modality import FACTS
from ..values import Picture, Waveform, modality_of, rows_of
from . import folders
from .io import FolderType


class SavedResult(dict[str, str]):
    """Where a shown file lies: its name, the folder it is in, and below which root that is."""

    def __init__(self, filename: str, subfolder: str, type: FolderType) -> None:
        super().__init__(filename=filename, subfolder=subfolder, type=str(type))


def saved_result(path: Path) -> SavedResult:
    """A file below the output folder as ComfyUI notes it."""
    below = path.relative_to(folders.current.get().output.resolve())
    return SavedResult(path.name, str(below.parent), FolderType.output)


def path_of(result: Mapping[str, str]) -> Path:
    """Where the file of a SavedResult lies."""
    run = folders.current.get()
    root = run.temp if result["type"] == FolderType.temp else run.output
    return root.resolve() / result["subfolder"] / result["filename"]


def write_rows(value: Any, new_path: Callable[[str], Path], metadata: Mapping[str, str] | None = None) -> list[Path]:
    """One file per row of an IMAGE or AUDIO; `new_path` gives a name for a suffix."""
    batch = cast(Picture | Waveform, from_host(value))
    suffix = FACTS[modality_of(batch)].suffixes[0]
    written = []
    for row in rows_of(batch):
        written.append(new_path(suffix))
        media.write(row, written[-1], metadata)
    return written


class _Shown:
    """One kind of results of a node."""

    def __init__(self, kind: str, values: Sequence[Any]) -> None:
        self.kind = kind
        self.values = values

    def as_dict(self) -> dict[str, Sequence[Any]]:
        return {self.kind: self.values}


def _temporary(value: Any) -> list[SavedResult]:
    paths = write_rows(value, lambda suffix: folders.current.get().temp / f"{uuid4().hex}{suffix}")
    return [SavedResult(path.name, "", FolderType.temp) for path in paths]


class PreviewImage(_Shown):
    """The pictures of an IMAGE. `cls` serves ComfyUI alone, as in PreviewAudio."""

    def __init__(self, image: Any, animated: bool = False, cls: Any = None) -> None:
        super().__init__("images", _temporary(image))


class PreviewAudio(_Shown):
    def __init__(self, audio: Any, cls: Any = None) -> None:
        super().__init__("audio", _temporary(audio))


class PreviewVideo(_Shown):
    """Videos that the node has written itself."""

    def __init__(self, values: Sequence[SavedResult]) -> None:
        super().__init__("images", values)


class PreviewText(_Shown):
    def __init__(self, value: str) -> None:
        super().__init__("text", (value,))
