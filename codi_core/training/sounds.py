"""Plays the world's facts as sounds: shape is timbre, colour is pitch, motion is how the sound goes on."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from ..values import Waveform
from .world import CLIP_SAMPLES, CLIP_SECONDS, SAMPLE_RATE_HZ, SIZE_RANGE, Colour, Facts, Motion, Shape

PITCHES_HZ: dict[Colour, float] = {
    Colour.RED: 200.0,
    Colour.YELLOW: 300.0,
    Colour.GREEN: 400.0,
    Colour.CYAN: 500.0,
    Colour.BLUE: 600.0,
    Colour.MAGENTA: 800.0,
}
"""Multiples of the rate of the mel frames. A vocoder is a convolution over those frames: from a tone that stays as it
is, it can only make a wave that repeats with them, so it could play no pitch in between, nor let a pitch glide."""

PARTIALS: dict[Shape, dict[int, float]] = {
    Shape.CIRCLE: {1: 1.0, 2: 0.04},
    Shape.SQUARE: {1: 1.0, 3: 0.5, 5: 0.35, 7: 0.25},
    Shape.TRIANGLE: {n: n**-0.7 for n in range(1, 9)},
    Shape.STAR: {1: 1.0, 4: 0.6, 8: 0.35},
}
"""Amplitude of each multiple of the pitch; even the highest stays below half the sample rate: no aliases."""

FADES_DB = {Motion.STILL: 0.0, Motion.LEFT: -18.0, Motion.RIGHT: 18.0, Motion.BOUNCE: 0.0}
"""How much louder the end of the clip is than its start, evenly in decibels."""

HIT_DECAY_S = 0.16
HIT_ATTACK_S = 0.004
HIT_BOOST = 1.4
FADE_S = 0.02
RMS_RANGE = (0.11, 0.22)
"""Loudness of the smallest and of the largest figure."""
GAIN_JITTER_DB = 1.5
NOISE = 0.001
TABLE_SIZE = 4096
HIGHEST_PARTIAL = 8
APART_SEMITONES, BEYOND_SEMITONES = 1.0, 4.0
"""Of pitches without a name: how far from those with one, and how much further than the last of them."""
SOUNDING = 0.6
LEAST_FUNDAMENTAL = 0.3
"""Of timbres drawn at random: the share of partials that sound, and what the first one has at least."""


@lru_cache(maxsize=1)
def _wavetables() -> Float[Tensor, "shapes entries"]:
    """One period of each timbre at unit RMS. The last entry repeats the first, for interpolation."""
    phase = 2 * math.pi * torch.arange(TABLE_SIZE + 1, dtype=torch.float64) / TABLE_SIZE
    tables = []
    for partials in PARTIALS.values():
        # Schroeder's phases keep the peaks of rich timbres low.
        waves = [a * (n * phase + math.pi * n * n / len(partials)).sin() for n, a in partials.items()]
        power = sum(a * a / 2 for a in partials.values())
        tables.append(torch.stack(waves).sum(dim=0) / math.sqrt(power))
    return torch.stack(tables).float()


def _pitches(facts: Facts) -> Float[Tensor, "batch"]:
    return torch.tensor([PITCHES_HZ[colour] for colour in Colour], device=facts.colour.device)[facts.colour]


def _turns(pitches_hz: Float[Tensor, "batch"], time_s: Float[Tensor, "samples"]) -> Float[Tensor, "batch samples"]:
    """How much of the period under way has passed."""
    return (pitches_hz.double()[:, None] * time_s).frac_()


def _tones(
    facts: Facts, pitches_hz: Float[Tensor, "batch"], time_s: Float[Tensor, "samples"]
) -> Float[Tensor, "batch samples"]:
    place = _turns(pitches_hz, time_s).mul_(TABLE_SIZE).float()
    entry = place.long().clamp_(max=TABLE_SIZE - 1)
    between = place.sub_(entry)
    tables = _wavetables().to(time_s.device)
    entry += (facts.shape * tables.shape[1])[:, None]
    return torch.lerp(tables.view(-1)[entry], tables.view(-1)[entry.add_(1)], between)


def draw_timbres(count: int, generator: torch.Generator) -> Float[Tensor, "batch partials"]:
    """Amplitudes of the first multiples of the pitch: timbres that the world does not have."""
    shape, device = (count, HIGHEST_PARTIAL), generator.device
    amplitudes = torch.rand(shape, generator=generator, device=device)
    amplitudes *= torch.rand(shape, generator=generator, device=device) < SOUNDING
    amplitudes[:, 0] += LEAST_FUNDAMENTAL
    return amplitudes


def draw_pitches(count: int, generator: torch.Generator) -> Float[Tensor, "batch"]:
    """Hertz, a semitone or more from the pitches that the world has, between them and beyond. No vocoder can play them
    (see PITCHES_HZ).

    Most lie close to a pitch that the world has, on either side of each: what is held out at it is learned from them.
    """
    semitones = 12 * torch.tensor(list(PITCHES_HZ.values()), device=generator.device).log2()
    low = torch.cat([semitones[:1] - BEYOND_SEMITONES, semitones]) + APART_SEMITONES
    high = torch.cat([semitones, semitones[-1:] + BEYOND_SEMITONES]) - APART_SEMITONES
    gap = torch.randint(len(low), (count,), generator=generator, device=generator.device)
    place = (torch.rand(count, generator=generator, device=generator.device) * math.pi / 2).sin().square()
    return 2 ** (torch.lerp(low[gap], high[gap], place) / 12)


def detuned_pitches(facts: Facts, generator: torch.Generator) -> Float[Tensor, "batch"]:
    """Hertz, as far off as pitches without a name begin, at most."""
    place = torch.rand(len(facts), generator=generator, device=generator.device)
    return _pitches(facts) * 2 ** ((2 * place - 1) * APART_SEMITONES / 12)


def _tones_of(
    partials: Float[Tensor, "batch partials"],
    pitches_hz: Float[Tensor, "batch"],
    time_s: Float[Tensor, "samples"],
) -> Float[Tensor, "batch samples"]:
    """At unit RMS."""
    phase = _turns(pitches_hz, time_s).float() * 2 * math.pi
    waves = torch.zeros_like(phase)
    for number, amplitude in enumerate(partials.unbind(dim=1), start=1):
        waves += amplitude[:, None] * (number * phase + math.pi * number * number / HIGHEST_PARTIAL).sin()
    return waves / (partials.square().sum(dim=1, keepdim=True) / 2).sqrt()


def _swell(facts: Facts, time_s: Float[Tensor, "samples"]) -> Float[Tensor, "batch samples"]:
    """Envelope that falls or rises, with its loudest moment at 1."""
    fade_db = torch.tensor([FADES_DB[motion] for motion in Motion], device=time_s.device)[facts.motion, None]
    progress = (time_s / CLIP_SECONDS).where(fade_db < 0, time_s / CLIP_SECONDS - 1)
    return (fade_db * progress * (math.log(10) / 20)).exp_()


def _hits(facts: Facts, time_s: Float[Tensor, "samples"]) -> Float[Tensor, "batch samples"]:
    """Envelope of sharp attacks with exponential decay, one at each bounce moment, silence before the first."""
    last = facts.bounce_moments_s.isfinite().sum(dim=1, keepdim=True) - 1
    since_first_s = time_s - facts.first_bounce_s[:, None]
    period_s = facts.bounce_period_s[:, None]
    count = torch.minimum((since_first_s / period_s).floor_(), last)
    since_hit_s = since_first_s.sub_(count.mul_(period_s)).where(count >= 0, 0.0)
    return HIT_BOOST * (-since_hit_s / HIT_DECAY_S).exp_() * (since_hit_s / HIT_ATTACK_S).clamp_(max=1)


def render_sounds(
    facts: Facts,
    generator: torch.Generator,
    timbres: Float[Tensor, "batch partials"] | None = None,
    pitches_hz: Float[Tensor, "batch"] | None = None,
) -> Waveform:
    """One clip per row, mono, as long as the videos; gain and noise vary with the generator.

    Larger figures are louder. Bounces sound at the same moments as they are seen. timbres, pitches_hz: other ones than
    those of the facts.
    """
    device = facts.size.device

    def uniform(low: float, high: float) -> Float[Tensor, "batch"]:
        return low + (high - low) * torch.rand(len(facts), generator=generator, device=device)

    time_s = torch.arange(CLIP_SAMPLES, device=device) / SAMPLE_RATE_HZ
    pitches_hz = _pitches(facts) if pitches_hz is None else pitches_hz
    tones = _tones(facts, pitches_hz, time_s) if timbres is None else _tones_of(timbres, pitches_hz, time_s)
    samples = tones.mul_(_swell(facts, time_s))
    bouncing = facts.bounces.nonzero().squeeze(1)
    samples[bouncing] *= _hits(facts[bouncing], time_s)
    largeness = (facts.size - SIZE_RANGE[0]) / (SIZE_RANGE[1] - SIZE_RANGE[0])
    rms = RMS_RANGE[0] * (RMS_RANGE[1] / RMS_RANGE[0]) ** largeness
    gain = rms * 10 ** (uniform(-GAIN_JITTER_DB, GAIN_JITTER_DB) / 20)
    fade = (torch.minimum(time_s, CLIP_SECONDS - time_s) / FADE_S).clamp_(max=1)
    noise = torch.randn(samples.shape, generator=generator, device=device).mul_(NOISE)
    return Waveform(samples.mul_(gain[:, None]).add_(noise).mul_(fade)[:, None], SAMPLE_RATE_HZ)
