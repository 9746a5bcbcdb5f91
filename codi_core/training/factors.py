"""The factors that prompts share, from samples with captions: at the end of stage `bridge`, in closed form.

Text is the bridge here too: kinds of prompts that never meet have in common what each has in common with texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..encoders.factors import KindFactors, products, symmetric, within
from ..modality import Modality
from ..parts import PROMPT_FACTORS
from ..pipeline import CoDiPipeline
from .pairs import CHUNK, embed, null_embeddings
from .source import Source
from .workshop import Workshop

CAPTIONS = 24
"""Per sample. Their mean says what any of them says, also what few say."""
ROUNDS = 4
"""In which it is found how to read captions, and how far each can then be relied upon."""
LEAST_DOUBT = 0.05
"""Variance of what a caption leaves uncertain of a factor, at least, while it is found how to read them."""
RIDGE = 0.01
NOISE_FLOOR = 0.0025
"""Both in units of the mean variance of embeddings along a direction: what is less is not told, but left over."""
HARDLY_TOLD = 0.4
"""Squared ratio of signal to noise below which a kind of prompts is taken to say nothing about a factor."""


@dataclass(frozen=True)
class Told:
    """Embeddings of matched samples. prompts: of one modality. captions: several of each sample. outputs: of texts as
    they are made."""

    prompts: Float[Tensor, "rows width"]
    captions: Float[Tensor, "rows captions width"]
    outputs: Float[Tensor, "rows width"]

    @property
    def meant(self) -> Float[Tensor, "rows width"]:
        """What the captions of a sample say together."""
        return self.captions.mean(dim=1)


@torch.no_grad()
def gather(
    pipeline: CoDiPipeline, source: Source, modality: Modality, count: int, captions_each: int = CAPTIONS
) -> Told:
    """Samples of a modality with their captions."""
    generator, rows = torch.Generator().manual_seed(1), []
    for start in range(0, count, CHUNK):
        chosen = range(start, min(start + CHUNK, count))
        wanted = {modality, Modality.TEXT}
        samples = source.samples(wanted, Modality.TEXT, chosen, generator, captions_each, nameless=False)
        captions = torch.stack([embed(pipeline, each) for each in samples.captions], dim=1)
        media, texts = (embed(pipeline, samples.media[each]) for each in (modality, Modality.TEXT))
        rows.append((media, captions, texts))
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
) -> KindFactors:
    """How prompts of a modality tell factors that are known.

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
        base=prompts.mean(dim=0),
        loadings=loadings,
        null=null,
        emphasis=torch.eye(len(precision)),
        assurance=torch.zeros(2 * [len(precision) * (len(precision) + 1) // 2]),
    )


def assured(
    kind: KindFactors, prompts: Float[Tensor, "rows width"], factors: Float[Tensor, "rows factors"]
) -> KindFactors:
    """The same of a kind whose prompts leave things out: how far each can be relied upon, by what it says.

    The covariance of errors is taken for linear in the products of what is read, and reading is fitted anew with each
    prompt weighing by its precision: what some leave out had been read too loudly from those that say it.
    """
    read = (prompts - kind.mean) @ kind.reader.T
    one = torch.eye(factors.shape[1])
    turn, size = one, len(one)

    def doubts(said: Tensor) -> tuple[Tensor, Tensor]:
        given, errors = products(said), products(factors - said)
        slopes = regressed(errors, given, RIDGE)
        return errors.mean(dim=0) - given.mean(dim=0) @ slopes, slopes

    for _ in range(ROUNDS):
        said = read @ turn.T
        least, slopes = doubts(said)
        doubt = within(symmetric(least + products(said) @ slopes), LEAST_DOUBT, 1.0)
        precision = torch.linalg.inv(doubt)
        # Of precision · (factors - turn · read) · readᵀ, summed over all prompts, nothing shall be left.
        squares = (read[:, :, None] * read[:, None]).flatten(1)
        left = (precision.flatten(1).T @ squares).view(size, size, size, size).transpose(1, 2).reshape(2 * [size**2])
        right = ((precision @ factors[..., None]) * read[:, None]).sum(dim=0).flatten()
        held = RIDGE * len(read) * torch.eye(len(left))
        turn = torch.linalg.solve(left + held, right + held @ turn.flatten()).view_as(turn)
    least, slopes = doubts(read @ turn.T)
    return replace(
        kind, reader=turn @ kind.reader, reliability=one - symmetric(least), assurance=-slopes.T.contiguous()
    )


def fit(
    told: Mapping[Modality, Told], nulls: Mapping[Modality, Float[Tensor, "width"]], count: int
) -> list[KindFactors]:
    """The factors of texts and of all modalities that there are samples of."""
    along = directions(told, count)
    centre = torch.cat([each.meant for each in told.values()]).mean(dim=0)
    factors = [(each.meant - centre) @ along for each in told.values()]
    captions = torch.cat([each.captions.flatten(0, 1) for each in told.values()])
    outputs, text = torch.cat([each.outputs for each in told.values()]), Modality.TEXT
    behind = torch.cat(factors).repeat_interleave(len(captions) // len(outputs), dim=0)
    words = assured(kind_factors(text, captions, behind, nulls[text]), captions, behind)
    return [
        # Texts that are made say all there is to say, and are told so.
        replace(words, base=outputs.mean(dim=0), loadings=regressed(outputs, torch.cat(factors)).T),
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
