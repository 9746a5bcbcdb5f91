"""What all evaluations share: units of work that any process can do alone, kept as they end, and one report of them.

A unit's result depends on the model, the settings and the unit alone: so any number of processes gives the same report,
and a run that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool
from matplotlib.figure import Figure
from torch import Tensor

from ..config import INDEX_NAME
from ..errors import ConfigError, choose
from ..mixing import MixMode
from ..modality import Modality
from ..parts import Parts
from ..pipeline import CoDiPipeline
from ..processes import processes
from ..training.world import MAIN_FACTS, Fact, Facts, Split, World
from ..values import Condition

Unit = Mapping[str, Any]
"""What to measure, in JSON's types."""
Record = Mapping[str, Any]
"""What was measured, in JSON's types."""
SEEN, HELD_OUT = "seen", "held out"
"""In reports: what training combined so, and what it never did."""
OnUnit = Callable[[int, int], None]
"""Called with the units done and the units in all."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """count: samples of each thing that is compared. rows: how many are made at once. steps: of the sampler. mode: how
    prompts are mixed, where several are.
    """

    count: int = 64
    rows: int = 16
    steps: int = 25
    seed: int = 0
    mode: str = MixMode.COMPLEMENTARY

    def __post_init__(self) -> None:
        choose("mode", self.mode, MixMode)
        for name in ("count", "rows", "steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"wanted at least 1 for {name}, got {getattr(self, name)}")

    @property
    def chunks(self) -> range:
        """Numbers of the batches that make up the count."""
        return range(-(-self.count // self.rows))

    def rows_of(self, chunk: int) -> int:
        return min(self.rows, self.count - chunk * self.rows)

    def seed_of(self, chunk: int) -> int:
        """The same for every unit of a chunk, so that what is compared is made of the same facts and noise."""
        return self.seed * 1_000_003 + chunk


@runtime_checkable
class Experiment(Protocol):
    """One of the evaluations."""

    def units(self, settings: EvaluationSettings) -> Sequence[Unit]:
        """All the work, in any order."""
        ...

    def measure(self, pipeline: CoDiPipeline, unit: Unit, settings: EvaluationSettings) -> Record:
        """The result of one unit."""
        ...

    def report(self, results: Sequence[tuple[Unit, Record]]) -> dict[str, Any]:
        """The figures, in JSON's types, from all units in their order."""
        ...

    def draw(self, report: Mapping[str, Any]) -> Figure:
        """The report as a picture."""
        ...


def run_experiment(
    name: str,
    experiment: Experiment,
    pipeline: CoDiPipeline,
    settings: EvaluationSettings,
    folder: Path,
    on_unit: OnUnit = lambda done, total: None,
) -> dict[str, Any] | None:
    """Measure what is missing, on all processes together, then report. None on all processes but the first.

    Results are kept in `folder`, one line each, under a name that tells model and settings apart.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{_digest(pipeline, settings)}"
    units = list(experiment.units(settings))
    state = processes()
    known = _kept(folder, stem)
    missing = [unit for unit in units if _key(unit) not in known]
    done = len(units) - len(missing)
    on_unit(done, len(units))
    # Everybody must have seen what is missing before anybody adds to it.
    state.wait_for_everyone()
    # Kinds of units come in turn: in their order, one process could get all that take long.
    random.Random(0).shuffle(missing)
    mine = missing[state.process_index :: state.num_processes]
    with (folder / f".{stem}.{state.process_index}.jsonl").open("a", encoding="utf-8") as file:
        # Behind a line that was cut off when a run was killed.
        file.write("\n")
        for count, unit in enumerate(mine, start=1):
            record = experiment.measure(pipeline, unit, settings)
            file.write(json.dumps([unit, record]) + "\n")
            file.flush()
            on_unit(min(done + count * state.num_processes, len(units)), len(units))
    state.wait_for_everyone()
    if not state.is_main_process:
        return None
    known = _kept(folder, stem)
    return experiment.report([(unit, known[_key(unit)]) for unit in units])


def _key(unit: Unit) -> str:
    return json.dumps(unit, sort_keys=True)


def _kept(folder: Path, stem: str) -> dict[str, Record]:
    """What earlier runs left. A line that was cut off when a run was killed is measured again."""
    found: dict[str, Record] = {}
    for path in sorted(folder.glob(f".{stem}.*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                unit, record = json.loads(line)
            except ValueError:
                continue
            found[_key(unit)] = record
    return found


def _digest(pipeline: CoDiPipeline, settings: EvaluationSettings) -> str:
    """Of the settings and of what the model's files hold: so that a run can go on with another copy of the model."""
    told = [asdict(settings), digest_of_files(pipeline.parts), str(pipeline.parts.dtype), pipeline.alignment]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


def digest_of_files(parts: Parts) -> str | None:
    """SHA-256 of where the index and every file of the parts lie, vocabularies too, and of what they hold.

    None for random weights, which lie in no file.
    """
    if parts.folder is None:
        return None
    found = []
    for path in sorted(path for name in (INDEX_NAME, *parts) for path in _files(parts.folder / name)):
        with path.open("rb") as file:
            found.append((path.relative_to(parts.folder).as_posix(), hashlib.file_digest(file, "sha256").hexdigest()))
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]


def draw_facts(settings: EvaluationSettings, chunk: int, split: Split = Split.ALL) -> tuple[Facts, torch.Generator]:
    """The facts of a chunk's rows, and the generator that goes on from there."""
    generator = torch.Generator().manual_seed(settings.seed_of(chunk))
    return World(split).draw(settings.rows_of(chunk), generator), generator


def one_stated(facts: Facts, generator: torch.Generator) -> dict[Fact, Bool[Tensor, "batch"]]:
    """Which of the main facts a row's prompt states, at random: one of them, so that the others are open."""
    which = torch.randint(len(MAIN_FACTS), (len(facts),), generator=generator)
    return {fact: which == index for index, fact in enumerate(MAIN_FACTS)}


@torch.no_grad()
def make(
    pipeline: CoDiPipeline,
    condition: Condition,
    outputs: Sequence[Modality],
    settings: EvaluationSettings,
    seed: int,
    alignment: str | None = None,
) -> dict[Modality, Any]:
    """Outputs made together, one per row of the condition."""
    latents = pipeline.sample(condition, to=outputs, steps=settings.steps, seed=seed, alignment=alignment)
    return {modality: pipeline.decode(latents, modality) for modality in outputs}


def make_apart(
    pipeline: CoDiPipeline,
    condition: Condition,
    outputs: Sequence[Modality],
    settings: EvaluationSettings,
    seed: int,
) -> dict[Modality, Any]:
    """The same outputs, each in a run of its own: what they have in common they have from the prompt or by chance."""
    made: dict[Modality, Any] = {}
    for modality in outputs:
        made |= make(pipeline, condition, [modality], settings, seed)
    return made


JOINT, INDEPENDENT = "joint", "independent"
WAYS = {JOINT: make, INDEPENDENT: make_apart}
