"""How often the fact reader itself errs: on clean renderings of the world and on renderings spoilt like outputs.

A figure measured with the reader means something only beside these.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from ..modality import Modality
from ..training.captions import captions
from ..training.pictures import render_images, render_videos
from ..training.sounds import render_sounds
from ..training.world import NONE, Fact, Facts, Split, World
from ..values import Frames, Picture, Waveform
from .facts import READERS
from .readings import ROWS_AT_ONCE, ReadFacts, agreement, concatenate, moments_apart_s

BLUR_PIXELS = 1.2
PIXEL_NOISE = 0.12
PIXEL_GAIN = (0.75, 1.1)
SOUND_NOISE_DB = -20.0
"""Below the sound's own loudness."""
SOUND_GAIN_DB = (-12.0, 2.0)
PITCH_DRIFT_SEMITONES = 0.4
RESAMPLED_HZ = 10_000


def _uniform(count: int, span: tuple[float, float], generator: torch.Generator) -> Float[Tensor, "count"]:
    return span[0] + (span[1] - span[0]) * torch.rand(count, generator=generator)


def _blur_matrix(length: int) -> Float[Tensor, "length length"]:
    """Takes a Gaussian mean along an axis of this length."""
    place = torch.arange(length)
    weights = (-0.5 * ((place[:, None] - place) / BLUR_PIXELS).square()).exp()
    return weights / weights.sum(dim=1, keepdim=True)


def _spoil_pixels(
    pixels: Float[Tensor, "batch frames 3 height width"], generator: torch.Generator
) -> Float[Tensor, "batch frames 3 height width"]:
    """Shrinks and enlarges, blurs, adds coloured noise and changes the contrast."""
    flat = pixels.flatten(0, 1)
    height, width = flat.shape[-2:]
    flat = functional.interpolate(flat, size=(height * 2 // 3, width * 2 // 3), mode="bilinear", antialias=True)
    flat = functional.interpolate(flat, size=(height, width), mode="bilinear")
    flat = _blur_matrix(height) @ flat @ _blur_matrix(width).T
    flat = flat + PIXEL_NOISE * torch.randn(flat.shape, generator=generator)
    gain = _uniform(len(pixels), PIXEL_GAIN, generator)
    return (flat.view(pixels.shape) * gain[:, None, None, None, None]).clamp(-1, 1)


def _spoil_picture(picture: Picture, generator: torch.Generator) -> Picture:
    return Picture(_spoil_pixels(picture.pixels[:, None], generator)[:, 0])


def _spoil_frames(frames: Frames, generator: torch.Generator) -> Frames:
    return replace(frames, pixels=_spoil_pixels(frames.pixels, generator))


def _spoil_texts(texts: list[str], generator: torch.Generator) -> list[str]:
    """Shuffles the words."""
    chance = random.Random(int(torch.randint(2**62, (1,), generator=generator)))
    return [" ".join(chance.sample(words, len(words))) for words in map(str.split, texts)]


def _spoil_sound(waveform: Waveform, generator: torch.Generator) -> Waveform:
    """Drifts in pitch, loses the highest partials through a lower sample rate, gets noise and another gain."""
    samples = waveform.samples
    batch, _, length = samples.shape
    # Reading at a wobbling place moves the pitch up and down; its slope is the drift.
    time_s = torch.arange(length) / waveform.sample_rate_hz
    wobble_hz, start = _uniform(batch, (0.5, 2.0), generator), _uniform(batch, (0.0, 1.0), generator)
    slope = (2 ** (PITCH_DRIFT_SEMITONES / 12) - 1) / (2 * math.pi * wobble_hz)
    shift_s = slope[:, None] * (2 * math.pi * (wobble_hz[:, None] * time_s + start[:, None])).sin()
    place = 2 * (time_s + shift_s) / waveform.duration_s - 1
    grid = torch.stack([place, torch.zeros_like(place)], dim=2)[:, None]
    samples = functional.grid_sample(
        samples[:, :, None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )[:, :, 0]
    fewer = round(length * RESAMPLED_HZ / waveform.sample_rate_hz)
    samples = functional.interpolate(functional.interpolate(samples, fewer, mode="linear"), length, mode="linear")
    noise_rms = samples.square().mean(dim=2, keepdim=True).sqrt() * 10 ** (SOUND_NOISE_DB / 20)
    gain = 10 ** (_uniform(batch, SOUND_GAIN_DB, generator) / 20)
    noisy = samples + noise_rms * torch.randn(samples.shape, generator=generator)
    return replace(waveform, samples=(noisy * gain[:, None, None]).clamp(-1, 1))


Render = Callable[[Facts, torch.Generator], tuple[Any, dict[Fact, Bool[Tensor, "batch"]]]]


def _shown(render: Callable[[Facts, torch.Generator], Picture | Frames | Waveform]) -> Render:
    """What is not a text states everything that has a name."""

    def render_and_state(facts: Facts, generator: torch.Generator) -> tuple[Any, dict[Fact, Bool[Tensor, "batch"]]]:
        return render(facts, generator), {fact: each != NONE for fact, each in facts.categories.items()}

    return render_and_state


_RENDERS: dict[Modality, Render] = {
    Modality.TEXT: captions,
    Modality.IMAGE: _shown(render_images),
    Modality.VIDEO: _shown(render_videos),
    Modality.AUDIO: _shown(render_sounds),
}

_SPOILERS: dict[Modality, Callable[[Any, torch.Generator], Any]] = {
    Modality.TEXT: _spoil_texts,
    Modality.IMAGE: _spoil_picture,
    Modality.VIDEO: _spoil_frames,
    Modality.AUDIO: _spoil_sound,
}


@dataclass(frozen=True)
class ReaderErrors:
    """How often, and how far, one modality is misread.

    facts: share of wrong readings (nothing found counts as wrong), per fact that the modality carries.
    bounce_moments_s: mean distance of the bounces read from the true ones; NaN without any.
    """

    facts: dict[Fact, float]
    bounce_moments_s: float


def _read(
    modality: Modality, facts: Facts, generator: torch.Generator
) -> tuple[dict[str, ReadFacts], dict[Fact, Bool[Tensor, "batch"]]]:
    """Readings of one rendering as it is and spoilt, and the facts that it states."""
    media, stated = _RENDERS[modality](facts, generator)
    spoilt = _SPOILERS[modality](media, generator)
    return {"clean": READERS[modality](media), "distorted": READERS[modality](spoilt)}, stated


def reader_error_rates(count: int, seed: int = 0) -> dict[str, dict[Modality, ReaderErrors]]:
    """The reader's errors on `count` rows of the whole world, for "clean" and for "distorted" renderings."""
    generator = torch.Generator().manual_seed(seed)
    facts = World(Split.ALL).draw(count, generator)
    parts = [facts[start : start + ROWS_AT_ONCE] for start in range(0, count, ROWS_AT_ONCE)]
    errors: dict[str, dict[Modality, ReaderErrors]] = {"clean": {}, "distorted": {}}
    for modality in Modality:
        readings, stated = zip(*(_read(modality, part, generator) for part in parts), strict=True)
        all_stated = {fact: torch.cat([part[fact] for part in stated]) for fact in stated[0]}
        for name, by_modality in errors.items():
            reading = concatenate([part[name] for part in readings])
            rates = agreement(reading, facts.categories, all_stated)
            apart_s = moments_apart_s(reading.bounce_moments_s, facts.bounce_moments_s)
            by_modality[modality] = ReaderErrors(
                {fact: 1 - rate for fact, rate in rates.items()}, float(apart_s.nanmean())
            )
    return errors
