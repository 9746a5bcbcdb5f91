"""Which step each output takes in each round of a run: all the same one, or some of them ahead of others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from .modality import Modality

LEADING = (Modality.TEXT, Modality.VIDEO, Modality.AUDIO, Modality.IMAGE)
"""Who goes ahead of whom. What follows makes its own what it is told, so those go first that can tell most: a picture
tells of no motion, and would be taken to say that there is none."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """A run goes in rounds; in each of them an output takes one of its steps, or none.

    steps: of every output, whether it is changed in all of them or not. begins: how many of its steps are over when an
    output begins to change; `steps` if it is kept. known: those that don't start from noise alone. lead: share of the
    steps by which each output is ahead of the next, in the order of LEADING, those known before all others; 0: all take
    the same step, 1: one begins when another is done. What is kept is ahead of all.
    """

    steps: int
    begins: Mapping[Modality, int]
    known: Collection[Modality] = ()
    lead: float = 0.0

    @cached_property
    def waits(self) -> dict[Modality, int]:
        """Rounds before the first step of each output; what is kept has had all of them before the first round."""
        changing = [modality for modality in LEADING if self.begins.get(modality, self.steps) < self.steps]
        changing.sort(key=lambda modality: modality not in self.known)
        ranks = {modality: rank for rank, modality in enumerate(changing)}
        return {
            modality: round(ranks[modality] * self.lead * self.steps) if modality in ranks else -self.steps
            for modality in self.begins
        }

    @property
    def rounds(self) -> int:
        return self.steps + max(0, *self.waits.values())

    def reached(self, rounds: int) -> dict[Modality, int]:
        """Steps that each output has had after so many rounds; those that wait for their first are left out."""
        return {modality: min(rounds - wait, self.steps) for modality, wait in self.waits.items() if rounds >= wait}

    def share(self, modality: Modality, rounds: int) -> float | None:
        """Of the steps that change an output, those it has had; None if it is kept."""
        begins = self.begins[modality]
        had = self.reached(rounds).get(modality, 0) - begins
        return max(0, had) / (self.steps - begins) if begins < self.steps else None

    def ahead_of(self, modality: Modality) -> list[Modality]:
        """The other outputs that are at least as far as this one."""
        return [other for other, wait in self.waits.items() if other != modality and wait <= self.waits[modality]]
