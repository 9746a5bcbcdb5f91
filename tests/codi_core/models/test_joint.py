from __future__ import annotations

import copy
from itertools import combinations

import pytest
import torch
from torch import Tensor

from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.models.joint import Alignment, JointDenoiser

TEXT, IMAGE, VIDEO, AUDIO = Modality
PAPER, RELEASED, MUTUAL = Alignment
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
            return denoiser(latents, STEP, dict.fromkeys(outputs, random(2, 1, 20)))

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
    assert JointDenoiser({AUDIO: diffuser}).environments({AUDIO: random(*SHAPES[AUDIO])}, STEP) == {}


@pytest.mark.parametrize("alignment", Alignment)
def test_a_diffuser_without_alignment_runs_beside_one_with_it(alignment, tiny_diffusers):
    lean = type(tiny_diffusers[TEXT]).from_config({**tiny_diffusers[TEXT].config, "environment": None})
    denoiser = JointDenoiser({TEXT: lean, AUDIO: tiny_diffusers[AUDIO]}, alignment)
    latents = {modality: random(*SHAPES[modality]) for modality in (TEXT, AUDIO)}
    with torch.no_grad():
        together = denoiser(latents, STEP, dict.fromkeys(latents, random(2, 1, 20)))
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
        doubled = denoiser(latents, STEP, dict.fromkeys(outputs, torch.cat([null, prompt])))
        halves = [denoiser(latents, STEP, dict.fromkeys(outputs, rows)) for rows in (null, prompt)]
    for modality in outputs:
        wanted = torch.cat([half[modality] for half in halves])
        torch.testing.assert_close(doubled[modality], wanted, atol=1e-5, rtol=1e-4)


def test_diffusers_of_another_precision_than_their_inputs_run(tiny_diffusers):
    diffusers = {modality: copy.deepcopy(tiny_diffusers[modality]).bfloat16() for modality in (TEXT, AUDIO)}
    latents = {modality: random(*SHAPES[modality]) for modality in diffusers}
    with torch.no_grad():
        noise = JointDenoiser(diffusers)(latents, STEP, dict.fromkeys(diffusers, random(2, 1, 20)))
    assert {each.dtype for each in noise.values()} == {torch.bfloat16}
