"""What the official size costs on this machine: conversion, loading and one joint step, in seconds and main memory.

    python tests/benchmarks/full_size.py --manifests DIR --goldens DIR [--work DIR] [--dtype fp32] [--tokenizers DIR]

Makes synthetic checkpoint files under the official names (22 GB as fp32; those that are there already are kept),
converts them one by one, which takes as much room again, loads every part by itself, runs the joint step of the golden
case of full size, and encodes, denoises and decodes each modality. Every measurement is a process of its own, whose
peak memory the system tells.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from comfyui_codi.codi_core.checkpoints.conversion import convert
from comfyui_codi.codi_core.config import CoDiConfig
from comfyui_codi.codi_core.encoders import null_like
from comfyui_codi.codi_core.errors import CoDiError
from comfyui_codi.codi_core.geometry import latent_shape
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.models.joint import Alignment
from comfyui_codi.codi_core.parts import DTYPES, WEIGHTS_NAME, Parts
from comfyui_codi.codi_core.pipeline import CoDiPipeline
from comfyui_codi.codi_core.values import Condition, Latents, OutputSize

sys.path.insert(0, str(Path(__file__).parent.parent / "parity"))

from official_weights import synthetic_tensor

FILES = {
    "CoDi_audio_diffuser_m.pth": ["unet_audio"],
    "CoDi_encoders.pth": ["autokl", "audioldm", "optimus", "clip", "clap"],
    "CoDi_video_diffuser_8frames.pth": ["unet_image"],
    "CoDi_text_diffuser.pth": ["unet_text"],
}
"""The manifests whose names a published file holds."""
CASE = "full_joint_video_audio"
GIBIBYTE = 2**30


def make_file(path: Path, manifests: list[Path], seed: str) -> None:
    """A checkpoint of synthetic weights, moved to its place when it is whole."""
    shapes: dict[str, Any] = {}
    for manifest in manifests:
        shapes |= json.loads(manifest.read_text())["tensors"]
    made = {name: synthetic_tensor(name, tuple(entry["shape"]), seed) for name, entry in shapes.items()}
    unfinished = path.with_suffix(".part")
    torch.save({name: tensor for name, tensor in made.items() if tensor is not None}, unfinished)
    unfinished.replace(path)


def convert_file(source: Path, folder: Path, tokenizers: Path | None, dtype: str) -> None:
    convert([source], folder, dtype=DTYPES[dtype], tokenizers=tokenizers)


def load_one(folder: Path, part: str, dtype: str) -> int:
    """Load a part and read each of its weights once. Returns how many there are."""
    module = Parts(CoDiConfig.from_folder(folder), folder, DTYPES[dtype])[part]
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def joint_step(folder: Path, goldens: Path, dtype: str) -> dict[str, float]:
    """One step of video and audio by the converted model. Returns relative L2 errors against the golden."""
    facts = json.loads((goldens / f"{CASE}.json").read_text())
    tensors = load_file(goldens / f"{CASE}.safetensors")
    modalities = [Modality(name) for name in facts["call"]["xtype"]]
    pipeline = CoDiPipeline.from_pretrained(folder, dtype=DTYPES[dtype])
    latents = {modality: tensors[f"in.x_{modality}"] for modality in modalities}
    contexts = dict.fromkeys(modalities, tensors["in.cond_text"])
    errors = {}
    for alignment in (Alignment.PAPER, Alignment.RELEASED):
        noise = pipeline.denoiser(modalities, alignment)(latents, dict.fromkeys(latents, tensors["in.t"]), contexts)
        for modality, made in noise.items():
            golden = tensors[f"out.{alignment}_eps_{modality}"].double()
            errors[f"{alignment} {modality}"] = float((made.double() - golden).norm() / golden.norm())
    return errors


def encode_prompt(folder: Path, modality: Modality, dtype: str) -> None:
    """A prompt of the size that the encoder wants."""
    pipeline = CoDiPipeline.from_pretrained(folder, dtype=DTYPES[dtype])
    pipeline.encode("a thunderstorm" if modality is Modality.TEXT else null_like(pipeline.parts, modality))


def one_step(folder: Path, modality: Modality, dtype: str) -> None:
    """A step with guidance, at the size that the model makes by default."""
    pipeline = CoDiPipeline.from_pretrained(folder, dtype=DTYPES[dtype])
    width = pipeline.config.parts[pipeline.config.modalities[modality].diffuser]["context_width"]
    pipeline.sample(Condition(torch.randn(1, 1, width), torch.zeros(1, 1, width)), to=[modality], steps=1)


def decode_latent(folder: Path, modality: Modality, dtype: str) -> None:
    """A latent of the size that the model makes by default."""
    pipeline = CoDiPipeline.from_pretrained(folder, dtype=DTYPES[dtype])
    shape = latent_shape(pipeline.config, modality, OutputSize())
    pipeline.decode(Latents({modality: torch.randn(1, *shape)}), modality)


def _report(pipe: Any, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    before = time.perf_counter()
    try:
        result = call(*arguments)
    except CoDiError as error:  # a part may lack its vocabulary, for instance
        result = f"failed: {error}"
    seconds = time.perf_counter() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pipe.send({"seconds": seconds, "peak_bytes": peak, "result": result})


def measured(call: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Seconds and peak memory of a call in a fresh process, and what it returned."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(sender, call, arguments))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise SystemExit(f"{call.__name__}{arguments} ended without a result") from None
    finally:
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifests", type=Path, required=True)
    parser.add_argument("--goldens", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("output/full_size"))
    parser.add_argument("--tokenizers", type=Path)
    parser.add_argument("--dtype", default="fp32", choices=DTYPES, help="of the converted and of the loaded weights")
    options = parser.parse_args()
    seed = json.loads((options.goldens / f"{CASE}.json").read_text())["seed"]
    folder = options.work / options.dtype
    rows: dict[str, dict[str, Any]] = {}
    for name in FILES:
        source = options.work / name
        if not source.exists():
            options.work.mkdir(parents=True, exist_ok=True)
            make_file_arguments = (source, [options.manifests / f"{each}.json" for each in FILES[name]], seed)
            measured(make_file, *make_file_arguments)
        rows[f"convert {name}"] = measured(convert_file, source, folder, options.tokenizers, options.dtype)
    for part in CoDiConfig.from_folder(folder).parts:
        rows[f"load {part}"] = measured(load_one, folder, part, options.dtype)
        rows[f"load {part}"]["file_bytes"] = (folder / part / WEIGHTS_NAME).stat().st_size
    rows["joint step of video and audio"] = measured(joint_step, folder, options.goldens, options.dtype)
    for call in (encode_prompt, one_step, decode_latent):
        for modality in CoDiConfig.from_folder(folder).modalities:
            rows[f"{call.__name__} {modality}"] = measured(call, folder, modality, options.dtype)
    (options.work / f"full_size_{options.dtype}.json").write_text(json.dumps(rows, indent=2) + "\n")
    table = Table("what", "seconds", "peak GiB", "file GiB", "result", title=f"{options.dtype}, {os.cpu_count()} cores")
    for what, row in rows.items():
        size = f"{row['file_bytes'] / GIBIBYTE:.2f}" if "file_bytes" in row else ""
        table.add_row(
            what, f"{row['seconds']:.1f}", f"{row['peak_bytes'] / GIBIBYTE:.2f}", size, str(row["result"] or "")
        )
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
