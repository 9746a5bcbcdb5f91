"""SIM of the CoDi paper: the cosine between the prompt embeddings of two outputs, made together or apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from matplotlib.figure import Figure
from torch.nn import functional

from ..modality import Modality
from ..pipeline import CoDiPipeline
from ..training.captions import phrase
from ..training.pairs import embed
from .estimates import mean
from .experiment import INDEPENDENT, JOINT, WAYS, EvaluationSettings, Record, Unit, draw_facts, one_stated
from .pictures import figure


class Similarity:
    """Each unit is a chunk of one pair of outputs, from prompts that state a single fact."""

    def units(self, settings: EvaluationSettings) -> Sequence[Unit]:
        return [
            {"outputs": list(map(str, pair)), "chunk": chunk}
            for chunk in settings.chunks
            for pair in combinations(Modality, 2)
        ]

    def measure(self, pipeline: CoDiPipeline, unit: Unit, settings: EvaluationSettings) -> Record:
        facts, generator = draw_facts(settings, unit["chunk"])
        texts = phrase(facts, one_stated(facts, generator), generator)
        condition, seed = pipeline.encode(texts), settings.seed_of(unit["chunk"])
        pair = list(map(Modality, unit["outputs"]))
        found = {}
        for name, way in WAYS.items():
            made = way(pipeline, condition, pair, settings, seed)
            with torch.no_grad():
                first, second = (embed(pipeline, made[modality]) for modality in pair)
            found[name] = functional.cosine_similarity(first, second).tolist()
        return found

    def report(self, results: Sequence[tuple[Unit, Record]]) -> dict[str, Any]:
        pairs = {}
        for pair in combinations(Modality, 2):
            records = [record for unit, record in results if unit["outputs"] == list(map(str, pair))]
            joint, apart = (torch.tensor([each for record in records for each in record[name]]) for name in WAYS)
            pairs[" and ".join(pair)] = {
                JOINT: vars(mean(joint)),
                INDEPENDENT: vars(mean(apart)),
                # Row by row, since both were made from the same prompt and the same noise.
                "joint - independent": vars(mean(joint - apart)),
            }
        return {"pairs": pairs}

    def draw(self, report: Mapping[str, Any]) -> Figure:
        drawn, axes = figure(width=6.0, height=3.2)
        gains = {name: entry["joint - independent"] for name, entry in report["pairs"].items()}
        places = range(len(gains))
        means = [gain["mean"] for gain in gains.values()]
        reach = [
            [gain["mean"] - gain["low"] for gain in gains.values()],
            [gain["high"] - gain["mean"] for gain in gains.values()],
        ]
        axes.errorbar(means, places, xerr=reach, fmt="o", capsize=3)
        axes.axvline(0, color="grey", linewidth=1)
        axes.set_yticks(places, list(gains), fontsize=7)
        axes.set(title="SIM of outputs made together", xlabel="cosine, less that of outputs made apart")
        return drawn
