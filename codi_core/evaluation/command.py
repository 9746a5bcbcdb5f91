"""`codi evaluate`: measure a model, write a report and a picture of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import choose
from ..headless.host import chosen_dtype, device
from ..media_files import written_whole
from ..pipeline import CoDiPipeline
from ..terminal import progress_bars
from .coherence import Coherence
from .combinations import Combinations
from .experiment import EvaluationSettings, Experiment, digest_of_files, run_experiment
from .keeping import Keeping
from .matrix import Matrix
from .mixing_course import MixingCourse
from .retrieval import Retrieval
from .similarity import Similarity
from .survival import Survival
from .synchrony import Synchrony

EXPERIMENTS: dict[str, type[Experiment]] = {
    "survival": Survival,
    "retrieval": Retrieval,
    "matrix": Matrix,
    "combinations": Combinations,
    "coherence": Coherence,
    "keep": Keeping,
    "sync": Synchrony,
    "sim": Similarity,
    "mix": MixingCourse,
}


def evaluate_command(
    what: str, model: str, dtype: str | None, alignment: str, output_dir: Path, *, as_json: bool, **settings: Any
) -> None:
    """Run one evaluation with progress on stderr. alignment: of outputs made together, where the evaluation doesn't
    compare alignments. settings: of `EvaluationSettings`.

    Raises ConfigError for an unknown evaluation or alignment, or settings out of range, CheckpointError for an unusable
    model.
    """
    experiment = EXPERIMENTS[choose("evaluation", what, EXPERIMENTS)]()
    chosen = EvaluationSettings(**settings)
    pipeline = CoDiPipeline.from_pretrained(model, dtype=chosen_dtype(dtype), device=device(), alignment=alignment)
    with progress_bars() as bars:
        task = bars.add_task(what, total=None)

        def show(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        report = run_experiment(what, experiment, pipeline, chosen, output_dir, show)
    if report is None:  # another process has it
        return
    conditions = {**settings, "alignment": alignment, "dtype": str(pipeline.parts.dtype)}
    # So that nobody takes them for figures of other weights under the same name.
    files_of_model = digest_of_files(pipeline.parts)
    told = {"evaluation": what, "model": model, "sha256": files_of_model, "settings": conditions, **report}
    files = {"report": output_dir / f"{what}.json", "picture": output_dir / f"{what}.png"}
    with written_whole(files["report"]) as scratch:
        scratch.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    with written_whole(files["picture"]) as scratch:
        experiment.draw(report).savefig(scratch, format="png")
    if as_json:
        print(json.dumps(told))
    else:
        for name, file in files.items():
            print(f"{name}\t{file}")
