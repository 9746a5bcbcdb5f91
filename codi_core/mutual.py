"""Mutual conditioning: outputs of one run agree although nothing was trained for it.

The paper's latent alignment needs environment encoders, which the published weights most likely lack. This way out
needs none: what each output is becoming is decoded, read by its own prompt encoder and interpolated into the others'
conditions. It is CoDi's composable conditioning, turned on its outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from .course import Course
from .errors import ConfigError
from .mixing import MixMode, mix
from .modality import Modality
from .values import Condition

EncodeOutput = Callable[[Modality, Tensor], Condition]
"""From an output's clean latent to what it says as a prompt."""


@dataclass(frozen=True, kw_only=True)
class Coupling:
    """How strongly and when outputs condition one another.

    weight: share of the other outputs in an output's condition, 0 to 1; the rest is the prompt's. start: share of its
    steps that an output has had before it is listened to, 0 to 1: what comes of noise alone says nothing, and agreement
    on it would be agreement on the same few things. interval: steps from one look at an output to the next. lead: share
    of the steps by which each output is ahead of the next, 0 to 1. 0: all at once, in which each listens to all
    others; else each listens to those ahead of it, which have decided already what it still can follow.
    Each look costs one decoding and one encoding of an output, besides the steps' own work.
    """

    weight: float = 0.65
    start: float = 0.3
    interval: int = 1
    lead: float = 1.0

    def __post_init__(self) -> None:
        for name in ("weight", "start", "lead"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"the coupling's {name} must lie between 0 and 1, got {getattr(self, name)}")
        if self.interval < 1:
            raise ConfigError(f"the coupling's interval must be at least 1 step, got {self.interval}")

    def looks(self, reached: int, steps: int, last: int | None) -> bool:
        """Whether it is time to look at an output that has had `reached` of its steps.

        last: how many they were at the last look; None: nobody looked yet.
        """
        if reached < max(1, round(self.start * steps)) or reached == last:
            return False
        return last is None or reached == steps or reached - last >= self.interval


@dataclass(frozen=True)
class MutualConditioning:
    """Conditions that the outputs of one run give one another."""

    coupling: Coupling
    encode_output: EncodeOutput

    def condition(self, prompt: Condition, heard: Sequence[Condition]) -> Condition:
        """The prompt, mixed with what others say, each of whom weighs the same; the prompt where nobody says anything.
        Prompts that guide each by itself go on to."""
        if not heard:
            return prompt
        weight, mode = self.coupling.weight, MixMode.COMPOSED if prompt.parts else MixMode.COMPLEMENTARY
        return mix([prompt, *heard], [1 - weight] + [weight / len(heard)] * len(heard), mode)


class Conversation:
    """What the outputs of one run have said so far. Only who is listened to is asked."""

    def __init__(self, mutual: MutualConditioning, course: Course) -> None:
        self.mutual, self.course = mutual, course
        self.said: dict[Modality, Condition] = {}
        self.asked_at: dict[Modality, int] = {}

    def conditions(
        self,
        prompts: Mapping[Modality, Condition],
        becoming: Mapping[Modality, Tensor],
        reached: Mapping[Modality, int],
    ) -> dict[Modality, Condition]:
        """Per output that takes a step the condition for it.

        prompts: of those that take a step. becoming: clean latents, as far as they are known. reached: steps that those
        have had that have begun.
        """
        heard = {modality: self.course.ahead_of(modality) for modality in prompts}
        for other in {other for others in heard.values() for other in others}:
            if self.mutual.coupling.looks(reached[other], self.course.steps, self.asked_at.get(other)):
                self.said[other] = self.mutual.encode_output(other, becoming[other])
                self.asked_at[other] = reached[other]
        return {
            modality: self.mutual.condition(
                prompt, [self.said[other] for other in heard[modality] if other in self.said]
            )
            for modality, prompt in prompts.items()
        }
