from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.training.pictures import GROUND, coverage, render_images, render_videos
from comfyui_codi.codi_core.training.sounds import PARTIALS, PITCHES_HZ, render_sounds
from comfyui_codi.codi_core.training.world import (
    BOUNCE_PERIOD_RANGE_S,
    CLIP_FRAMES,
    CLIP_SAMPLES,
    FRAMES_PER_SECOND,
    MOST_BOUNCES,
    NONE,
    SAMPLE_RATE_HZ,
    SIZE_RANGE,
    VALUES,
    Colour,
    Fact,
    Facts,
    Motion,
    Shape,
    Split,
    World,
    is_held_out,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(count: int, split: Split = Split.ALL, **changed: object) -> Facts:
    """Facts, with some fields set to one value in every row."""
    facts = World(split).draw(count, seeded())
    return replace(facts, **{name: torch.full_like(getattr(facts, name), value) for name, value in changed.items()})


def index(motion: Motion) -> int:
    return tuple(Motion).index(motion)


def test_same_seed_draws_the_same_world():
    first, second = (World().draw(20, seeded(3)) for _ in range(2))
    assert torch.equal(first.position, second.position)
    assert torch.equal(render_images(first, seeded()).pixels, render_images(second, seeded()).pixels)
    assert torch.equal(render_sounds(first, seeded()).samples, render_sounds(second, seeded()).samples)


def test_training_never_sees_what_is_held_out():
    assert not is_held_out(draw(2000, Split.TRAIN)).any()
    assert is_held_out(draw(2000, Split.HELD_OUT)).all()
    assert 0.08 < is_held_out(draw(5000)).float().mean() < 0.15


def test_a_picture_is_held_out_if_its_figure_is_with_every_motion():
    facts = draw(2000)
    by_figure = {(int(shape), int(colour)) for shape, colour in zip(facts.shape, facts.colour, strict=True)}
    seen = draw(2000, Split.TRAIN)
    by_figure -= {(int(shape), int(colour)) for shape, colour in zip(seen.shape, seen.colour, strict=True)}
    held_out = is_held_out(facts, Modality.IMAGE)
    for row, found in enumerate(held_out.tolist()):
        assert found == ((int(facts.shape[row]), int(facts.colour[row])) in by_figure)
    assert torch.equal(is_held_out(facts, Modality.VIDEO), is_held_out(facts))
    assert 0 < held_out.sum() < is_held_out(facts).sum()


def test_training_sees_every_value_and_all_but_two_pairs():
    facts = draw(5000, Split.TRAIN)
    for fact, category in facts.categories.items():
        assert set(range(len(VALUES[fact]))) <= set(category.tolist())
    pairs = set(zip(facts.shape.tolist(), facts.colour.tolist(), strict=True))
    assert len(pairs) == len(Shape) * len(Colour) - 2


def test_each_size_word_fits_a_third_of_the_figures():
    size = draw(3000).categories[Fact.SIZE]
    for category in (NONE, 0, 1):
        assert (size == category).float().mean() == pytest.approx(1 / 3, abs=0.05)


def test_bounces_are_two_to_four_and_only_of_what_bounces():
    facts = draw(3000)
    finite = facts.bounce_moments_s.isfinite()
    counts = finite[facts.bounces].sum(dim=1)
    assert int(counts.min()) == 2
    assert int(counts.max()) == MOST_BOUNCES
    assert not finite[~facts.bounces].any()
    steps = facts.bounce_moments_s[facts.bounces].diff(dim=1)
    assert torch.all(steps[steps.isfinite()] >= BOUNCE_PERIOD_RANGE_S[0] - 1e-4)


def test_rows_can_be_chosen():
    facts = draw(30)
    assert len(facts[facts.bounces]) == int(facts.bounces.sum())
    assert torch.equal(facts[5:9].colour, facts.colour[5:9])


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(range(len(Shape))), st.floats(*SIZE_RANGE), st.sampled_from([(64, 64), (48, 96), (80, 56)]))
def test_every_shape_of_a_size_covers_the_same_area(shape: int, size: float, extent: tuple[int, int]):
    height, width = extent
    side = min(extent)
    centre = torch.tensor([[width / side / 2, height / side / 2]])
    covered = coverage(torch.tensor([shape]), centre, torch.tensor([size]), height, width)
    assert float(covered.sum()) / side**2 == pytest.approx(math.pi * size**2, rel=0.04)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 48)])
def test_pictures_have_the_size_asked_for_and_stay_in_range(height: int, width: int):
    pixels = render_images(draw(6), seeded(), height, width).pixels
    assert pixels.shape == (6, 3, height, width)
    assert pixels.abs().max() <= 1


def test_a_picture_does_not_show_motion():
    pictures = [render_images(draw(8, motion=index(motion)), seeded()).pixels for motion in Motion]
    assert all(torch.equal(picture, pictures[0]) for picture in pictures)


def chroma_rows(pixels: torch.Tensor) -> torch.Tensor:
    """Where along each frame's height the figure is: rows whose colour is strong."""
    chroma = pixels.amax(dim=-3) - pixels.amin(dim=-3)
    return chroma.amax(dim=-1) > 0.7


def test_a_bouncing_figure_touches_the_ground_at_the_moments_of_its_bounces():
    facts = draw(12, motion=index(Motion.BOUNCE), first_bounce_s=0.32, bounce_period_s=0.64)
    frames = render_videos(facts, seeded())
    moments = torch.arange(CLIP_FRAMES) / float(FRAMES_PER_SECOND)
    rows = chroma_rows(frames.pixels)
    lowest = (rows * torch.arange(64)).amax(dim=-1)
    ground = 64 * (1 - GROUND) - 1
    touching = ((moments - 0.32) / 0.64 % 1).isclose(torch.tensor(0.0), atol=1e-4)
    assert int(touching.sum()) == 4
    assert torch.all((lowest[:, touching] - ground).abs() <= 1.5)
    assert torch.all(lowest[:, ~touching] < ground - 4)


def test_left_and_right_mirror_each_other():
    def columns(motion: Motion) -> torch.Tensor:
        pixels = render_videos(draw(8, motion=index(motion)), seeded()).pixels
        covered = chroma_rows(pixels.transpose(-1, -2)).float()
        return (covered * torch.arange(64)).sum(dim=-1) / covered.sum(dim=-1)

    right, left = columns(Motion.RIGHT), columns(Motion.LEFT)
    assert torch.all(right[:, -1] - right[:, 0] > 10)
    assert torch.allclose(right, left.flip(1), atol=1)


def test_sounds_are_whole_clips_without_clicks_or_overload():
    waveform = render_sounds(draw(200), seeded())
    assert waveform.samples.shape == (200, 1, CLIP_SAMPLES)
    assert waveform.samples.abs().max() < 0.95
    assert waveform.samples[..., [0, -1]].abs().max() < 0.01


def test_no_partial_reaches_half_the_sample_rate():
    highest = max(max(partials) for partials in PARTIALS.values())
    assert max(PITCHES_HZ.values()) * highest < SAMPLE_RATE_HZ / 2


def test_what_moves_right_grows_louder_as_what_moves_left_fades():
    def ends(motion: Motion) -> torch.Tensor:
        samples = render_sounds(draw(12, motion=index(motion)), seeded()).samples[:, 0]
        return samples.unflatten(1, (8, -1))[:, [0, -1]].square().mean(dim=2)

    right, left = ends(Motion.RIGHT), ends(Motion.LEFT)
    assert torch.all(right[:, 1] > 10 * right[:, 0])
    assert torch.allclose(right, left.flip(1), rtol=0.05)


def test_larger_figures_are_louder():
    loudness = [
        render_sounds(draw(50, size=size, motion=index(Motion.STILL)), seeded()).samples.square().mean()
        for size in SIZE_RANGE
    ]
    assert loudness[1] > 2 * loudness[0]


def test_nothing_is_heard_before_the_first_bounce():
    facts = draw(20, motion=index(Motion.BOUNCE), first_bounce_s=0.5, bounce_period_s=0.8)
    samples = render_sounds(facts, seeded()).samples[:, 0]
    first = SAMPLE_RATE_HZ // 2
    assert samples[:, : first - 10].abs().max() < 0.01
    assert torch.all(samples[:, first : first + 800].abs().amax(dim=1) > 0.05)
