"""Is what training never combined so made as rightly as what it did? One input, one output, as many samples of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from matplotlib.figure import Figure

from ..modality import Modality
from ..pipeline import CoDiPipeline
from ..training.world import MAIN_FACTS, Split
from .estimates import difference
from .experiment import HELD_OUT, SEEN, EvaluationSettings, Record, Unit
from .matrix import Tally, estimate_right, outcomes_in, share_right, what_became
from .pictures import figure, heat_map

SPLITS = (Split.TRAIN, Split.HELD_OUT)


class Combinations:
    """Each unit is a chunk of one pair, of facts of one split of the world; asked is what the matrix asks.

    Held out is what an output shows: a picture shows no motion, so of a combination that is held out with one motion
    alone it shows a figure that was seen.
    """

    def units(self, settings: EvaluationSettings) -> Sequence[Unit]:
        return [
            {"input": str(given), "output": str(output), "split": str(split), "chunk": chunk}
            for chunk in settings.chunks
            for given, output in product(Modality, repeat=2)
            for split in SPLITS
        ]

    def measure(self, pipeline: CoDiPipeline, unit: Unit, settings: EvaluationSettings) -> Record:
        inputs, outputs = ([Modality(unit[name])] for name in ("input", "output"))
        return what_became(pipeline, inputs, outputs, settings, unit["chunk"], Split(unit["split"]))

    def report(self, results: Sequence[tuple[Unit, Record]]) -> dict[str, Any]:
        splits: dict[str, Tally] = {SEEN: {}, HELD_OUT: {}}
        facts: dict[str, Tally] = {}
        pairs: dict[str, Tally] = {}
        for unit, record in results:
            read = record[unit["output"]]
            for fact, place, split, outcome in outcomes_in(read):
                for tally in (
                    splits[split],
                    facts.setdefault(f"{unit['output']} {fact} {split}", {}),
                    pairs.setdefault(f"{unit['input']} → {unit['output']} {split}", {}),
                ):
                    tally.setdefault((unit["split"], unit["chunk"], place), Counter())[outcome] += 1
        return {
            "drop": vars(difference(*(estimate_right(splits[split]) for split in (SEEN, HELD_OUT)))),
            "splits": {name: share_right(tally) for name, tally in splits.items()},
            "facts": {name: share_right(tally) for name, tally in facts.items()},
            "pairs": {name: share_right(tally) for name, tally in pairs.items()},
        }

    def draw(self, report: Mapping[str, Any]) -> Figure:
        columns = [f"{fact} {split}" for fact in MAIN_FACTS for split in (SEEN, HELD_OUT)]
        shares = [
            [report["facts"].get(f"{output} {name}", {}).get("mean", float("nan")) for name in columns]
            for output in Modality
        ]
        drawn, axes = figure(width=5.0, height=3.8)
        heat_map(axes, shares, rows=list(map(str, Modality)), columns=columns)
        drop = report["drop"]
        told = f"{100 * drop['mean']:.1f} ({100 * drop['low']:.1f} to {100 * drop['high']:.1f})"
        axes.set(title=f"Facts that are right, in percent\nheld out {told} points less", ylabel="outputs")
        return drawn
