"""The factors that prompts share, from samples with captions: at the end of stage `bridge`, in closed form.

Text is the bridge here too: kinds of prompts that never meet have in common what each has in common with texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..encoders.factors import KindFactors
from ..modality import Modality
from ..parts import PROMPT_FACTORS
from ..pipeline import CoDiPipeline
from .pairs import CHUNK, embed, null_embeddings
from .source import Source
from .workshop import Workshop

CAPTIONS = 24
"""Per sample. Their mean says what any of them says, also what few say."""
RIDGE = 0.01
NOISE_FLOOR = 0.0025
"""Both in units of the mean variance of embeddings along a direction: what is less is not told, but left over."""
HARDLY_TOLD = 0.4
"""Squared ratio of signal to noise below which a kind of prompts is taken to say nothing about a factor."""


@dataclass(frozen=True)
class Told:
    """Embeddings of matched samples. prompts: of one modality. captions: one per sample. meant: the mean of all
    captions of a sample. outputs: of texts as they are made."""

    prompts: Float[Tensor, "rows width"]
    captions: Float[Tensor, "rows width"]
    meant: Float[Tensor, "rows width"]
    outputs: Float[Tensor, "rows width"]


@torch.no_grad()
def gather(pipeline: CoDiPipeline, source: Source, modality: Modality, count: int, seed: int = 1) -> Told:
    """Samples of a modality with their captions."""
    generator, rows = torch.Generator().manual_seed(seed), []
    for start in range(0, count, CHUNK):
        chosen = range(start, min(start + CHUNK, count))
        wanted = {modality, Modality.TEXT}
        samples = source.samples(wanted, Modality.TEXT, chosen, generator, CAPTIONS, nameless=False)
        captions = torch.stack([embed(pipeline, each) for each in samples.captions])
        media, texts = (embed(pipeline, samples.media[each]) for each in (modality, Modality.TEXT))
        rows.append((media, captions[0], captions.mean(dim=0), texts))
    return Told(*(torch.cat(parts) for parts in zip(*rows, strict=True)))


def _variance(rows: Float[Tensor, "rows width"]) -> float:
    """The mean of all directions'."""
    return float(rows.var(dim=0).mean())


def root(covariance: Float[Tensor, "width width"], power: float) -> Float[Tensor, "width width"]:
    """Of a symmetric matrix, to this power."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors @ torch.diag(values**power) @ vectors.T


def regressed(rows: Float[Tensor, "rows width"], onto: Float[Tensor, "rows size"], ridge: float = 0.0) -> Tensor:
    """The matrix that makes the best of `onto`, both without their means, to foretell `rows`."""
    given = onto - onto.mean(dim=0)
    square = given.T @ given + ridge * len(rows) * torch.eye(given.shape[1])
    return torch.linalg.solve(square, given.T @ (rows - rows.mean(dim=0)))


def _floored(covariance: Float[Tensor, "width width"], variance: float) -> Float[Tensor, "width width"]:
    return covariance + NOISE_FLOOR * variance * torch.eye(len(covariance))


def directions(told: Mapping[Modality, Told], count: int) -> Float[Tensor, "width count"]:
    """Of what texts mean, `count` directions that foretell most of all other kinds of prompts; what texts mean has unit
    variance along each. Of prompts all directions count alike, softly or loudly as they are told."""
    meant = torch.cat([each.meant for each in told.values()])
    foretold = []
    for each in told.values():
        whitened = root(_floored(each.prompts.T.cov(), _variance(each.prompts)), -0.5)
        foretold.append(regressed(each.prompts, each.meant, RIDGE * _variance(meant)) @ whitened)
    covariance = _floored(meant.T.cov(), _variance(meant))
    chosen = torch.linalg.svd(root(covariance, 0.5) @ torch.cat(foretold, dim=1), full_matrices=False)[0]
    return root(covariance, -0.5) @ chosen[:, :count]


def kind_factors(
    modality: Modality,
    prompts: Float[Tensor, "rows width"],
    factors: Float[Tensor, "rows factors"],
    null: Float[Tensor, "width"],
    told: Float[Tensor, "rows width"] | None = None,
) -> KindFactors:
    """How prompts of a modality tell factors that are known. told: how diffusers are told them, if not as prompts do.

    With loadings L, noise N and the precision J = Lᵀ N⁻¹ L that a prompt gives the factors, they are read as
    J (J² + c²)⁻¹ Lᵀ N⁻¹ (prompt - mean), and J² (J² + c²)⁻¹ is what is reliable of them: nearly all of what is told
    well, and nearly nothing of what is told badly, where J⁻¹ alone would make much of noise.
    """
    loadings = regressed(prompts, factors).T
    left = prompts - prompts.mean(dim=0) - (factors - factors.mean(dim=0)) @ loadings.T
    noise = _floored(left.T.cov(), _variance(prompts))
    weighted = torch.linalg.solve(noise, loadings).T
    precision = weighted @ loadings
    gate = torch.linalg.inv(precision @ precision + HARDLY_TOLD**2 * torch.eye(len(precision)))
    reliability = precision @ precision @ gate
    return KindFactors(
        modality=modality,
        mean=prompts.mean(dim=0),
        reader=precision @ gate @ weighted,
        reliability=(reliability + reliability.T) / 2,
        base=(prompts if told is None else told).mean(dim=0),
        loadings=loadings if told is None else regressed(told, factors).T,
        null=null,
        emphasis=torch.eye(len(precision)),
    )


def fit(
    told: Mapping[Modality, Told], nulls: Mapping[Modality, Float[Tensor, "width"]], count: int
) -> list[KindFactors]:
    """The factors of texts and of all modalities that there are samples of."""
    along = directions(told, count)
    centre = torch.cat([each.meant for each in told.values()]).mean(dim=0)
    factors = [(each.meant - centre) @ along for each in told.values()]
    captions, outputs = (torch.cat([getattr(each, name) for each in told.values()]) for name in ("captions", "outputs"))
    text = Modality.TEXT
    return [
        kind_factors(text, captions, torch.cat(factors), nulls[text], outputs),
        *(
            kind_factors(modality, each.prompts, meant, nulls[modality])
            for (modality, each), meant in zip(told.items(), factors, strict=True)
        ),
    ]


def measure_factors(workshop: Workshop, rows: int) -> None:
    """Fit the factors of the encoders as they are now to `rows` samples of each kind, in models that have a part for
    them."""
    if PROMPT_FACTORS not in workshop.config.parts:
        return
    pipeline = CoDiPipeline(workshop.config, workshop)
    others = [modality for modality in Modality if modality is not Modality.TEXT]
    told = {
        modality: gather(pipeline, workshop.source, modality, rows)
        for modality in others
        if workshop.source.holds({modality, Modality.TEXT})
    }
    if told:
        part: Any = workshop[PROMPT_FACTORS]
        for kind in fit(told, null_embeddings(workshop), workshop.config.parts[PROMPT_FACTORS]["factors"]):
            part.put(kind)
        workshop.write(PROMPT_FACTORS)
