"""Matched samples, and what frozen networks make of them, computed once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from .. import encoders
from ..decoders import build_codec
from ..modality import Modality
from ..pipeline import CoDiPipeline
from ..values import Media
from .loop import written_whole
from .source import Source

CHUNK = 64


def embed(pipeline: CoDiPipeline, media: Media) -> Float[Tensor, "batch width"]:
    """The prompt embeddings of a batch of media."""
    return encoders.encode(pipeline.parts, media)[:, 0].float()


def null_embeddings(parts: Mapping[str, Any]) -> dict[Modality, Float[Tensor, "width"]]:
    """Per modality the embedding of an empty prompt."""
    return {modality: encoders.encode_null(parts, modality)[0, 0] for modality in Modality}


Columns = dict[str, Tensor]
"""Columns of a table of samples, all with as many rows."""


@torch.no_grad()
def make_table(
    pipeline: CoDiPipeline,
    source: Source,
    latents_of: Iterable[Modality],
    prompts_of: Iterable[Modality],
    sayable: Modality,
    count: int,
    seed: int,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> Columns:
    """Latents (`latent_<modality>`) and prompt embeddings (`prompt_<modality>`) of matched samples.

    Prompts in words come as CAPTIONS_PER_SAMPLE captions that say different things about the same facts. sayable: the
    modality whose facts captions may speak of. on_rows: is told how many rows there are, as they grow.
    """
    generator = torch.Generator().manual_seed(seed)
    rows: dict[str, list[Tensor]] = {}
    wanted = set(latents_of) | set(prompts_of)
    for start in range(0, count, CHUNK):
        samples = source.samples(wanted, sayable, range(start, min(start + CHUNK, count)), generator)
        for modality in latents_of:
            latent = build_codec(modality, pipeline.parts, pipeline.config).encode(samples.media[modality])
            rows.setdefault(f"latent_{modality}", []).append(latent.half())
        for modality in prompts_of:
            embedding = (
                torch.stack([embed(pipeline, each) for each in samples.captions], dim=1)
                if modality is Modality.TEXT
                else embed(pipeline, samples.media[modality])[:, None]
            )
            rows.setdefault(f"prompt_{modality}", []).append(embedding.half())
        on_rows(min(start + CHUNK, count))
    return {name: torch.cat(chunks).contiguous() for name, chunks in rows.items()}


def kept(path: Path, make: Callable[[], Columns]) -> Columns:
    """The table in this file; made and written first where it is missing. Raises TrainingError if it cannot be."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = make()
        with written_whole(path) as scratch:
            save_file(columns, scratch)
    return load_file(path)


def fingerprint(parts: Mapping[str, Any], names: Iterable[str]) -> str:
    """A short digest of some parts' weights, so that a table made with older weights is not taken for a new one."""
    digest = hashlib.sha256()
    for name in sorted(names):
        for tensor in parts[name].state_dict().values():
            digest.update(tensor.float().sum().numpy().tobytes())
    return digest.hexdigest()[:12]
