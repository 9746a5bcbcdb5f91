"""`codi run`: a saved workflow in a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from ..terminal import progress_bars
from .graph import NodeClasses
from .runner import Progress, WrittenFile, run_graph


def run_command(
    graph: Path,
    node_classes: NodeClasses,
    *,
    output_dir: Path,
    settings: Iterable[str] = (),
    files: Iterable[str] = (),
    seed: int | None = None,
    as_json: bool = False,
) -> None:
    """Run a graph with progress on stderr, then list what was written on stdout. See `run_graph`."""
    with progress_bars() as bars:
        nodes = bars.add_task("nodes", total=None)
        steps = bars.add_task("steps", total=None, visible=False)

        def show(progress: Progress) -> None:
            bars.update(nodes, description=progress.node, completed=progress.place - 1, total=progress.nodes)
            bars.update(steps, completed=progress.step, total=progress.steps or None, visible=progress.steps > 0)

        written = run_graph(
            graph,
            node_classes,
            output_dir=output_dir,
            settings=settings,
            files=files,
            seed=seed,
            on_progress=show,
        )
    if as_json:
        print(json.dumps({"files": [as_dict(file) for file in written]}))
    else:
        for file in written:
            print("\t".join(as_dict(file).values()))


def as_dict(file: WrittenFile) -> dict[str, str]:
    """A written file as JSON holds it."""
    facts = {
        "path": str(file.path),
        "node": file.node_id,
        "class": file.node_class,
        "modality": str(file.modality),
        "description": file.description,
    }
    return facts if file.text is None else facts | {"text": file.text}
