from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from comfyui_codi.codi_core.errors import ConfigError, ShapeError
from comfyui_codi.codi_core.mixing import MixMode, mix
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.models.joint import Alignment, JointDenoiser
from comfyui_codi.codi_core.sampling import (
    NOISE_SCHEDULE,
    ZERO_TERMINAL_SNR_SCHEDULE,
    CoDiDDIMScheduler,
    JointSampler,
    Known,
    SchedulerName,
    guidance_scales,
    make_scheduler,
    noise_generator,
    set_timesteps,
)
from comfyui_codi.codi_core.values import Condition

IMAGE, AUDIO = Modality.IMAGE, Modality.AUDIO


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def denoiser(tiny_diffusers):
    return JointDenoiser({modality: tiny_diffusers[modality] for modality in (IMAGE, AUDIO)})


@pytest.fixture
def noise():
    return {IMAGE: random(2, 4, 4, 4), AUDIO: random(2, 4, 4, 4, seed=1)}


@pytest.fixture
def condition():
    return Condition(random(2, 1, 20, seed=2), random(2, 1, 20, seed=3))


def sample(denoiser, noise, condition, *, steps=3, guidance=2.0, scheduler="ddim", **options):
    generators = {modality: noise_generator(0, modality) for modality in noise}
    return JointSampler(denoiser, scheduler=scheduler).sample(
        noise, condition, steps=steps, guidance=guidance, generators=generators, **options
    )


@given(steps=st.integers(1, 500))
def test_ddim_takes_the_timesteps_that_codi_was_sampled_with(steps):
    scheduler = make_scheduler("ddim")
    scheduler.set_timesteps(steps)
    stride = 1000 // steps
    assert scheduler.timesteps.tolist() == [t for t in range(1, 1001, stride) if t < 1000][::-1]


@pytest.mark.parametrize("schedule", [NOISE_SCHEDULE, ZERO_TERMINAL_SNR_SCHEDULE], ids=["released", "noise alone"])
@pytest.mark.parametrize("scheduler", SchedulerName)
@given(steps=st.integers(1, 500))
@example(61)
@example(334)
def test_a_run_takes_as_many_steps_as_asked_for_from_the_schedules_end_to_its_beginning(scheduler, schedule, steps):
    chosen = make_scheduler(scheduler, schedule)
    set_timesteps(chosen, steps)
    taken = chosen.timesteps.tolist()
    if scheduler is SchedulerName.DDIM and schedule is NOISE_SCHEDULE:
        assert len(taken) >= steps
        assert taken[0] >= 1000 - 1000 / steps
    else:
        assert len(taken) == steps
        assert taken[0] == 999
    assert all(later < earlier for earlier, later in pairwise(taken))
    assert 0 <= taken[-1] < max(2, 2000 / steps)


def test_the_schedule_of_codi_mini_ends_in_noise_alone():
    assert make_scheduler("ddim", ZERO_TERMINAL_SNR_SCHEDULE).alphas_cumprod[999].sqrt() < 1e-3


@given(steps=st.sampled_from([1, 2, 4, 5, 8, 10, 20, 25, 40, 50, 100, 125, 200, 250, 500]))
def test_ddim_steps_as_the_library_does_where_its_stride_is_exact(steps):
    ours, theirs = (kind.from_config(make_scheduler("ddim").config) for kind in (CoDiDDIMScheduler, DDIMScheduler))
    for each in (ours, theirs):
        each.set_timesteps(steps)
    timestep = ours.timesteps[steps // 2]
    output, noisy = random(2, 4, seed=steps), random(2, 4, seed=steps + 1)
    stepped = theirs.step(output, timestep, noisy).prev_sample
    assert torch.equal(ours.step(output, timestep, noisy).prev_sample, stepped)


def walk(schedule: dict, scheduler: str, noise: Tensor, clean_of, denoiser, steps: int = 50) -> Tensor:
    """Sample with a network that is perfect: `clean_of(noisy, signal, noise)` is its estimate of the clean latent."""
    sampler = JointSampler(denoiser, scheduler=scheduler, noise_schedule=schedule)
    cumulative = sampler.schedulers[IMAGE].alphas_cumprod
    latents, generators = sampler.start({IMAGE: noise}, steps), {IMAGE: noise_generator(0, IMAGE)}
    for timestep in sampler.schedulers[IMAGE].timesteps:
        noisy = sampler.schedulers[IMAGE].scale_model_input(latents[IMAGE], timestep)
        signal, level = cumulative[int(timestep)].sqrt(), (1 - cumulative[int(timestep)]).sqrt()
        clean = clean_of(noisy, signal, level)
        epsilon = (noisy - signal * clean) / level
        output = epsilon if schedule["prediction_type"] == "epsilon" else signal * epsilon - level * clean
        latents = sampler.step({IMAGE: output}, {IMAGE: timestep}, latents, generators)
    return latents[IMAGE]


SCHEDULES = {
    "epsilon": NOISE_SCHEDULE,
    "velocity": {**NOISE_SCHEDULE, "prediction_type": "v_prediction"},
    "velocity from noise alone": ZERO_TERMINAL_SNR_SCHEDULE,
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("scheduler", SchedulerName)
def test_every_scheduler_finds_the_only_possible_latent(scheduler, schedule, denoiser):
    wanted = random(2, 4, 4, 4, seed=5)
    found = walk(schedule, scheduler, random(2, 4, 4, 4), lambda *_: wanted, denoiser)
    # All but ancestral Euler stop at the noise level of the first timestep, 3 % of the noise.
    assert (found - wanted).abs().max() < 0.15
    assert (found - wanted).std() < 0.05


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("steps", [60, 61, 200, 334])
@pytest.mark.parametrize("scheduler", SchedulerName)
def test_every_scheduler_gives_the_spread_of_the_data(scheduler, steps, schedule, denoiser):
    """Of Gaussian data of any spread the best estimate is linear, so the result is known; but for what few steps of
    first order miss."""
    spread = 0.5

    def posterior_mean(noisy: Tensor, signal: Tensor, level: Tensor) -> Tensor:
        return noisy * signal * spread**2 / (signal**2 * spread**2 + level**2)

    found = walk(schedule, scheduler, random(4, 4, 32, 32), posterior_mean, denoiser, steps=steps)
    assert found.mean().abs() < 0.02
    assert math.isclose(found.std(), spread, rel_tol=max(0.05, 10 / steps))


@pytest.mark.parametrize("scheduler", SchedulerName)
def test_every_scheduler_runs_on_networks_and_repeats_itself(scheduler, denoiser, noise, condition):
    first = sample(denoiser, noise, condition, scheduler=scheduler)
    second = sample(denoiser, noise, condition, scheduler=scheduler)
    for modality in noise:
        assert first[modality].shape == noise[modality].shape
        assert first[modality].isfinite().all()
        assert torch.equal(first[modality], second[modality])


def test_each_output_steps_a_scheduler_of_its_own(denoiser):
    schedulers = JointSampler(denoiser, scheduler="dpmpp_2m").schedulers
    assert schedulers[IMAGE] is not schedulers[AUDIO]


def test_the_noise_of_an_output_depends_on_seed_and_modality_alone():
    def draw(seed: int, modality: Modality) -> Tensor:
        return torch.randn(64, generator=noise_generator(seed, modality))

    assert torch.equal(draw(0, IMAGE), draw(0, IMAGE))
    assert not torch.equal(draw(0, IMAGE), draw(1, IMAGE))
    assert not torch.equal(draw(0, IMAGE), draw(0, AUDIO))
    assert draw(2**64 - 1, IMAGE).isfinite().all()


def test_guidance_scale_one_is_the_conditional_branch(denoiser, noise, condition):
    sampler = JointSampler(denoiser)
    latents = sampler.start(noise, 3)
    timestep = sampler.schedulers[IMAGE].timesteps[0]
    scales = dict.fromkeys(noise, 1.0)
    guidance = {modality: sampler.guidance(condition, modality, scales[modality]) for modality in noise}
    guided = sampler.noise(latents, dict.fromkeys(noise, timestep), guidance)
    direct = denoiser(latents, dict.fromkeys(latents, timestep.expand(2)), dict.fromkeys(noise, condition.embedding))
    for modality in noise:
        assert torch.equal(guided[modality], direct[modality])


@pytest.mark.parametrize("scale", [0.0, 2.5])
def test_guidance_goes_from_the_null_prompt_towards_the_prompt(scale, denoiser, noise, condition):
    sampler = JointSampler(denoiser)
    latents = sampler.start(noise, 3)
    timestep = sampler.schedulers[IMAGE].timesteps[0]
    scales = {IMAGE: scale, AUDIO: 1.0}
    guidance = {modality: sampler.guidance(condition, modality, scales[modality]) for modality in noise}
    guided = sampler.noise(latents, dict.fromkeys(noise, timestep), guidance)
    null, prompted = (
        denoiser(latents, dict.fromkeys(latents, timestep.expand(2)), dict.fromkeys(noise, rows))
        for rows in (condition.null, condition.embedding)
    )
    wanted = null[IMAGE] + scale * (prompted[IMAGE] - null[IMAGE])
    torch.testing.assert_close(guided[IMAGE], wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(guided[AUDIO], prompted[AUDIO], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("guided_alignment", [False, True])
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_composed_prompts_guide_each_by_itself(scale, guided_alignment, denoiser, noise, condition):
    """With weights 3 and 4, whose squares sum to 5²."""
    other = Condition(random(2, 1, 20, seed=8), random(2, 1, 20, seed=9))
    mixed = mix([condition, other], [3.0, 4.0], MixMode.COMPOSED)
    sampler = JointSampler(replace(denoiser, guided=guided_alignment))
    latents = sampler.start(noise, 3)
    timestep = sampler.schedulers[IMAGE].timesteps[0]

    def predicted(one: Condition, scale: float) -> dict[Modality, Tensor]:
        guidance = {modality: sampler.guidance(one, modality, scale) for modality in noise}
        return sampler.noise(latents, dict.fromkeys(noise, timestep), guidance)

    composed = predicted(mixed, scale)
    apart = [predicted(Condition(prompt.embedding, mixed.null), 2.0) for prompt in (condition, other)]
    null = predicted(Condition(mixed.null, mixed.null), 0.0)
    for modality in noise:
        ways = [(each[modality] - null[modality]) / 2.0 for each in apart]
        wanted = null[modality] + scale * (0.6 * ways[0] + 0.8 * ways[1])
        torch.testing.assert_close(composed[modality], wanted, atol=1e-4, rtol=1e-4)


def test_guidance_between_equal_prompts_changes_nothing(denoiser, noise, condition):
    same = Condition(condition.embedding, condition.embedding)
    strong, none = sample(denoiser, noise, same, guidance=7.5), sample(denoiser, noise, same, guidance=1.0)
    for modality in noise:
        torch.testing.assert_close(strong[modality], none[modality], atol=1e-3, rtol=1e-3)


def test_on_step_hears_every_step(denoiser, noise, condition):
    reports = []
    final = sample(denoiser, noise, condition, steps=4, on_step=reports.append)
    assert [(report.step, report.steps) for report in reports] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert torch.equal(reports[-1].latents[IMAGE], final[IMAGE])


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_report_tells_what_is_being_made_and_comes_ever_closer_to_it(denoiser, noise, condition, prediction_type):
    reports = []
    generators = {modality: noise_generator(0, modality) for modality in noise}
    sampler = JointSampler(denoiser, noise_schedule={**NOISE_SCHEDULE, "prediction_type": prediction_type})
    final = sampler.sample(noise, condition, steps=20, guidance=1.0, generators=generators, on_step=reports.append)
    for modality in noise:
        errors = [(report.clean[modality] - final[modality]).norm() for report in (reports[0], reports[-1])]
        assert errors[1] < errors[0]


def test_a_report_tells_how_far_each_output_is(denoiser, noise, condition):
    reports = []
    kept = Known(latent=noise[AUDIO])
    late = Known(latent=noise[IMAGE], strength=0.5)
    for known in ({AUDIO: kept}, {AUDIO: kept, IMAGE: late}):
        sample(denoiser, noise, condition, steps=4, known=known, on_step=reports.append)
    assert [report.shares[IMAGE] for report in reports] == [0.25, 0.5, 0.75, 1.0, 0.0, 0.0, 0.5, 1.0]
    assert all(report.shares[AUDIO] is None for report in reports)
    assert [list(report.clean) for report in reports] == [[IMAGE]] * 4 + [[]] * 2 + [[IMAGE]] * 2


@pytest.mark.parametrize("strength", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("scheduler", SchedulerName)
def test_what_is_known_is_changed_from_the_right_noise_level_on(scheduler, strength, denoiser, noise, condition):
    """A network that sees how much noise there is brings it back; the others see it at the noise level of the step."""
    wanted = random(2, 4, 4, 4, seed=5)
    cumulative = make_scheduler("ddim").alphas_cumprod

    class Perfect(JointDenoiser):
        def environments(self, latents, timesteps):
            when = timesteps[IMAGE].long()[:, None, None, None]
            signal_power = cumulative[when].where(when > 0, 1.0)
            noisy = signal_power.sqrt() * wanted + (1 - signal_power).sqrt() * noise[IMAGE]
            if strength < 1 and timesteps[AUDIO][0] > 500:
                torch.testing.assert_close(latents[IMAGE], noisy, atol=1e-5, rtol=1e-4)
            return {}

        def denoise(self, modality, latent, timestep, context, environments):
            signal_power = cumulative[timestep.long()][:, None, None, None]
            return (latent - signal_power.sqrt() * wanted) / (1 - signal_power).sqrt()

    known = {IMAGE: Known(latent=wanted, strength=strength)}
    perfect = Perfect(denoiser.diffusers)
    made = sample(perfect, noise, condition, steps=10, guidance=1.0, scheduler=scheduler, known=known)
    torch.testing.assert_close(made[IMAGE], wanted, atol=0.15, rtol=0)


def test_what_is_kept_is_heard_as_it_is_and_what_changes_later_as_noisy_as_the_listener(denoiser, noise, condition):
    heard = []

    class Overheard(JointDenoiser):
        def environments(self, latents, timesteps):
            heard.append((latents[AUDIO], timesteps[AUDIO], timesteps[IMAGE]))
            return super().environments(latents, timesteps)

    overheard = Overheard(denoiser.diffusers)
    for strength in (0.0, 0.5):
        known = {AUDIO: Known(latent=noise[AUDIO], strength=strength)}
        sample(overheard, noise, condition, steps=2, known=known)
    for latent, own, _ in heard[:2]:
        assert torch.equal(latent, noise[AUDIO]) and not own.any()
    for latent, own, others in heard[2:]:
        assert not torch.equal(latent, noise[AUDIO]) and torch.equal(own, others) and own.all()


def test_a_prompt_that_changes_on_the_way_is_heard_step_by_step(denoiser, noise, condition):
    """The first step hears the beginning, the last one the end."""
    other = Condition(condition.embedding.flip(0), condition.null.flip(0))
    asked = []

    def at(share: float) -> Condition:
        asked.append(share)
        return condition if share < 0.5 else other

    turned = sample(denoiser, noise, Condition(condition.embedding, condition.null, at), steps=4)
    assert asked[:4] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    plain, late = sample(denoiser, noise, condition, steps=4), sample(denoiser, noise, other, steps=4)
    for modality in noise:
        assert not torch.allclose(turned[modality], plain[modality], atol=1e-4)
        assert not torch.allclose(turned[modality], late[modality], atol=1e-4)
    unturned = sample(denoiser, noise, Condition(condition.embedding, condition.null, lambda share: condition), steps=4)
    assert torch.equal(unturned[IMAGE], plain[IMAGE])


def test_what_on_step_raises_ends_the_run(denoiser, noise, condition):
    class CancelledError(Exception):
        pass

    steps = []

    def stop_at_two(report):
        steps.append(report.step)
        if report.step == 2:
            raise CancelledError

    with pytest.raises(CancelledError):
        sample(denoiser, noise, condition, steps=10, on_step=stop_at_two)
    assert steps == [1, 2]


def test_rows_do_not_influence_one_another(denoiser, noise, condition):
    together = sample(denoiser, noise, condition)
    for row in range(2):
        rows = slice(row, row + 1)
        alone = sample(
            denoiser,
            {modality: latent[rows] for modality, latent in noise.items()},
            Condition(condition.embedding[rows], condition.null[rows]),
        )
        for modality in noise:
            torch.testing.assert_close(together[modality][rows], alone[modality], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("alignment", Alignment)
def test_the_order_of_outputs_does_not_matter(alignment, denoiser, noise, condition):
    turned = JointDenoiser(dict(reversed(denoiser.diffusers.items())), alignment)
    straight = JointDenoiser(denoiser.diffusers, alignment)
    one = sample(straight, noise, condition)
    other = sample(turned, dict(reversed(noise.items())), condition)
    for modality in noise:
        assert torch.equal(one[modality], other[modality])


@pytest.mark.parametrize("steps", [0, 501, -3])
def test_too_few_or_many_steps_say_the_range(steps, denoiser, noise, condition):
    with pytest.raises(ConfigError, match=f"steps must lie between 1 and 500, got {steps}"):
        sample(denoiser, noise, condition, steps=steps)


@pytest.mark.parametrize("scale", [-1.0, math.nan, math.inf])
def test_an_unusable_guidance_says_which(scale):
    with pytest.raises(ConfigError, match="guidance for image must be a number from 0 on"):
        guidance_scales({IMAGE: scale}, [IMAGE])


def test_a_missing_guidance_names_the_output():
    with pytest.raises(ConfigError, match="guidance for image given, none for audio; add it or give one number"):
        guidance_scales({IMAGE: 2.0}, [IMAGE, AUDIO])


def test_an_unknown_scheduler_lists_them_all():
    with pytest.raises(ConfigError, match="ddim, dpmpp_2m, unipc, euler, euler_ancestral"):
        make_scheduler("plms")


def test_a_latent_that_explodes_is_named(denoiser, noise, condition):
    with pytest.raises(ShapeError, match=r"image latent is no longer finite at timestep .*lower the guidance"):
        sample(denoiser, noise | {IMAGE: noise[IMAGE] * math.inf}, condition)
