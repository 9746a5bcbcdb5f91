"""What codecs share: checks before any heavy work, and the way through an autoencoder in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float
from torch import Tensor

from ..errors import ShapeError
from ..memory import in_pieces
from ..modality import Modality
from ..placement import device_of

PIXELS_AT_ONCE = 2**19
"""A batch goes through an autoencoder in chunks of about this size, so long videos take no more memory."""


def check_latent(latent: Float[Tensor, "..."], modality: Modality, axes: tuple[str | int, ...]) -> None:
    """Raise ShapeError unless the latent is finite and has these axes.

    axes: the size of each axis, or its name where any size from 1 on will do.
    """
    shape = tuple(latent.shape)
    fits = len(shape) == len(axes) and all(
        size >= 1 if isinstance(axis, str) else size == axis for size, axis in zip(shape, axes, strict=True)
    )
    if not fits:
        wanted = f"({', '.join(map(str, axes))})"
        raise ShapeError(f"wanted a {modality} latent of shape {wanted}, got {shape}; use the model that made it")
    broken = int((~latent.isfinite()).sum())
    if broken:
        raise ShapeError(
            f"wanted finite numbers in the {modality} latent, got NaN or infinity at {broken} of "
            f"{latent.numel()} places; lower the guidance or load the model in float32"
        )


def factor_of(autoencoder: AutoencoderKL) -> int:
    """How many pixels, or mel frames and bands, one latent cell covers along each axis."""
    return 2 ** (len(autoencoder.config["block_out_channels"]) - 1)


def channels_of(autoencoder: AutoencoderKL) -> int:
    return autoencoder.config["latent_channels"]


@torch.no_grad()
def encode_mean(
    autoencoder: AutoencoderKL, media: Float[Tensor, "batch channels height width"], latent_scale: float
) -> Float[Tensor, "batch latent_channels latent_height latent_width"]:
    """The scaled mean of the posterior, float32: the same media always give the same latent."""

    def encode(rows: Tensor) -> Tensor:
        rows = rows.to(device_of(autoencoder), autoencoder.dtype)
        return latent_scale * autoencoder.encode(rows, return_dict=False)[0].mode().float()

    return _in_chunks(encode, media, pixels_per_row=media.shape[-2] * media.shape[-1])


@torch.no_grad()
def decode_scaled(
    autoencoder: AutoencoderKL,
    latent: Float[Tensor, "batch latent_channels latent_height latent_width"],
    latent_scale: float,
) -> Float[Tensor, "batch channels height width"]:
    """The inverse of `encode_mean`: float32, not clamped."""

    def decode(rows: Tensor) -> Tensor:
        rows = (rows / latent_scale).to(device_of(autoencoder), autoencoder.dtype)
        decoded = autoencoder.decode(rows, return_dict=False)  # pyright: ignore[reportArgumentType]
        return decoded[0].float()

    cells_per_row = latent.shape[-2] * latent.shape[-1]
    return _in_chunks(decode, latent, pixels_per_row=cells_per_row * factor_of(autoencoder) ** 2)


def _in_chunks(apply: Callable[[Tensor], Tensor], rows: Tensor, pixels_per_row: int) -> Tensor:
    length = min(len(rows), max(1, PIXELS_AT_ONCE // pixels_per_row))

    def run(pieces: int) -> Tensor:
        return torch.cat([apply(chunk) for chunk in rows.split(max(1, length // pieces))])

    return in_pieces(run, length, "a batch of an autoencoder")
