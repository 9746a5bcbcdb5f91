"""Do prompts of all kinds find one another? Recall at 1 of 64 between every pair of modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import torch
from matplotlib.figure import Figure

from ..modality import Modality
from ..pipeline import CoDiPipeline
from ..training.pairs import embed
from ..training.world import CARRIED, MAIN_FACTS, Split, World
from ..training.world_source import COMPLETE
from .estimates import share
from .experiment import EvaluationSettings, Record, Unit
from .pictures import figure, heat_map

CANDIDATES = 64
"""Of which the nearest is taken."""


def is_trained(first: Modality, second: Modality) -> bool:
    """Whether the prompt encoders saw this pair in training: text is the bridge, all other pairs never met."""
    return Modality.TEXT in (first, second)


class Retrieval:
    """Each unit is one set of CANDIDATES samples, seen in every modality.

    A hit is a candidate that shows the same facts as the query, as far as both modalities can show them: of the 96
    combinations several samples share one, and pictures do not show motion.
    """

    def units(self, settings: EvaluationSettings) -> Sequence[Unit]:
        return [{"chunk": chunk} for chunk in range(-(-settings.count // CANDIDATES))]

    @torch.no_grad()
    def measure(self, pipeline: CoDiPipeline, unit: Unit, settings: EvaluationSettings) -> Record:
        generator = torch.Generator().manual_seed(settings.seed_of(unit["chunk"]))
        facts = World(Split.ALL).draw(CANDIDATES, generator)
        embeddings = {}
        for modality in Modality:
            embeddings[modality] = embed(pipeline, COMPLETE[modality](facts, generator)).cpu()
        hits = {}
        for query, candidate in permutations(Modality, 2):
            nearest = (embeddings[query] @ embeddings[candidate].T).argmax(dim=1)
            shown = [fact for fact in MAIN_FACTS if fact in CARRIED[query] and fact in CARRIED[candidate]]
            same = torch.stack([facts.categories[fact][nearest] == facts.categories[fact] for fact in shown])
            hits[f"{query} → {candidate}"] = int(same.all(dim=0).sum())
        return hits

    def report(self, results: Sequence[tuple[Unit, Record]]) -> dict[str, Any]:
        asked = CANDIDATES * len(results)
        pairs = {
            f"{query} → {candidate}": {
                "trained": is_trained(query, candidate),
                **vars(share(sum(record[f"{query} → {candidate}"] for _, record in results), asked)),
            }
            for query, candidate in permutations(Modality, 2)
        }
        means = {
            name: sum(pair["mean"] for pair in chosen) / len(chosen)
            for name, chosen in (
                ("trained pairs", [pair for pair in pairs.values() if pair["trained"]]),
                ("zero-shot pairs", [pair for pair in pairs.values() if not pair["trained"]]),
            )
        }
        return {"recall at 1 of 64": means, "pairs": pairs}

    def draw(self, report: Mapping[str, Any]) -> Figure:
        names = list(map(str, Modality))
        shares = [
            [report["pairs"].get(f"{query} → {candidate}", {}).get("mean", float("nan")) for candidate in names]
            for query in names
        ]
        drawn, axes = figure(width=5.0, height=4.4)
        heat_map(axes, shares, rows=names, columns=names)
        axes.set(title="Recall at 1 of 64", xlabel="found among", ylabel="asked with")
        return drawn
