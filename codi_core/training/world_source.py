"""The procedural world as a source of training samples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..modality import Modality
from ..values import Picture, Waveform
from .captions import captions, draw_stated, phrase
from .pictures import chroma, draw_colours, figure_places, render_images, render_videos
from .sounds import detuned_pitches, draw_pitches, draw_timbres, render_sounds
from .source import CAPTIONS_PER_SAMPLE, Pairs, Samples
from .world import CARRIED, MAIN_FACTS, NONE, Fact, Facts, World

MOTION_ALONE = 0.5
"""Share of the captions in pairs that say a motion and nothing else. Where shape and colour are said too, they alone
tell nearly all samples of a batch apart, and motions are not learned in thousands of steps."""
CROP_SIDE = 32
CROP_JITTER = 8
"""Both in pixels."""
WHOLE = 0.25
"""Share of the batches of whole pictures; they hold fewer, so that every step costs the same."""


RENDERERS: dict[Modality, Callable[[Facts, torch.Generator], Any]] = {
    Modality.TEXT: lambda facts, generator: captions(facts, generator)[0],
    Modality.IMAGE: render_images,
    Modality.VIDEO: render_videos,
    Modality.AUDIO: render_sounds,
}


def _complete(facts: Facts, sayable: Collection[Fact]) -> dict[Fact, Bool[Tensor, "batch"]]:
    """All main facts that may be spoken of are stated."""
    return {fact: torch.full_like(facts.bounces, fact in sayable) for fact in MAIN_FACTS}


def full_captions(facts: Facts, generator: torch.Generator) -> list[str]:
    """One caption per row that says all main facts."""
    return phrase(facts, _complete(facts, MAIN_FACTS), generator)


COMPLETE = RENDERERS | {Modality.TEXT: full_captions}
"""Renderers that leave no main fact out."""


def _out_of_tune(facts: Facts, generator: torch.Generator) -> Waveform:
    return render_sounds(facts, generator, pitches_hz=detuned_pitches(facts, generator))


IN_PAIRS = COMPLETE | {Modality.AUDIO: _out_of_tune}
"""Where every named pitch is met to the hertz, what is held out at it lies apart from all pitches without a name."""


def _oddly_coloured(render: Callable[..., Any]) -> Callable[[Facts, torch.Generator], Any]:
    return lambda facts, generator: render(facts, generator, colours=draw_colours(len(facts), generator))


def _oddly_pitched(facts: Facts, generator: torch.Generator) -> Waveform:
    return render_sounds(facts, generator, pitches_hz=draw_pitches(len(facts), generator))


def _of_odd_timbre(facts: Facts, generator: torch.Generator) -> Waveform:
    return render_sounds(facts, generator, timbres=draw_timbres(len(facts), generator))


ODD: dict[Modality, dict[Fact, Callable[[Facts, torch.Generator], Any]]] = {
    Modality.IMAGE: {Fact.COLOUR: _oddly_coloured(render_images)},
    Modality.VIDEO: {Fact.COLOUR: _oddly_coloured(render_videos)},
    Modality.AUDIO: {Fact.COLOUR: _oddly_pitched, Fact.SHAPE: _of_odd_timbre},
}
"""Renderers of samples in which one fact is none of the world's values."""
ODD_IN_PAIRS: dict[Modality, dict[Fact, float]] = {
    Modality.IMAGE: {Fact.COLOUR: 0.6},
    Modality.VIDEO: {Fact.COLOUR: 0.6},
    Modality.AUDIO: {Fact.COLOUR: 0.4, Fact.SHAPE: 0.4},
}
"""Share of the pairs in which a fact is odd. Without them a shape is learned for each of its colours by itself, and
those combinations that are held out are taken for others. Contrast with all other samples of a batch teaches that again
with every sample that has names, so most have none."""
ODD_IN_SAMPLES = 0.25
"""Share of the samples that diffusers learn from, for each fact that can be odd."""


def _joined(media: Sequence[Any]) -> Any:
    """The rows of all of them, which differ in nothing but their numbers, after one another."""
    first = media[0]
    if isinstance(first, Waveform):
        return replace(first, samples=torch.cat([each.samples for each in media]))
    return replace(first, pixels=torch.cat([each.pixels for each in media]))


def _partly_odd(
    modality: Modality,
    facts: Facts,
    shares: Mapping[Fact, float],
    render: Callable[[Facts, torch.Generator], Any],
    generator: torch.Generator,
) -> tuple[Any, dict[Fact, Bool[Tensor, "batch"]]]:
    """Samples, the first of them with a fact that is odd; per fact the rows in which it has no name.

    shares: for each fact that can be odd. render: for those without.
    """
    media, odd, start = [], {}, 0
    for fact, share in shares.items():
        end = start + round(share * len(facts))
        if end > start:
            odd[fact] = torch.zeros_like(facts.bounces)
            odd[fact][start:end] = True
            media.append(ODD[modality][fact](facts[start:end], generator))
        start = end
    if start < len(facts):
        media.append(render(facts[start:], generator))
    return _joined(media) if odd else media[0], odd


def _without_names(
    stated: Mapping[Fact, Bool[Tensor, "batch"]], odd: Mapping[Fact, Bool[Tensor, "batch"]]
) -> dict[Fact, Bool[Tensor, "batch"]]:
    """What has no name is not said; where it was to be, the other one is."""
    said = dict(stated)
    for fact, rows in odd.items():
        other = Fact.SHAPE if fact is Fact.COLOUR else Fact.COLOUR
        said[other] = said[other] | (rows & said[fact])
        said[fact] = said[fact] & ~rows
    return said


def agreeing(
    said: Mapping[Fact, Int[Tensor, "batch"]],
    stated: Mapping[Fact, Bool[Tensor, "batch"]],
    shown: Mapping[Fact, Int[Tensor, "batch"]],
) -> Bool[Tensor, "batch batch"]:
    """[i, j]: everything that caption i states is so in sample j. Captions that omit facts fit several samples."""
    fits = torch.ones(len(said[Fact.SHAPE]), len(said[Fact.SHAPE]), dtype=torch.bool)
    for fact, mask in stated.items():
        same = (said[fact][:, None] == shown[fact][None, :]) & (said[fact][:, None] != NONE)
        fits &= same | ~mask[:, None]
    return fits


class WorldSource:
    """Endless samples, never one twice; what is held out of the world's training split is in none."""

    digest = "world-mostly-odd-pairs"

    def holds(self, modalities: Collection[Modality]) -> bool:
        return True

    def pictures(self, count: int, generator: torch.Generator) -> Picture:
        """Half pictures, half frames of videos, whose figures stand in other places; mostly crops around the figure,
        whose outline is what is hard to keep."""
        world = World()
        whole = torch.rand((), generator=generator) < WHOLE
        if whole:
            count = -(-count // 4)
        still = render_images(world.draw(count // 2, generator), generator).pixels
        clips = render_videos(world.draw((count + 15) // 16, generator), generator).pixels.flatten(0, 1)
        frames = clips[torch.randperm(len(clips), generator=generator)[: count - count // 2]]
        pixels = torch.cat([still, frames])
        return Picture(pixels if whole else crop_to_figure(pixels, generator))

    def sounds(self, count: int, generator: torch.Generator) -> Waveform:
        """Every second one of a timbre drawn at random, so that codecs don't take the world's for all there are: they
        would lose a timbre at the pitches that training holds out."""
        foreign = count // 2
        facts = World().draw(count, generator)
        return _joined([_of_odd_timbre(facts[:foreign], generator), render_sounds(facts[foreign:], generator)])

    def texts(self, count: int, generator: torch.Generator) -> list[str]:
        return captions(World().draw(count, generator), generator)[0]

    def pairs(self, modality: Modality, count: int, generator: torch.Generator) -> Pairs:
        facts = World().draw(count, generator)
        # Full captions say nothing of the size.
        carried = MAIN_FACTS if modality is Modality.TEXT else CARRIED[modality]
        # Captions of pictures may speak of motion, so that it is known not to tell them apart.
        stated = draw_stated(facts, generator, {*carried, *MAIN_FACTS})
        if Fact.MOTION in carried:
            alone = torch.rand(count, generator=generator) < MOTION_ALONE
            stated = {fact: rows | alone if fact is Fact.MOTION else rows & ~alone for fact, rows in stated.items()}
        media, odd = _partly_odd(modality, facts, ODD_IN_PAIRS.get(modality, {}), IN_PAIRS[modality], generator)
        stated = _without_names(stated, odd)
        shown = {
            fact: values.where(~odd[fact], NONE) if fact in odd else values for fact, values in facts.categories.items()
        }
        texts = phrase(facts, stated, generator)
        places = figure_places(facts) if modality is Modality.IMAGE else None
        seen = {fact: rows for fact, rows in stated.items() if fact in carried}
        fits = agreeing(facts.categories, seen, shown)
        return Pairs(texts, media, fits, places)

    def samples(
        self,
        modalities: Collection[Modality],
        sayable: Modality,
        rows: range,
        generator: torch.Generator,
        captions_each: int = CAPTIONS_PER_SAMPLE,
        nameless: bool = True,
    ) -> Samples:
        """The texts themselves say all there is to say, so that a text that is made does, too; captions leave out.

        Beside texts alone, some samples have a colour, pitch or timbre without a name. Of two kinds of samples both
        would have to have the same, and what a colour without a name sounds like nobody knows.
        """
        facts = World().draw(len(rows), generator)
        rendered: dict[Modality, Any] = {}
        odd: dict[Fact, Tensor] = {}
        match [modality for modality in Modality if modality in modalities and modality is not Modality.TEXT]:
            case [modality] if nameless:
                shares = dict.fromkeys(ODD[modality], ODD_IN_SAMPLES)
                rendered[modality], odd = _partly_odd(modality, facts, shares, COMPLETE[modality], generator)
            case several:
                rendered = {modality: RENDERERS[modality](facts, generator) for modality in several}
        sayable_facts = CARRIED[sayable]
        if Modality.TEXT in modalities:
            complete = _without_names(_complete(facts, sayable_facts), odd)
            rendered[Modality.TEXT] = phrase(facts, complete, generator)
        texts = []
        for _ in range(captions_each):
            stated = _without_names(draw_stated(facts, generator, sayable_facts), odd)
            texts.append(phrase(facts, stated, generator))
        return Samples(rendered, texts)


def crop_to_figure(
    pixels: Float[Tensor, "batch 3 height width"], generator: torch.Generator
) -> Float[Tensor, "batch 3 side side"]:
    """CROP_SIDE × CROP_SIDE pixels around where the colour is, not always in the middle."""
    weight = chroma(pixels)[:, 0].square()
    starts = []
    for axis, length in enumerate(pixels.shape[2:], start=1):
        along = weight.sum(dim=3 - axis)
        centre = (along * torch.arange(length)).sum(dim=1) / along.sum(dim=1)
        jitter = (2 * torch.rand(len(pixels), generator=generator) - 1) * CROP_JITTER
        starts.append((centre + jitter - CROP_SIDE / 2).round().long().clamp(0, length - CROP_SIDE).tolist())
    rows = zip(pixels, *starts, strict=True)
    return torch.stack([each[:, y : y + CROP_SIDE, x : x + CROP_SIDE] for each, y, x in rows])
