"""The joint sampling loop over diffusers' schedulers: one scheduler and one noise generator per modality."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any, cast

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from jaxtyping import Float
from torch import Tensor

from .course import Course
from .errors import ConfigError, ShapeError, choose
from .modality import Modality
from .models.joint import JointDenoiser
from .models.layers import Memories
from .mutual import Conversation, MutualConditioning
from .values import Condition

TRAINING_TIMESTEPS = 1000


class CoDiDDIMScheduler(DDIMScheduler):
    """DDIM; with leading spacing over the timesteps that CoDi was sampled with: 1, 1 + c, 1 + 2c, … with
    c = 1000 // steps.

    diffusers' own list is shorter where `steps` does not divide 1000. The timestep 1000, which some counts would
    reach, lies outside the training schedule and is left out.
    """

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str = "cpu") -> None:
        super().set_timesteps(num_inference_steps, device)
        if self.config["timestep_spacing"] == "leading":
            steps = torch.arange(1, TRAINING_TIMESTEPS, TRAINING_TIMESTEPS // num_inference_steps, device=device)
            self.timesteps = steps.flip(0)

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, **options: Any) -> Any:
        """To the next of the timesteps, however far it is: diffusers' own goes 1000 // steps on, which is another
        place unless `steps` divides 1000. So it is told the number of steps that leads to the right one."""
        later = self.timesteps[self.timesteps < timestep]
        following = int(later[0]) if len(later) else -1
        self.num_inference_steps = cast(int, Fraction(TRAINING_TIMESTEPS, int(timestep) - following))
        return super().step(model_output, cast(int, timestep), sample, **options)


class SchedulerName(StrEnum):
    """The samplers on offer; deterministic but for `euler_ancestral`."""

    DDIM = "ddim"
    DPMPP_2M = "dpmpp_2m"
    UNIPC = "unipc"
    EULER = "euler"
    EULER_ANCESTRAL = "euler_ancestral"


_FROM_THE_END = {"timestep_spacing": "trailing"}
"""Leading spacing starts the lower the more steps there are, at half the schedule for 500 of `dpmpp_2m`."""
_SCHEDULERS: dict[SchedulerName, tuple[type, dict[str, Any]]] = {
    SchedulerName.DDIM: (CoDiDDIMScheduler, {"set_alpha_to_one": False, "clip_sample": False}),
    SchedulerName.DPMPP_2M: (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", **_FROM_THE_END}),
    SchedulerName.UNIPC: (UniPCMultistepScheduler, _FROM_THE_END),
    SchedulerName.EULER: (EulerDiscreteScheduler, _FROM_THE_END),
    SchedulerName.EULER_ANCESTRAL: (EulerAncestralDiscreteScheduler, _FROM_THE_END),
}

NOISE_SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": TRAINING_TIMESTEPS,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "leading",
    "steps_offset": 1,
    "prediction_type": "epsilon",
}
"""The schedule that the released diffusers were trained with, in diffusers' words."""

ZERO_TERMINAL_SNR_SCHEDULE: dict[str, Any] = {
    **NOISE_SCHEDULE,
    "timestep_spacing": "trailing",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
}
"""A schedule that ends in noise alone and is sampled from there (Lin et al., Common Diffusion Noise Schedules and
Sample Steps Are Flawed, 2023).

The released schedule leaves 8 % of the amplitude at the timestep where sampling begins. The frames of a video say the
same thing many times, so those 8 % tell its motion; a diffuser learns to read it there, and made from noise, figures
hardly move.
"""


def make_scheduler(name: str, noise_schedule: Mapping[str, Any] = NOISE_SCHEDULE) -> Any:
    """A diffusers scheduler. Raises ConfigError for an unknown name."""
    kind, options = _SCHEDULERS[choose("scheduler", name, SchedulerName)]
    return kind(**{**noise_schedule, **options})


def set_timesteps(scheduler: Any, steps: int, device: torch.device | str = "cpu") -> None:
    """Choose the timesteps of a run.

    Raises ConfigError for a number of steps out of range.
    """
    if not 1 <= steps <= TRAINING_TIMESTEPS // 2:
        raise ConfigError(f"steps must lie between 1 and {TRAINING_TIMESTEPS // 2}, got {steps}")
    scheduler.set_timesteps(steps, device=device)
    if scheduler.timesteps[-1] < 0:
        # Where 1000 / steps is not exact, diffusers may count one timestep beyond the schedule's beginning.
        scheduler.timesteps = scheduler.timesteps[:-1]
        if hasattr(scheduler, "sigmas"):
            scheduler.sigmas = torch.cat([scheduler.sigmas[:-2], scheduler.sigmas[-1:]])


def takes_generator(scheduler: Any) -> bool:
    """Whether the scheduler may draw fresh noise while stepping."""
    return "generator" in inspect.signature(scheduler.step).parameters


def noise_generator(seed: int, modality: Modality) -> torch.Generator:
    """The noise source of one output. It depends on seed and modality alone, so that adding an output never changes
    another's noise."""
    digest = hashlib.sha256(f"{seed}:{modality}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def starting_noise(shape: Sequence[int], rows: int, generator: torch.Generator) -> Float[Tensor, "rows *shape"]:
    """Drawn row by row, so that a larger batch begins with the same rows as a smaller one."""
    return torch.stack([torch.randn(tuple(shape), generator=generator) for _ in range(rows)])


@dataclass(frozen=True)
class StepReport:
    """What the sampler tells after each step.

    step: from 1 to steps, the run's; an output may wait in some of them for others. latents: as they are now, per
    modality. clean: what those that are being changed would become if the networks were right already. shares: of the
    steps that change an output, those it has had, 0 to 1; None if it is kept.
    """

    step: int
    steps: int
    latents: Mapping[Modality, Tensor]
    clean: Mapping[Modality, Tensor]
    shares: Mapping[Modality, float | None]


OnStep = Callable[[StepReport], None]
"""Called after every step. Whatever it raises ends the sampling, so it is also the way to cancel."""
Tell = Callable[[Condition, Modality], Condition]
"""From what is asked for to what the diffuser of one output is told."""


def guidance_scales(
    guidance: float | Mapping[Modality, float], modalities: Iterable[Modality]
) -> dict[Modality, float]:
    """A scale per output. Raises ConfigError if one is missing, negative or not finite."""
    scales = {}
    for modality in modalities:
        if isinstance(guidance, Mapping) and modality not in guidance:
            raise ConfigError(
                f"guidance for {', '.join(guidance)} given, none for {modality}; add it or give one number"
            )
        scale = guidance[modality] if isinstance(guidance, Mapping) else guidance
        if not 0 <= scale < float("inf"):
            raise ConfigError(f"guidance for {modality} must be a number from 0 on, got {scale}")
        scales[modality] = float(scale)
    return scales


@dataclass(frozen=True, kw_only=True)
class Known:
    """What one output starts from, instead of noise alone.

    latent: clean, as many rows as the noise. strength: share of the run in which it is made anew, from 0 (kept as it
    is, so that others come to agree with it) to 1. mask: where it is made anew at all (1) and where it is kept (0);
    expands to the latent. None: everywhere.
    """

    latent: Tensor
    strength: float = 0.0
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ConfigError(f"strength must lie between 0 (keep) and 1 (make anew), got {self.strength}")

    def first_step(self, steps: int) -> int:
        """How many steps are over when it begins to change; `steps` if it never does."""
        return steps - math.ceil(round(self.strength * steps, 6))

    def standing_in(self, made: Tensor, level: Tensor, *, changes: bool) -> Tensor:
        """What was made, with the known in its place at the same noise level where it is kept."""
        if not changes:
            return level
        return made if self.mask is None else level + self.mask * (made - level)


@dataclass(frozen=True)
class Guidance:
    """What one output is told, prepared for its diffuser, and how its branches become one.

    memories: of null rows, if there are several branches, then of every prompt's.
    """

    condition: Condition
    memories: Memories
    scale: float

    def guided(self, output: Float[Tensor, "rows ..."], batch: int) -> Float[Tensor, "batch ..."]:
        """null + scale · sum of weight · (prompt - null); where there is one branch, it.

        The weights' squares are scaled to sum to 1: what several prompts say they say louder, what one of them says
        alone does not go under.
        """
        null, *prompted = output.split(batch)
        if not prompted:
            return null
        weights = [weight for _, weight in self.condition.guides]
        length = math.hypot(*weights)
        return null + self.scale * sum(
            weight / length * (branch - null) for weight, branch in zip(weights, prompted, strict=True)
        )


class JointSampler:
    """Denoises all outputs together, step by step (CoDi paper, joint generation; classifier-free guidance).

    Each modality steps its own copy of the scheduler, because multistep schedulers remember earlier outputs.
    """

    def __init__(
        self,
        denoiser: JointDenoiser,
        *,
        scheduler: str = SchedulerName.DDIM,
        noise_schedule: Mapping[str, Any] = NOISE_SCHEDULE,
        tell: Tell = lambda condition, modality: condition,
    ):
        """tell: how a condition is put to an output's diffuser; by default as it is."""
        self.denoiser = denoiser
        self.tell = tell
        self.schedulers = {modality: make_scheduler(scheduler, noise_schedule) for modality in denoiser.diffusers}

    def start(self, noise: Mapping[Modality, Tensor], steps: int) -> dict[Modality, Tensor]:
        """The latents of the first timestep, from standard normal noise; sets up the schedulers."""
        latents = {}
        for modality, latent in noise.items():
            scheduler = self.schedulers[modality]
            set_timesteps(scheduler, steps, latent.device)
            latents[modality] = latent * scheduler.init_noise_sigma
        return latents

    def guidance(self, condition: Condition, modality: Modality, scale: float) -> Guidance:
        """What one output is told; there is one branch only where one prompt is followed as it is (scale 1)."""
        told = self.tell(condition, modality)
        rows = [embedding for embedding, _ in told.guides]
        if scale != 1 or len(rows) > 1:
            rows = [told.null, *rows]
        return Guidance(condition, self.denoiser.prepare_context(modality, torch.cat(rows)), scale)

    def noise(
        self,
        latents: Mapping[Modality, Tensor],
        timesteps: Mapping[Modality, Tensor],
        guidance: Mapping[Modality, Guidance],
    ) -> dict[Modality, Tensor]:
        """The guided model output per modality that is told something.

        timesteps: one number per latent; where there is none, the latent is clean: it is kept, or done. The others hear
        it as it is: facts that show late in them are already decided in it.
        """
        batch = len(next(iter(latents.values())))
        inputs, rows = dict(latents), {}
        for modality, latent in latents.items():
            scheduler = self.schedulers[modality]
            if modality in timesteps:
                # Some remember the first timestep that they are asked for as the one they begin with.
                asked = scheduler if modality in guidance else copy(scheduler)
                inputs[modality] = asked.scale_model_input(latent, timesteps[modality])
            rows[modality] = timesteps.get(modality, torch.zeros_like(scheduler.timesteps[0])).expand(batch)
        environments = self.denoiser.environments(inputs, rows) if guidance else {}
        guided = {}
        for modality, told in guidance.items():
            output = self.denoiser.denoise(modality, inputs[modality], rows[modality], told.memories, environments)
            guided[modality] = told.guided(output.float(), batch)
        return guided

    def clean(
        self,
        outputs: Mapping[Modality, Tensor],
        timesteps: Mapping[Modality, Tensor],
        latents: Mapping[Modality, Tensor],
    ) -> dict[Modality, Tensor]:
        """The clean latents that the networks' outputs point to (DDIM paper, formula 9; and its like for v)."""
        found = {}
        for modality, output in outputs.items():
            scheduler, timestep = self.schedulers[modality], timesteps[modality]
            noisy = scheduler.scale_model_input(latents[modality], timestep)
            signal_power = scheduler.alphas_cumprod[int(timestep)].to(noisy.device)
            signal, level = signal_power.sqrt(), (1 - signal_power).sqrt()
            if scheduler.config.prediction_type == "v_prediction":
                found[modality] = signal * noisy - level * output
            else:
                found[modality] = (noisy - level * output) / signal
        return found

    def step(
        self,
        noise: Mapping[Modality, Tensor],
        timesteps: Mapping[Modality, Tensor],
        latents: Mapping[Modality, Tensor],
        generators: Mapping[Modality, torch.Generator],
    ) -> dict[Modality, Tensor]:
        """The latents of the next timestep. Raises ShapeError where they are no longer finite."""
        following = {}
        for modality, output in noise.items():
            scheduler, timestep = self.schedulers[modality], timesteps[modality]
            fresh_noise = {"generator": generators[modality]} if takes_generator(scheduler) else {}
            stepped = scheduler.step(output, timestep, latents[modality], **fresh_noise)
            following[modality] = stepped.prev_sample
            if not torch.isfinite(following[modality]).all():
                raise ShapeError(
                    f"the {modality} latent is no longer finite at timestep {int(timestep)}; "
                    "use bf16 or fp32, or lower the guidance"
                )
        return following

    def known_at(
        self,
        reached: Mapping[Modality, int],
        latents: Mapping[Modality, Tensor],
        noise: Mapping[Modality, Tensor],
        known: Mapping[Modality, Known],
    ) -> dict[Modality, Tensor]:
        """The latents after so many of their steps, with what is known where it is kept."""
        placed = dict(latents)
        for modality, one in known.items():
            if modality not in reached:
                continue
            scheduler, index = self.schedulers[modality], reached[modality]
            steps, first = len(scheduler.timesteps), one.first_step(len(scheduler.timesteps))
            if index < steps:
                level = scheduler.add_noise(one.latent, noise[modality], scheduler.timesteps[index : index + 1])
            else:
                level = one.latent
            # What is made anew all the way starts from noise, whatever signal the schedule would leave in it.
            changes = first < index or first == index == 0
            placed[modality] = one.standing_in(placed[modality], level, changes=changes)
        return placed

    @torch.no_grad()
    def sample(
        self,
        noise: Mapping[Modality, Tensor],
        condition: Condition,
        *,
        steps: int,
        guidance: float | Mapping[Modality, float],
        generators: Mapping[Modality, torch.Generator],
        mutual: MutualConditioning | None = None,
        known: Mapping[Modality, Known] | None = None,
        on_step: OnStep | None = None,
    ) -> dict[Modality, Tensor]:
        """Clean latents from noise. The batch of `condition` must equal the noise's.

        mutual: how several outputs condition one another, if they do; a single one has nobody to listen to.
        known: what some of the outputs start from. What is kept comes back bit by bit; while it is noised, until its
        own steps begin or outside its mask, the others see it at the noise level of the step.

        Raises ConfigError for unusable steps or guidance, ShapeError if a latent stops being finite, and whatever
        `on_step` raises.
        """
        known = known or {}
        scales = guidance_scales(guidance, noise)
        latents = self.start(noise, steps)
        timesteps = self.schedulers[next(iter(noise))].timesteps
        steps = len(timesteps)
        begins = {modality: known[modality].first_step(steps) if modality in known else 0 for modality in noise}
        course = Course(steps=steps, begins=begins, known=set(known), lead=mutual.coupling.lead if mutual else 0.0)
        conversation = Conversation(mutual, course) if mutual else None
        becoming = {modality: one.latent for modality, one in known.items()}
        guides: dict[Modality, Guidance] = {}
        for index in range(course.rounds):
            reached = course.reached(index)
            latents = self.known_at(reached, latents, noise, known)
            acting = {modality: had for modality, had in reached.items() if begins[modality] <= had < steps}
            asked = {had: condition.at(min(1.0, had / max(1, steps - 1))) for had in set(acting.values())}
            told = {modality: asked[had] for modality, had in acting.items()}
            if conversation is not None:
                told = conversation.conditions(told, becoming, reached)
            for modality, one in told.items():
                if modality not in guides or guides[modality].condition is not one:
                    guides[modality] = self.guidance(one, modality, scales[modality])
            current = {modality: timesteps[had] for modality, had in reached.items() if had < steps}
            predicted = self.noise(
                {modality: latents[modality] for modality in reached},
                current,
                {modality: guides[modality] for modality in acting},
            )
            clean = self.clean(predicted, current, latents)
            latents |= self.step(predicted, current, latents, generators)
            becoming |= {
                modality: clean[modality] if had + 1 < steps else latents[modality] for modality, had in acting.items()
            }
            if on_step is not None:
                shares = {modality: course.share(modality, index + 1) for modality in noise}
                on_step(StepReport(index + 1, course.rounds, latents, clean, shares))
        return self.known_at(course.reached(course.rounds), latents, noise, known)
