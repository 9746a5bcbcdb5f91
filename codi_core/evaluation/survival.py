"""Do facts survive encoding and decoding? What a codec loses no diffuser can make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from ..decoders import build_codec
from ..modality import Modality
from ..pipeline import CoDiPipeline
from ..training.world import CARRIED, MAIN_FACTS, NONE, is_held_out
from ..training.world_source import RENDERERS
from .estimates import share
from .experiment import HELD_OUT, SEEN, EvaluationSettings, Record, Unit, draw_facts
from .facts import READERS
from .pictures import figure, heat_map


class Survival:
    """Each unit is a chunk of samples of one modality. Asked are the facts that the reader finds in them before."""

    def units(self, settings: EvaluationSettings) -> Sequence[Unit]:
        return [{"modality": str(modality), "chunk": chunk} for chunk in settings.chunks for modality in Modality]

    @torch.no_grad()
    def measure(self, pipeline: CoDiPipeline, unit: Unit, settings: EvaluationSettings) -> Record:
        modality = Modality(unit["modality"])
        facts, generator = draw_facts(settings, unit["chunk"])
        media = RENDERERS[modality](facts, generator)
        codec = build_codec(modality, pipeline.parts, pipeline.config)
        before, after = (READERS[modality](each).categories for each in (media, codec.decode(codec.encode(media))))
        counts, held_out = {}, is_held_out(facts, modality)
        for name, rows in {HELD_OUT: held_out, SEEN: ~held_out}.items():
            for fact in MAIN_FACTS:
                if fact in CARRIED[modality]:
                    asked = rows & (before[fact] != NONE)
                    kept = asked & (after[fact] == before[fact])
                    counts[f"{fact} {name}"] = {"kept": int(kept.sum()), "asked": int(asked.sum())}
        return counts

    def report(self, results: Sequence[tuple[Unit, Record]]) -> dict[str, Any]:
        counted: dict[str, dict[str, dict[str, int]]] = {str(modality): {} for modality in Modality}
        for unit, record in results:
            for name, counts in record.items():
                fact = name.split(" ")[0]
                for key in (fact, name, "all"):
                    total = counted[unit["modality"]].setdefault(key, {"kept": 0, "asked": 0})
                    for each in total:
                        total[each] += counts[each]
        return {
            modality: {name: vars(share(counts["kept"], counts["asked"])) for name, counts in facts.items()}
            for modality, facts in counted.items()
        }

    def draw(self, report: Mapping[str, Any]) -> Figure:
        names = [f"{fact} {split}" for fact in MAIN_FACTS for split in (SEEN, HELD_OUT)]
        shares = [
            [report[str(modality)].get(name, {}).get("mean", float("nan")) for name in names] for modality in Modality
        ]
        drawn, axes = figure(width=5.0, height=3.6)
        heat_map(axes, shares, rows=list(map(str, Modality)), columns=names)
        axes.set(title="Facts that survive encoding and decoding, in percent")
        return drawn
