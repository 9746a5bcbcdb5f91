"""What the shipped weights do, where small runs can tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest
import torch
from torch import Tensor

from comfyui_codi.codi_core.decoders import build_codec
from comfyui_codi.codi_core.evaluation.facts import READERS
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.pipeline import CoDiPipeline
from comfyui_codi.codi_core.training.sounds import render_sounds
from comfyui_codi.codi_core.training.world import SIZE_RANGE, Fact, Facts, Motion, Shape, World
from comfyui_codi.codi_core.training.world_source import RENDERERS, full_captions
from comfyui_codi.codi_core.values import Media, Waveform

ROWS = 32


@pytest.fixture(scope="module")
def pipeline() -> CoDiPipeline:
    return CoDiPipeline.from_pretrained("codi-mini")


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _as_made(pipeline: CoDiPipeline, sound: Waveform) -> Waveform:
    codec = build_codec(Modality.AUDIO, pipeline.parts, pipeline.config)
    return cast(Waveform, codec.decode(codec.encode(sound)))


def _in_noise(pipeline: CoDiPipeline, sound: Waveform) -> Waveform:
    """A tenth as loud."""
    noise = torch.randn(sound.samples.shape, generator=torch.Generator().manual_seed(1))
    return replace(sound, samples=sound.samples + 0.01 * noise)


@pytest.mark.parametrize("heard", [_as_made, _in_noise])
def test_sounds_that_it_made_and_sounds_in_noise_tell_their_motion(
    pipeline: CoDiPipeline, generator: torch.Generator, heard: Callable[[CoDiPipeline, Waveform], Waveform]
) -> None:
    facts = World().draw(ROWS, generator)
    sounds = pipeline.encode(heard(pipeline, render_sounds(facts, generator))).embedding[:, 0]
    fit = []
    for motion in range(len(Motion)):
        words = full_captions(replace(facts, motion=torch.full_like(facts.motion, motion)), generator)
        fit.append((sounds * pipeline.encode(words).embedding[:, 0]).sum(dim=1))
    assert int((torch.stack(fit).argmax(dim=0) == facts.motion).sum()) >= ROWS - 3


def _apart(first: Tensor, second: Tensor) -> float:
    """How far what two batches have in common lies apart."""
    return float((first - second).mean(dim=0).norm())


@pytest.mark.parametrize(("modality", "louder"), [(Modality.IMAGE, 1.1), (Modality.VIDEO, 1.5)])
def test_diffusers_are_told_sizes_with_emphasis_and_shapes_as_they_are(
    pipeline: CoDiPipeline, generator: torch.Generator, modality: Modality, louder: float
) -> None:
    facts = World().draw(ROWS // 2, generator)
    every = torch.ones(len(facts))

    def ratio(*values: Facts) -> float:
        """How much farther apart it is told than prompts that show it are."""
        shown = [pipeline.encode(cast(Media, RENDERERS[modality](each, generator))) for each in values]
        told = [pipeline.tell(each, modality) for each in shown]
        return _apart(*(each.embedding for each in told)) / _apart(*(each.embedding for each in shown))

    assert ratio(*(replace(facts, size=every * size) for size in SIZE_RANGE)) > louder
    circle, square, *_ = (replace(facts, shape=every.long() * number) for number in range(len(Shape)))
    assert ratio(circle, square) == pytest.approx(1, abs=0.05)


def test_what_is_made_of_an_empty_prompt_heeds_what_is_kept(pipeline: CoDiPipeline, generator: torch.Generator) -> None:
    facts = World().draw(ROWS // 2, generator)
    known = pipeline.encode_latent(full_captions(facts, generator))
    latents = pipeline.sample(pipeline.encode([""] * len(facts)), to=[Modality.IMAGE], known=known, steps=10)
    shown = READERS[Modality.IMAGE](pipeline.decode(latents, Modality.IMAGE)).categories[Fact.COLOUR]
    assert int((shown == facts.categories[Fact.COLOUR]).sum()) >= ROWS // 2 - 4


@pytest.mark.parametrize(("modality", "steps"), [(Modality.IMAGE, 25), (Modality.VIDEO, 12), (Modality.AUDIO, 25)])
def test_what_a_caption_leaves_open_comes_out_otherwise_with_other_noise(
    pipeline: CoDiPipeline, modality: Modality, steps: int
) -> None:
    latents = pipeline.sample(pipeline.encode(["a star"] * 12), to=[modality], steps=steps)
    read = READERS[modality](pipeline.decode(latents, modality)).categories
    assert (read[Fact.SHAPE] == tuple(Shape).index(Shape.STAR)).sum() >= 10
    colours = read[Fact.COLOUR]
    assert (colours == colours.mode().values).sum() < 9
