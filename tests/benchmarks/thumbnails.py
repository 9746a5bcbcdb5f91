"""Draws the workflows' thumbnails from what they make, after every training.

    python tests/benchmarks/thumbnails.py [--seed 0]

Each shows the prompt in words, the picture prompt or picture made, frames of the video and the sound's spectrogram.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np

from comfyui_codi.codi_core import media
from comfyui_codi.codi_core.media_files import to_bytes
from comfyui_codi.codi_core.modality import Modality

mpl.use("agg")
from matplotlib import pyplot

WORKFLOWS = Path(__file__).parents[2] / "workflows"
SIZE_PIXELS = (512, 288)
TILES = 8
COLUMNS = 4


def made_by(workflow: Path, seed: int, folder: Path) -> list[Path]:
    command = ["codi", "run", str(workflow), "--seed", str(seed), "--output-dir", str(folder), "--json"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [Path(row["path"]) for row in json.loads(answer)["files"]]


def words_of(workflow: Path) -> str:
    """The prompt of the graph."""
    nodes = json.loads((workflow.parent / "api" / workflow.name).read_text(encoding="utf-8")).values()
    prompts = [node["inputs"].get("prompt") for node in nodes if node["class_type"] == "EncodeModality"]
    return next((prompt for prompt in prompts if isinstance(prompt, str) and prompt), "")


def pictures_of(workflow: Path, files: list[Path]) -> list[np.ndarray]:
    """The picture that goes in or comes out, then frames at even distances."""
    nodes = json.loads((workflow.parent / "api" / workflow.name).read_text(encoding="utf-8")).values()
    given = [WORKFLOWS / "inputs" / node["inputs"]["image"] for node in nodes if node["class_type"] == "LoadImage"]
    stills = [path for path in [*given, *files] if media.modality_by_name(path) is Modality.IMAGE]
    pictures = [to_bytes(media.read(path, Modality.IMAGE).pixels[0]) for path in stills]
    for path in files:
        if media.modality_by_name(path) is Modality.VIDEO:
            frames = to_bytes(media.read(path, Modality.VIDEO).pixels[0])
            chosen = np.linspace(0, len(frames) - 1, TILES - 1 - len(pictures)).round().astype(int)
            pictures += list(frames[chosen])
    return pictures


def draw(workflow: Path, seed: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        files = made_by(workflow, seed, Path(scratch))
        figure, axes = pyplot.subplots(
            -(-TILES // COLUMNS), COLUMNS, figsize=(SIZE_PIXELS[0] / 100, SIZE_PIXELS[1] / 100), facecolor="#202020"
        )
        for axis, picture in zip(axes.flat, pictures_of(workflow, files), strict=False):
            axis.imshow(picture, interpolation="bicubic")
        heard = next(path for path in files if media.modality_by_name(path) in (Modality.VIDEO, Modality.AUDIO))
        sound = media.read(heard, Modality.AUDIO)
        samples = sound.samples[0, 0].numpy() + 1e-6 * np.random.default_rng(0).standard_normal(sound.samples.shape[-1])
        axes.flat[-1].specgram(samples, NFFT=1024, noverlap=864, Fs=sound.sample_rate_hz, vmin=-120)
        axes.flat[-1].set_ylim(0, 4000)
        axes.flat[-1].set_box_aspect(1)
        for axis in axes.flat:
            axis.set_axis_off()
        figure.suptitle(words_of(workflow), color="white", fontsize=11, y=0.99)
        figure.subplots_adjust(0.02, 0.02, 0.98, 0.9, 0.04, 0.04)
        figure.savefig(workflow.with_suffix(".jpg"), dpi=100)
        pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for workflow in sorted(WORKFLOWS.glob("*.json")):
        draw(workflow, options.seed)


if __name__ == "__main__":
    main()
