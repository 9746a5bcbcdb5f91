"""`codi train`: one stage of the training, with progress on stderr."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import preset
from ..errors import ConfigError
from ..terminal import progress_bars
from .file_source import FileSource
from .loop import Progress
from .stages import run_stage
from .world_source import WorldSource


def train_command(
    stage: str, folder: Path, preset_name: str, only: str | None, config: Path | None, data: Sequence[Path] = ()
) -> None:
    """Train a stage's tasks into a model folder. config: a JSON file of settings per task, such as
    {"diffuser_image": {"steps": 20000}}; what it leaves out is as the preset has it. data: folders and shards of
    samples; without any, the procedural world.

    Raises ConfigError for unknown stages, tasks and settings, MediaError for data that cannot be read, TrainingError
    where training cannot go on. A run that was stopped goes on where it was.
    """
    settings = {} if config is None else _read_settings(config)
    chosen = preset(preset_name)
    source = FileSource(data, chosen) if data else WorldSource()
    with progress_bars() as bars:
        tasks: dict[str, Any] = {}

        def show(progress: Progress) -> None:
            if progress.task not in tasks:
                tasks[progress.task] = bars.add_task(progress.task, total=progress.steps)
            losses = "  ".join(f"{name} {value:.4g}" for name, value in progress.losses.items())
            described = f"{progress.task}  {losses}  {progress.seconds_left / 60:.0f} min left"
            bars.update(tasks[progress.task], completed=progress.step, description=described)

        run_stage(folder, stage, chosen, settings, only, show, source)
    print(folder)


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"wanted settings per task as JSON in {path}, got: {error}; check its name and text"
        ) from error
    if not isinstance(settings, dict):
        raise ConfigError(f"wanted a JSON object of settings per task in {path}, got {settings!r}; name tasks in it")
    return settings
