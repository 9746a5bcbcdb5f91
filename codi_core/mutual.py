"""Mutual conditioning: outputs of one run agree although nothing was trained for it.

The paper's latent alignment needs environment encoders, which the published weights most likely lack. This way out
needs none: what each output is becoming is decoded, read by its own prompt encoder and interpolated into the others'
conditions. It is CoDi's composable conditioning, turned on its outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from .errors import ConfigError
from .mixing import mix
from .modality import Modality
from .values import Condition

EncodeOutput = Callable[[Modality, Tensor], Condition]
"""From an output's clean latent to what it says as a prompt."""


@dataclass(frozen=True, kw_only=True)
class Coupling:
    """How strongly and when outputs condition one another.

    weight: share of the other outputs in an output's condition, 0 to 1; the rest is the prompt's. start: share of the
    steps that are taken before, 0 to 1: what comes of noise alone says nothing, and agreement on it would be agreement
    on the same few things. interval: steps from one look at one another to the next.
    Each look costs one decoding and one encoding of every output, besides the step's own work.
    """

    weight: float = 0.8
    start: float = 0.3
    interval: int = 1

    def __post_init__(self) -> None:
        for name in ("weight", "start"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"the coupling's {name} must lie between 0 and 1, got {getattr(self, name)}")
        if self.interval < 1:
            raise ConfigError(f"the coupling's interval must be at least 1 step, got {self.interval}")

    def looks(self, step: int, steps: int) -> bool:
        """Whether outputs look at one another between step `step` (from 1 on) and the next."""
        first = max(1, round(self.start * steps))
        return self.weight > 0 and first <= step < steps and (step - first) % self.interval == 0


@dataclass(frozen=True)
class MutualConditioning:
    """Conditions that the outputs of one run give one another."""

    coupling: Coupling
    encode_output: EncodeOutput

    def said(self, clean: Mapping[Modality, Tensor]) -> dict[Modality, Condition]:
        """What each output says as a prompt."""
        return {modality: self.encode_output(modality, latent) for modality, latent in clean.items()}

    def conditions(self, prompt: Condition, said: Mapping[Modality, Condition]) -> dict[Modality, Condition]:
        """Per output the prompt, mixed with what all the others say; every other one weighs the same."""
        weight = self.coupling.weight
        mixed = {}
        for modality in said:
            others = [condition for other, condition in said.items() if other != modality]
            mixed[modality] = mix([prompt, *others], [1 - weight] + [weight / len(others)] * len(others))
        return mixed
