from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyui_codi.codi_core.config import PRESETS, mini, official
from comfyui_codi.codi_core.errors import ShapeError
from comfyui_codi.codi_core.geometry import latent_shape, resolve_size
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.values import OutputSize


@pytest.mark.parametrize(
    ("modality", "shape"),
    [("text", (768,)), ("image", (4, 32, 32)), ("video", (4, 8, 32, 32)), ("audio", (8, 256, 16))],
)
def test_the_released_model_makes_its_published_shapes(modality, shape):
    assert latent_shape(official(), Modality(modality), OutputSize()) == shape


@pytest.mark.parametrize(
    ("modality", "shape"),
    [("text", (64,)), ("image", (8, 8, 8)), ("video", (8, 16, 8, 8)), ("audio", (8, 32, 8))],
)
def test_codi_mini_makes_its_own_shapes(modality, shape):
    assert latent_shape(mini(), Modality(modality), OutputSize()) == shape


def test_what_is_asked_for_replaces_the_defaults_one_by_one():
    size = OutputSize(width=512, frames=4)
    assert latent_shape(official(), Modality.VIDEO, size) == (4, 4, 32, 64)


@pytest.mark.parametrize("modality", Modality)
def test_sizes_of_other_modalities_are_dropped_unseen(modality):
    """So a sound may be made together with a picture of any size."""
    wrong_elsewhere = {"height": -1, "width": -1, "frames": -1, "seconds": -1.0}
    own = resolve_size(official(), modality, OutputSize())
    asked = {name: getattr(own, name) or value for name, value in wrong_elsewhere.items()}
    assert resolve_size(official(), modality, OutputSize(**asked)) == own


@pytest.mark.parametrize("preset", PRESETS)
@given(seconds=st.floats(0.01, 60))
def test_a_sound_latent_holds_all_that_is_asked_for_and_less_than_a_cell_more(preset, seconds):
    config = PRESETS[preset]()
    _, cells, bands = latent_shape(config, Modality.AUDIO, OutputSize(seconds=seconds))
    factor = config.mel["bands"] // bands
    unit = 2 ** (len(config.parts["diffuser_audio"]["multipliers"]) - 1)
    unit_s = factor * unit * config.mel["hop_samples"] / config.mel["sample_rate_hz"]
    assert cells % unit == 0
    length_s = cells // unit * unit_s
    assert seconds - 1e-6 <= length_s < seconds + unit_s + config.mel["hop_samples"] / config.mel["sample_rate_hz"]


@pytest.mark.parametrize("seconds", [2.56, 0.64, 1.28])
def test_whole_cells_are_not_rounded_up(seconds):
    assert latent_shape(mini(), Modality.AUDIO, OutputSize(seconds=seconds))[1] == round(seconds * 12.5)


def test_odd_sides_say_the_multiple_and_the_nearest_size():
    with pytest.raises(ShapeError) as caught:
        latent_shape(official(), Modality.IMAGE, OutputSize(width=500, height=300))
    assert str(caught.value) == (
        "official makes a width and height that are multiples of 64, got 500×300; the nearest is 512×320"
    )


def test_the_nearest_of_a_tiny_size_is_not_zero():
    with pytest.raises(ShapeError, match="the nearest is 64×64"):
        latent_shape(official(), Modality.IMAGE, OutputSize(width=3, height=8))


def test_videos_may_be_longer_than_a_diffuser_takes_at_once():
    assert latent_shape(official(), Modality.VIDEO, OutputSize(frames=31))[1] == 31


@pytest.mark.parametrize(
    ("modality", "name", "value"),
    [("image", "height", 0), ("video", "frames", -2), ("audio", "seconds", 0.0), ("audio", "seconds", math.nan)],
)
def test_what_is_not_positive_is_named(modality, name, value):
    with pytest.raises(ShapeError, match=f"{name} of the {modality} must be above 0, got {value}"):
        latent_shape(official(), Modality(modality), OutputSize(**{name: value}))
