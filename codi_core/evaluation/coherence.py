"""Do outputs of one run agree on what the prompt leaves open, and are they still as varied as independent ones?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from matplotlib.figure import Figure

from ..modality import Modality
from ..models.joint import Alignment
from ..pipeline import CoDiPipeline
from ..training.captions import phrase
from ..training.world import CARRIED, MAIN_FACTS, NONE, VALUES
from .estimates import share_of_groups
from .experiment import INDEPENDENT, EvaluationSettings, Record, Unit, draw_facts, make, make_apart, one_stated
from .facts import READERS
from .pictures import figure

WAYS = [*map(str, Alignment), INDEPENDENT]
OUTPUTS = [list(pair) for pair in combinations(Modality, 2)] + [list(Modality)]
Answers = dict[tuple[int, int], list[bool]]
"""Whether outputs agreed, for each row of a prompt and noise by its chunk and its place there."""


class Coherence:
    """Each unit is a chunk of one set of outputs, made in one way from prompts that state a single fact."""

    def units(self, settings: EvaluationSettings) -> Sequence[Unit]:
        return [
            {"way": way, "outputs": list(map(str, outputs)), "chunk": chunk}
            for chunk in settings.chunks
            for outputs in OUTPUTS
            for way in WAYS
        ]

    def measure(self, pipeline: CoDiPipeline, unit: Unit, settings: EvaluationSettings) -> Record:
        facts, generator = draw_facts(settings, unit["chunk"])
        stated = one_stated(facts, generator)
        condition = pipeline.encode(phrase(facts, stated, generator))
        outputs, seed = list(map(Modality, unit["outputs"])), settings.seed_of(unit["chunk"])
        if unit["way"] == INDEPENDENT:
            made = make_apart(pipeline, condition, outputs, settings, seed)
        else:
            made = make(pipeline, condition, outputs, settings, seed, alignment=unit["way"])
        found = {}
        for modality, media in made.items():
            categories = READERS[modality](media).categories
            for fact in MAIN_FACTS:
                if fact in CARRIED[modality]:
                    found[f"{modality} {fact}"] = categories[fact].where(~stated[fact], NONE).tolist()
        return found

    def report(self, results: Sequence[tuple[Unit, Record]]) -> dict[str, Any]:
        ways: dict[str, Any] = {}
        for way in WAYS:
            chosen = [(unit, record) for unit, record in results if unit["way"] == way]
            pairs = {
                f"{first} and {second}": _agreement(chosen, first, second)
                for first, second in combinations(Modality, 2)
            }
            together: Answers = {}
            for answers in pairs.values():
                for row, answered in answers.items():
                    together.setdefault(row, []).extend(answered)
            ways[way] = {
                "agreement": _share(together),
                "pairs": {name: _share(answers) for name, answers in pairs.items()},
                "entropy": sum(_entropy(chosen, outputs) for outputs in OUTPUTS) / len(OUTPUTS),
            }
        for entry in ways.values():
            independent = ways[INDEPENDENT]["entropy"]
            entry["entropy of independent"] = entry["entropy"] / independent if independent else float("nan")
        return {"chance": {str(fact): 1 / len(VALUES[fact]) for fact in MAIN_FACTS}, "ways": ways}

    def draw(self, report: Mapping[str, Any]) -> Figure:
        drawn, axes = figure(width=6.0, height=3.6)
        ways = report["ways"]
        places = range(len(ways))
        means = [entry["agreement"]["mean"] for entry in ways.values()]
        reach = [
            [entry["agreement"]["mean"] - entry["agreement"]["low"] for entry in ways.values()],
            [entry["agreement"]["high"] - entry["agreement"]["mean"] for entry in ways.values()],
        ]
        axes.bar([place - 0.2 for place in places], means, 0.4, yerr=reach, label="agreement on open facts")
        entropies = [entry["entropy of independent"] for entry in ways.values()]
        axes.bar([place + 0.2 for place in places], entropies, 0.4, label="their spread, against independent runs")
        axes.set_xticks(places, list(ways))
        axes.set(ylim=(0, 1.4), title="Outputs of one run")
        axes.legend(loc="upper right", fontsize=7)
        return drawn


def _agreement(results: Sequence[tuple[Unit, Record]], first: Modality, second: Modality) -> Answers:
    """Whether two outputs of one run show the same, where both show anything of an open fact."""
    answers: Answers = {}
    for unit, record in results:
        for fact in MAIN_FACTS:
            if f"{first} {fact}" not in record or f"{second} {fact}" not in record:
                continue
            pairs = zip(record[f"{first} {fact}"], record[f"{second} {fact}"], strict=True)
            for place, (one, other) in enumerate(pairs):
                if NONE not in (one, other):
                    answers.setdefault((unit["chunk"], place), []).append(one == other)
    return answers


def _share(answers: Answers) -> dict[str, Any]:
    return vars(share_of_groups([sum(each) for each in answers.values()], [len(each) for each in answers.values()]))


def _entropy(results: Sequence[tuple[Unit, Record]], outputs: Sequence[Modality]) -> float:
    """Mean entropy of the open facts over some outputs made together, in units of the most that is possible.

    Of one set of outputs, since independent runs of several sets make the same: an entropy of fewer things is lower.
    """
    made = [record for unit, record in results if unit["outputs"] == list(map(str, outputs))]
    found = []
    for fact in MAIN_FACTS:
        for modality in outputs:
            if fact not in CARRIED[modality]:
                continue
            values = torch.tensor([each for record in made for each in record[f"{modality} {fact}"]])
            counts = torch.bincount(values[values != NONE], minlength=len(VALUES[fact])).double()
            shares = counts[counts > 0] / counts.sum()
            found.append(float(-(shares * shares.log()).sum()) / math.log(len(VALUES[fact])))
    return sum(found) / len(found)
