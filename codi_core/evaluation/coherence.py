"""Do outputs of one run agree on what the prompt leaves open, and are they still as varied as independent ones?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..modality import Modality
from ..models.joint import Alignment
from ..pipeline import CoDiPipeline
from ..training.captions import phrase
from ..training.world import CARRIED, MAIN_FACTS, NONE, VALUES
from .estimates import share
from .experiment import INDEPENDENT, EvaluationSettings, Record, Unit, draw_facts, make, make_apart, one_stated
from .facts import READERS
from .pictures import figure

WAYS = [*map(str, Alignment), INDEPENDENT]
OUTPUTS = [list(pair) for pair in combinations(Modality, 2)] + [list(Modality)]


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
            agreed = [sum(pair[key] for pair in pairs.values()) for key in ("agreed", "asked")]
            ways[way] = {
                "agreement": vars(share(*agreed)),
                "pairs": {name: vars(share(pair["agreed"], pair["asked"])) for name, pair in pairs.items()},
                "entropy": _entropy(chosen),
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


def _columns(results: Sequence[tuple[Unit, Record]], name: str) -> list[Tensor]:
    return [torch.tensor(record[name]) for _, record in results if name in record]


def _agreement(results: Sequence[tuple[Unit, Record]], first: Modality, second: Modality) -> dict[str, int]:
    """How often two outputs of one run show the same, where both show anything of an open fact."""
    agreed = asked = 0
    together = [(unit, record) for unit, record in results if {first, second} <= set(unit["outputs"])]
    for fact in MAIN_FACTS:
        if fact not in CARRIED[first] or fact not in CARRIED[second]:
            continue
        pairs = zip(_columns(together, f"{first} {fact}"), _columns(together, f"{second} {fact}"), strict=True)
        for one, other in pairs:
            shown = (one != NONE) & (other != NONE)
            agreed += int((shown & (one == other)).sum())
            asked += int(shown.sum())
    return {"agreed": agreed, "asked": asked}


def _entropy(results: Sequence[tuple[Unit, Record]]) -> float:
    """Mean entropy of the open facts over modalities, in units of the most that is possible."""
    found = []
    for fact in MAIN_FACTS:
        for modality in Modality:
            if fact not in CARRIED[modality]:
                continue
            values = torch.cat(_columns(results, f"{modality} {fact}"))
            counts = torch.bincount(values[values != NONE], minlength=len(VALUES[fact])).double()
            shares = counts[counts > 0] / counts.sum()
            found.append(float(-(shares * shares.log()).sum()) / math.log(len(VALUES[fact])))
    return sum(found) / len(found)
