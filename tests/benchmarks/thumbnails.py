"""Draws the workflows' thumbnails from what they make, after every training.

    python tests/benchmarks/thumbnails.py [--url http://127.0.0.1:8188] [NAME …]

Each shows words, pictures, frames and the spectrogram of a sound, as far as they go in or come out. Workflows with
ComfyUI's own sampler need a running ComfyUI, at the url. Those of weights that are not here show the pack's icon.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import matplotlib as mpl
import numpy as np

from comfyui_codi.codi_core import media
from comfyui_codi.codi_core.media_files import SoundInfo, to_bytes
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.pipeline import BUNDLED
from comfyui_codi.codi_core.values import Waveform

mpl.use("agg")
from matplotlib import pyplot

WORKFLOWS = Path(__file__).parents[2] / "workflows"
ICON = WORKFLOWS.parent / "web/icon.png"
SIZE_PIXELS = (512, 288)
TILES = 8
COLUMNS = 4
LONGEST_TITLE = 60


def prompt_of(workflow: Path) -> dict[str, Any]:
    """The graph as it is sent."""
    return json.loads((workflow.parent / "api" / workflow.name).read_text(encoding="utf-8"))


def inputs_of(workflow: Path, kind: str) -> list[dict[str, Any]]:
    """Those of all its nodes of this kind."""
    return [node["inputs"] for node in prompt_of(workflow).values() if node["class_type"] == kind]


def made_on(url: str, workflow: Path, folder: Path) -> list[dict[str, Any]]:
    """What ComfyUI saves of a run, fetched into the folder."""
    prompt = json.dumps({"prompt": prompt_of(workflow)})
    sent = Request(f"{url}/prompt", prompt.encode(), {"Content-Type": "application/json"})
    number = json.load(urlopen(sent))["prompt_id"]
    while number not in (history := json.load(urlopen(f"{url}/history/{number}"))):
        time.sleep(1)
    if history[number]["status"]["status_str"] != "success":
        sys.exit(f"{workflow.stem} did not run to its end: {history[number]['status']}")
    rows = []
    for output in history[number]["outputs"].values():
        for file in (each for kind in ("images", "audio") for each in output.get(kind, [])):
            if file["type"] == "output":
                path = folder / file["filename"]
                path.write_bytes(urlopen(f"{url}/view?{urlencode(file)}").read())
                rows.append({"path": path})
    return rows


def made_by(workflow: Path, folder: Path) -> list[dict[str, Any]]:
    """A row for each file of a run."""
    command = ["codi", "run", str(workflow), "--output-dir", str(folder), "--json"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(answer)["files"]


def given_to(workflow: Path) -> tuple[str, list[Path]]:
    """The words of the graph, and the files it loads."""
    nodes = prompt_of(workflow).values()
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


def draw(workflow: Path, url: str | None) -> None:
    words, given = given_to(workflow)
    with tempfile.TemporaryDirectory() as scratch:
        if inputs_of(workflow, "LoadCoDi")[0]["checkpoint"] not in BUNDLED:
            made = [{"path": ICON}]
        elif inputs_of(workflow, "KSampler"):
            if url is None:
                sys.exit(f"{workflow.stem} has ComfyUI's own sampler: start ComfyUI, and name it by --url")
            made = made_on(url, workflow, Path(scratch))
        else:
            made = made_by(workflow, Path(scratch))
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
    parser.add_argument("--url", help="of a running ComfyUI")
    options = parser.parse_args()
    for name in options.names or sorted(path.stem for path in WORKFLOWS.glob("*.json")):
        draw(WORKFLOWS / f"{name}.json", options.url)


if __name__ == "__main__":
    main()
