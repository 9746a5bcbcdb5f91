"""Do the bounces that are seen sound at the same moment? No prompt ever says when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from matplotlib.figure import Figure

from ..modality import Modality
from ..models.unet import UNet
from ..pipeline import CoDiPipeline
from ..training.captions import phrase
from ..training.world import BOUNCE_PERIOD_RANGE_S, FRAMES_PER_SECOND, MAIN_FACTS, Motion, Split, World
from ..values import Condition
from .estimates import median
from .experiment import WAYS, EvaluationSettings, Record, Unit, make
from .facts import READERS
from .pictures import figure
from .readings import moments_apart_s

OUTPUTS = [Modality.VIDEO, Modality.AUDIO]


@contextmanager
def _without_time_axis(diffusers: Iterable[UNet]) -> Iterator[None]:
    kept = {diffuser: diffuser.time_axis for diffuser in diffusers}
    for diffuser in kept:
        diffuser.time_axis = None
    try:
        yield
    finally:
        for diffuser, axis in kept.items():
            diffuser.time_axis = axis


def make_pooled(
    pipeline: CoDiPipeline, condition: Condition, outputs: Sequence[Modality], settings: EvaluationSettings, seed: int
) -> dict[Modality, Any]:
    """Outputs made together that hear of one another what they are, but not when."""
    with _without_time_axis(pipeline.denoiser(outputs).diffusers.values()):
        return make(pipeline, condition, outputs, settings, seed)


COMPARED = WAYS | {"joint, V pooled": make_pooled}


class Synchrony:
    """Each unit is a chunk of videos with sound of figures that bounce: made together, V with its time axis or without,
    or made apart.
    """

    def units(self, settings: EvaluationSettings) -> Sequence[Unit]:
        return [{"way": way, "chunk": chunk} for chunk in settings.chunks for way in COMPARED]

    def measure(self, pipeline: CoDiPipeline, unit: Unit, settings: EvaluationSettings) -> Record:
        generator = torch.Generator().manual_seed(settings.seed_of(unit["chunk"]))
        drawn = World(Split.ALL).draw(settings.rows_of(unit["chunk"]), generator)
        bouncing = replace(drawn, motion=torch.full_like(drawn.motion, tuple(Motion).index(Motion.BOUNCE)))
        stated = {fact: torch.ones_like(bouncing.bounces) for fact in MAIN_FACTS}
        condition = pipeline.encode(phrase(bouncing, stated, generator))
        made = COMPARED[unit["way"]](pipeline, condition, OUTPUTS, settings, settings.seed_of(unit["chunk"]))
        seen, heard = (READERS[modality](made[modality]).bounce_moments_s for modality in OUTPUTS)
        apart_s = moments_apart_s(seen, heard)
        return {"apart_s": [None if each != each else each for each in apart_s.tolist()]}

    def report(self, results: Sequence[tuple[Unit, Record]]) -> dict[str, Any]:
        frame_s = float(1 / FRAMES_PER_SECOND)
        ways = {}
        for way in COMPARED:
            rows = [each for unit, record in results if unit["way"] == way for each in record["apart_s"]]
            apart_s = torch.tensor([each for each in rows if each is not None])
            ways[way] = {
                "median error, in frames": vars(median(apart_s / frame_s)),
                "with bounces in both": f"{len(apart_s)} of {len(rows)}",
                "apart_s": apart_s.tolist(),
            }
        return {"frame_s": frame_s, "ways": ways}

    def draw(self, report: Mapping[str, Any]) -> Figure:
        drawn, axes = figure(width=6.0, height=3.2)
        for way, entry in report["ways"].items():
            label = f"{way}: median {entry['median error, in frames']['mean']:.2f} frames"
            frames = sorted(apart_s / report["frame_s"] for apart_s in entry["apart_s"])
            axes.step(frames, [rank / len(frames) for rank in range(1, len(frames) + 1)], where="post", label=label)
        furthest = BOUNCE_PERIOD_RANGE_S[1] / 2 / report["frame_s"]
        axes.set(title="From a bounce seen to the nearest one heard", xlabel="video frames", ylabel="share of clips")
        axes.set_xlim(0, furthest)
        axes.legend(fontsize=7)
        return drawn
