"""What training learns from: batches of samples, be they of the procedural world or read from files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..modality import Modality
from ..values import Media, Picture, Waveform

CAPTIONS_PER_SAMPLE = 3


@dataclass(frozen=True)
class Pairs:
    """Captions, and the samples of one modality that they are held against; as many of each.

    fits: [i, j] whether all that text i says is so in sample j. places: of the figures in pictures, x to the right and
    y down, 0 to 1; None where nobody knows them.
    """

    texts: list[str]
    media: Media
    fits: Bool[Tensor, "batch batch"]
    places: Float[Tensor, "batch 2"] | None = None


@dataclass(frozen=True)
class Samples:
    """Matched samples of several modalities. captions: lists with one caption per sample each, as prompts; the texts
    among the media may be others."""

    media: Mapping[Modality, Media]
    captions: list[list[str]]


@runtime_checkable
class Source(Protocol):
    """Where samples come from. All chance comes from the generator, so the same one gives the same samples."""

    @property
    def digest(self) -> str:
        """A short name that no other source has, for files that were made from this one."""
        ...

    def holds(self, modalities: Collection[Modality]) -> bool:
        """Whether there are samples of all these modalities together."""
        ...

    def pictures(self, count: int, generator: torch.Generator) -> Picture:
        """Something for an autoencoder of pictures and frames; of any size, and perhaps fewer than asked for."""
        ...

    def sounds(self, count: int, generator: torch.Generator) -> Waveform:
        """Mono, at the model's rate and of its duration."""
        ...

    def texts(self, count: int, generator: torch.Generator) -> list[str]: ...

    def pairs(self, modality: Modality, count: int, generator: torch.Generator) -> Pairs:
        """For contrast. Of the modality text: captions against captions that say all there is to say."""
        ...

    def samples(
        self,
        modalities: Collection[Modality],
        sayable: Modality,
        rows: range,
        generator: torch.Generator,
        captions_each: int = CAPTIONS_PER_SAMPLE,
        nameless: bool = True,
    ) -> Samples:
        """The samples of these numbers, counted from 0 on and asked for in order; as many captions of each, if text is
        among the modalities, speak of what `sayable` shows. nameless: whether some may show what captions have no word
        for, if the source knows of any."""
        ...
