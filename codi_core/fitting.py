"""Media in the sizes that a model makes, so that they can be kept in a run or made anew in part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from .config import CoDiConfig
from .errors import ShapeError
from .geometry import latent_shape, resolve_size, size_of
from .modality import Modality
from .values import Frames, Latents, OutputSize, Picture, Waveform


def covering(
    pixels: Float[Tensor, "batch channels height width"], height: int, width: int
) -> Float[Tensor, "batch channels {height} {width}"]:
    """Scaled so that it just covers the size, evenly in both directions, and cut around the middle."""
    scale = max(height / pixels.shape[2], width / pixels.shape[3])
    scaled = [
        max(side, round(scale * length)) for side, length in ((height, pixels.shape[2]), (width, pixels.shape[3]))
    ]
    if tuple(scaled) != tuple(pixels.shape[2:]):
        pixels = functional.interpolate(pixels, scaled, mode="bicubic", antialias=True).clamp(-1, 1)
    top, left = (scaled[0] - height) // 2, (scaled[1] - width) // 2
    return pixels[:, :, top : top + height, left : left + width]


def _fit_picture(config: CoDiConfig, picture: Picture, size: OutputSize) -> Picture:
    chosen = resolve_size(config, Modality.IMAGE, size)
    assert chosen.height is not None and chosen.width is not None
    return Picture(covering(picture.pixels, chosen.height, chosen.width))


def _fit_frames(config: CoDiConfig, frames: Frames, size: OutputSize) -> Frames:
    """Frames at the model's rate: the one that is shown at each moment, from the beginning on."""
    ratio = frames.frames_per_second / config.frames_per_second
    there = max(1, int(frames.pixels.shape[1] / ratio))
    count = there if size.frames is None else min(size.frames, there)
    shown = torch.tensor([int(index * ratio) for index in range(count)])
    chosen = resolve_size(config, Modality.VIDEO, size)
    assert chosen.height is not None and chosen.width is not None
    pixels = frames.pixels[:, shown]
    fitted = covering(pixels.flatten(0, 1), chosen.height, chosen.width).unflatten(0, pixels.shape[:2])
    return Frames(fitted, config.frames_per_second)


def _fit_sound(config: CoDiConfig, sound: Waveform, size: OutputSize) -> Waveform:
    """The whole sound, or its first seconds, with silence behind that fills the last cell."""
    if not sound.samples.shape[-1]:
        raise ShapeError("wanted a sound to keep, got one of 0 seconds; connect one that can be heard")
    seconds = sound.duration_s if size.seconds is None else min(size.seconds, sound.duration_s)
    shape = latent_shape(config, Modality.AUDIO, OutputSize(seconds=seconds))
    whole = size_of(config, Modality.AUDIO, shape).seconds
    assert whole is not None
    samples = sound.samples[..., : round(seconds * sound.sample_rate_hz)]
    missing = round(whole * sound.sample_rate_hz) - samples.shape[-1]
    return Waveform(functional.pad(samples, (0, missing)), sound.sample_rate_hz)


_FIT: dict[Modality, Callable[[CoDiConfig, Any, OutputSize], Any]] = {
    Modality.TEXT: lambda config, text, size: text,
    Modality.IMAGE: _fit_picture,
    Modality.VIDEO: _fit_frames,
    Modality.AUDIO: _fit_sound,
}


def fit(config: CoDiConfig, modality: Modality, media: Any, size: OutputSize) -> Any:
    """Media of this modality in a size that the model makes.

    Pictures and frames get the size asked for, or the model's own, and lose what sticks out. Videos and sounds keep
    their length, or lose what is longer than asked for.
    Raises ShapeError for sizes that the model doesn't make, and for sounds without length.
    """
    latent_shape(config, modality, size)
    return _FIT[modality](config, media, size)


TIMED = {Modality.VIDEO: 2, Modality.AUDIO: 1}
"""Modalities that last, and how many axes of their latents follow the one along which time runs."""


def masked_in_time(
    config: CoDiConfig, latents: Latents, modality: Modality, start_s: float, end_s: float | None = None
) -> Latents:
    """The latents, of whose video or sound only what lies between two moments is made anew.

    end_s: None stands for its end. A frame, or a cell of sound, belongs to the span in which its middle lies.
    Raises ShapeError for modalities without time, for latents without this modality, and for a span that holds nothing.
    """
    if modality not in TIMED:
        raise ShapeError(f"wanted {' or '.join(TIMED)}, which last for some time, got {modality}")
    if modality not in latents.samples:
        raise ShapeError(f"wanted latents with {modality} to mask, got {', '.join(latents.samples)}; encode one first")
    shape = latents.samples[modality].shape[1:]
    extent = size_of(config, modality, shape)
    assert extent.seconds is not None
    count = shape[-1 - TIMED[modality]]
    middle_s = (torch.arange(count) + 0.5) * extent.seconds / count
    mask = ((middle_s >= start_s) & (middle_s < (extent.seconds if end_s is None else end_s))).float()
    if not mask.any():
        raise ShapeError(
            f"wanted a span within the {extent.seconds:.2f} s of the {modality}, got {start_s:g} to "
            f"{'its end' if end_s is None else f'{end_s:g}'} s, which holds nothing of it"
        )
    mask = mask.reshape(-1, *(1,) * TIMED[modality])
    return replace(latents, masks={**latents.masks, modality: mask})
