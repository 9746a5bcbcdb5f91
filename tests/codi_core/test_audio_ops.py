from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from comfyui_codi.codi_core import audio_ops
from comfyui_codi.codi_core.audio_ops import resample, sinc_resample

RATES_HZ = [8000, 16_000, 22_050, 44_100, 48_000]


@pytest.fixture
def without_torchaudio(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "torchaudio.functional", None)
    audio_ops._resampler.cache_clear()
    yield
    audio_ops._resampler.cache_clear()


def tone(rate_hz: int, frequency_hz: float = 440) -> torch.Tensor:
    return torch.sin(torch.arange(rate_hz // 4) * (2 * math.pi * frequency_hz / rate_hz))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(RATES_HZ), st.sampled_from(RATES_HZ), st.integers(1, 900))
def test_own_resampling_agrees_with_torchaudio(from_hz: int, to_hz: int, length: int) -> None:
    functional = pytest.importorskip("torchaudio.functional", exc_type=Exception)
    samples = torch.rand(2, 3, length) * 2 - 1
    ratio = Fraction(to_hz, from_hz)
    ours = sinc_resample(samples, ratio.denominator, ratio.numerator) if ratio != 1 else samples
    assert_close(ours, functional.resample(samples, from_hz, to_hz), atol=1e-4, rtol=0)


@pytest.mark.parametrize("to_hz", RATES_HZ)
def test_tone_stays_the_same_tone_without_torchaudio(without_torchaudio: None, to_hz: int) -> None:
    resampled = resample(tone(16_000)[None], 16_000, to_hz)[0]
    assert len(resampled) == math.ceil(to_hz / 4)
    inside = slice(to_hz // 50, to_hz // 5)
    assert_close(resampled[inside], tone(to_hz)[inside], atol=5e-3, rtol=0)


def test_tone_above_the_new_range_goes() -> None:
    assert resample(tone(48_000, 10_000), 48_000, 16_000)[200:-200].abs().max() < 0.01


def test_odd_rates_take_a_close_ratio() -> None:
    ratio = resample(torch.zeros(44_101), 44_101, 16_000).shape[0] / 16_000
    assert abs(ratio - 1) < 5e-4
