"""How do facts move when one prompt is faded into another?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from ..mixing import mix
from ..modality import Modality
from ..pipeline import CoDiPipeline
from ..training.captions import phrase
from ..training.world import CARRIED, MAIN_FACTS, VALUES, Facts
from .estimates import share
from .experiment import EvaluationSettings, Record, Unit, draw_facts, make
from .facts import READERS
from .pictures import figure

WEIGHTS = [round(0.1 * tenth, 1) for tenth in range(11)]
"""Of the second prompt; the first has the rest."""
FIRST, SECOND, NEITHER = "first", "second", "neither"


class MixingCourse:
    """Each unit is a chunk of one kind of output at one weight. The two prompts of a row differ in every fact."""

    def units(self, settings: EvaluationSettings) -> Sequence[Unit]:
        return [
            {"output": str(modality), "weight": weight, "chunk": chunk}
            for chunk in settings.chunks
            for modality in Modality
            for weight in WEIGHTS
        ]

    def measure(self, pipeline: CoDiPipeline, unit: Unit, settings: EvaluationSettings) -> Record:
        facts, generator = draw_facts(settings, unit["chunk"])
        other = _moved_on(facts, generator)
        stated = {fact: torch.ones_like(facts.bounces) for fact in MAIN_FACTS}
        rows = [pipeline.encode(phrase(each, stated, generator)) for each in (facts, other)]
        condition = mix(rows, [1 - unit["weight"], unit["weight"]], settings.mode)
        modality = Modality(unit["output"])
        made = make(pipeline, condition, [modality], settings, settings.seed_of(unit["chunk"]))
        read = READERS[modality](made[modality]).categories
        counts = {}
        for fact in MAIN_FACTS:
            if fact in CARRIED[modality]:
                first, second = (read[fact] == each.categories[fact] for each in (facts, other))
                counts[str(fact)] = {
                    FIRST: int(first.sum()),
                    SECOND: int(second.sum()),
                    NEITHER: int((~first & ~second).sum()),
                }
        return counts

    def report(self, results: Sequence[tuple[Unit, Record]]) -> dict[str, Any]:
        outputs: dict[str, Any] = {}
        for modality in Modality:
            courses: dict[str, Any] = {}
            for weight in WEIGHTS:
                records = [r for unit, r in results if unit["output"] == modality and unit["weight"] == weight]
                totals = {
                    name: sum(counts[name] for record in records for counts in record.values())
                    for name in (FIRST, SECOND, NEITHER)
                }
                asked = sum(totals.values())
                courses[str(weight)] = {name: vars(share(count, asked)) for name, count in totals.items()}
            outputs[str(modality)] = courses
        return {"outputs": outputs}

    def draw(self, report: Mapping[str, Any]) -> Figure:
        drawn, axes = figure(width=6.0, height=3.6)
        for (modality, courses), colour in zip(report["outputs"].items(), ("C0", "C1", "C2", "C3"), strict=True):
            for name, line in ((FIRST, "--"), (SECOND, "-")):
                shares = [courses[str(weight)][name]["mean"] for weight in WEIGHTS]
                axes.plot(WEIGHTS, shares, line, color=colour, label=modality if name == SECOND else None)
        axes.set(
            title="Facts of the first prompt (dashed) and of the second",
            xlabel="weight of the second prompt",
            ylabel="share of facts",
            ylim=(0, 1),
        )
        axes.legend(fontsize=7)
        return drawn


def _moved_on(facts: Facts, generator: torch.Generator) -> Facts:
    """The same rows with another shape, colour and motion each."""
    columns = {name: getattr(facts, name) for name in vars(facts)}
    for fact in MAIN_FACTS:
        values = len(VALUES[fact])
        further = torch.randint(1, values, (len(facts),), generator=generator)
        columns[str(fact)] = (facts.categories[fact] + further) % values
    return Facts(**columns)
