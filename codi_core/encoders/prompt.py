"""Which part of the model reads which modality, and what each modality says when it says nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..modality import Modality
from ..precision import require_finite
from ..values import Frames, Media, Picture, Waveform, modality_of, rows_of


@dataclass(frozen=True)
class PromptReader:
    """How prompts of a modality are read.

    part: folder name of the encoder. encode: encoder and media to embedding. null: the media that stands for
    "no wish", of the size at which the encoder has least to do.
    """

    part: str
    encode: Callable[[Any, Any], Tensor]
    null: Callable[[Any], Media]


READERS: dict[Modality, PromptReader] = {
    Modality.TEXT: PromptReader(
        part="clip",
        encode=lambda clip, texts: clip.encode_text(rows_of(texts)),
        null=lambda clip: "",
    ),
    # Zero is mid-grey.
    Modality.IMAGE: PromptReader(
        part="clip",
        encode=lambda clip, picture: clip.encode_image(picture),
        null=lambda clip: Picture(torch.zeros(1, 3, clip.image_size, clip.image_size)),
    ),
    # Equal frames give the same embedding however many they are; but one alone would be read as a picture.
    Modality.VIDEO: PromptReader(
        part="clip",
        encode=lambda clip, frames: clip.encode_video(frames),
        null=lambda clip: Frames(torch.zeros(1, 2, 3, clip.image_size, clip.image_size), Fraction(1)),
    ),
    Modality.AUDIO: PromptReader(
        part="clap",
        encode=lambda clap, sound: clap.encode_audio(sound),
        null=lambda clap: Waveform(torch.zeros(1, 1, clap.longest_samples), clap.sample_rate_hz),
    ),
}


def encode(parts: Mapping[str, Any], media: Media) -> Float[Tensor, "batch 1 width"]:
    """The embedding of a prompt. `parts` maps part names to encoders; only the one needed is looked up.

    Raises PromptError for something that is no media, MediaError for media that cannot be encoded, PrecisionError for
    an embedding that is not finite.
    """
    reader = READERS[modality_of(media)]
    encoder = parts[reader.part]
    return require_finite(reader.encode(encoder, media), reader.part, encoder)


def encode_null(parts: Mapping[str, Any], modality: Modality) -> Float[Tensor, "1 1 width"]:
    """The embedding of no wish, in single precision."""
    return encode(parts, null_like(parts, modality)).float()


def null_like(parts: Mapping[str, Any], modality: Modality) -> Media:
    """What guidance moves away from if there is no negative prompt: an empty text, mid-grey, silence."""
    reader = READERS[modality]
    return reader.null(parts[reader.part])
