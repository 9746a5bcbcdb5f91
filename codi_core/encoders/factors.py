"""What prompts of different kinds tell in common: a few factors, read from a prompt of one kind and told as another.

Prompts of each modality lie in a cone of their own and say the same things along slightly different directions (Liang
et al., Mind the Gap, 2022). Averaged as they are, what one kind cannot tell is halved, and what it says aside drowns
what another says softly. In the factors that all of them share (Tucker, An Inter-Battery Method of Factor Analysis,
1958) each counts for what it tells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..modality import Modality
from ..values import Meaning

KINDS = tuple(Modality)
HARDLY_RELIABLE = 0.1
"""How reliable a factor must be told for half of it to be heard. Below, what is read is mostly errors of reading."""

NEARLY_NULL = 0.01
"""How far from the null prompt a prompt may lie, of the length of both, that says nothing either: precisions differ."""


def products(factors: Float[Tensor, "*batch factors"]) -> Float[Tensor, "*batch products"]:
    """Of every two of them, and of each with itself."""
    first, second = torch.triu_indices(factors.shape[-1], factors.shape[-1])
    return factors[..., first] * factors[..., second]


def symmetric(values: Float[Tensor, "*batch products"]) -> Float[Tensor, "*batch factors factors"]:
    """The symmetric matrix with these in its upper triangle, row by row."""
    size = math.isqrt(2 * values.shape[-1])
    first, second = torch.triu_indices(size, size)
    matrix = values.new_zeros(*values.shape[:-1], size, size)
    matrix[..., first, second] = values
    matrix[..., second, first] = values
    return matrix


def within(matrix: Float[Tensor, "*batch size size"], least: float, most: float) -> Float[Tensor, "*batch size size"]:
    """The symmetric matrix with its eigenvalues brought into this range."""
    # Beside the CPU only CUDA devices are sure to have it, and such matrices are small.
    values, vectors = torch.linalg.eigh(matrix.cpu())
    return (vectors @ torch.diag_embed(values.clamp(least, most)) @ vectors.mT).to(matrix)


@dataclass(frozen=True)
class KindFactors:
    """How prompts of one modality tell the factors.

    modality: theirs. mean, reader: a prompt says reader · (prompt - mean). reliability, assurance: how far that can be
    relied upon, see Meaning: reliability + assurance · `products` of what it says, within 0 and 1. What a caption
    leaves out reads as next to nothing and isn't relied upon; pictures leave nothing out, and their assurance is 0.
    base, loadings: what says `factors` is base + loadings · factors; base is the mean but of texts, of which prompts
    leave out what outputs say. null: the prompt that says nothing. emphasis: diffusers are told emphasis · factors,
    since what takes little room in a prompt is heeded too little.
    """

    modality: Modality
    mean: Float[Tensor, "width"]
    reader: Float[Tensor, "factors width"]
    reliability: Float[Tensor, "factors factors"]
    base: Float[Tensor, "width"]
    loadings: Float[Tensor, "width factors"]
    null: Float[Tensor, "width"]
    emphasis: Float[Tensor, "factors factors"]
    assurance: Float[Tensor, "products products"]

    def meaning(self, embedding: Float[Tensor, "batch tokens width"]) -> Meaning:
        """What a prompt of this kind says; the null prompt nothing, though the reader reads something."""
        silent = (embedding - self.null).norm(dim=-1, keepdim=True) < NEARLY_NULL * self.null.norm()
        said = ((embedding - self.mean) @ self.reader.T).masked_fill(silent, 0.0)
        reliability = within(self.reliability + symmetric(products(said) @ self.assurance.T), 0.0, 1.0)
        reliability = reliability.masked_fill(silent[..., None], 0.0)
        # Of what can be relied upon nothing is taken away: it was read that much softer already.
        doubtful = reliability + HARDLY_RELIABLE * torch.eye(reliability.shape[-1]).to(reliability)
        heard = (1 + HARDLY_RELIABLE) * torch.linalg.solve(doubtful, reliability @ said[..., None])
        meaning = Meaning(heard[..., 0], reliability)
        return replace(meaning, besides={self.modality: embedding - self.saying(meaning.factors)})

    def told(self, meaning: Meaning) -> Float[Tensor, "batch tokens width"]:
        """The prompt of this kind that says the same, with emphasis; the null prompt where nothing is said. Of a prompt
        of this kind it is that prompt, with emphasis."""
        told = self.saying(meaning.factors @ self.emphasis.T) + meaning.besides.get(self.modality, 0.0)
        says_something = meaning.reliability.flatten(-2).any(dim=-1, keepdim=True)
        return told.where(says_something, self.null)

    def saying(self, factors: Float[Tensor, "*batch factors"]) -> Float[Tensor, "*batch width"]:
        """The prompt of this kind that says these, without emphasis."""
        return self.base + factors @ self.loadings.T


TABLES = [field.name for field in fields(KindFactors) if field.name != "modality"]


class PromptFactors(nn.Module):
    """The factors of a model's prompts; fitted in closed form (training/factors.py, training/emphasis.py), not by
    gradients."""

    def __init__(self, width: int, factors: int):
        super().__init__()

        def table(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(len(KINDS), *shape), requires_grad=False)

        self.mean, self.base, self.null = table(width), table(width), table(width)
        self.reader, self.loadings = table(factors, width), table(width, factors)
        self.reliability, self.emphasis = table(factors, factors), table(factors, factors)
        self.assurance = table(factors * (factors + 1) // 2, factors * (factors + 1) // 2)

    def put(self, kind: KindFactors) -> None:
        """Take this for how its modality tells the factors."""
        for name in TABLES:
            getattr(self, name)[KINDS.index(kind.modality)] = getattr(kind, name)

    def forward(self, modality: Modality) -> KindFactors | None:
        """None if it isn't known of this modality. A call, since weights may be fetched for one."""
        rows = {name: getattr(self, name)[KINDS.index(modality)].float() for name in TABLES}
        return KindFactors(modality, **rows) if rows["loadings"].any() else None
