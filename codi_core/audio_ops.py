"""Resampling. The only module that touches torchaudio, which loads beside the torch of its own build only."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache, lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

LOWPASS_WIDTH = 6
ROLLOFF = 0.99
LARGEST_STEP = 2000


def resample(samples: Float[Tensor, "*batch samples"], from_hz: int, to_hz: int) -> Float[Tensor, "*batch resampled"]:
    """Windowed-sinc resampling: Hann window, six zero crossings, cut-off at 99 % of the lower Nyquist rate.

    The result has ceil(samples * to_hz / from_hz) samples. The filter grows with the product of both terms of
    the reduced ratio, so an odd one like 16000 / 44101 takes a close one with a small denominator; pitch and
    duration are then off by at most 0.05 %. All usual rates are exact.
    """
    ratio = Fraction(to_hz, from_hz).limit_denominator(LARGEST_STEP)
    if ratio == 1:
        return samples
    return _resampler()(samples, ratio.denominator, ratio.numerator)


@cache
def _resampler() -> Callable[[Tensor, int, int], Tensor]:
    try:
        from torchaudio.functional import resample
    except (ImportError, OSError, RuntimeError):
        return sinc_resample
    return resample


def sinc_resample(
    samples: Float[Tensor, "*batch samples"], step: int, phases: int
) -> Float[Tensor, "*batch resampled"]:
    """What torchaudio.functional.resample computes: `phases` output samples for every `step` input ones."""
    margin = math.ceil(LOWPASS_WIDTH * step / (min(step, phases) * ROLLOFF))
    kernel = _sinc_kernel(step, phases, margin).to(samples)
    rows = functional.pad(samples.reshape(-1, 1, samples.shape[-1]), (margin, margin + step))
    resampled = functional.conv1d(rows, kernel[:, None], stride=step).transpose(1, 2).flatten(1)
    length = math.ceil(samples.shape[-1] * phases / step)
    return resampled[:, :length].reshape(*samples.shape[:-1], length)


@lru_cache(maxsize=8)
def _sinc_kernel(step: int, phases: int, margin: int) -> Float[Tensor, "phases taps"]:
    """Row p interpolates at input position p * step / phases. In float64: the phases lie close together."""
    cutoff = min(step, phases) * ROLLOFF
    taps = torch.arange(-margin, margin + step, dtype=torch.float64) / step
    positions = torch.arange(phases, dtype=torch.float64)[:, None] / phases
    crossings = ((taps - positions) * cutoff).clamp(-LOWPASS_WIDTH, LOWPASS_WIDTH)
    window = torch.cos(crossings * math.pi / (2 * LOWPASS_WIDTH)).square()
    return torch.sinc(crossings) * window * cutoff / step
