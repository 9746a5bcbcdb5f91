from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from comfyui_codi.codi_core.errors import ConfigError
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.models.joint import Alignment, JointDenoiser
from comfyui_codi.codi_core.mutual import Coupling, MutualConditioning
from comfyui_codi.codi_core.sampling import NOISE_SCHEDULE, JointSampler, SchedulerName, noise_generator
from comfyui_codi.codi_core.values import Condition

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


PROMPT = Condition(random(2, 1, 20, seed=2), random(2, 1, 20, seed=3))


def saying(direction: int) -> Condition:
    """A condition that points one way, its null the other."""
    token = torch.nn.functional.one_hot(torch.tensor([[direction]] * 2), 20).float()
    return Condition(token, -token)


@given(start=st.floats(0, 1), interval=st.integers(1, 9), steps=st.integers(1, 60))
def test_outputs_look_at_one_another_from_the_start_on_at_even_intervals(start, interval, steps):
    coupling = Coupling(start=start, interval=interval)
    looks = [step for step in range(1, steps + 1) if coupling.looks(step, steps)]
    assert all(step >= start * steps - 0.5 for step in looks)
    assert all(later - earlier == interval for earlier, later in pairwise(looks))
    # What is seen after the last step would change nothing.
    assert steps not in looks


def test_without_weight_nobody_looks():
    assert not any(Coupling(weight=0.0, start=0.0).looks(step, 9) for step in range(1, 10))


def test_an_output_hears_the_prompt_and_all_the_others_but_not_itself():
    said = {TEXT: saying(0), IMAGE: saying(1), AUDIO: saying(2)}
    mutual = MutualConditioning(Coupling(weight=0.5), lambda modality, clean: said[modality])
    heard = mutual.conditions(PROMPT, mutual.said(dict.fromkeys(said, random(2, 4))))
    for modality in said:
        others = [said[other] for other in said if other is not modality]
        wanted = (PROMPT.embedding + (others[0].embedding + others[1].embedding) / 2) / 2
        torch.testing.assert_close(heard[modality].embedding, wanted)
        wanted_null = (PROMPT.null + (others[0].null + others[1].null) / 2) / 2
        torch.testing.assert_close(heard[modality].null, wanted_null)


@pytest.fixture
def denoiser(tiny_diffusers):
    return JointDenoiser({modality: tiny_diffusers[modality] for modality in (IMAGE, AUDIO)}, Alignment.MUTUAL)


NOISE = {IMAGE: random(2, 4, 4, 4), AUDIO: random(2, 4, 4, 4, seed=1)}


def sample(denoiser: JointDenoiser, mutual: MutualConditioning | None, noise=NOISE) -> dict[Modality, Tensor]:
    generators = {modality: noise_generator(0, modality) for modality in noise}
    return JointSampler(denoiser).sample(noise, PROMPT, steps=4, guidance=2.0, generators=generators, mutual=mutual)


def test_what_one_output_becomes_changes_the_others(denoiser):
    """IMAGE says where its clean latent points to, so AUDIO must follow a change of IMAGE's noise."""

    def encode_output(modality: Modality, clean: Tensor) -> Condition:
        token = clean.flatten(1)[:, None, :20]
        return Condition(token, torch.zeros_like(token))

    mutual = MutualConditioning(Coupling(start=0.0), encode_output)
    other_noise = NOISE | {IMAGE: random(2, 4, 4, 4, seed=7)}
    coupled = [sample(denoiser, mutual, noise)[AUDIO] for noise in (NOISE, other_noise)]
    assert not torch.allclose(*coupled, atol=1e-3)
    apart = [sample(denoiser, None, noise)[AUDIO] for noise in (NOISE, other_noise)]
    assert torch.equal(*apart)


@pytest.mark.parametrize("noise", [NOISE, {IMAGE: NOISE[IMAGE]}], ids=["zero weight", "single output"])
def test_nobody_is_asked_where_nobody_listens(noise, denoiser):
    def encode_output(modality: Modality, clean: Tensor) -> Condition:
        raise AssertionError("asked")

    weight = 0.0 if len(noise) > 1 else 0.8
    made = sample(denoiser, MutualConditioning(Coupling(weight=weight, start=0.0), encode_output), noise)
    apart = sample(denoiser, None, noise)
    for modality in noise:
        assert torch.equal(made[modality], apart[modality])


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("scheduler", SchedulerName)
def test_the_clean_latent_is_found_in_the_networks_output(scheduler, prediction_type, denoiser):
    schedule = {**NOISE_SCHEDULE, "prediction_type": prediction_type}
    sampler = JointSampler(denoiser, scheduler=scheduler, noise_schedule=schedule)
    sampler.start({IMAGE: NOISE[IMAGE]}, 10)
    timestep = sampler.schedulers[IMAGE].timesteps[3]
    signal_power = sampler.schedulers[IMAGE].alphas_cumprod[int(timestep)]
    signal, level = signal_power.sqrt(), (1 - signal_power).sqrt()
    clean, epsilon = random(2, 4, 4, 4, seed=5), random(2, 4, 4, 4, seed=6)
    # As the scheduler keeps it: some keep latents so that the noise, not the whole, has a known size.
    kept = sampler.schedulers[IMAGE].add_noise(clean, epsilon, timestep[None].expand(2))
    output = epsilon if prediction_type == "epsilon" else signal * epsilon - level * clean
    found = sampler.clean({IMAGE: output}, timestep, {IMAGE: kept})[IMAGE]
    torch.testing.assert_close(found, clean, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": 1.1}, "the coupling's weight must lie between 0 and 1, got 1.1"),
        ({"weight": float("nan")}, "the coupling's weight must lie between 0 and 1, got nan"),
        ({"start": -0.1}, "the coupling's start must lie between 0 and 1, got -0.1"),
        ({"interval": 0}, "the coupling's interval must be at least 1 step, got 0"),
    ],
)
def test_unusable_settings_say_the_range(settings, message):
    with pytest.raises(ConfigError, match=message):
        Coupling(**settings)
