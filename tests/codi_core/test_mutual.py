from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from comfyui_codi.codi_core.course import Course
from comfyui_codi.codi_core.errors import ConfigError
from comfyui_codi.codi_core.mixing import MixMode, mix
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.models.joint import Alignment, JointDenoiser
from comfyui_codi.codi_core.mutual import Conversation, Coupling, MutualConditioning
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
def test_an_output_is_looked_at_from_the_start_on_at_even_intervals_and_once_it_is_done(start, interval, steps):
    coupling, looks = Coupling(start=start, interval=interval), []
    for reached in [*range(steps + 1), steps]:
        if coupling.looks(reached, steps, looks[-1] if looks else None):
            looks.append(reached)
    assert looks[0] == max(1, round(start * steps))
    assert all(later - earlier == interval for earlier, later in pairwise(looks[:-1]))
    assert looks[-1] == steps


@given(
    steps=st.integers(1, 50),
    lead=st.floats(0, 1),
    begins=st.dictionaries(st.sampled_from(Modality), st.floats(0, 1), min_size=1),
)
def test_every_output_takes_all_its_steps_one_a_round(steps, lead, begins):
    course = Course(steps=steps, begins={each: round(share * steps) for each, share in begins.items()}, lead=lead)
    for modality, first in course.begins.items():
        taken = [course.reached(rounds).get(modality) for rounds in range(course.rounds)]
        if first < steps:
            assert [step for step in taken if step is not None and step < steps] == list(range(steps))
            assert [course.share(modality, rounds) for rounds in (0, course.rounds)] == [0, 1]
        else:
            assert taken == [steps] * course.rounds
            assert course.share(modality, 0) is None
            assert modality not in course.ahead_of(modality)


def test_without_lead_each_hears_all_others_else_those_before_it():
    begins = {AUDIO: 0, TEXT: 0, IMAGE: 4}
    together, staggered = Course(steps=4, begins=begins), Course(steps=4, begins=begins, lead=0.5)
    assert together.rounds == 4
    assert {each: set(together.ahead_of(each)) for each in begins} == {
        AUDIO: {TEXT, IMAGE},
        TEXT: {AUDIO, IMAGE},
        IMAGE: set(),
    }
    assert staggered.rounds == 6
    assert [staggered.reached(rounds) for rounds in (0, 2, 6)] == [
        {IMAGE: 4, TEXT: 0},
        {IMAGE: 4, TEXT: 2, AUDIO: 0},
        {IMAGE: 4, TEXT: 4, AUDIO: 4},
    ]
    assert staggered.ahead_of(TEXT) == [IMAGE]
    assert set(staggered.ahead_of(AUDIO)) == {TEXT, IMAGE}


def test_what_is_known_goes_ahead_of_what_is_made_of_noise_alone():
    begins = {TEXT: 0, AUDIO: 2, IMAGE: 0}
    course = Course(steps=4, begins=begins, known={AUDIO, IMAGE}, lead=1.0)
    assert course.ahead_of(AUDIO) == []
    assert course.ahead_of(IMAGE) == [AUDIO]
    assert set(course.ahead_of(TEXT)) == {AUDIO, IMAGE}


def test_prompts_that_guide_each_by_itself_go_on_to_beside_what_is_heard():
    composed = mix([PROMPT, saying(1)], [3.0, 1.0], MixMode.COMPOSED)
    mutual = MutualConditioning(Coupling(weight=0.5), lambda modality, clean: saying(0))
    assert [weight for _, weight in mutual.condition(composed, [saying(2)]).parts] == [0.375, 0.125, 0.5]
    assert mutual.condition(PROMPT, [saying(2)]).parts == ()


def test_an_output_hears_the_prompt_and_all_the_others_but_not_itself():
    said = {TEXT: saying(0), IMAGE: saying(1), AUDIO: saying(2)}
    mutual = MutualConditioning(Coupling(weight=0.5, lead=0.0), lambda modality, clean: said[modality])
    conversation = Conversation(mutual, Course(steps=4, begins=dict.fromkeys(said, 0)))
    heard = conversation.conditions(
        dict.fromkeys(said, PROMPT), dict.fromkeys(said, random(2, 4)), dict.fromkeys(said, 2)
    )
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


@pytest.mark.parametrize(("lead", "hears", "is_heard"), [(0.0, AUDIO, IMAGE), (0.5, IMAGE, AUDIO), (1.0, IMAGE, AUDIO)])
def test_what_one_output_becomes_changes_those_after_it_or_beside_it(lead, hears, is_heard, denoiser):
    """An output says where its clean latent points to, so who hears it must follow a change of its noise."""

    def encode_output(modality: Modality, clean: Tensor) -> Condition:
        token = clean.flatten(1)[:, None, :20]
        return Condition(token, torch.zeros_like(token))

    mutual = MutualConditioning(Coupling(start=0.0, lead=lead), encode_output)
    other_noise = NOISE | {is_heard: random(2, 4, 4, 4, seed=7)}
    coupled = [sample(denoiser, mutual, noise)[hears] for noise in (NOISE, other_noise)]
    assert not torch.allclose(*coupled, atol=1e-3)
    apart = [sample(denoiser, None, noise)[hears] for noise in (NOISE, other_noise)]
    assert torch.equal(*apart)


def test_a_single_output_asks_nobody(denoiser):
    def encode_output(modality: Modality, clean: Tensor) -> Condition:
        raise AssertionError("asked")

    alone = {IMAGE: NOISE[IMAGE]}
    made = sample(denoiser, MutualConditioning(Coupling(start=0.0), encode_output), alone)
    assert torch.equal(made[IMAGE], sample(denoiser, None, alone)[IMAGE])


def test_one_after_another_the_first_is_made_as_alone_and_asked_once_when_it_is_done(denoiser):
    asked = []

    def encode_output(modality: Modality, clean: Tensor) -> Condition:
        asked.append((modality, clean))
        return saying(0)

    made = sample(denoiser, MutualConditioning(Coupling(lead=1.0), encode_output))
    assert torch.equal(made[AUDIO], sample(denoiser, None, {AUDIO: NOISE[AUDIO]})[AUDIO])
    assert len(asked) == 1
    assert asked[0][0] is AUDIO
    assert torch.equal(asked[0][1], made[AUDIO])


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
    found = sampler.clean({IMAGE: output}, {IMAGE: timestep}, {IMAGE: kept})[IMAGE]
    torch.testing.assert_close(found, clean, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": 1.1}, "the coupling's weight must lie between 0 and 1, got 1.1"),
        ({"weight": float("nan")}, "the coupling's weight must lie between 0 and 1, got nan"),
        ({"start": -0.1}, "the coupling's start must lie between 0 and 1, got -0.1"),
        ({"lead": 1.5}, "the coupling's lead must lie between 0 and 1, got 1.5"),
        ({"interval": 0}, "the coupling's interval must be at least 1 step, got 0"),
    ],
)
def test_unusable_settings_say_the_range(settings, message):
    with pytest.raises(ConfigError, match=message):
        Coupling(**settings)
