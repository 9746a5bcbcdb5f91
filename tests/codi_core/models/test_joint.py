from __future__ import annotations

import copy
from itertools import combinations

import pytest
import torch
from torch import Tensor

from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.models.environment import whole
from comfyui_codi.codi_core.models.joint import Alignment, JointDenoiser
from comfyui_codi.codi_core.models.unet import at_positions

TEXT, IMAGE, VIDEO, AUDIO = Modality
PAPER, RELEASED, MUTUAL, BOTH = Alignment
SHAPES = {TEXT: (2, 6), IMAGE: (2, 4, 4, 4), VIDEO: (2, 4, 3, 4, 4), AUDIO: (2, 4, 4, 8)}
STEP = torch.tensor([400, 400])
SETS = [pair for count in (2, 3, 4) for pair in combinations(Modality, count)]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def denoise(tiny_diffusers):
    """The noise in latents, each of which is random unless it is given."""

    def call(outputs, alignment=PAPER, **given) -> dict[Modality, Tensor]:
        latents = {modality: given.get(modality, random(*SHAPES[modality])) for modality in outputs}
        denoiser = JointDenoiser({modality: tiny_diffusers[modality] for modality in outputs}, alignment)
        with torch.no_grad():
            return denoiser(latents, dict.fromkeys(latents, STEP), dict.fromkeys(outputs, random(2, 1, 20)))

    return call


@pytest.mark.parametrize("outputs", SETS, ids="+".join)
def test_in_paper_alignment_every_output_heeds_every_other(outputs, denoise):
    before = denoise(outputs)
    for changed in outputs:
        after = denoise(outputs, **{changed: random(*SHAPES[changed], seed=9)})
        for modality in outputs:
            assert not torch.equal(before[modality], after[modality])


@pytest.mark.parametrize("outputs", SETS, ids="+".join)
def test_in_released_alignment_no_output_heeds_another(outputs, denoise):
    before = denoise(outputs, RELEASED)
    for changed in outputs:
        after = denoise(outputs, RELEASED, **{changed: random(*SHAPES[changed], seed=9)})
        for modality in set(outputs) - {changed}:
            assert torch.equal(before[modality], after[modality])


@pytest.mark.parametrize("outputs", SETS, ids="+".join)
def test_where_guidance_acts_on_environments_the_null_prompt_is_alone(outputs, tiny_diffusers):
    diffusers = {modality: tiny_diffusers[modality] for modality in outputs}
    latents = {modality: random(*SHAPES[modality]) for modality in outputs}
    null, prompt = random(2, 1, 20, seed=1), random(2, 1, 20, seed=2)

    def made(context, **options):
        denoiser = JointDenoiser(diffusers, **options)
        with torch.no_grad():
            return denoiser(latents, dict.fromkeys(latents, STEP), dict.fromkeys(outputs, context))

    both, prompted = made(torch.cat([null, prompt]), guided=True), made(prompt)
    for modality in outputs:
        with torch.no_grad():
            alone = JointDenoiser({modality: diffusers[modality]})(
                {modality: latents[modality]}, {modality: STEP}, {modality: null}
            )[modality]
        torch.testing.assert_close(both[modality], torch.cat([alone, prompted[modality]]))


@pytest.fixture
def timed(tiny_diffusers):
    """Diffusers whose environments keep time; all weights as before but for connectors that act."""
    axes = {VIDEO: "frames", AUDIO: "height"}
    made = {}
    for modality, diffuser in tiny_diffusers.items():
        config = dict(diffuser.config)
        if modality in axes:
            config["environment"] = {**config["environment"], "time_axis": axes[modality]}
        made[modality] = type(diffuser).from_config(config)
        made[modality].load_state_dict(diffuser.state_dict())
    return made


@pytest.mark.parametrize("outputs", SETS, ids="+".join)
def test_environments_that_keep_time_serve_every_set_of_outputs(outputs, timed):
    denoiser = JointDenoiser({modality: timed[modality] for modality in outputs})
    latents = {modality: random(*SHAPES[modality]) for modality in outputs}
    with torch.no_grad():
        tokens = denoiser.environments(latents, dict.fromkeys(latents, STEP))
        made = denoiser(latents, dict.fromkeys(latents, STEP), dict.fromkeys(outputs, random(2, 1, 20)))
    moments = {TEXT: 1, IMAGE: 1, VIDEO: 3, AUDIO: 2}
    for modality in outputs:
        assert tokens[modality].shape == (2, moments[modality], 24)
        assert made[modality].shape == SHAPES[modality]


def test_a_video_of_several_windows_is_seen_and_sees_as_a_whole(timed):
    denoiser = JointDenoiser({modality: timed[modality] for modality in (VIDEO, AUDIO)}, window_frames=2)
    latents = {modality: random(*SHAPES[modality]) for modality in (VIDEO, AUDIO)}
    with torch.no_grad():
        environments = denoiser.environments(latents, dict.fromkeys(latents, STEP))
        context = timed[VIDEO].prepare_context(random(2, 1, 20))
        moments = denoiser.denoise(VIDEO, latents[VIDEO], STEP, context, environments)
        heard = environments | {AUDIO: whole(environments[AUDIO])}
        assert environments[VIDEO].shape == (2, 1, 24)
        assert torch.equal(moments, denoiser.denoise(VIDEO, latents[VIDEO], STEP, context, heard))


def test_where_nothing_changes_moments_equal_the_whole(timed, tiny_diffusers):
    """A connector gives a row of equal tokens the same attention as one token."""
    token = torch.nn.functional.normalize(random(2, 1, 24), dim=-1)
    for modality in (VIDEO, AUDIO):
        made = []
        for diffusers, tokens in ((tiny_diffusers, token), (timed, token.expand(-1, 5, -1))):
            diffuser = diffusers[modality]
            memories = diffuser.prepare_context(random(2, 1, 20)) | diffuser.prepare_environment(tokens)
            with torch.no_grad():
                made.append(diffuser(random(*SHAPES[modality]), STEP, memories))
        torch.testing.assert_close(*made)


def test_an_event_is_told_to_the_frame_at_its_moment(timed):
    """The memory of a frame is the one at its moment alone."""
    hidden, tokens = random(6, 8, 2, 2), random(2, 3, 24)
    later = tokens.clone()
    later[:, 2] += 1
    connector = timed[VIDEO].connectors()[0]
    before, after = (
        at_positions(timed[VIDEO].prepare_environment(each)[connector], hidden, 3).values for each in (tokens, later)
    )
    changed = (before - after).abs().sum(dim=(1, 2)) > 0
    assert changed.tolist() == [False, False, True] * 2


@pytest.mark.parametrize("outputs", SETS, ids="+".join)
def test_in_both_alignments_together_a_step_is_the_papers(outputs, denoise):
    """Prompts differ, and they are given from outside."""
    for modality, noise in denoise(outputs, BOTH).items():
        assert torch.equal(noise, denoise(outputs, PAPER)[modality])


@pytest.mark.parametrize("outputs", SETS, ids="+".join)
def test_in_mutual_alignment_every_step_is_each_outputs_own(outputs, denoise):
    together = denoise(outputs, MUTUAL)
    for modality in outputs:
        assert torch.equal(together[modality], denoise([modality], PAPER)[modality])


@pytest.mark.parametrize("outputs", SETS, ids="+".join)
def test_in_released_alignment_it_does_not_matter_what_else_is_made(outputs, denoise):
    all_four = denoise(list(Modality), RELEASED)
    for modality, noise in denoise(outputs, RELEASED).items():
        assert torch.equal(noise, all_four[modality])


@pytest.mark.parametrize("alignment", Alignment)
def test_the_order_of_outputs_does_not_matter(alignment, denoise):
    straight, turned = denoise([TEXT, VIDEO, AUDIO], alignment), denoise([AUDIO, VIDEO, TEXT], alignment)
    for modality in straight:
        torch.testing.assert_close(straight[modality], turned[modality])


def test_two_equal_companions_count_as_one(tiny_diffusers):
    """Each output sees the mean of the others."""
    denoiser = JointDenoiser({modality: tiny_diffusers[modality] for modality in (TEXT, IMAGE, AUDIO)})
    latents = {modality: random(*SHAPES[modality]) for modality in (TEXT, IMAGE, AUDIO)}
    token = torch.nn.functional.normalize(random(2, 1, 24), dim=-1)
    context = tiny_diffusers[TEXT].prepare_context(random(2, 1, 20))
    with torch.no_grad():
        both = denoiser.denoise(TEXT, latents[TEXT], STEP, context, {TEXT: -token, IMAGE: token, AUDIO: token})
        one = denoiser.denoise(TEXT, latents[TEXT], STEP, context, {TEXT: -token, IMAGE: token})
    torch.testing.assert_close(both, one)


@pytest.mark.parametrize("alignment", Alignment)
def test_a_single_output_uses_no_connectors(alignment, denoise, tiny_diffusers):
    diffuser = tiny_diffusers[AUDIO]
    with torch.no_grad():
        alone = diffuser(random(*SHAPES[AUDIO]), STEP, diffuser.prepare_context(random(2, 1, 20)))
    assert torch.equal(denoise([AUDIO], alignment)[AUDIO], alone)
    assert JointDenoiser({AUDIO: diffuser}).environments({AUDIO: random(*SHAPES[AUDIO])}, {AUDIO: STEP}) == {}


@pytest.mark.parametrize("alignment", Alignment)
def test_a_diffuser_without_alignment_runs_beside_one_with_it(alignment, tiny_diffusers):
    lean = type(tiny_diffusers[TEXT]).from_config({**tiny_diffusers[TEXT].config, "environment": None})
    denoiser = JointDenoiser({TEXT: lean, AUDIO: tiny_diffusers[AUDIO]}, alignment)
    latents = {modality: random(*SHAPES[modality]) for modality in (TEXT, AUDIO)}
    with torch.no_grad():
        together = denoiser(latents, dict.fromkeys(latents, STEP), dict.fromkeys(latents, random(2, 1, 20)))
        alone = lean(latents[TEXT], STEP, lean.prepare_context(random(2, 1, 20)))
    assert torch.equal(together[TEXT], alone)
    assert together[AUDIO].isfinite().all()


@pytest.mark.parametrize("outputs", SETS, ids="+".join)
def test_doubled_contexts_are_denoised_as_two_batches(outputs, tiny_diffusers):
    """Guidance: the null rows first, then the prompt's, over the same latents."""
    denoiser = JointDenoiser({modality: tiny_diffusers[modality] for modality in outputs})
    latents = {modality: random(*SHAPES[modality]) for modality in outputs}
    null, prompt = random(2, 1, 20), random(2, 1, 20, seed=1)
    with torch.no_grad():
        doubled = denoiser(latents, dict.fromkeys(latents, STEP), dict.fromkeys(outputs, torch.cat([null, prompt])))
        halves = [
            denoiser(latents, dict.fromkeys(latents, STEP), dict.fromkeys(outputs, rows)) for rows in (null, prompt)
        ]
    for modality in outputs:
        wanted = torch.cat([half[modality] for half in halves])
        torch.testing.assert_close(doubled[modality], wanted, atol=1e-5, rtol=1e-4)


def test_diffusers_of_another_precision_than_their_inputs_run(tiny_diffusers):
    diffusers = {modality: copy.deepcopy(tiny_diffusers[modality]).bfloat16() for modality in (TEXT, AUDIO)}
    latents = {modality: random(*SHAPES[modality]) for modality in diffusers}
    with torch.no_grad():
        noise = JointDenoiser(diffusers)(
            latents, dict.fromkeys(latents, STEP), dict.fromkeys(diffusers, random(2, 1, 20))
        )
    assert {each.dtype for each in noise.values()} == {torch.bfloat16}
