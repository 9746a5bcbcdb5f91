"""The procedural world as a source: what pairs say, where figures stand, and timbres that the world does not have."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comfyui_codi.codi_core.evaluation.facts import read_sound, read_text
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.training.pictures import figure_places, render_images
from comfyui_codi.codi_core.training.sounds import (
    HIGHEST_PARTIAL,
    LEAST_FUNDAMENTAL,
    PARTIALS,
    draw_timbres,
    render_sounds,
)
from comfyui_codi.codi_core.training.world import MAIN_FACTS, NONE, Fact, Shape, World
from comfyui_codi.codi_core.training.world_source import CROP_SIDE, WorldSource


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(seed=st.integers(0, 2**31))
def test_figures_are_where_pairs_say_they_are(seed):
    facts = World().draw(4, draw(seed))
    pixels = render_images(facts, draw(seed)).pixels
    colour = (pixels.amax(dim=1) - pixels.amin(dim=1)).clamp(min=0.5) - 0.5
    middles = (torch.arange(64) + 0.5) / 64
    found = torch.stack(
        [(colour.sum(dim=axis) * middles).sum(dim=1) / colour.sum(dim=(1, 2)) for axis in (1, 2)], dim=1
    )
    assert (found - figure_places(facts)).abs().max() < 0.03


@pytest.mark.parametrize("modality", Modality)
def test_every_caption_fits_its_own_sample(modality):
    pairs = WorldSource().pairs(modality, 16, draw())
    assert len(pairs.texts) == 16
    assert pairs.fits.diagonal().all()
    assert (pairs.places is not None) == (modality is Modality.IMAGE)


def test_captions_are_held_against_such_as_say_all():
    full = WorldSource().pairs(Modality.TEXT, 64, draw()).media
    assert isinstance(full, list)
    for fact in MAIN_FACTS:
        assert (read_text(full).categories[fact] != NONE).all()


def test_some_captions_say_a_motion_alone():
    said = read_text(WorldSource().pairs(Modality.VIDEO, 200, draw()).texts).categories
    alone = (said[Fact.MOTION] != NONE) & (said[Fact.SHAPE] == NONE) & (said[Fact.COLOUR] == NONE)
    assert 0.4 < alone.float().mean() < 0.75


def test_a_timbre_given_by_its_partials_sounds_like_the_worlds_own():
    facts = World().draw(32, draw())
    own = torch.zeros(32, HIGHEST_PARTIAL)
    for row, shape in enumerate(facts.shape.tolist()):
        for number, amplitude in PARTIALS[tuple(Shape)[shape]].items():
            own[row, number - 1] = amplitude
    given_partials, rendered = render_sounds(facts, draw(), own), render_sounds(facts, draw())
    for fact in MAIN_FACTS:
        assert torch.equal(read_sound(given_partials).categories[fact], read_sound(rendered).categories[fact])
    loudness = [sound.samples.square().mean(dim=2).sqrt() for sound in (given_partials, rendered)]
    torch.testing.assert_close(*loudness, rtol=0.05, atol=0)


def test_timbres_at_random_have_their_pitch_and_many_partials():
    timbres = draw_timbres(500, draw())
    assert timbres.min() >= 0
    assert timbres[:, 0].min() >= LEAST_FUNDAMENTAL
    assert (timbres[:, 1:] > 0).float().mean(dim=0).min() > 0.4


@given(count=st.integers(1, 5))
def test_sounds_and_pictures_come_as_asked_for(count):
    source = WorldSource()
    assert source.sounds(count, draw()).samples.shape == (count, 1, 40_960)
    assert len(source.texts(count, draw())) == count
    assert source.pictures(count, draw()).pixels.shape[1] == 3


def test_most_pictures_are_crops():
    sides = [WorldSource().pictures(8, draw(seed)).pixels.shape[-1] for seed in range(24)]
    assert 12 <= sides.count(CROP_SIDE) < 24
