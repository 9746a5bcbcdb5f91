"""CoDi's claim, cell by cell: any set of inputs makes any set of outputs that show what the inputs said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Bool, Int
from matplotlib.figure import Figure
from torch import Tensor

from ..mixing import mix
from ..modality import Modality
from ..pipeline import CoDiPipeline
from ..training.captions import captions
from ..training.world import CARRIED, NONE, Fact, Facts, Split, is_held_out
from ..training.world_source import RENDERERS
from .estimates import Estimate, mean_of_shares, share, share_of_groups
from .experiment import HELD_OUT, SEEN, EvaluationSettings, Record, Unit, draw_facts, make
from .facts import READERS
from .pictures import figure, heat_map

SETS = [list(chosen) for count in range(1, len(Modality) + 1) for chosen in combinations(Modality, count)]
"""All sets of modalities that are not empty, smaller ones first."""
RIGHT, WRONG, UNSAID = "right", "wrong", "unsaid"
FACTS = "facts"
Tally = dict[Hashable, Counter[str | None]]
"""How often what became of facts, for each row of facts: in all cells a row is told with the same words and made from
the same noise, so answers about it hang together."""


def prompts_of(
    facts: Facts, inputs: Sequence[Modality], generator: torch.Generator
) -> tuple[dict[Modality, Any], dict[Fact, Tensor]]:
    """Prompts of these kinds that show the same facts, and per fact in which rows any of them tells it."""
    told = {fact: torch.zeros_like(facts.bounces) for fact in Fact}
    prompts: dict[Modality, Any] = {}
    for modality in inputs:
        if modality is Modality.TEXT:
            prompts[modality], said = captions(facts, generator)
        else:
            prompts[modality] = RENDERERS[modality](facts, generator)
            said = {fact: facts.categories[fact] != NONE for fact in CARRIED[modality]}
        for fact, rows in said.items():
            told[fact] = told[fact] | rows
    return prompts, told


def what_became(
    pipeline: CoDiPipeline,
    inputs: Sequence[Modality],
    outputs: Sequence[Modality],
    settings: EvaluationSettings,
    chunk: int,
    split: Split = Split.ALL,
) -> dict[str, Any]:
    """Make outputs of inputs that show the same facts: per output which rows were held out, and of each fact what
    became of it in each row."""
    facts, generator = draw_facts(settings, chunk, split)
    prompts, told = prompts_of(facts, inputs, generator)
    condition = mix([pipeline.encode(prompt) for prompt in prompts.values()], mode=settings.mode)
    record: dict[str, Any] = {}
    for modality, media in make(pipeline, condition, outputs, settings, settings.seed_of(chunk)).items():
        reading = READERS[modality](media)
        record[str(modality)] = {
            HELD_OUT: is_held_out(facts, modality).tolist(),
            FACTS: {
                str(fact): _outcomes(modality, reading.categories[fact], facts.categories[fact], told[fact])
                for fact in CARRIED[modality]
            },
        }
    return record


def outcomes_in(read: Mapping[str, Any]) -> Iterator[tuple[str, int, str, str | None]]:
    """Of one output in a record: fact, place of the row, whether it was held out, and what became of the fact."""
    for fact, outcomes in read[FACTS].items():
        for place, outcome in enumerate(outcomes):
            yield fact, place, HELD_OUT if read[HELD_OUT][place] else SEEN, outcome


class Matrix:
    """Each unit is a chunk of one cell: inputs that show the same facts are mixed evenly, outputs are made jointly.

    Asked are the facts that the inputs tell and the output can show. What a caption leaves out is neither right nor
    wrong, since captions of the world leave facts out as well; how much it leaves out stands in the report.
    """

    def units(self, settings: EvaluationSettings) -> Sequence[Unit]:
        return [
            {"inputs": list(map(str, inputs)), "outputs": list(map(str, outputs)), "chunk": chunk}
            for chunk in settings.chunks
            for inputs in SETS
            for outputs in SETS
        ]

    def measure(self, pipeline: CoDiPipeline, unit: Unit, settings: EvaluationSettings) -> Record:
        inputs, outputs = (list(map(Modality, unit[name])) for name in ("inputs", "outputs"))
        return what_became(pipeline, inputs, outputs, settings, unit["chunk"])

    def report(self, results: Sequence[tuple[Unit, Record]]) -> dict[str, Any]:
        cells: dict[str, Tally] = {}
        facts: dict[str, Tally] = {}
        splits: dict[str, Tally] = {SEEN: {}, HELD_OUT: {}}
        for unit, record in results:
            cell = f"{'+'.join(unit['inputs'])} → {'+'.join(unit['outputs'])}"
            for modality, read in record.items():
                for fact, place, split, outcome in outcomes_in(read):
                    for tally in (
                        cells.setdefault(cell, {}),
                        facts.setdefault(f"{modality} {fact}", {}),
                        splits[split],
                        splits.setdefault(f"{modality} {fact} {split}", {}),
                    ):
                        tally.setdefault((unit["chunk"], place), Counter())[outcome] += 1
        shares = {cell: share_right(tally) for cell, tally in cells.items()}
        worst = min((cell for cell in shares if shares[cell]["count"]), key=lambda cell: shares[cell]["mean"])
        return {
            "mean of cells": vars(_mean_of_cells(cells)),
            "worst cell": {"cell": worst, **shares[worst]},
            "splits": {name: share_right(tally) for name, tally in splits.items()},
            "facts": {name: share_right(tally) for name, tally in facts.items()},
            "cells": shares,
        }

    def draw(self, report: Mapping[str, Any]) -> Figure:
        names = ["+".join(chosen) for chosen in SETS]
        cells = report["cells"]
        shares = [[cells[f"{inputs} → {outputs}"]["mean"] for outputs in names] for inputs in names]
        drawn, axes = figure(width=9.0, height=8.0)
        heat_map(axes, shares, rows=names, columns=names)
        title = f"Facts that are right, in percent: mean {100 * report['mean of cells']['mean']:.1f}"
        axes.set(title=title, xlabel="outputs, made together", ylabel="inputs, mixed evenly")
        return drawn


def _outcomes(
    modality: Modality, read: Int[Tensor, "batch"], shown: Int[Tensor, "batch"], told: Bool[Tensor, "batch"]
) -> list[str | None]:
    """Per row what became of a fact; None where it was not asked for."""

    def outcome(read: int, shown: int, told: bool) -> str | None:
        if not told or shown == NONE:
            return None
        if read == shown:
            return RIGHT
        return UNSAID if read == NONE and modality is Modality.TEXT else WRONG

    return [outcome(*row) for row in zip(read.tolist(), shown.tolist(), told.tolist(), strict=True)]


def estimate_right(tally: Tally) -> Estimate:
    """The share that is right, of what was said."""
    said = [counts[RIGHT] + counts[WRONG] for counts in tally.values()]
    return share_of_groups([counts[RIGHT] for counts in tally.values()], said)


def _mean_of_cells(cells: Mapping[str, Tally]) -> Estimate:
    """Of the shares that are right, where every cell counts as much as another."""
    rows = dict.fromkeys(row for tally in cells.values() for row in tally)
    counts = [[tally.get(row, Counter()) for row in rows] for tally in cells.values()]
    right, wrong = (torch.tensor([[count[name] for count in cell] for cell in counts]) for name in (RIGHT, WRONG))
    return mean_of_shares(right, right + wrong)


def share_right(tally: Tally) -> dict[str, Any]:
    """Of what was said, and how much was left unsaid."""
    found, unsaid = estimate_right(tally), sum(counts[UNSAID] for counts in tally.values())
    return {**vars(found), UNSAID: share(unsaid, found.count + unsaid).mean}
