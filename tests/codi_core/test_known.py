"""What is known of outputs: kept, changed by strength and mask, and heeded by what is made beside it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from small_prompts import PROMPTS, equal

from comfyui_codi.codi_core.errors import ConfigError, ShapeError
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.models.joint import Alignment
from comfyui_codi.codi_core.pipeline import CoDiPipeline
from comfyui_codi.codi_core.sampling import SchedulerName
from comfyui_codi.codi_core.values import Frames, Latents, OutputSize, Waveform

TEXT, IMAGE, VIDEO, AUDIO = Modality


def known_of(pipeline: CoDiPipeline, *modalities: Modality) -> Latents:
    latents = [pipeline.encode_latent(PROMPTS[modality]) for modality in modalities]
    return Latents({modality: one.samples[modality] for modality, one in zip(modalities, latents, strict=True)})


@pytest.mark.parametrize("alignment", list(Alignment))
@pytest.mark.parametrize("kept", Modality)
def test_what_is_kept_comes_back_bit_by_bit(kept, alignment, tiny_pipeline, condition):
    known = known_of(tiny_pipeline, kept)
    others = [modality for modality in Modality if modality is not kept]
    made = tiny_pipeline.sample(condition, to=others, known=known, steps=2, alignment=alignment)
    assert list(made.samples) == [*others, kept]
    assert equal(made, known, kept)


@pytest.mark.parametrize("kept", Modality)
def test_outputs_heed_what_is_kept(kept, tiny_pipeline, condition):
    other = next(modality for modality in Modality if modality is not kept)
    known = known_of(tiny_pipeline, kept)
    negated = Latents({kept: -known.samples[kept]})
    first, second = (
        tiny_pipeline.sample(condition, to=[other], known=each, steps=2, size=OutputSize(seconds=0.32))
        for each in (known, negated)
    )
    assert not equal(first, second, other)


@pytest.mark.parametrize("scheduler", SchedulerName)
def test_at_full_strength_nothing_is_left_of_what_was_known(scheduler, tiny_pipeline, condition):
    known = known_of(tiny_pipeline, IMAGE)
    settings = {"steps": 3, "scheduler": scheduler, "size": OutputSize(seconds=0.32)}
    anew = tiny_pipeline.sample(condition, to=[AUDIO, IMAGE], known=known, strength=1.0, **settings)
    assert equal(anew, tiny_pipeline.sample(condition, to=[AUDIO, IMAGE], **settings), IMAGE, AUDIO)


@pytest.mark.parametrize("scheduler", SchedulerName)
def test_the_weaker_the_nearer(scheduler, tiny_pipeline, condition):
    known = known_of(tiny_pipeline, IMAGE)
    apart = [
        float(
            tiny_pipeline.sample(condition, to=[], known=known, strength=strength, steps=10, scheduler=scheduler)
            .samples[IMAGE]
            .sub(known.samples[IMAGE])
            .norm()
        )
        for strength in (0.0, 0.1, 0.5)
    ]
    assert apart == sorted(apart)
    assert apart[0] == 0 < apart[1]


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_mask_tells_what_is_made_anew(strength, tiny_pipeline, condition):
    known = known_of(tiny_pipeline, AUDIO)
    time = known.samples[AUDIO].shape[2]
    mask = (torch.arange(time) >= time // 2).float()[:, None]
    masked = replace(known, masks={AUDIO: mask})
    made = tiny_pipeline.sample(condition, to=[], known=masked, strength=strength, steps=4).samples[AUDIO]
    same = (made == known.samples[AUDIO]).flatten(0, 1).all(dim=2).all(dim=0)
    assert same.tolist() == [index < time // 2 for index in range(time)]


def test_beside_a_mask_what_has_none_is_kept(tiny_pipeline, condition):
    known = known_of(tiny_pipeline, AUDIO, IMAGE)
    masked = replace(known, masks={AUDIO: torch.ones(1, 1)})
    made = tiny_pipeline.sample(condition, to=[], known=masked, strength=1.0, steps=2)
    assert equal(made, known, IMAGE)
    assert not equal(made, known, AUDIO)


@pytest.mark.parametrize(
    ("kept", "size", "message"),
    [
        (AUDIO, {"seconds": 5.0}, r"wanted 0.5\d* as seconds, since the known audio has it, got 5; leave it open"),
        (VIDEO, {"frames": 50}, r"wanted \d as frames, since the known video has it, got 50; leave it open"),
        (IMAGE, {"width": 32}, "wanted 16 as width, since the known image has it, got 32; leave it open"),
    ],
)
def test_a_size_that_contradicts_what_is_known_is_refused(kept, size, message, tiny_pipeline, condition):
    with pytest.raises(ShapeError, match=message):
        tiny_pipeline.sample(condition, to=[TEXT], known=known_of(tiny_pipeline, kept), size=OutputSize(**size))


def test_a_new_video_may_be_larger_than_a_known_picture(tiny_pipeline, condition):
    size = OutputSize(width=32, height=16)
    made = tiny_pipeline.sample(condition, to=[VIDEO], known=known_of(tiny_pipeline, IMAGE), size=size, steps=1)
    assert tiny_pipeline.decode(made, VIDEO).pixels.shape[-2:] == (16, 32)


def test_seconds_go_with_the_sound(tiny_pipeline):
    sound, other = (tiny_pipeline.encode_latent(PROMPTS[modality]) for modality in (AUDIO, IMAGE))
    short = Latents({AUDIO: sound.samples[AUDIO], VIDEO: other.samples[IMAGE]}, 0.1)
    only, rest = short.split(AUDIO)
    assert (only.seconds, rest.seconds) == (0.1, None)
    assert [each.seconds for each in short.split(VIDEO)] == [None, 0.1]
    assert sound.joined(rest).seconds == rest.joined(sound).seconds == sound.seconds
    assert sound.joined(short).seconds == 0.1


def test_one_known_serves_every_row(tiny_pipeline, condition):
    known = known_of(tiny_pipeline, IMAGE)
    made = tiny_pipeline.sample(condition.repeated(3), to=[TEXT], known=known, steps=1)
    assert torch.equal(made.samples[IMAGE], known.samples[IMAGE].expand(3, -1, -1, -1))
    three = Latents({IMAGE: known.samples[IMAGE].repeat(2, 1, 1, 1)})
    with pytest.raises(ShapeError, match=r"wanted 1 image to keep, or 3 of them, .* got 2"):
        tiny_pipeline.sample(condition.repeated(3), to=[TEXT], known=three, steps=1)


def test_a_sound_lasts_as_long_as_the_video_it_is_made_for(tiny_pipeline, condition):
    video = tiny_pipeline.encode_latent(Frames(torch.zeros(1, 5, 3, 16, 16), Fraction(25, 2)))
    made = tiny_pipeline.sample(condition, to=[AUDIO], known=video, steps=1)
    assert tiny_pipeline.decode(made, AUDIO).duration_s == pytest.approx(0.4)
    asked = tiny_pipeline.sample(condition, to=[AUDIO], known=video, steps=1, size=OutputSize(seconds=0.1))
    assert tiny_pipeline.decode(asked, AUDIO).duration_s == pytest.approx(0.1)


def test_a_video_lasts_as_long_as_the_sound_it_is_made_for(tiny_pipeline, condition):
    sound = tiny_pipeline.encode_latent(Waveform(torch.zeros(1, 1, 4800), 8000))
    made = tiny_pipeline.sample(condition, to=[VIDEO], known=sound, steps=1)
    assert tiny_pipeline.decode(made, VIDEO).pixels.shape[1] == 8
    assert tiny_pipeline.decode(made, AUDIO).duration_s == pytest.approx(0.6)


@pytest.mark.parametrize("strength", [-0.1, 1.1])
def test_strength_out_of_range_is_refused(strength, tiny_pipeline, condition):
    known = known_of(tiny_pipeline, IMAGE)
    with pytest.raises(ConfigError, match=r"between 0 \(keep\) and 1 \(make anew\), got"):
        tiny_pipeline.sample(condition, to=[TEXT], known=known, strength=strength, steps=1)
