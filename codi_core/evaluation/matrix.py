"""CoDi's claim, cell by cell: any set of inputs makes any set of outputs that show what the inputs said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..mixing import mix
from ..modality import Modality
from ..pipeline import CoDiPipeline
from ..training.captions import captions
from ..training.world import CARRIED, NONE, Fact, Facts, is_held_out
from ..training.world_source import RENDERERS
from .estimates import share
from .experiment import EvaluationSettings, Record, Unit, draw_facts, make
from .facts import READERS
from .pictures import figure, heat_map

SETS = [list(chosen) for count in range(1, len(Modality) + 1) for chosen in combinations(Modality, count)]
"""All sets of modalities that are not empty, smaller ones first."""
RIGHT, WRONG, UNSAID = "right", "wrong", "unsaid"


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
        facts, generator = draw_facts(settings, unit["chunk"])
        prompts, told = prompts_of(facts, list(map(Modality, unit["inputs"])), generator)
        condition = mix([pipeline.encode(prompt) for prompt in prompts.values()], mode=settings.mode)
        outputs = list(map(Modality, unit["outputs"]))
        made = make(pipeline, condition, outputs, settings, settings.seed_of(unit["chunk"]))
        split = {"held out": is_held_out(facts), "seen": ~is_held_out(facts)}
        counts: dict[str, Any] = {}
        for modality, media in made.items():
            reading = READERS[modality](media)
            for fact in CARRIED[modality]:
                read, asked = reading.categories[fact], told[fact] & (facts.categories[fact] != NONE)
                unsaid = (read == NONE) & (modality is Modality.TEXT)
                right = read == facts.categories[fact]
                for name, rows in split.items():
                    counts[f"{modality} {fact} {name}"] = {
                        RIGHT: int((asked & rows & right).sum()),
                        WRONG: int((asked & rows & ~right & ~unsaid).sum()),
                        UNSAID: int((asked & rows & unsaid).sum()),
                    }
        return counts

    def report(self, results: Sequence[tuple[Unit, Record]]) -> dict[str, Any]:
        cells: dict[str, dict[str, int]] = {}
        facts: dict[str, dict[str, int]] = {}
        splits: dict[str, dict[str, int]] = {}
        for unit, record in results:
            cell = f"{'+'.join(unit['inputs'])} → {'+'.join(unit['outputs'])}"
            for name, counts in record.items():
                modality, fact, split = name.split(" ", 2)
                for table, key in ((cells, cell), (facts, f"{modality} {fact}"), (splits, split)):
                    _add(table.setdefault(key, {}), counts)
        shares = {cell: _share(counts) for cell, counts in cells.items()}
        means = {cell: entry["mean"] for cell, entry in shares.items() if entry["count"]}
        worst = min(means, key=lambda cell: means[cell])
        return {
            "mean of cells": sum(means.values()) / len(means),
            "worst cell": {"cell": worst, **shares[worst]},
            "splits": {name: _share(counts) for name, counts in splits.items()},
            "facts": {name: _share(counts) for name, counts in facts.items()},
            "cells": shares,
        }

    def draw(self, report: Mapping[str, Any]) -> Figure:
        names = ["+".join(chosen) for chosen in SETS]
        cells = report["cells"]
        shares = [[cells[f"{inputs} → {outputs}"]["mean"] for outputs in names] for inputs in names]
        drawn, axes = figure(width=9.0, height=8.0)
        heat_map(axes, shares, rows=names, columns=names)
        title = f"Facts that are right, in percent: mean {100 * report['mean of cells']:.1f}"
        axes.set(title=title, xlabel="outputs, made together", ylabel="inputs, mixed evenly")
        return drawn


def _add(total: dict[str, int], counts: Mapping[str, int]) -> None:
    for name, count in counts.items():
        total[name] = total.get(name, 0) + count


def _share(counts: Mapping[str, int]) -> dict[str, Any]:
    """Of what was said, and how much was left unsaid."""
    asked = counts[RIGHT] + counts[WRONG]
    return {**vars(share(counts[RIGHT], asked)), UNSAID: share(counts[UNSAID], asked + counts[UNSAID]).mean}
