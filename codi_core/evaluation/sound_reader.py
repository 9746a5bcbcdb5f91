"""Reads the world's facts from sounds: timbre and pitch from the partials, motion from loudness and hits.

On a logarithmic frequency axis the partials of a timbre keep their distances whatever the pitch, so timbre and pitch
are found together by sliding each timbre's pattern along the axis.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from ..training.sounds import PARTIALS, PITCHES_HZ
from ..training.world import NONE, Colour, Fact, Motion
from ..values import Waveform
from .readings import MOST_MOMENTS, ROWS_AT_ONCE, ReadFacts, concatenate

STEPS_PER_OCTAVE = 36
WINDOW_S, HOP_S, PADDED_S = 0.16, 0.032, 0.256
LOWEST_PITCH_HZ, HIGHEST_PITCH_HZ = min(PITCHES_HZ.values()), max(PITCHES_HZ.values())
LOWEST_STEP = -12
"""The lowest pitch tried, a major third below the first colour's; the highest is as far above the last one's."""
PITCHES_TRIED = round(STEPS_PER_OCTAVE * math.log2(HIGHEST_PITCH_HZ / LOWEST_PITCH_HZ)) - 2 * LOWEST_STEP + 1
BANDS = PITCHES_TRIED + math.ceil(STEPS_PER_OCTAVE * math.log2(8)) + 2
PATTERN_WIDTH_STEPS = 0.8

LEAST_LIKENESS = 0.42
"""Cosine with the best pattern; below, nothing of this world is heard. White noise reaches 0.38."""
CLEAR_MARGIN = 0.1
"""Lead over the second best timbre that counts as certain."""
WORST_DETUNING = 1 / 12
"""Octaves between a pitch and its colour's at which nothing speaks for that colour any more."""
LEAST_FADE_DB_S = 3.0
"""Decibels per second; what changes more slowly is steady."""

ENVELOPE_HOP_S = 0.005
ENVELOPE_WINDOW_S = 0.032
SWING_WINDOW_S = 0.1
"""Longer, so that a fluttering tone does not count as hits."""
LEAST_SWING_DB = 4.0
"""Root mean square distance from a steady fade; less is no hits."""
QUIETEST_DB = -40.0
ONSET_RISE_S = 0.04
LEAST_GAP_S = 0.25
LEAST_RISE = 0.2
"""Of the loudest amplitude. Amplitudes, not decibels: a vocoder smears hits into the silence before them."""
LEAST_RISE_FACTOR = 2.0


@lru_cache(maxsize=4)
def _bands(sample_rate_hz: int, device: torch.device) -> Float[Tensor, "frequencies bands"]:
    """Triangular bands, evenly spaced in pitch, LOWEST_STEP first; each overlaps its neighbours by half."""
    frequencies = round(PADDED_S * sample_rate_hz) // 2 + 1
    hz = torch.arange(1, frequencies, device=device) * sample_rate_hz / 2 / (frequencies - 1)
    step = STEPS_PER_OCTAVE * torch.log2(hz / LOWEST_PITCH_HZ) - LOWEST_STEP
    weights = 1 - (step[:, None] - torch.arange(BANDS, device=device)).abs()
    return functional.pad(weights.clamp(min=0), (0, 0, 1, 0))


@lru_cache(maxsize=2)
def _patterns(device: torch.device) -> Float[Tensor, "timbres pitches bands"]:
    """Expected compressed spectrum of each timbre at each pitch, of unit norm."""
    band = torch.arange(BANDS, device=device)
    pitch = torch.arange(PITCHES_TRIED, device=device)
    patterns = torch.zeros(len(PARTIALS), PITCHES_TRIED, BANDS, device=device)
    for timbre, partials in enumerate(PARTIALS.values()):
        for multiple, amplitude in partials.items():
            away = band - pitch[:, None] - STEPS_PER_OCTAVE * math.log2(multiple)
            patterns[timbre] += math.sqrt(amplitude) * (-0.5 * (away / PATTERN_WIDTH_STEPS).square()).exp()
    return functional.normalize(patterns, dim=2)


def _spectrum(samples: Float[Tensor, "batch samples"], sample_rate_hz: int) -> Float[Tensor, "batch times bands"]:
    """Square root of the amplitude in each band, less what is there at most frequencies (noise)."""
    window = round(WINDOW_S * sample_rate_hz)
    transform = torch.stft(
        samples,
        n_fft=round(PADDED_S * sample_rate_hz),
        hop_length=round(HOP_S * sample_rate_hz),
        win_length=window,
        window=torch.hann_window(window, device=samples.device),
        return_complex=True,
    )
    power = transform.abs().square().transpose(1, 2) @ _bands(sample_rate_hz, samples.device)
    amplitude = power.sqrt()
    return (amplitude - 2 * amplitude.median(dim=2, keepdim=True).values).clamp(min=0).sqrt()


def _weighted_median(
    values: Float[Tensor, "batch times"], weight: Float[Tensor, "batch times"]
) -> Float[Tensor, "batch 1"]:
    ordered, order = values.sort(dim=1)
    reached = weight.gather(1, order).cumsum(dim=1)
    middle = (reached < reached[:, -1:] / 2).sum(dim=1, keepdim=True)
    return ordered.gather(1, middle.clamp(max=values.shape[1] - 1))


def _pitch_track(
    likeness: Float[Tensor, "batch times pitches"],
) -> Float[Tensor, "batch times"]:
    """Octaves above the first colour's pitch, refined between steps by a parabola through the best three."""
    inner = likeness[..., 1:-1].argmax(dim=2, keepdim=True) + 1
    below, best, above = (likeness.gather(2, inner + offset) for offset in (-1, 0, 1))
    bend = (2 * best - below - above).clamp(min=1e-6)
    step = inner + ((above - below) / (2 * bend)).clamp(-0.5, 0.5)
    return (step.squeeze(2) + LOWEST_STEP) / STEPS_PER_OCTAVE


def _fade(loudness: Float[Tensor, "batch windows"]) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"]]:
    """Decibels per second of the straight line through the loudness, and the root mean square distance from it."""
    level_db = (20 * loudness.log10()).clamp(min=QUIETEST_DB)
    time_s = torch.arange(level_db.shape[1], device=level_db.device) * ENVELOPE_HOP_S
    time_s = time_s - time_s.mean()
    level_db = level_db - level_db.mean(dim=1, keepdim=True)
    slope = (level_db * time_s).sum(dim=1) / time_s.square().sum().clamp(min=1e-9)
    return slope, (level_db - slope[:, None] * time_s).square().mean(dim=1).sqrt()


def _loudness(
    samples: Float[Tensor, "batch samples"], sample_rate_hz: int, window_s: float
) -> Float[Tensor, "batch windows"]:
    """Amplitude in windows ENVELOPE_HOP_S apart, in units of the loudest."""
    hop, window = round(ENVELOPE_HOP_S * sample_rate_hz), round(window_s * sample_rate_hz)
    amplitude = functional.avg_pool1d(samples.square()[:, None], window, stride=hop).squeeze(1).sqrt()
    return (amplitude / amplitude.amax(dim=1, keepdim=True).clamp(min=1e-5)).clamp(min=1e-3)


def _onsets_s(loudness: Float[Tensor, "batch windows"]) -> Float[Tensor, "batch moments"]:
    """Moments of the steepest rise within LEAST_GAP_S on either side, if steep enough to be a hit."""
    rise_hops, gap_hops = round(ONSET_RISE_S / ENVELOPE_HOP_S), round(LEAST_GAP_S / ENVELOPE_HOP_S)
    before, after = loudness[:, :-rise_hops], loudness[:, rise_hops:]
    rise = after - before
    steepest = functional.max_pool1d(rise[:, None], 2 * gap_hops + 1, 1, gap_hops).squeeze(1)
    onset = (rise == steepest) & (rise > LEAST_RISE) & (after > LEAST_RISE_FACTOR * before)
    # The middle of the rise, seen from the middle of the window.
    time_s = torch.arange(rise.shape[1], device=rise.device) * ENVELOPE_HOP_S
    time_s = time_s + (ONSET_RISE_S + ENVELOPE_WINDOW_S) / 2
    onsets_s = time_s.expand_as(rise).where(onset, torch.inf).sort(dim=1).values[:, :MOST_MOMENTS]
    return onsets_s.where(onsets_s.isfinite(), torch.nan)


def _read_motion(
    loudness: Float[Tensor, "batch windows"],
) -> tuple[Int[Tensor, "batch"], Float[Tensor, "batch"], Bool[Tensor, "batch"]]:
    fade, swing = _fade(loudness)
    index = {name: tuple(Motion).index(name) for name in Motion}
    motion = torch.full_like(fade, index[Motion.STILL], dtype=torch.long)
    motion[fade < -LEAST_FADE_DB_S] = index[Motion.LEFT]
    motion[fade > LEAST_FADE_DB_S] = index[Motion.RIGHT]
    hits = swing > LEAST_SWING_DB
    sure_of_hits = (swing - LEAST_SWING_DB).abs() / LEAST_SWING_DB
    sure_of_fade = (fade.abs() - LEAST_FADE_DB_S).abs() / LEAST_FADE_DB_S
    certainty = sure_of_hits.where(hits, torch.minimum(sure_of_hits, sure_of_fade))
    return motion.where(~hits, index[Motion.BOUNCE]), certainty.clamp(max=1), hits


def _read_samples(samples: Float[Tensor, "batch samples"], sample_rate_hz: int) -> ReadFacts:
    spectrum = _spectrum(samples, sample_rate_hz)
    weight = spectrum.square().sum(dim=2).square()
    likeness = functional.normalize(spectrum, dim=2) @ _patterns(samples.device).flatten(0, 1).T
    likeness = likeness.unflatten(2, (len(PARTIALS), PITCHES_TRIED))
    share = weight / weight.sum(dim=1, keepdim=True).clamp(min=1e-9)
    fits, timbres = (share[:, :, None] * likeness.amax(dim=3)).sum(dim=1).topk(2, dim=1)
    found = fits[:, 0] > LEAST_LIKENESS

    octaves = _pitch_track(likeness[torch.arange(len(samples), device=samples.device), :, timbres[:, 0]])
    middle = _weighted_median(octaves, weight)
    motion, certainty, hits = _read_motion(_loudness(samples, sample_rate_hz, SWING_WINDOW_S))
    onsets_s = _onsets_s(_loudness(samples, sample_rate_hz, ENVELOPE_WINDOW_S))
    pitches = torch.tensor([PITCHES_HZ[colour] for colour in Colour], device=samples.device)
    detuning, colour = (middle - (pitches / LOWEST_PITCH_HZ).log2()).abs().min(dim=1)
    facts = {
        Fact.SHAPE: (timbres[:, 0], ((fits[:, 0] - fits[:, 1]) / CLEAR_MARGIN).clamp(max=1)),
        Fact.COLOUR: (colour, (1 - detuning / WORST_DETUNING).clamp(min=0)),
        Fact.MOTION: (motion, certainty),
    }
    return ReadFacts(
        categories={fact: category.where(found, NONE) for fact, (category, _) in facts.items()},
        confidence={fact: confidence.where(found, 0.0) for fact, (_, confidence) in facts.items()},
        bounce_moments_s=onsets_s.where((found & hits)[:, None], torch.nan),
    )


def read_sound(waveform: Waveform) -> ReadFacts:
    """Shape by timbre, colour by pitch, motion by loudness and hits, bounces by onsets; channels are averaged."""
    mono = waveform.samples.float().mean(dim=1)
    return concatenate([_read_samples(part, waveform.sample_rate_hz) for part in mono.split(ROWS_AT_ONCE)])
