"""Pictures and videos ↔ latents. A video goes through the same autoencoder as pictures, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float
from torch import Tensor

from ..errors import ShapeError
from ..modality import Modality
from ..precision import require_finite
from ..values import Frames, Picture
from .latent import channels_of, check_latent, decode_scaled, encode_mean, factor_of

TILE = 1024
"""Pixels along each side that the autoencoder takes at once; larger pictures go through in tiles that overlap."""


def build_image_autoencoder(arguments: Mapping[str, Any]) -> AutoencoderKL:
    """The autoencoder of pictures and frames, in memory that large pictures do not exhaust."""
    autoencoder = AutoencoderKL(**arguments)
    autoencoder.enable_tiling()
    autoencoder.tile_sample_min_size = TILE
    autoencoder.tile_latent_min_size = TILE // factor_of(autoencoder)
    return autoencoder


@dataclass(frozen=True)
class ImageCodec:
    """Picture ↔ latent (batch, channels, height / 8, width / 8).

    latent_scale: brings latents to about unit variance.
    """

    autoencoder: AutoencoderKL
    latent_scale: float

    def encode(self, media: Picture) -> Float[Tensor, "batch channels height width"]:
        """Raises ShapeError if height or width is not a multiple of the autoencoder's factor."""
        _check_size(media.pixels, factor_of(self.autoencoder))
        return encode_mean(self.autoencoder, media.pixels, self.latent_scale)

    def decode(self, latent: Float[Tensor, "batch channels height width"], seconds: float | None = None) -> Picture:
        """Pixels are clamped to [-1, 1]. Raises ShapeError for a latent of another model or with NaNs."""
        check_latent(latent, Modality.IMAGE, ("batch", channels_of(self.autoencoder), "height", "width"))
        return Picture(_pixels(self.autoencoder, latent, self.latent_scale))


@dataclass(frozen=True)
class VideoCodec:
    """Frames ↔ latent (batch, channels, frames, height / 8, width / 8).

    frames_per_second: the rate at which the model's videos play; encoding takes the frames as they come.
    """

    autoencoder: AutoencoderKL
    latent_scale: float
    frames_per_second: Fraction

    def encode(self, media: Frames) -> Float[Tensor, "batch channels frames height width"]:
        """Raises ShapeError if height or width is not a multiple of the autoencoder's factor."""
        _check_size(media.pixels, factor_of(self.autoencoder))
        latent = encode_mean(self.autoencoder, media.pixels.flatten(0, 1), self.latent_scale)
        return latent.unflatten(0, media.pixels.shape[:2]).transpose(1, 2)

    def decode(
        self, latent: Float[Tensor, "batch channels frames height width"], seconds: float | None = None
    ) -> Frames:
        """Pixels are clamped to [-1, 1]. Raises ShapeError for a latent of another model or with NaNs."""
        axes = ("batch", channels_of(self.autoencoder), "frames", "height", "width")
        check_latent(latent, Modality.VIDEO, axes)
        rows = latent.transpose(1, 2)
        pixels = _pixels(self.autoencoder, rows.flatten(0, 1), self.latent_scale)
        return Frames(pixels.unflatten(0, rows.shape[:2]), self.frames_per_second)


def _pixels(
    autoencoder: AutoencoderKL, latent: Float[Tensor, "batch channels height width"], latent_scale: float
) -> Float[Tensor, "batch 3 pixel_height pixel_width"]:
    decoded = decode_scaled(autoencoder, latent, latent_scale)
    return require_finite(decoded, "image_autoencoder", autoencoder).clamp(-1, 1)


def _check_size(pixels: Float[Tensor, "*batch 3 height width"], factor: int) -> None:
    height, width = pixels.shape[-2:]
    nearest = [max(1, round(size / factor)) * factor for size in (height, width)]
    if [height, width] != nearest:
        raise ShapeError(
            f"wanted a width and height that are multiples of {factor}, got {width}x{height}; "
            f"resize to {nearest[1]}x{nearest[0]}"
        )
