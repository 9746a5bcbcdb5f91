"""Draws what a model makes of some prompts, all four modalities of each made together, as one picture.

    python tests/benchmarks/sheet.py "a red ball bounces" … [--model codi-mini] [--alignment both] [--seed 0]
        [--output sheet.png]

One row per prompt: the picture, frames of the video, the spectrogram of the sound with the time of every bounce that is
seen, and the text. `--folder` keeps the outputs themselves as well.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch

from comfyui_codi.codi_core.evaluation.facts import read_video
from comfyui_codi.codi_core.generate import write_row
from comfyui_codi.codi_core.media_files import to_bytes
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.models.joint import Alignment
from comfyui_codi.codi_core.pipeline import CoDiPipeline
from comfyui_codi.codi_core.values import Media, rows_of

mpl.use("agg")
from matplotlib import pyplot

FRAMES = 8
WIDTHS = [2.2, 1, FRAMES, 2.2, 2.2]
INCHES = 0.85
"""Height of a row, and width of a frame."""


def draw_row(axes, prompt: str, made: dict[Modality, Media]) -> None:
    words, picture, strip, spectrogram, caption = axes
    for axis in axes:
        axis.set_axis_off()
    words.text(1, 0.5, prompt, ha="right", va="center", fontsize=8, wrap=True)
    picture.imshow(to_bytes(made[Modality.IMAGE].pixels[0]))
    frames = to_bytes(made[Modality.VIDEO].pixels[0])
    chosen = frames[np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)]
    strip.imshow(np.concatenate(list(chosen), axis=1))
    sound = made[Modality.AUDIO]
    samples = sound.samples[0, 0].numpy() + 1e-6 * np.random.default_rng(0).standard_normal(sound.samples.shape[-1])
    spectrogram.specgram(samples, NFFT=1024, noverlap=864, Fs=sound.sample_rate_hz, vmin=-120)
    spectrogram.set_ylim(0, 4000)
    for moment_s in read_video(made[Modality.VIDEO]).bounce_moments_s[0]:
        if torch.isfinite(moment_s):
            spectrogram.axvline(float(moment_s), color="white", linewidth=0.8, linestyle=":")
    caption.text(0, 0.5, f"“{made[Modality.TEXT]}”", va="center", fontsize=8, wrap=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", nargs="+", metavar="PROMPT")
    parser.add_argument("--model", default="codi-mini")
    parser.add_argument("--alignment", default=str(Alignment.BOTH), choices=list(map(str, Alignment)))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("output/sheet.png"))
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    pipeline = CoDiPipeline.from_pretrained(options.model, alignment=options.alignment)
    latents = pipeline.sample(pipeline.encode(options.prompts), to=list(Modality), seed=options.seed)
    made = {modality: rows_of(pipeline.decode(latents, modality)) for modality in Modality}
    rows = len(options.prompts)
    size = (INCHES * sum(WIDTHS), INCHES * rows * 1.1)
    figure, axes = pyplot.subplots(rows, len(WIDTHS), figsize=size, width_ratios=WIDTHS, squeeze=False)
    for row, prompt in enumerate(options.prompts):
        values = {modality: each[row] for modality, each in made.items()}
        draw_row(axes[row], prompt, values)
        print(f"{prompt!r} -> {values[Modality.TEXT]!r}")
        if options.folder is not None:
            write_row(values, options.folder / f"{row:02}")
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.99, 0.03, 0.08)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=120)


if __name__ == "__main__":
    main()
