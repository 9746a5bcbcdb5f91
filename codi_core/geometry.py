"""From what is asked for (pixels, frames, seconds) to the shape of a latent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields

from .config import CoDiConfig
from .errors import ShapeError
from .modality import FACTS, Modality
from .values import OutputSize


def resolve_size(config: CoDiConfig, modality: Modality, size: OutputSize) -> OutputSize:
    """`size` with the model's defaults filled in; only the fields that this modality has are kept and checked.

    Raises ShapeError for values that are not positive.
    """
    default = config.modalities[modality].size
    chosen = {}
    for name in FACTS[modality].extent:
        value = getattr(size, name)
        chosen[name] = getattr(default, name) if value is None else value
        if not 0 < chosen[name] < math.inf:
            raise ShapeError(f"{name} of the {modality} must be above 0, got {chosen[name]}")
    return OutputSize(**{field.name: chosen.get(field.name) for field in fields(OutputSize)})


def _factor(config: CoDiConfig, autoencoder: str) -> int:
    return 2 ** (len(config.parts[autoencoder]["block_out_channels"]) - 1)


def _downscale(config: CoDiConfig, modality: Modality) -> int:
    return 2 ** (len(config.parts[config.modalities[modality].diffuser]["multipliers"]) - 1)


def _picture_cells(config: CoDiConfig, modality: Modality, size: OutputSize) -> tuple[int, int]:
    factor = _factor(config, "image_autoencoder")
    unit = factor * _downscale(config, modality)
    assert size.height is not None and size.width is not None
    if size.height % unit or size.width % unit:
        nearest = [max(unit, round(side / unit) * unit) for side in (size.width, size.height)]
        raise ShapeError(
            f"{config.name} makes a width and height that are multiples of {unit}, got {size.width}×{size.height}; "
            f"the nearest is {nearest[0]}×{nearest[1]}"
        )
    return size.height // factor, size.width // factor


def _channels(config: CoDiConfig, modality: Modality) -> int:
    return config.parts[config.modalities[modality].diffuser]["latent_channels"]


def _image(config: CoDiConfig, modality: Modality, size: OutputSize) -> tuple[int, ...]:
    return (_channels(config, modality), *_picture_cells(config, modality, size))


def _video(config: CoDiConfig, modality: Modality, size: OutputSize) -> tuple[int, ...]:
    assert size.frames is not None
    return (_channels(config, modality), size.frames, *_picture_cells(config, modality, size))


def _audio(config: CoDiConfig, modality: Modality, size: OutputSize) -> tuple[int, ...]:
    """Enough whole cells for the asked duration; the codec trims the rest."""
    assert size.seconds is not None
    factor, unit = _factor(config, "audio_autoencoder"), _downscale(config, modality)
    mel_frames = math.ceil(round(size.seconds * config.mel["sample_rate_hz"] / config.mel["hop_samples"], 6))
    cells = math.ceil(mel_frames / (factor * unit)) * unit
    return (_channels(config, modality), cells, config.mel["bands"] // factor)


def _text(config: CoDiConfig, modality: Modality, size: OutputSize) -> tuple[int, ...]:
    return (_channels(config, modality),)


_SHAPES: dict[Modality, Callable[[CoDiConfig, Modality, OutputSize], tuple[int, ...]]] = {
    Modality.TEXT: _text,
    Modality.IMAGE: _image,
    Modality.VIDEO: _video,
    Modality.AUDIO: _audio,
}


def latent_shape(config: CoDiConfig, modality: Modality, size: OutputSize) -> tuple[int, ...]:
    """The shape of one latent, without the batch axis. Raises ShapeError for sizes that the model cannot make."""
    return _SHAPES[modality](config, modality, resolve_size(config, modality, size))
