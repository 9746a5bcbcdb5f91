"""Latents ↔ media: one codec per modality, all with the same two methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from ..config import CoDiConfig
from ..errors import choose
from ..modality import Modality
from .audio import AudioCodec
from .image import ImageCodec, VideoCodec
from .mel import MelFrontend
from .text import TextCodec


@runtime_checkable
class Codec(Protocol):
    """Media ↔ latent in the scaled space of the modality's diffuser."""

    def encode(self, media: Any) -> Tensor:
        """The same media always give the same latent: the posterior's mean, times the scale."""
        ...

    def decode(self, latent: Tensor, seconds: float | None = None) -> Any:
        """seconds: the duration asked for; of use to sound alone, whose latents may hold more."""
        ...


@dataclass(frozen=True)
class CodecRecipe:
    """parts: names of the modules a codec is made of. build: takes the config, then those modules."""

    parts: tuple[str, ...]
    build: Callable[..., Codec]


CODECS: dict[Modality, CodecRecipe] = {
    Modality.TEXT: CodecRecipe(
        ("text_autoencoder",),
        lambda config, autoencoder: TextCodec(autoencoder, config.modalities[Modality.TEXT].latent_scale),
    ),
    Modality.IMAGE: CodecRecipe(
        ("image_autoencoder",),
        lambda config, autoencoder: ImageCodec(autoencoder, config.modalities[Modality.IMAGE].latent_scale),
    ),
    Modality.VIDEO: CodecRecipe(
        ("image_autoencoder",),
        lambda config, autoencoder: VideoCodec(
            autoencoder, config.modalities[Modality.VIDEO].latent_scale, config.frames_per_second
        ),
    ),
    Modality.AUDIO: CodecRecipe(
        ("audio_autoencoder", "vocoder"),
        lambda config, autoencoder, vocoder: AudioCodec(
            autoencoder, vocoder, MelFrontend(**config.mel), config.modalities[Modality.AUDIO].latent_scale
        ),
    ),
}


def build_codec(modality: Modality, parts: Mapping[str, Any], config: CoDiConfig) -> Codec:
    """The codec of one modality. Takes only the parts it needs, so that a lazy mapping loads no others.

    Raises ConfigError for a modality that the model lacks.
    """
    choose("modality", str(modality), config.modalities)
    recipe = CODECS[modality]
    return recipe.build(config, *(parts[name] for name in recipe.parts))
