"""From what is asked for (pixels, frames, seconds) to the shape of a latent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from .config import CoDiConfig
from .errors import ShapeError, choose
from .modality import FACTS, Modality
from .values import Latents, OutputSize


def resolve_size(config: CoDiConfig, modality: Modality, size: OutputSize) -> OutputSize:
    """`size` with the model's defaults filled in; only the fields that this modality has are kept and checked.

    Raises ShapeError for values that are not positive, ConfigError for a modality that the model lacks.
    """
    choose("modality", str(modality), config.modalities)
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


def _picture_size(config: CoDiConfig, shape: Sequence[int]) -> dict[str, Any]:
    factor = _factor(config, "image_autoencoder")
    return {"height": shape[-2] * factor, "width": shape[-1] * factor}


_SIZES: dict[Modality, Callable[[CoDiConfig, Sequence[int]], dict[str, Any]]] = {
    Modality.TEXT: lambda config, shape: {},
    Modality.IMAGE: _picture_size,
    Modality.VIDEO: lambda config, shape: {
        **_picture_size(config, shape),
        "frames": shape[1],
        "seconds": shape[1] / float(config.frames_per_second),
    },
    Modality.AUDIO: lambda config, shape: {
        "seconds": shape[1]
        * _factor(config, "audio_autoencoder")
        * config.mel["hop_samples"]
        / config.mel["sample_rate_hz"]
    },
}


def size_of(config: CoDiConfig, modality: Modality, shape: Sequence[int]) -> OutputSize:
    """The size that a latent of this shape (without the batch axis) has when decoded; of what lasts, seconds too.

    Raises ShapeError for a latent that this model doesn't make.
    """
    wanted = latent_shape(config, modality, OutputSize())
    found = OutputSize(**_SIZES[modality](config, shape)) if len(shape) == len(wanted) else None
    if found is None or latent_shape(config, modality, found) != tuple(shape):
        raise ShapeError(
            f"wanted a {modality} latent such as {config.name} makes, for instance {wanted}, got {tuple(shape)}; "
            "encode it with the same model"
        )
    return found


def filled(config: CoDiConfig, size: OutputSize, known: Latents, outputs: Sequence[Modality]) -> OutputSize:
    """`size`; what it leaves open is taken from what is known: sounds last as long as a known video, and videos as long
    as a known sound.

    outputs: all that are made, the known among them. Raises ShapeError for latents that this model doesn't make, and
    for a size that only something known could have and doesn't.
    """
    sizes = {modality: size_of(config, modality, one.shape[1:]) for modality, one in known.samples.items()}
    for modality, found in sizes.items():
        _check_keeps(modality, found, size, [output for output in outputs if output not in sizes])
    merged: dict[str, Any] = {}
    for each in (*sizes.values(), OutputSize(seconds=known.seconds), size):
        merged |= {name: value for name, value in vars(each).items() if value is not None}
    if Modality.AUDIO in known.samples:
        merged.setdefault("frames", max(1, round(merged["seconds"] * float(config.frames_per_second))))
    return OutputSize(**merged)


def _check_keeps(modality: Modality, found: OutputSize, size: OutputSize, others: Sequence[Modality]) -> None:
    """A known sound may be heard in part; nothing else of what is known changes its size."""
    for name in FACTS[modality].extent:
        asked, holds = getattr(size, name), getattr(found, name)
        for_others = any(name in FACTS[other].extent for other in others)
        fits = asked is None or (asked <= holds if name == "seconds" else asked == holds)
        if not fits and not for_others:
            raise ShapeError(
                f"wanted {holds:g} as {name}, since the known {modality} has it, got {asked:g}; leave it open, or "
                f"start from another {modality}"
            )
