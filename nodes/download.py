"""Fetching a model, when it is asked for."""

from __future__ import annotations

from pathlib import Path

from ..codi_core.checkpoints.download import OFFICIAL_REPOSITORY, download
from ..codi_core.errors import CheckpointError
from .host import ProgressBar, io, model_folders, schema, throw_if_interrupted, ui


class DownloadCoDi(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DownloadCoDi",
            display_name="Download CoDi",
            description="Fetches a model from the Hugging Face hub into models/codi, where Load CoDi finds it. Nothing "
            "else in this pack ever downloads weights. A download that was stopped goes on where it was.",
            inputs=[
                io.String.Input(
                    "repository",
                    default=OFFICIAL_REPOSITORY,
                    tooltip="Where the model lies on the hub, as owner/name: a model folder, or official .pth files.",
                ),
                io.String.Input(
                    "files",
                    default="*",
                    tooltip="Which of its files to take, as a pattern such as checkpoints_fp16/*.",
                ),
                io.String.Input(
                    "name",
                    default="official",
                    tooltip="What the folder in models/codi is called, and so the checkpoint.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, repository: str, files: str, name: str) -> list[str]:
        """Changes with what lies in the folder, so that what was removed is fetched again."""
        return sorted(str(file) for file in _folder(name).glob("**/*"))

    @classmethod
    def execute(cls, repository: str, files: str, name: str) -> io.NodeOutput:
        progress = ProgressBar(1)

        def show(file: str, here: int, total: int) -> None:
            throw_if_interrupted()
            progress.update_absolute(here, total)

        folder = _folder(name)
        fetched = download(repository, folder, files=files, on_bytes=show)
        listed = "\n".join(str(file.relative_to(folder)) for file in fetched)
        return io.NodeOutput(ui=ui.PreviewText(f"{folder}\n{listed}\nPress R, then choose {name} in Load CoDi."))


def _folder(name: str) -> Path:
    # Windows passes over dots and spaces at the end of a name.
    if not name.strip(" .") or Path(name).name != name:
        raise CheckpointError(f"wanted the name of one folder, got {name!r}; choose letters, and no slashes")
    return model_folders()[0] / name
