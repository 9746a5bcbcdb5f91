from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comfyui_codi.codi_core.config import mini, official
from comfyui_codi.codi_core.errors import ShapeError
from comfyui_codi.codi_core.fitting import covering, fit
from comfyui_codi.codi_core.geometry import latent_shape, size_of
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.values import Frames, OutputSize, Picture, Waveform

TEXT, IMAGE, VIDEO, AUDIO = Modality
SIDES = st.integers(1, 40)


@given(SIDES, SIDES, SIDES, SIDES)
def test_any_picture_covers_any_size(height, width, wanted_height, wanted_width):
    pixels = torch.rand(2, 3, height, width) * 2 - 1
    made = covering(pixels, wanted_height, wanted_width)
    assert made.shape == (2, 3, wanted_height, wanted_width)
    assert made.abs().max() <= 1


def test_a_picture_that_fits_stays_as_it_is():
    pixels = torch.rand(1, 3, 64, 64)
    assert torch.equal(fit(mini(), IMAGE, Picture(pixels), OutputSize()).pixels, pixels)


def test_a_wide_picture_loses_both_sides_alike():
    pixels = torch.linspace(-1, 1, 128).expand(1, 3, 64, 128)
    assert torch.equal(fit(mini(), IMAGE, Picture(pixels), OutputSize()).pixels, pixels[..., 32:96])


@pytest.mark.parametrize(
    ("rate", "count", "shown"),
    [(Fraction(25), 16, [0, 4, 8, 12]), (Fraction(25, 8), 2, [0, 0, 1, 1]), (Fraction(25, 4), 4, [0, 1, 2, 3])],
)
def test_a_video_shows_what_it_showed_at_that_moment(rate, count, shown):
    pixels = torch.linspace(-1, 1, count)[None, :, None, None, None].expand(1, count, 3, 64, 64)
    made = fit(mini(), VIDEO, Frames(pixels, rate), OutputSize())
    assert made.frames_per_second == Fraction(25, 4)
    torch.testing.assert_close(made.pixels, pixels[:, shown])


def test_no_more_frames_than_asked_for():
    frames = Frames(torch.zeros(1, 40, 3, 64, 64), Fraction(25, 4))
    assert fit(mini(), VIDEO, frames, OutputSize(frames=7)).pixels.shape[1] == 7


@given(st.floats(0.01, 4), st.sampled_from([8000, 16_000, 44_100]))
def test_a_sound_fills_whole_cells_with_silence(seconds, rate):
    samples = torch.ones(1, 2, max(1, round(seconds * rate)))
    made = fit(mini(), AUDIO, Waveform(samples, rate), OutputSize())
    length = samples.shape[-1]
    assert torch.equal(made.samples[..., :length], samples)
    assert not made.samples[..., length:].any()
    cells = latent_shape(mini(), AUDIO, OutputSize(seconds=length / rate))
    assert made.samples.shape[-1] == round(size_of(mini(), AUDIO, cells).seconds * rate)


def test_a_sound_of_no_length_is_refused():
    with pytest.raises(ShapeError, match="got one of 0 seconds"):
        fit(mini(), AUDIO, Waveform(torch.zeros(1, 1, 0), 16_000), OutputSize())


def test_a_size_that_the_model_does_not_make_is_refused():
    with pytest.raises(ShapeError, match="multiples of 16"):
        fit(mini(), IMAGE, Picture(torch.zeros(1, 3, 64, 64)), OutputSize(height=60, width=64))


@given(st.sampled_from([mini, official]), st.sampled_from(list(Modality)), st.integers(1, 8), st.integers(1, 40))
def test_a_latent_tells_its_size(preset, modality, units, count):
    side = units * (16 if preset is mini else 64)
    size = OutputSize(height=side, width=2 * side, frames=count, seconds=count / 10)
    shape = latent_shape(preset(), modality, size)
    assert latent_shape(preset(), modality, size_of(preset(), modality, shape)) == shape


@pytest.mark.parametrize(
    ("modality", "shape"),
    [(TEXT, (65,)), (IMAGE, (4, 8, 8)), (IMAGE, (8, 8)), (VIDEO, (8, 8, 8)), (AUDIO, (8, 32, 16))],
)
def test_a_latent_of_another_model_is_refused(modality, shape):
    with pytest.raises(ShapeError, match=r"such as codi-mini makes.*encode it with the same model"):
        size_of(mini(), modality, shape)
