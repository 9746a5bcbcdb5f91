"""`codi generate`: the pipeline in a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import media
from .headless.folders import next_number
from .headless.host import chosen_dtype, device
from .mixing import mix
from .modality import FACTS, Modality
from .pipeline import CoDiPipeline
from .sampling import StepReport
from .terminal import progress_bars
from .values import Frames, Media, Waveform, rows_of

PREFIX = "codi"


def generate_command(
    prompts: Sequence[tuple[Modality, str | Path]],
    to: Sequence[Modality],
    *,
    model: str,
    dtype: str | None,
    offload: str,
    weights: Sequence[float] | None,
    mode: str,
    negative: str | None,
    count: int,
    output_dir: Path,
    as_json: bool,
    **sampling: Any,
) -> None:
    """Make `count` of each output with progress on stderr, then list the files on stdout.

    prompts: words, or a file to be read as that modality. sampling: what `CoDiPipeline.sample` takes.
    Files are written once everything is decoded, so that a run which is interrupted before leaves none.
    """
    given = [media.read(prompt, kind) if isinstance(prompt, Path) else prompt for kind, prompt in prompts]
    pipeline = CoDiPipeline.from_pretrained(model, dtype=chosen_dtype(dtype), device=device(), offload=offload)
    with progress_bars() as bars:
        task = bars.add_task(" + ".join(to), total=None)

        def show(report: StepReport) -> None:
            bars.update(task, completed=report.step, total=report.steps)

        condition = mix([pipeline.encode(prompt, negative) for prompt in given], weights, mode).repeated(count)
        latents = pipeline.sample(condition, to=to, on_step=show, **sampling)
        made = {modality: rows_of(pipeline.decode(latents, modality)) for modality in latents.samples}
    first = next_number(output_dir / PREFIX)
    files = []
    for row in range(count):
        values = {modality: rows[row] for modality, rows in made.items()}
        files += write_row(values, output_dir / f"{PREFIX}_{first + row:05}")
    if as_json:
        print(json.dumps({"files": files}))
    else:
        for file in files:
            print("\t".join(file.values()))


def write_row(values: Mapping[Modality, Media], base: Path) -> list[dict[str, str]]:
    """One file per output, named `base` and its modality; a video holds the sound as well, if there is one.

    Returns path, modality, description and, of a text, the text itself.
    """
    files = []
    sound = values.get(Modality.AUDIO)
    for modality, value in values.items():
        path = base.with_name(f"{base.name}_{modality}{FACTS[modality].suffixes[0]}")
        if isinstance(value, Frames):
            media.write_video(path, value, sound if isinstance(sound, Waveform) else None)
        else:
            media.write(value, path)
        about = "; ".join(track.describe() for track in media.probe(path).streams)
        file = {"path": str(path), "modality": str(modality), "description": about}
        files.append(file | {"text": value} if isinstance(value, str) else file)
    return files
