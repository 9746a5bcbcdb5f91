"""The modalities. Whatever differs between them hangs on one table keyed by `Modality`, never on a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Modality(StrEnum):
    """A kind of media that CoDi reads and writes. Also works as key of an `nn.ModuleDict` and as a combo value."""

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"


@dataclass(frozen=True, kw_only=True)
class ModalityFacts:
    """What holds for a modality at every scale of the system.

    suffixes: file name endings that are read as this modality; the first one is written.
    extent: which fields of `OutputSize` its latent depends on.
    """

    suffixes: tuple[str, ...]
    extent: tuple[str, ...]


FACTS: dict[Modality, ModalityFacts] = {
    Modality.TEXT: ModalityFacts(suffixes=(".txt",), extent=()),
    Modality.IMAGE: ModalityFacts(suffixes=(".png", ".jpg", ".jpeg", ".webp", ".bmp"), extent=("height", "width")),
    Modality.VIDEO: ModalityFacts(
        suffixes=(".mp4", ".mov", ".mkv", ".webm", ".gif"), extent=("frames", "height", "width")
    ),
    Modality.AUDIO: ModalityFacts(suffixes=(".flac", ".wav", ".mp3", ".ogg", ".m4a"), extent=("seconds",)),
}
