"""Choosing a model."""

from __future__ import annotations

import logging
from pathlib import Path

from ..codi_core.checkpoints.conversion import convert, notes, unconverted
from ..codi_core.config import INDEX_NAME
from ..codi_core.models.joint import Alignment
from ..codi_core.parts import CONFIG_NAME, DTYPES, WEIGHTS_NAME
from ..codi_core.pipeline import BUNDLED, CoDiPipeline
from .host import (
    CoDiModel,
    ProgressBar,
    default_dtype,
    device,
    io,
    model_folders,
    schema,
    share_memory,
    throw_if_interrupted,
)

AUTO = "auto"
MODEL_FILES = (INDEX_NAME, "*.pth", f"*/{WEIGHTS_NAME}", f"*/{CONFIG_NAME}", "*/*tokenizer")
"""What a model folder is made of, weights to be converted included."""


def local_models() -> dict[str, Path]:
    """Every folder of models/codi that holds a model or the official .pth files, by the name shown to the user.

    Where two have one name, that of the host's first folder counts.
    """
    return {
        file.parent.name: file.parent
        for folder in reversed(model_folders())
        for file in sorted([*folder.glob(f"*/{INDEX_NAME}"), *folder.glob("*/*.pth")])
    }


def convert_files_of(folder: Path) -> None:
    """Make a model of the official files that lie in a folder, in that folder, or add the parts that it lacks.

    Can be cancelled like any node. What users should know about the parts becomes a warning.
    """
    files = sorted(folder.glob("*.pth"))
    if (folder / INDEX_NAME).exists():
        files = unconverted(files, folder)
    if not files:
        return
    progress = ProgressBar(1)

    def show(part: str, written: int, total: int) -> None:
        throw_if_interrupted()
        progress.update_absolute(written, total)

    for part in convert(files, folder, on_progress=show):
        for note in notes(part, folder):
            logging.warning("CoDi: %s %s", folder / part.name, note)


class LoadCoDi(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LoadCoDi",
            display_name="Load CoDi",
            description="Chooses a CoDi model. Only the parts that the graph uses are loaded.",
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=list(dict.fromkeys([*BUNDLED, *local_models()])),
                    default=next(iter(BUNDLED)),
                    tooltip="codi-mini comes with this pack. Put other models into folders of models/codi; official "
                    ".pth files are converted there when first used, which takes as much room again.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=[AUTO, *DTYPES],
                    default=AUTO,
                    tooltip="Number format of the weights. auto takes the fastest one for your device.",
                ),
                io.Combo.Input(
                    "alignment",
                    options=list(map(str, Alignment)),
                    default=str(Alignment.PAPER),
                    tooltip="How outputs made together influence one another. paper: each output sees the "
                    "others. released: each sees only itself, as in the published code. mutual: what is made is a "
                    "prompt for what is made after it, for weights that were not trained to agree. both: paper and "
                    "mutual; outputs agree best.",
                ),
            ],
            outputs=[CoDiModel.Output("model", tooltip="The model, for the nodes of this pack.")],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str | None) -> bool | str:
        """ComfyUI asks this before a run, in place of its own comparison with the list. A link comes as None."""
        if checkpoint is None or checkpoint in BUNDLED or checkpoint in local_models():
            return True
        return (
            f"wanted a model in {model_folders()[0] / checkpoint} ({INDEX_NAME} and its parts, or official .pth "
            "files), found none; put it there, fetch it with Download CoDi, or choose another checkpoint"
        )

    @classmethod
    def fingerprint_inputs(cls, checkpoint: str | None, dtype: str, alignment: str) -> list[tuple[str, int, int]]:
        """Changes with the files of the model, or of any model where a link will bring the name."""
        return [
            (str(file), file.stat().st_mtime_ns, file.stat().st_size)
            for name, folder in local_models().items()
            if checkpoint in (name, None)
            for file in sorted(file for kind in MODEL_FILES for file in folder.glob(kind))
        ]

    @classmethod
    def execute(cls, checkpoint: str, dtype: str, alignment: str) -> io.NodeOutput:
        folder = local_models().get(checkpoint)
        if folder is not None:
            convert_files_of(folder)
        pipeline = CoDiPipeline.from_pretrained(
            folder or checkpoint,
            dtype=default_dtype() if dtype == AUTO else DTYPES[dtype],
            device=device(),
            alignment=alignment,
        )
        pipeline.parts = share_memory(pipeline.parts)
        return io.NodeOutput(pipeline)
