"""The procedural world as a source: what pairs say, where figures stand, and timbres that the world does not have."""

from __future__ import annotations

import colorsys
from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comfyui_codi.codi_core.evaluation.facts import READERS, read_sound, read_text
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.training.pictures import HUE_JITTER, draw_colours, figure_places, render_images
from comfyui_codi.codi_core.training.sounds import (
    APART_SEMITONES,
    HIGHEST_PARTIAL,
    LEAST_FUNDAMENTAL,
    PARTIALS,
    PITCHES_HZ,
    detuned_pitches,
    draw_pitches,
    draw_timbres,
    render_sounds,
)
from comfyui_codi.codi_core.training.world import MAIN_FACTS, NONE, Fact, Shape, World
from comfyui_codi.codi_core.training.world_source import CROP_SIDE, ODD, ODD_IN_PAIRS, ODD_IN_SAMPLES, WorldSource


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


@pytest.mark.parametrize("modality", ODD)
def test_pairs_have_samples_with_something_that_no_caption_names(modality):
    count, start = 64, 0
    pairs = WorldSource().pairs(modality, count, draw())
    read, said = READERS[modality](pairs.media).categories, read_text(pairs.texts).categories
    for fact, share in ODD_IN_PAIRS[modality].items():
        rows = slice(start, start + round(share * count))
        assert (said[fact][rows] == NONE).all()
        # Captions that name this fact fit none of these samples.
        assert not pairs.fits[said[fact] != NONE, rows].any()
        start = rows.stop
    named = slice(start, None)
    for fact in (Fact.SHAPE, Fact.COLOUR):
        stated = said[fact][named] != NONE
        assert stated.any()
        assert (read[fact][named] == said[fact][named])[stated].float().mean() > 0.9


@pytest.mark.parametrize("modality", ODD)
def test_nothing_that_belongs_to_samples_names_what_has_no_name(modality):
    count = 64
    odd = round(ODD_IN_SAMPLES * count)
    samples = WorldSource().samples({Modality.TEXT, modality}, modality, range(count), draw())
    shown = READERS[modality](samples.media[modality]).categories
    for texts in (samples.media[Modality.TEXT], *samples.captions):
        said = read_text(cast(list[str], texts)).categories
        for index, fact in enumerate(ODD[modality]):
            assert (said[fact][index * odd : (index + 1) * odd] == NONE).all()
        assert all((values != NONE).any() for values in (said[Fact.SHAPE], said[Fact.COLOUR]))
        named = slice(len(ODD[modality]) * odd, None)
        for fact in (Fact.SHAPE, Fact.COLOUR):
            stated = said[fact][named] != NONE
            assert (shown[fact][named] == said[fact][named])[stated].float().mean() > 0.9


def test_samples_of_two_kinds_show_the_worlds_own_values():
    samples = WorldSource().samples({Modality.IMAGE, Modality.AUDIO}, Modality.IMAGE, range(32), draw())
    pictures, sounds = (READERS[modality](samples.media[modality]).categories for modality in sorted(samples.media))
    for fact in (Fact.SHAPE, Fact.COLOUR):
        assert (pictures[fact] == sounds[fact]).float().mean() > 0.9


def test_no_colour_and_no_pitch_without_name_is_near_one_with_a_name():
    hues = torch.tensor([colorsys.rgb_to_hsv(*colour)[0] * 360 for colour in draw_colours(500, draw()).tolist()])
    assert ((hues + 30) % 60 - 30).abs().min() > 2 * HUE_JITTER
    pitches = draw_pitches(500, draw())
    semitones = 12 * (pitches[:, None] / torch.tensor(list(PITCHES_HZ.values()))).log2()
    assert semitones.abs().min() > 0.99
    for side in (semitones, -semitones):
        assert (side.where(side > 0, torch.inf).amin(dim=0) < 2).all()


def test_sounds_out_of_tune_keep_their_names():
    facts = World().draw(64, draw())
    pitches_hz = detuned_pitches(facts, draw())
    own_hz = torch.tensor(list(PITCHES_HZ.values()))[facts.categories[Fact.COLOUR]]
    semitones = 12 * (pitches_hz / own_hz).log2()
    assert semitones.abs().max() <= APART_SEMITONES + 1e-3
    assert semitones.std() > APART_SEMITONES / 3
    read = read_sound(render_sounds(facts, draw(), pitches_hz=pitches_hz)).categories[Fact.COLOUR]
    assert torch.equal(read, facts.categories[Fact.COLOUR])


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
