from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comfyui_codi.codi_core.decoders.mel import MelFrontend
from comfyui_codi.codi_core.errors import ShapeError

MEL = MelFrontend()


def tone(hertz: float, seconds: float = 0.5) -> torch.Tensor:
    time = torch.arange(round(seconds * MEL.sample_rate_hz)) / MEL.sample_rate_hz
    return 0.25 * torch.sin(2 * math.pi * hertz * time)[None]


@given(st.integers(1, 4), st.integers(520, 3000))
def test_a_frame_for_every_hop_begun(batch, samples):
    assert MEL.log_mel(torch.zeros(batch, samples)).shape == (batch, 1, math.ceil(samples / 160), 64)


def test_frames_pad_or_cut():
    sound = torch.rand(1, 1600)
    padded = MEL.log_mel(sound, frames=20)
    assert padded.shape == (1, 1, 20, 64)
    assert padded[0, 0, -1].exp().max() < 2e-5
    torch.testing.assert_close(MEL.log_mel(sound, frames=5), MEL.log_mel(sound[:, :800]))


def test_higher_tones_peak_in_higher_bands():
    peaks = [MEL.log_mel(tone(hertz)).mean(dim=2).argmax().item() for hertz in (100, 300, 1000, 3000, 7000)]
    assert peaks == sorted(set(peaks))


def test_twice_as_loud_adds_the_logarithm_of_two():
    quiet, loud = MEL.log_mel(tone(440)), MEL.log_mel(2 * tone(440))
    bands = quiet > math.log(1e-3)
    assert bands.any()
    torch.testing.assert_close((loud - quiet)[bands], torch.full_like(quiet, math.log(2))[bands])


def test_rows_do_not_affect_each_other():
    rows = torch.cat([tone(200), tone(2000), torch.zeros(1, 8000)])
    together = MEL.log_mel(MEL.normalise(rows))
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], MEL.log_mel(MEL.normalise(rows[i : i + 1])))


def test_normalised_sound_is_centred_with_a_peak_of_half():
    sound = MEL.normalise(3 * tone(440) + 0.7)
    assert sound.mean().abs() < 1e-6
    assert sound.abs().max() == pytest.approx(0.5)


def test_silence_is_the_floor_in_every_band():
    log_mel = MEL.log_mel(MEL.normalise(torch.zeros(1, 1600)))
    torch.testing.assert_close(log_mel, torch.full_like(log_mel, math.log(1e-5)))


def test_half_precision_autocast_does_not_reach_the_spectrogram():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = MEL.log_mel(tone(440))
    assert torch.equal(inside, MEL.log_mel(tone(440)))


def test_too_short_a_sound_says_how_long_it_must_be():
    with pytest.raises(ShapeError, match="more than 512 samples for a spectrogram, got 160"):
        MEL.log_mel(torch.zeros(1, 100))
