"""Draws the workflows' thumbnails from what they make, after every training.

    python tests/benchmarks/thumbnails.py [--seed 0] [NAME …]

Each shows words, pictures, frames and the spectrogram of a sound, as far as they go in or come out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from comfyui_codi.codi_core import media
from comfyui_codi.codi_core.media_files import SoundInfo, to_bytes
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.values import Waveform

mpl.use("agg")
from matplotlib import pyplot

WORKFLOWS = Path(__file__).parents[2] / "workflows"
SIZE_PIXELS = (512, 288)
TILES = 8
COLUMNS = 4
LONGEST_TITLE = 60


def made_by(workflow: Path, seed: int, folder: Path) -> list[dict[str, Any]]:
    """A row for each file of a run."""
    command = ["codi", "run", str(workflow), "--seed", str(seed), "--output-dir", str(folder), "--json"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(answer)["files"]


def given_to(workflow: Path) -> tuple[str, list[Path]]:
    """The words of the graph, and the files it loads."""
    nodes = json.loads((workflow.parent / "api" / workflow.name).read_text(encoding="utf-8")).values()
    prompts = [node["inputs"].get("prompt") for node in nodes if node["class_type"] == "EncodeModality"]
    words = " → ".join(prompt for prompt in prompts if isinstance(prompt, str) and prompt)
    names = [each for node in nodes if node["class_type"].startswith("Load") for each in node["inputs"].values()]
    places = [WORKFLOWS / "inputs" / name for name in names if isinstance(name, str) and "." in name]
    return words, places


def pictures_of(files: list[Path]) -> list[np.ndarray]:
    """Pictures, then frames of videos at even distances."""
    stills = [path for path in files if media.modality_by_name(path) is Modality.IMAGE]
    films = [path for path in files if media.modality_by_name(path) is Modality.VIDEO]
    pictures = [to_bytes(media.read(path, Modality.IMAGE).pixels[0]) for path in stills]
    room = (TILES - 1 - len(pictures)) // max(1, len(films))
    for path in films:
        frames = to_bytes(media.read(path, Modality.VIDEO).pixels[0])
        pictures += list(frames[np.linspace(0, len(frames) - 1, room).round().astype(int)])
    return pictures


def sound_of(files: list[Path]) -> Waveform | None:
    """The first sound there is, in a video or by itself."""
    for path in files:
        streams = media.probe(path).streams
        if any(isinstance(stream, SoundInfo) for stream in streams):
            return media.read(path, Modality.AUDIO)
    return None


def draw(workflow: Path, seed: int) -> None:
    words, given = given_to(workflow)
    with tempfile.TemporaryDirectory() as scratch:
        made = made_by(workflow, seed, Path(scratch))
        told = " ".join(row["text"] for row in made if row.get("text"))
        written = [Path(row["path"]) for row in made if not row.get("text")]
        stills = [path for path in given if media.modality_by_name(path) is Modality.IMAGE]
        films = [path for path in written if media.modality_by_name(path) is Modality.VIDEO]
        pictures = pictures_of([*stills, *written] if films or stills else [*given, *written])
        sound = sound_of([*written, *given])
    used = len(pictures) + (sound is not None)
    columns = min(COLUMNS, max(1, used))
    figure, axes = pyplot.subplots(
        -(-max(1, used) // columns),
        columns,
        figsize=(SIZE_PIXELS[0] / 100, SIZE_PIXELS[1] / 100),
        facecolor="#202020",
        squeeze=False,
    )
    for axis, picture in zip(axes.flat, pictures, strict=False):
        axis.imshow(picture, interpolation="bicubic")
    if sound is not None:
        samples = sound.samples[0, 0].numpy() + 1e-6 * np.random.default_rng(0).standard_normal(sound.samples.shape[-1])
        axis = axes.flat[used - 1]
        axis.specgram(samples, NFFT=1024, noverlap=864, Fs=sound.sample_rate_hz, vmin=-120)
        axis.set_ylim(0, 4000)
        axis.set_box_aspect(1)
    for axis in axes.flat:
        axis.set_axis_off()
    title = " \N{RIGHTWARDS ARROW} ".join(each for each in (words, told) if each)
    figure.suptitle(textwrap.shorten(title, LONGEST_TITLE, placeholder=" …"), color="white", fontsize=11, y=0.99)
    figure.subplots_adjust(0.02, 0.02, 0.98, 0.9, 0.04, 0.04)
    figure.savefig(workflow.with_suffix(".jpg"), dpi=100)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all of them where none is named")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in options.names or sorted(path.stem for path in WORKFLOWS.glob("*.json")):
        draw(WORKFLOWS / f"{name}.json", options.seed)


if __name__ == "__main__":
    main()
