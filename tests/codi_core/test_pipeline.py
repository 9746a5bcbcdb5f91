from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from small_prompts import PROMPTS, equal

from comfyui_codi.codi_core.errors import CheckpointError, CoDiError, ConfigError, PromptError, ShapeError
from comfyui_codi.codi_core.mixing import mix
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.models.joint import Alignment
from comfyui_codi.codi_core.mutual import Coupling
from comfyui_codi.codi_core.parts import Parts
from comfyui_codi.codi_core.pipeline import CoDiPipeline
from comfyui_codi.codi_core.sampling import SchedulerName
from comfyui_codi.codi_core.values import (
    Condition,
    Latents,
    OutputSize,
    Picture,
    modality_of,
    rows_of,
)

TEXT, IMAGE, VIDEO, AUDIO = Modality


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("output", Modality)
def test_anything_makes_anything(prompt, output, tiny_pipeline):
    made = tiny_pipeline([prompt], to=[output], steps=1)
    assert list(made) == [output]
    (row,) = rows_of(made[output])
    assert modality_of(row) is output


def test_outputs_have_the_size_asked_for(tiny_pipeline):
    size = OutputSize(width=24, height=12, frames=3, seconds=0.1)
    made = tiny_pipeline([PROMPTS[TEXT]], to=list(Modality), size=size, steps=1)
    assert made[IMAGE].pixels.shape == (1, 3, 12, 24)
    assert made[VIDEO].pixels.shape == (1, 3, 3, 12, 24)
    assert made[VIDEO].frames_per_second == Fraction(25, 2)
    assert (made[AUDIO].samples.shape, made[AUDIO].sample_rate_hz) == ((1, 1, 800), 8000)
    assert len(made[TEXT]) == 1


def test_without_a_size_the_model_chooses(tiny_pipeline):
    made = tiny_pipeline([PROMPTS[TEXT]], to=[IMAGE, VIDEO, AUDIO], steps=1)
    assert made[IMAGE].pixels.shape == (1, 3, 16, 16)
    assert made[VIDEO].pixels.shape == (1, 4, 3, 16, 16)
    assert made[AUDIO].duration_s == 0.32


def test_pixels_and_samples_stay_in_range(tiny_pipeline, condition):
    latents = tiny_pipeline.sample(condition, to=[IMAGE, VIDEO, AUDIO], steps=1)
    loud = Latents({modality: 50 * latent for modality, latent in latents.samples.items()})
    assert tiny_pipeline.decode(loud, IMAGE).pixels.abs().max() <= 1
    assert tiny_pipeline.decode(loud, VIDEO).pixels.abs().max() <= 1
    assert tiny_pipeline.decode(loud, AUDIO).samples.abs().max() <= 1


@pytest.mark.parametrize("scheduler", SchedulerName)
def test_the_same_seed_gives_the_same_latents_bit_by_bit(scheduler, tiny_pipeline, condition):
    runs = [
        tiny_pipeline.sample(condition, to=[VIDEO, AUDIO], steps=2, seed=seed, scheduler=scheduler)
        for seed in (7, 7, 8)
    ]
    assert equal(runs[0], runs[1], VIDEO, AUDIO)
    assert not equal(runs[0], runs[2], VIDEO)
    assert not equal(runs[0], runs[2], AUDIO)


@pytest.mark.parametrize("alignment", ["paper", "released", "mutual", "both"])
def test_the_order_of_outputs_does_not_matter(alignment, tiny_pipeline, condition):
    one = tiny_pipeline.sample(condition, to=[VIDEO, AUDIO, TEXT], steps=2, alignment=alignment)
    other = tiny_pipeline.sample(condition, to=[TEXT, VIDEO, AUDIO], steps=2, alignment=alignment)
    for modality in (VIDEO, AUDIO, TEXT):
        torch.testing.assert_close(one.samples[modality], other.samples[modality], atol=1e-5, rtol=1e-4)


def test_in_released_alignment_a_further_output_changes_no_other_one(tiny_pipeline, condition):
    """So its noise is its own as well."""
    two = tiny_pipeline.sample(condition, to=[VIDEO, AUDIO], steps=2, alignment="released")
    three = tiny_pipeline.sample(condition, to=[TEXT, VIDEO, AUDIO], steps=2, alignment="released")
    assert equal(two, three, VIDEO, AUDIO)


@pytest.mark.parametrize("alignment", ["paper", "mutual", "both"])
def test_a_further_output_is_heeded(alignment, tiny_pipeline, condition):
    two = tiny_pipeline.sample(condition, to=[VIDEO, AUDIO], steps=2, alignment=alignment)
    three = tiny_pipeline.sample(condition, to=[TEXT, VIDEO, AUDIO], steps=2, alignment=alignment)
    assert not equal(two, three, VIDEO)
    assert not equal(two, three, AUDIO)


def test_both_is_paper_with_prompts_of_one_another(tiny_pipeline, condition):
    settings = {"to": [VIDEO, AUDIO], "steps": 3}
    paper = tiny_pipeline.sample(condition, alignment="paper", **settings)
    uncoupled = tiny_pipeline.sample(condition, alignment="both", coupling=Coupling(weight=0.0), **settings)
    assert equal(paper, uncoupled, VIDEO, AUDIO)
    at_once = Coupling(lead=0.0)
    both = tiny_pipeline.sample(condition, alignment="both", coupling=at_once, **settings)
    for alone in ("paper", "mutual"):
        made = tiny_pipeline.sample(condition, alignment=alone, coupling=at_once, **settings)
        assert not equal(both, made, VIDEO)
        assert not equal(both, made, AUDIO)


@pytest.mark.parametrize("alignment", ["paper", "released"])
def test_without_environments_joint_outputs_equal_single_ones(alignment, tiny_config, condition):
    """And the noise of an output does not depend on what else is made."""
    parts = {
        name: {**arguments, "environment": None} if name.startswith("diffuser_") else arguments
        for name, arguments in tiny_config.parts.items()
    }
    pipeline = CoDiPipeline.from_config(replace(tiny_config, parts=parts), alignment)
    together = pipeline.sample(condition, to=list(Modality), steps=2)
    for modality in Modality:
        assert equal(pipeline.sample(condition, to=[modality], steps=2), together, modality)


def test_a_larger_batch_begins_with_the_rows_of_a_smaller_one(tiny_pipeline, condition):
    small = tiny_pipeline.sample(condition, to=[VIDEO, AUDIO], steps=2)
    large = tiny_pipeline.sample(condition.repeated(3), to=[VIDEO, AUDIO], steps=2)
    for modality in (VIDEO, AUDIO):
        torch.testing.assert_close(large.samples[modality][:1], small.samples[modality], atol=1e-4, rtol=1e-3)
        assert not torch.allclose(large.samples[modality][1], large.samples[modality][0], atol=0.1)


def test_guidance_of_none_takes_the_models_own_scales(tiny_pipeline, condition):
    own = {modality: tiny_pipeline.config.modalities[modality].guidance for modality in (IMAGE, AUDIO)}
    assert own[IMAGE] != own[AUDIO]
    by_default, named = (
        tiny_pipeline.sample(condition, to=[IMAGE, AUDIO], steps=2, guidance=guidance) for guidance in (None, own)
    )
    assert equal(by_default, named, IMAGE, AUDIO)


def test_weights_mix_the_prompts(tiny_pipeline):
    def embed(*weights: float) -> torch.Tensor:
        made = tiny_pipeline(["a red ball", PROMPTS[AUDIO]], to=[TEXT, IMAGE], steps=1, weights=weights)
        return made[IMAGE].pixels

    assert torch.equal(embed(1.0, 3.0), embed(2.0, 6.0))
    assert not torch.equal(embed(1.0, 3.0), embed(3.0, 1.0))


def test_a_negative_prompt_takes_the_place_of_the_null_prompt(tiny_pipeline):
    embedding = tiny_pipeline.encode("a low tone").embedding
    assert torch.equal(tiny_pipeline.encode(PROMPTS[IMAGE], negative="a low tone").null, embedding)


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_an_empty_prompt_is_its_own_null(prompt, tiny_pipeline):
    null = tiny_pipeline.encode(prompt).null
    torch.testing.assert_close(null.norm(dim=-1), torch.ones(1, 1))
    assert not torch.allclose(null, tiny_pipeline.encode(prompt).embedding)


def test_a_cancelled_run_leaves_the_pipeline_usable(tiny_pipeline, condition):
    def cancel(report):
        raise KeyboardInterrupt

    before = tiny_pipeline.sample(condition, to=[IMAGE, AUDIO], steps=2, scheduler="dpmpp_2m")
    with pytest.raises(KeyboardInterrupt):
        tiny_pipeline.sample(condition, to=[IMAGE, AUDIO], steps=2, scheduler="dpmpp_2m", on_step=cancel)
    after = tiny_pipeline.sample(condition, to=[IMAGE, AUDIO], steps=2, scheduler="dpmpp_2m")
    assert equal(before, after, IMAGE, AUDIO)


def test_each_output_is_told_what_prompts_mean_in_prompts_of_its_own_kind(tiny_pipeline):
    picture = tiny_pipeline.encode(PROMPTS[IMAGE], negative="a blue square")
    factors = tiny_pipeline.parts["prompt_factors"]
    for condition in (picture, mix([picture, tiny_pipeline.encode("a red ball", negative="a blue square")])):
        for modality in (TEXT, AUDIO):
            kind, told = factors(modality), tiny_pipeline.tell(condition, modality)
            assert torch.equal(told.embedding, kind.told(condition.meaning))
            assert torch.equal(told.null, kind.told(condition.null_meaning))
    neutral = tiny_pipeline.encode(PROMPTS[IMAGE])
    assert torch.equal(tiny_pipeline.tell(neutral, AUDIO).null, factors(AUDIO).null.expand_as(neutral.null))
    plain = mix([picture], mode="linear")
    assert tiny_pipeline.tell(plain, AUDIO) is plain
    made, by_hand = (
        tiny_pipeline.sample(each, to=[AUDIO], steps=2).samples[AUDIO]
        for each in (picture, tiny_pipeline.tell(picture, AUDIO))
    )
    assert torch.equal(made, by_hand)
    assert not torch.equal(made, tiny_pipeline.sample(plain, to=[AUDIO], steps=2).samples[AUDIO])


def test_what_captions_alone_say_is_told_in_captions_with_the_outputs_emphasis(tiny_pipeline):
    captions = [tiny_pipeline.encode(text, negative="a blue square") for text in ("a red ball", "a low tone")]
    factors = tiny_pipeline.parts["prompt_factors"]
    words = factors(TEXT)
    for condition in (captions[0], mix(captions)):
        for modality in (IMAGE, AUDIO):
            louder = replace(words, emphasis=factors(modality).emphasis)
            told = tiny_pipeline.tell(condition, modality)
            assert torch.equal(told.embedding, louder.told(condition.meaning))
            assert torch.equal(told.null, louder.told(condition.null_meaning))
        calm = replace(words, emphasis=torch.eye(len(words.emphasis)))
        torch.testing.assert_close(calm.told(condition.meaning), condition.embedding)


def test_models_that_know_no_factors_tell_diffusers_the_prompts_as_they_are(tiny_folder, tiny_config):
    parts = {name: arguments for name, arguments in tiny_config.parts.items() if name != "prompt_factors"}
    config = replace(tiny_config, parts=parts)
    pipeline = CoDiPipeline(config, Parts(config, tiny_folder))
    condition = pipeline.encode("a red ball", negative="a blue square")
    assert (condition.meaning, condition.null_meaning) == (None, None)
    assert pipeline.tell(condition, AUDIO) is condition


def test_only_the_parts_in_use_are_loaded(tiny_folder):
    pipeline = CoDiPipeline.from_pretrained(tiny_folder)

    def loaded() -> set[str]:
        # The type checks of these tests look at a mapping's first value; the factors are a few numbers.
        return set(pipeline.parts.loaded) - {next(iter(pipeline.parts)), "prompt_factors"}

    assert loaded() == set()
    condition = pipeline.encode("a red ball")
    assert loaded() == {"clip"}
    latents = pipeline.sample(condition, to=[VIDEO], steps=1)
    assert loaded() == {"clip", "diffuser_vision"}
    pipeline.decode(latents, VIDEO)
    assert loaded() == {"clip", "diffuser_vision", "image_autoencoder"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_float32_media_close_to_the_full_ones(dtype, tiny_folder, tiny_pipeline):
    # Not by from_pretrained, which refuses fp16 on the CPU for its slowness.
    half = CoDiPipeline(tiny_pipeline.config, Parts(tiny_pipeline.config, tiny_folder, dtype))
    condition = half.encode("a red ball")
    assert condition.embedding.dtype == torch.float32
    rough = half.sample(condition, to=[IMAGE, AUDIO], steps=2, guidance=2.0)
    exact = tiny_pipeline.sample(tiny_pipeline.encode("a red ball"), to=[IMAGE, AUDIO], steps=2, guidance=2.0)
    for modality in (IMAGE, AUDIO):
        error = (rough.samples[modality] - exact.samples[modality]).norm() / exact.samples[modality].norm()
        assert error < 0.1
    assert half.decode(rough, IMAGE).pixels.dtype == torch.float32


def test_saved_and_loaded_it_makes_the_same(tiny_pipeline, tmp_path, condition):
    tiny_pipeline.save_pretrained(tmp_path)
    again = CoDiPipeline.from_pretrained(str(tmp_path))
    assert again.config == tiny_pipeline.config
    made = again.sample(again.encode(PROMPTS[TEXT]), to=[TEXT, VIDEO], steps=1)
    assert equal(made, tiny_pipeline.sample(condition, to=[TEXT, VIDEO], steps=1), TEXT, VIDEO)
    assert again.decode(made, TEXT) == tiny_pipeline.decode(made, TEXT)


def test_names_may_be_plain_strings_and_repeat(tiny_pipeline, condition):
    made = tiny_pipeline.sample(condition, to=["audio", "image", "audio"], steps=1)
    assert list(made.samples) == [AUDIO, IMAGE]
    assert isinstance(tiny_pipeline.decode(made, "image"), Picture)


def refuse(kind: type[CoDiError], message: str):
    return pytest.raises(kind, match=message)


def test_names_that_it_does_not_know_list_the_others(tiny_pipeline, tiny_folder, condition):
    with refuse(ConfigError, "unknown modality 'smell'; choose one of: text, image, video, audio"):
        tiny_pipeline.sample(condition, to=["smell"])
    with refuse(ConfigError, "unknown alignment 'loose'; choose one of: paper, released"):
        tiny_pipeline.sample(condition, to=[IMAGE], alignment="loose")
    with refuse(ConfigError, "unknown alignment 'loose'"):
        CoDiPipeline.from_pretrained(tiny_folder, alignment="loose")
    with refuse(ConfigError, "unknown scheduler 'heun'; choose one of: ddim, .*euler_ancestral"):
        tiny_pipeline.sample(condition, to=[IMAGE], scheduler="heun")


def test_nothing_to_make_or_to_go_by_is_said(tiny_pipeline, condition):
    with refuse(ConfigError, "wanted at least one output, got none; choose among text, image, video, audio"):
        tiny_pipeline.sample(condition, to=[])
    with refuse(PromptError, "wanted at least one prompt, got none"):
        tiny_pipeline([], to=[IMAGE])


def test_what_was_not_sampled_cannot_be_decoded(tiny_pipeline, condition):
    latents = tiny_pipeline.sample(condition, to=[IMAGE], steps=1)
    with refuse(ShapeError, "wanted a latent of audio, got latents of image; sample audio too"):
        tiny_pipeline.decode(latents, AUDIO)


def test_a_broken_latent_is_not_decoded(tiny_pipeline, condition):
    latents = tiny_pipeline.sample(condition, to=[IMAGE], steps=1)
    broken = Latents({IMAGE: latents.samples[IMAGE] * torch.nan})
    with refuse(ShapeError, "finite"):
        tiny_pipeline.decode(broken, IMAGE)


def test_a_model_that_is_not_there_says_what_there_is(tmp_path):
    with refuse(CheckpointError, r"wanted a model: codi-mini or a folder with model_index.json, got '.*nowhere'"):
        CoDiPipeline.from_pretrained(tmp_path / "nowhere")


def test_a_model_without_a_modality_says_so(tiny_config, condition):
    silent = replace(tiny_config, modalities={VIDEO: tiny_config.modalities[VIDEO]})
    with refuse(ConfigError, "unknown modality 'audio'; choose one of: video"):
        CoDiPipeline.from_config(silent).sample(condition, to=[AUDIO], steps=1)
    with refuse(ConfigError, "unknown modality 'audio'; choose one of: video"):
        CoDiPipeline.from_config(silent).encode_latent(PROMPTS[AUDIO])


def test_a_condition_of_another_model_is_refused(tiny_pipeline):
    other = Condition(torch.ones(1, 1, 21), torch.zeros(1, 1, 21))
    with refuse(PromptError, "wanted a condition of width 20, such as tiny makes, got one of width 21; encode it with"):
        tiny_pipeline.sample(other, to=[IMAGE], steps=1)


def test_there_are_as_many_negative_prompts_as_prompts_or_one(tiny_pipeline):
    texts = [PROMPTS[TEXT]] * 2
    assert len(tiny_pipeline.encode(texts, "a blue square").null) == 2
    with refuse(PromptError, "wanted 1 negative prompt, or 2, one for each prompt, got 3; leave some out"):
        tiny_pipeline.encode(texts, ["a blue square"] * 3)


def test_only_who_is_listened_to_is_read(tiny_folder, condition):
    """Of two, one after another: text first, the sound hears it."""
    pipeline = CoDiPipeline.from_pretrained(tiny_folder, alignment=Alignment.MUTUAL)
    pipeline.sample(condition, to=[AUDIO, TEXT], steps=2)
    assert not {"clap", "vocoder"} & pipeline.parts.loaded.keys()
