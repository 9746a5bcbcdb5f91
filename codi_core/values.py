"""The values that travel along the wires. All are immutable and know their units and ranges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction

import torch
from jaxtyping import Float
from torch import Tensor

from .errors import PromptError, ShapeError
from .modality import Modality


@dataclass(frozen=True)
class Picture:
    """Still pictures: RGB in [-1, 1], channels first."""

    pixels: Float[Tensor, "batch 3 height width"]


@dataclass(frozen=True)
class Frames:
    """A video without its sound: RGB in [-1, 1], frame axis before channels."""

    pixels: Float[Tensor, "batch frames 3 height width"]
    frames_per_second: Fraction

    @property
    def duration_s(self) -> float:
        return self.pixels.shape[1] / float(self.frames_per_second)


@dataclass(frozen=True)
class Waveform:
    """Sound: samples in [-1, 1]."""

    samples: Float[Tensor, "batch channels samples"]
    sample_rate_hz: int

    @property
    def duration_s(self) -> float:
        return self.samples.shape[-1] / self.sample_rate_hz


Media = str | list[str] | Picture | Frames | Waveform
"""One prompt or one output. One text is a string; texts of a batch are a list of them, one per row."""

_MODALITY_OF_TYPE = {
    str: Modality.TEXT,
    list: Modality.TEXT,
    Picture: Modality.IMAGE,
    Frames: Modality.VIDEO,
    Waveform: Modality.AUDIO,
}


def modality_of(media: Media) -> Modality:
    """The modality of a prompt, by its type. Raises PromptError for anything else."""
    try:
        return _MODALITY_OF_TYPE[type(media)]
    except KeyError:
        known = ", ".join(kind.__name__ for kind in _MODALITY_OF_TYPE)
        raise PromptError(
            f"a prompt must be one of {known}, got {type(media).__name__}; read files with media.read"
        ) from None


def rows_of(media: Media) -> list[Media]:
    """The rows of a batch, each as a value of its own with batch 1; of texts the strings."""
    if isinstance(media, str):
        return [media]
    if isinstance(media, list):
        return list(media)
    tensor = _tensor_of(media)
    return [replace(media, **{tensor: row[None]}) for row in getattr(media, tensor)]


def on_cpu(media: Media) -> Media:
    """The same, its tensor in main memory."""
    if isinstance(media, (str, list)):
        return media
    tensor = _tensor_of(media)
    return replace(media, **{tensor: getattr(media, tensor).cpu()})


def _tensor_of(media: Picture | Frames | Waveform) -> str:
    """The name of the field that holds it: the first of every media value."""
    return fields(media)[0].name


UNTOLD = 0.02
"""How reliable a factor must be told to be taken for half of what is said of it."""


@dataclass(frozen=True)
class Meaning:
    """What a prompt, or a mixture of prompts, says in the factors that all kinds of prompts share.

    All are weighted means in mixtures, so that a factor is what those say of it who can tell it.
    evidence: what is said, times its reliability. reliability: symmetric; along each direction from 0, where the prompt
    says nothing, to 1. besides: by kind of prompt what its embedding holds besides the factors, which only
    prompts of that kind can tell.
    """

    evidence: Float[Tensor, "batch tokens factors"]
    reliability: Float[Tensor, "batch tokens factors factors"]
    besides: Mapping[Modality, Float[Tensor, "batch tokens width"]] = field(default_factory=dict)

    @property
    def factors(self) -> Float[Tensor, "batch tokens factors"]:
        """What is said; 0, the mean, of what nobody tells."""
        told = self.reliability + UNTOLD * torch.eye(self.reliability.shape[-1]).to(self.reliability)
        return torch.linalg.solve(told, self.evidence)


@dataclass(frozen=True)
class Condition:
    """A prompt, or a mixture of prompts, in the space that all prompt encoders share.

    embedding: each encoder returns one token of unit L2 norm; mixtures may be shorter.
    null: same shape; what guidance moves away from. Always present, so nobody asks whether it is.
    course: where a run is told different things on its way: what it is told when that share (0 to 1) of it is over.
    Embedding and null are then those of its beginning.
    parts: prompts that guide each by itself, and their weights, which sum to 1; empty if the embedding guides. It is
    then their weighted mean, for all that takes one.
    meaning: what each output's diffuser is told instead of the embedding, in prompts of its own kind, or in captions if
    they alone said it; None where the model doesn't know, or the embedding is to be taken as it is. null_meaning: of a
    negative prompt; None without one.
    """

    embedding: Float[Tensor, "batch tokens width"]
    null: Float[Tensor, "batch tokens width"]
    course: Callable[[float], Condition] | None = None
    parts: Sequence[tuple[Float[Tensor, "batch tokens width"], float]] = ()
    meaning: Meaning | None = None
    null_meaning: Meaning | None = None

    @property
    def guides(self) -> Sequence[tuple[Float[Tensor, "batch tokens width"], float]]:
        """What guides, and its weight."""
        return self.parts or [(self.embedding, 1.0)]

    def at(self, share: float) -> Condition:
        """What is told when that share of a run is over."""
        return self if self.course is None else self.course(share)

    def repeated(self, count: int) -> Condition:
        """Every row so many times, all rows in turn."""
        course = self.course

        def repeated(meaning: Meaning | None) -> Meaning | None:
            if meaning is None:
                return None
            besides = {kind: rows.repeat(count, 1, 1) for kind, rows in meaning.besides.items()}
            return Meaning(meaning.evidence.repeat(count, 1, 1), meaning.reliability.repeat(count, 1, 1, 1), besides)

        return Condition(
            self.embedding.repeat(count, 1, 1),
            self.null.repeat(count, 1, 1),
            None if course is None else lambda share: course(share).repeated(count),
            [(embedding.repeat(count, 1, 1), weight) for embedding, weight in self.parts],
            repeated(self.meaning),
            repeated(self.null_meaning),
        )


@dataclass(frozen=True)
class Latents:
    """What the joint sampler made: per modality, in the scaled space of its diffuser.

    samples: image (b, c, h, w), video (b, c, f, h, w), audio (b, c, time, mel), text (b, width).
    seconds: how much of the sound was asked for, None without one; its latent may be longer, since it is made of whole
    cells.
    masks: where a run that starts from these makes them anew (1) and where it keeps them (0); each expands to its
    sample.
    """

    samples: Mapping[Modality, Tensor]
    seconds: float | None = None
    masks: Mapping[Modality, Float[Tensor, "..."]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if Modality.AUDIO not in self.samples:
            object.__setattr__(self, "seconds", None)

    def joined(self, other: Latents) -> Latents:
        """Both; where both hold the same modality, the other's."""
        seconds = other.seconds if Modality.AUDIO in other.samples else self.seconds
        masks = {modality: mask for modality, mask in self.masks.items() if modality not in other.samples}
        return Latents({**self.samples, **other.samples}, seconds, {**masks, **other.masks})

    def split(self, modality: Modality) -> tuple[Latents, Latents]:
        """That modality alone, and all the others. Raises ShapeError if it isn't among these."""
        if modality not in self.samples:
            raise ShapeError(f"wanted latents with {modality}, got {', '.join(self.samples)}; choose one of these")
        one, others = (
            Latents(
                {each: sample for each, sample in self.samples.items() if (each == modality) is chosen},
                self.seconds,
                {each: mask for each, mask in self.masks.items() if (each == modality) is chosen},
            )
            for chosen in (True, False)
        )
        return one, others


@dataclass(frozen=True, kw_only=True)
class OutputSize:
    """How large the outputs shall be. What is left at None takes the model's own default.

    height, width: pixels of pictures and frames. frames: of a video. seconds: of a sound.
    """

    height: int | None = None
    width: int | None = None
    frames: int | None = None
    seconds: float | None = None
