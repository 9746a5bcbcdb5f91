from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from comfyui_codi.codi_core.evaluation.facts import (
    READERS,
    agreement,
    matches,
    moments_apart_s,
    read_image,
    read_sound,
    read_text,
    read_video,
)
from comfyui_codi.codi_core.evaluation.reader_errors import ReaderErrors, reader_error_rates
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.training.pictures import render_images, render_videos
from comfyui_codi.codi_core.training.sounds import render_sounds
from comfyui_codi.codi_core.training.world import (
    CARRIED,
    NONE,
    VALUES,
    Colour,
    Fact,
    Facts,
    Motion,
    Shape,
    Size,
    Split,
    World,
)
from comfyui_codi.codi_core.values import Frames, Picture, Waveform


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(count: int) -> Facts:
    return World(Split.ALL).draw(count, seeded(7))


@pytest.fixture(scope="module")
def error_rates() -> dict[str, dict[Modality, ReaderErrors]]:
    return reader_error_rates(96)


@pytest.mark.parametrize(("rendering", "limit"), [("clean", 0.01), ("distorted", 0.03)])
@pytest.mark.parametrize("modality", list(Modality))
def test_the_reader_rarely_errs(
    error_rates: dict[str, dict[Modality, ReaderErrors]], modality: Modality, rendering: str, limit: float
):
    errors = error_rates[rendering][modality]
    assert tuple(errors.facts) == CARRIED[modality]
    assert max(errors.facts.values()) <= limit


@pytest.mark.parametrize("rendering", ["clean", "distorted"])
@pytest.mark.parametrize("modality", [Modality.VIDEO, Modality.AUDIO])
def test_bounces_are_placed_within_a_hundredth_of_a_second(
    error_rates: dict[str, dict[Modality, ReaderErrors]], modality: Modality, rendering: str
):
    assert error_rates[rendering][modality].bounce_moments_s < 0.01


def test_picture_and_sound_of_the_same_facts_tell_the_same_moments():
    facts = drawn(40)
    facts = facts[facts.bounces]
    seen = read_video(render_videos(facts, seeded())).bounce_moments_s
    heard = read_sound(render_sounds(facts, seeded())).bounce_moments_s
    assert float(moments_apart_s(seen, heard).max()) < 0.03


NOTHING = {
    Modality.TEXT: ["", "a poem about the sea"],
    Modality.IMAGE: Picture(torch.stack([torch.zeros(3, 64, 64), 0.2 * torch.randn(3, 64, 64, generator=seeded())])),
    Modality.VIDEO: Frames(torch.full((2, 16, 3, 64, 64), 0.3), Fraction(25, 4)),
    Modality.AUDIO: Waveform(
        torch.stack([torch.zeros(1, 40_960), 0.1 * torch.randn(1, 40_960, generator=seeded())]), 16_000
    ),
}


@pytest.mark.parametrize("modality", list(Modality))
def test_nothing_is_read_where_nothing_is(modality: Modality):
    reading = READERS[modality](NOTHING[modality])
    assert set(reading.categories) == set(CARRIED[modality])
    for fact, category in reading.categories.items():
        assert category.tolist() == [NONE, NONE]
        assert reading.confidence[fact].tolist() == [0, 0]
    assert not reading.bounce_moments_s.isfinite().any()


@pytest.mark.parametrize(("height", "width"), [(48, 80), (128, 128)])
def test_pictures_of_other_sizes_are_read(height: int, width: int):
    facts = drawn(40)
    reading = read_image(render_images(facts, seeded(), height, width))
    assert set(agreement(reading, facts.categories).values()) == {1.0}


def test_blur_lowers_the_confidence_in_a_shape():
    picture = render_images(drawn(40), seeded())
    blurred = functional.interpolate(functional.avg_pool2d(picture.pixels, 4), scale_factor=4, mode="bilinear")
    sharp, vague = (read_image(each).confidence[Fact.SHAPE].mean() for each in (picture, Picture(blurred)))
    assert vague < sharp


def test_stereo_and_other_sample_rates_are_heard():
    facts = drawn(40)
    waveform = render_sounds(facts, seeded())
    stereo = functional.interpolate(waveform.samples, scale_factor=3.0, mode="linear").expand(-1, 2, -1)
    reading = read_sound(replace(waveform, samples=stereo, sample_rate_hz=48_000))
    assert set(agreement(reading, facts.categories).values()) == {1.0}


def test_an_irregular_path_is_no_motion():
    still = render_videos(drawn(12), seeded())
    jumping_about = still.pixels[:, torch.randperm(16, generator=seeded(2))]
    moved = drawn(12).motion != tuple(Motion).index(Motion.STILL)
    motion = read_video(replace(still, pixels=jumping_about)).categories[Fact.MOTION]
    assert float((motion[moved] == NONE).float().mean()) > 0.5


@given(st.randoms(use_true_random=False))
def test_words_are_understood_in_any_order(chance: random.Random):
    words = ["a", "Tiny", "turquoise", "stars", "bouncing,", "up", "and", "down."]
    chance.shuffle(words)
    read = {fact: int(category) for fact, category in read_text([" ".join(words)]).categories.items()}
    wanted = {Fact.SHAPE: Shape.STAR, Fact.COLOUR: Colour.CYAN, Fact.MOTION: Motion.BOUNCE, Fact.SIZE: Size.SMALL}
    assert read == {fact: VALUES[fact].index(value) for fact, value in wanted.items()}


def test_a_contradiction_is_not_understood():
    reading = read_text(["a red green circle moving left and right", "a red scarlet circle"])
    assert reading.categories[Fact.COLOUR].tolist() == [NONE, 0]
    assert reading.categories[Fact.MOTION].tolist() == [NONE, NONE]
    assert reading.categories[Fact.SHAPE].tolist() == [0, 0]


def test_only_stated_facts_that_both_sides_know_are_compared():
    reading = read_text(["a red circle", "a red circle", "a red circle", "a circle"])
    target = {Fact.COLOUR: torch.tensor([0, 1, NONE, 0])}
    stated = {Fact.COLOUR: torch.tensor([True, True, True, False])}
    match = matches(reading, target, stated)
    assert list(match) == [Fact.COLOUR]
    assert match[Fact.COLOUR].nan_to_num(nan=-1).tolist() == [1, 0, -1, -1]
    assert agreement(reading, target, stated) == {Fact.COLOUR: 0.5}
    assert agreement(reading, target) == {Fact.COLOUR: pytest.approx(1 / 3)}


def test_moments_are_apart_by_the_median_distance():
    nan = torch.nan
    first = torch.tensor([[0.5, 1.0, nan], [0.5, 1.5, nan], [nan, nan, nan]])
    second = torch.tensor([[1.1, 0.6, nan], [0.5, 1.5, 2.4], [0.5, nan, nan]])
    assert torch.allclose(moments_apart_s(first, second), torch.tensor([0.1, 0.0, nan]), equal_nan=True)
