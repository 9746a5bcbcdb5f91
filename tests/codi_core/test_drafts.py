"""Drafts of codi-mini: they look like what is decoded, and take little time."""

from __future__ import annotations

from fractions import Fraction

import numpy
import pytest
import torch
from torch.nn import functional

from comfyui_codi.codi_core import drafts
from comfyui_codi.codi_core.drafts import Drafts
from comfyui_codi.codi_core.geometry import latent_shape
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.pipeline import CoDiPipeline
from comfyui_codi.codi_core.training.world import Split, World
from comfyui_codi.codi_core.training.world_source import RENDERERS
from comfyui_codi.codi_core.values import Frames, OutputSize, Waveform

TEXT, IMAGE, VIDEO, AUDIO = Modality


@pytest.fixture(scope="module")
def pipeline() -> CoDiPipeline:
    return CoDiPipeline.from_pretrained("codi-mini")


@pytest.fixture(scope="module")
def media() -> dict:
    random = torch.Generator().manual_seed(0)
    facts = World(Split.ALL).draw(4, random)
    return {modality: RENDERERS[modality](facts, random) for modality in (IMAGE, VIDEO, AUDIO)}


def pixels_of(picture) -> torch.Tensor:
    return torch.from_numpy(numpy.asarray(picture).copy()).movedim(-1, 0) / 255


def alike(one: torch.Tensor, other: torch.Tensor) -> float:
    """Correlation of two pictures."""
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])


@pytest.mark.parametrize("row", range(4))
def test_a_draft_of_a_picture_looks_like_it(pipeline, media, row):
    latent = pipeline.encode_latent(media[IMAGE]).samples[IMAGE][row : row + 1]
    (drawn,) = Drafts(pipeline).draw(IMAGE, latent)
    wanted = functional.interpolate(media[IMAGE].pixels[row : row + 1], drawn.size[::-1], mode="area")[0]
    assert alike(pixels_of(drawn), wanted) > 0.9


def test_a_draft_of_a_video_has_frames_from_its_beginning_to_its_end(pipeline, media):
    latent = pipeline.encode_latent(media[VIDEO]).samples[VIDEO][:1]
    frames = Drafts(pipeline).draw(VIDEO, latent)
    assert len(frames) == drafts.MOST_FRAMES
    wanted = functional.interpolate(media[VIDEO].pixels[0], frames[0].size[::-1], mode="area")
    for frame, pixels in ((frames[0], wanted[0]), (frames[-1], wanted[-1])):
        assert alike(pixels_of(frame), pixels) > 0.9


def test_a_draft_of_a_short_video_has_all_its_frames(pipeline):
    latent = pipeline.encode_latent(Frames(torch.zeros(1, 3, 3, 64, 64), Fraction(25, 4))).samples[VIDEO]
    assert len(Drafts(pipeline).draw(VIDEO, latent)) == 3


def test_a_draft_of_a_sound_is_bright_where_it_is_loud(pipeline):
    """A high tone that begins in the middle: the upper right is the brightest quarter."""
    time_s = torch.arange(40960) / 16000
    sound = torch.sin(2 * torch.pi * 3000 * time_s) * (time_s > 1.28)
    latent = pipeline.encode_latent(Waveform(sound[None, None], 16000)).samples[AUDIO]
    (drawn,) = Drafts(pipeline).draw(AUDIO, latent)
    assert drawn.width > drawn.height
    light = pixels_of(drawn).mean(dim=0)
    upper, lower = light.chunk(2)
    quarters = [half.mean() for part in (upper, lower) for half in part.chunk(2, dim=1)]
    assert max(quarters) == quarters[1]


def test_a_draft_of_a_text_is_the_text(pipeline):
    latent = pipeline.encode_latent("a red circle bounces").samples[TEXT]
    assert (
        Drafts(pipeline).draw(TEXT, latent) == pipeline.decode(pipeline.encode_latent("a red circle bounces"), TEXT)[0]
    )


def test_drafts_take_no_more_than_their_share_of_the_time(pipeline, monkeypatch):
    """Each takes 1 s on this clock, and steps 2 s: so every fifth step or so has one."""
    clock = [0.0]
    monkeypatch.setattr(drafts.time, "monotonic", lambda: clock[0])
    asked = Drafts(pipeline)

    def draw(modality, latent):
        clock[0] += 1
        return "a draft"

    monkeypatch.setattr(asked, "draw", draw)
    latents, drawn = {TEXT: torch.zeros(1, 4)}, 0
    for step in range(1, 101):
        clock[0] += 2
        drawn += len(asked(latents))
        assert drawn <= 1 + drafts.SHARE_OF_TIME * clock[0], step
    assert drawn >= 0.9 * drafts.SHARE_OF_TIME * clock[0]


def test_what_cannot_be_drawn_goes_without_and_the_rest_is_drawn(pipeline, media):
    latents = pipeline.encode_latent(media[IMAGE]).samples | {TEXT: torch.full((1, 128), torch.nan)}
    asked = Drafts(pipeline)
    assert set(asked(latents)) == {IMAGE}
    assert asked.drawable == {IMAGE, VIDEO, AUDIO}


def test_loading_is_not_counted_as_drawing(monkeypatch):
    """On this clock a part takes a minute to be loaded, and a step a second."""
    pipeline, clock = CoDiPipeline.from_pretrained("codi-mini"), [0.0]
    monkeypatch.setattr(drafts.time, "monotonic", lambda: clock[0])
    load = pipeline.parts._make

    def slowly(name: str):
        clock[0] += 60
        return load(name)

    monkeypatch.setattr(pipeline.parts, "_make", slowly)
    asked, shape = Drafts(pipeline), latent_shape(pipeline.config, IMAGE, OutputSize())
    for _ in range(3):
        clock[0] += 1
        assert set(asked({IMAGE: torch.zeros(1, *shape)})) == {IMAGE}
    assert clock[0] == 63
