"""Does an output hear one that is kept? Prompts say nothing, so all that it can know comes from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

from matplotlib.figure import Figure

from ..modality import Modality
from ..pipeline import CoDiPipeline
from ..training.world import CARRIED, MAIN_FACTS, NONE, VALUES
from ..training.world_source import COMPLETE
from .estimates import share
from .experiment import EvaluationSettings, Record, Unit, draw_facts
from .facts import READERS
from .pictures import figure, heat_map

RIGHT, ASKED = "right", "asked"


class Keeping:
    """Each unit is a chunk of one kind of output, made anew beside a real one of another kind.

    Asked is each of the main facts that both show, where the output speaks of it.
    """

    def units(self, settings: EvaluationSettings) -> Sequence[Unit]:
        return [
            {"kept": str(kept), "output": str(output), "chunk": chunk}
            for chunk in settings.chunks
            for kept, output in permutations(Modality, 2)
        ]

    def measure(self, pipeline: CoDiPipeline, unit: Unit, settings: EvaluationSettings) -> Record:
        facts, generator = draw_facts(settings, unit["chunk"])
        kept, output = Modality(unit["kept"]), Modality(unit["output"])
        known = pipeline.encode_latent(COMPLETE[kept](facts, generator))
        empty, seed = pipeline.encode([""] * len(facts)), settings.seed_of(unit["chunk"])
        latents = pipeline.sample(empty, to=[output], known=known, steps=settings.steps, seed=seed)
        read = READERS[output](pipeline.decode(latents, output)).categories
        counts = {}
        for fact in MAIN_FACTS:
            if fact in CARRIED[kept] and fact in CARRIED[output]:
                shown = read[fact] != NONE
                right = shown & (read[fact] == facts.categories[fact])
                counts[str(fact)] = {RIGHT: int(right.sum()), ASKED: int(shown.sum())}
        return counts

    def report(self, results: Sequence[tuple[Unit, Record]]) -> dict[str, Any]:
        pairs: dict[str, Any] = {}
        for kept, output in permutations(Modality, 2):
            records = [record for unit, record in results if (unit["kept"], unit["output"]) == (kept, output)]
            pairs[f"{kept} → {output}"] = {
                fact: vars(share(*(sum(record[fact][name] for record in records) for name in (RIGHT, ASKED))))
                for fact in records[0]
            }
        return {"chance": {str(fact): 1 / len(VALUES[fact]) for fact in MAIN_FACTS}, "pairs": pairs}

    def draw(self, report: Mapping[str, Any]) -> Figure:
        pairs, facts = report["pairs"], list(map(str, MAIN_FACTS))
        nothing = {"mean": float("nan")}
        shares = [[found.get(fact, nothing)["mean"] for fact in facts] for found in pairs.values()]
        drawn, axes = figure(width=4.4, height=4.4)
        heat_map(axes, shares, rows=list(pairs), columns=facts)
        axes.set(title="Facts of what was kept, in percent", ylabel="kept → made, prompt empty")
        return drawn
