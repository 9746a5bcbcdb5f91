"""Do codi-mini's pictures and sounds show what held-out prompts ask for? By the classical fact reader, with a sheet.

    python tests/benchmarks/prompt_check.py [--count 10] [--output-dir DIR] [--model codi-mini]

Prompts combine shapes, colours and motions that never occurred together in training. Prints one line per prompt and
writes prompt_check.json, the pictures as one sheet and the sounds with their spectrograms.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib as mpl
import torch

from comfyui_codi.codi_core import media
from comfyui_codi.codi_core.evaluation.facts import READERS, matches
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.pipeline import CoDiPipeline
from comfyui_codi.codi_core.training.captions import phrase
from comfyui_codi.codi_core.training.world import VALUES, Fact, Split, World
from comfyui_codi.codi_core.values import Waveform

mpl.use("agg")
from matplotlib import pyplot

ASKED = {Modality.IMAGE: (Fact.SHAPE, Fact.COLOUR), Modality.AUDIO: (Fact.COLOUR,)}


def held_out_prompts(modality: Modality, count: int, seed: int) -> tuple[list[str], dict[Fact, torch.Tensor]]:
    """Captions of held-out combinations that state what is asked of this modality, and their facts."""
    generator = torch.Generator().manual_seed(seed)
    facts = World(Split.HELD_OUT).draw(count, generator)
    stated = {fact: torch.full_like(facts.bounces, fact in ASKED[modality]) for fact in Fact}
    return phrase(facts, stated, generator), facts.categories


def check(pipeline: CoDiPipeline, modality: Modality, count: int, seed: int) -> tuple[list[dict], list]:
    """Per prompt what was asked, what was read and whether it is right; and the outputs."""
    prompts, wanted = held_out_prompts(modality, count, seed)
    made = [pipeline([text], [modality], seed=seed + row)[modality] for row, text in enumerate(prompts)]
    rows = []
    for row, (text, output) in enumerate(zip(prompts, made, strict=True)):
        reading = READERS[modality](output)
        asked = {fact: wanted[fact][row : row + 1] for fact in ASKED[modality]}
        right = {str(fact): bool(match == 1) for fact, match in matches(reading, asked).items()}
        read = {str(fact): _name(fact, int(reading.categories[fact][0])) for fact in asked}
        rows.append({"prompt": text, "read": read, "right": right, "all_right": all(right.values())})
        print(f"{modality}: {'right' if all(right.values()) else 'WRONG'}  {text!r} -> {read}")
    return rows, made


def _name(fact: Fact, category: int) -> str:
    return str(VALUES[fact][category]) if category >= 0 else "none"


def picture_sheet(pictures: list, rows: list[dict], path: Path) -> None:
    columns = 5
    figure, axes = pyplot.subplots(-(-len(rows) // columns), columns, figsize=(12, 2.9 * -(-len(rows) // columns)))
    for axis, picture, row in zip(axes.flat, pictures, rows, strict=False):
        axis.imshow((picture.pixels[0].permute(1, 2, 0) + 1) / 2)
        axis.set_title(row["prompt"], fontsize=7, color="green" if row["all_right"] else "red", wrap=True)
    _finish(figure, axes, path)


def spectrogram_sheet(sounds: list[Waveform], rows: list[dict], path: Path) -> None:
    columns = 5
    figure, axes = pyplot.subplots(-(-len(rows) // columns), columns, figsize=(14, 2.9 * -(-len(rows) // columns)))
    for axis, sound, row in zip(axes.flat, sounds, rows, strict=False):
        axis.specgram(sound.samples[0, 0].numpy() + 1e-7, NFFT=1024, noverlap=864, Fs=sound.sample_rate_hz)
        axis.set_ylim(0, 4000)
        axis.set_title(row["prompt"], fontsize=7, color="green" if row["all_right"] else "red", wrap=True)
    _finish(figure, axes, path)


def _finish(figure, axes, path: Path) -> None:
    for axis in axes.flat:
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="codi-mini")
    parser.add_argument("--output-dir", type=Path, default=Path("output/prompt_check"))
    options = parser.parse_args()
    options.output_dir.mkdir(parents=True, exist_ok=True)
    pipeline = CoDiPipeline.from_pretrained(options.model)
    sheets = {Modality.IMAGE: picture_sheet, Modality.AUDIO: spectrogram_sheet}
    report = {}
    for modality, sheet in sheets.items():
        rows, made = check(pipeline, modality, options.count, options.seed)
        sheet(made, rows, options.output_dir / f"{modality}.png")
        report[str(modality)] = {"right": sum(row["all_right"] for row in rows), "of": len(rows), "prompts": rows}
        print(f"{modality}: {report[str(modality)]['right']} of {len(rows)} right")
        for index, output in enumerate(made):
            if isinstance(output, Waveform):
                media.write(output, options.output_dir / f"{modality}_{index:02}.flac")
    (options.output_dir / "prompt_check.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
