"""Do outputs of one run agree on what the prompt leaves open, and are they still as varied as independent ones?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from ..modality import Modality
from ..models.joint import Alignment
from ..pipeline import CoDiPipeline
from ..training.captions import phrase
from ..training.world import CARRIED, MAIN_FACTS, NONE, VALUES
from .estimates import bootstrap, share_of_groups
from .experiment import INDEPENDENT, EvaluationSettings, Record, Unit, draw_facts, make, make_apart, one_stated
from .facts import READERS
from .pictures import figure

WAYS = [*map(str, Alignment), INDEPENDENT]
OUTPUTS = [list(pair) for pair in combinations(Modality, 2)] + [list(Modality)]
AGREEMENT, SPREAD = "agreement", "entropy of independent"
BARS = {AGREEMENT: "agreement on open facts", SPREAD: "their spread, against independent runs"}
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
        of_ways = {way: [(unit, record) for unit, record in results if unit["way"] == way] for way in WAYS}
        shown = {way: _shown(chosen) for way, chosen in of_ways.items()}
        for way, chosen in of_ways.items():
            pairs = {
                f"{first} and {second}": _agreement(chosen, first, second)
                for first, second in combinations(Modality, 2)
            }
            together: Answers = {}
            for answers in pairs.values():
                for row, answered in answers.items():
                    together.setdefault(row, []).extend(answered)
            ways[way] = {
                AGREEMENT: _share(together),
                "pairs": {name: _share(answers) for name, answers in pairs.items()},
                **_entropies(shown[way], shown[INDEPENDENT]),
            }
        return {"chance": {str(fact): 1 / len(VALUES[fact]) for fact in MAIN_FACTS}, "ways": ways}

    def draw(self, report: Mapping[str, Any]) -> Figure:
        drawn, axes = figure(width=6.0, height=3.6)
        ways = report["ways"]
        places = range(len(ways))
        for offset, (name, label) in zip((-0.2, 0.2), BARS.items(), strict=True):
            found = [entry[name] for entry in ways.values()]
            means = [each["mean"] for each in found]
            reach = [[each["mean"] - each["low"] for each in found], [each["high"] - each["mean"] for each in found]]
            axes.bar([place + offset for place in places], means, 0.4, yerr=reach, label=label)
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


@dataclass(frozen=True)
class Shown:
    """What outputs showed of the open facts, of each output of each set of outputs made together: as it was read, and
    how many values the fact has. weight: so that every set of outputs counts alike."""

    categories: Int[Tensor, "things rows"]
    values: Int[Tensor, "things"]
    weight: Float[Tensor, "things"]


def _shown(results: Sequence[tuple[Unit, Record]]) -> Shown:
    """In one way, in rows that are the same in every way: by chunk, as they lie in it."""
    categories, values, weights = [], [], []
    for outputs in OUTPUTS:
        made = [record for unit, record in results if unit["outputs"] == list(map(str, outputs))]
        things = [(modality, fact) for modality in outputs for fact in MAIN_FACTS if fact in CARRIED[modality]]
        for modality, fact in things:
            categories.append([each for record in made for each in record[f"{modality} {fact}"]])
            values.append(len(VALUES[fact]))
            weights.append(1 / len(things) / len(OUTPUTS))
    return Shown(torch.tensor(categories), torch.tensor(values), torch.tensor(weights).double())


def _entropy(shown: Shown, rows: Int[Tensor, "rows"]) -> Float[Tensor, ""]:
    """Mean entropy of the open facts in these rows, in units of the most that is possible.

    Of one set of outputs each, since independent runs of several sets make the same, and an entropy of fewer things is
    lower.
    """
    categories = shown.categories[:, rows]
    counts = (categories[..., None] == torch.arange(int(shown.values.max()))).sum(dim=1).double()
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    entropies = torch.special.entr(shares).sum(dim=1) / shown.values.double().log()
    return (entropies * shown.weight).sum()


def _entropies(shown: Shown, apart: Shown) -> dict[str, Any]:
    """Of what was shown, and held against what independent runs showed in the same rows."""
    count, rows = int((shown.categories != NONE).sum()), shown.categories.shape[1]

    def against(chosen: Int[Tensor, "rows"]) -> Float[Tensor, ""]:
        independent = _entropy(apart, chosen)
        return _entropy(shown, chosen) / independent.masked_fill(independent == 0, torch.nan)

    return {"entropy": float(_entropy(shown, torch.arange(rows))), SPREAD: vars(bootstrap(against, rows, count))}
