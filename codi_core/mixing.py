"""Interpolation of prompts: many conditions become one context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from .errors import PromptError, choose
from .modality import Modality
from .values import Condition, Meaning

Rows = Float[Tensor, "batch tokens width"]


class MixMode(StrEnum):
    """How embeddings are interpolated.

    complementary: what prompts mean is mixed, in the factors that all kinds of them share, and each counts for what it
    tells: a picture doesn't halve the motion that a text asks for. Each diffuser is then told it in prompts of its own
    kind. Where a model doesn't know its factors, as the released weights don't, the same as linear.
    linear: the weighted mean, as CoDi does it; opposite prompts shorten it.
    norm_preserving: the weighted mean, scaled back to the weighted mean of the lengths.
    slerp: along the great circle through one prompt after the other; lengths are interpolated.
    composed: not at all; each prompt guides by itself, by its weight (Liu et al., Compositional Visual Generation with
    Composable Diffusion Models, 2022), so that what only one of them says is not lost among the others. Every prompt
    costs a branch of its own at every step.
    """

    COMPLEMENTARY = "complementary"
    LINEAR = "linear"
    NORM_PRESERVING = "norm_preserving"
    SLERP = "slerp"
    COMPOSED = "composed"


def _linear(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    return torch.stack([tensor * weight for tensor, weight in zip(tensors, weights, strict=True)]).sum(dim=0)


def _length(row: Rows) -> Tensor:
    return row.norm(dim=-1, keepdim=True)


def _norm_preserving(rows: Sequence[Rows], weights: Sequence[float]) -> Rows:
    mixed = _linear(rows, weights)
    wanted = _linear([_length(row) for row in rows], weights)
    return mixed * wanted / _length(mixed).clamp(min=torch.finfo(mixed.dtype).tiny)


def _slerp_pair(first: Rows, second: Rows, share: float) -> Rows:
    """The point at `share` of the way from first to second; nearly parallel or opposite pairs are mixed linearly."""
    lengths = _length(first), _length(second)
    directions = [row / length.clamp(min=1e-12) for row, length in zip((first, second), lengths, strict=True)]
    angle = torch.acos((directions[0] * directions[1]).sum(dim=-1, keepdim=True).clamp(-1, 1))
    sine = torch.sin(angle)
    arc = directions[0] * torch.sin((1 - share) * angle) + directions[1] * torch.sin(share * angle)
    length = lengths[0] * (1 - share) + lengths[1] * share
    straight = first * (1 - share) + second * share
    return torch.where(sine.abs() < 1e-4, straight, arc / sine * length)


def _slerp(rows: Sequence[Rows], weights: Sequence[float]) -> Rows:
    def step(mixed: tuple[Rows, float], term: tuple[Rows, float]) -> tuple[Rows, float]:
        total = mixed[1] + term[1]
        return _slerp_pair(mixed[0], term[0], term[1] / total), total

    weighted = [pair for pair in zip(rows, weights, strict=True) if pair[1] > 0]
    return reduce(step, weighted)[0]


_MIXERS: dict[MixMode, Callable[[Sequence[Rows], Sequence[float]], Rows]] = {
    MixMode.COMPLEMENTARY: _linear,
    MixMode.LINEAR: _linear,
    MixMode.NORM_PRESERVING: _norm_preserving,
    MixMode.SLERP: _slerp,
    MixMode.COMPOSED: _linear,
}


def relative_weights(weights: Sequence[float] | None, count: int) -> list[float]:
    """`count` weights that sum to 1; None weighs all alike.

    Raises PromptError if there is nothing to weigh, or if a weight is negative, not finite, or all are zero, or their
    number is another.
    """
    if count == 0:
        raise PromptError("wanted at least one prompt, got none; connect or give one")
    given = [1.0] * count if weights is None else list(weights)
    if len(given) != count:
        raise PromptError(f"wanted one weight for each of the {count} prompts, got {len(given)}: {given}")
    for weight in given:
        if not 0 <= weight < float("inf"):
            raise PromptError(f"a weight must be a number from 0 on, got {weight}; use 0 to leave a prompt out")
    total = sum(given)
    if total == 0:
        raise PromptError(f"all {count} weights are zero; raise at least one above 0")
    return [weight / total for weight in given]


def mix(
    conditions: Sequence[Condition], weights: Sequence[float] | None = None, mode: str = MixMode.COMPLEMENTARY
) -> Condition:
    """Interpolate prompts in the aligned space (CoDi paper, composable conditioning).

    Weights are relative: they are scaled to sum to 1. One condition keeps its embedding. The null prompts are mixed
    with the same weights. All modes but complementary leave the meaning behind: diffusers get the embedding as it is.
    Composed mixtures stay composed where they are composed with others; else they are mixed as linear ones. Conditions
    of batch 1 serve every row of larger ones. What fades goes on fading.
    Raises PromptError for unusable weights or unequal shapes, ConfigError for an unknown mode.
    Paper → here: C_m(x_m) → conditions[m].embedding, alpha_m → weights[m].
    """
    shares = relative_weights(weights, len(conditions))
    mixer = _MIXERS[choose("mode", mode, MixMode)]
    complementary = mode == MixMode.COMPLEMENTARY
    if len(conditions) == 1 and (complementary or conditions[0].meaning is None):
        return conditions[0]
    if any(condition.course for condition in conditions):
        return _over_a_run(lambda share: mix([condition.at(share) for condition in conditions], weights, mode))
    if len(conditions) == 1:
        return replace(conditions[0], meaning=None, null_meaning=None)
    shapes = [tuple(condition.embedding.shape) for condition in conditions]
    batch = max(shape[0] for shape in shapes)
    if any(shape[0] not in (1, batch) or shape[1:] != shapes[0][1:] for shape in shapes):
        raise PromptError(
            f"prompts can be mixed if their embeddings have one shape, or batch 1, got {shapes}; "
            "encode them all with the same model and the same number of pictures"
        )

    parts = [
        (embedding.expand(batch, -1, -1), weight * share)
        for condition, share in zip(conditions, shares, strict=True)
        for embedding, weight in condition.guides
        if share > 0
    ]
    understood = complementary and all(condition.meaning for condition in conditions)
    meant, avoided = (
        [(getattr(condition, name), share) for condition, share in zip(conditions, shares, strict=True)]
        for name in ("meaning", "null_meaning")
    )
    return Condition(
        mixer([condition.embedding.expand(batch, -1, -1) for condition in conditions], shares),
        mixer([condition.null.expand(batch, -1, -1) for condition in conditions], shares),
        parts=parts if mode == MixMode.COMPOSED else (),
        meaning=_mixed_if_known(meant, batch) if understood else None,
        null_meaning=_mixed_if_known(avoided, batch) if understood else None,
    )


def _mixed_if_known(weighted: Sequence[tuple[Meaning | None, float]], batch: int) -> Meaning | None:
    """Of those that there are: a prompt without a negative one has no say in what to stay away from."""
    meanings = [meaning for meaning, _ in weighted if meaning]
    weights = [weight for meaning, weight in weighted if meaning]
    return mixed_meaning(meanings, weights, batch) if meanings else None


def mixed_meaning(meanings: Sequence[Meaning], weights: Sequence[float], batch: int) -> Meaning:
    """The weighted mean of what at least one prompt says; those of batch 1 say it to every row."""
    besides: dict[Modality, Tensor] = {}
    for meaning, weight in zip(meanings, weights, strict=True):
        for kind, rows in meaning.besides.items():
            besides[kind] = besides.get(kind, 0.0) + weight * rows.expand(batch, -1, -1)
    return Meaning(
        _linear([meaning.evidence.expand(batch, -1, -1) for meaning in meanings], weights),
        _linear([meaning.reliability.expand(batch, -1, -1, -1) for meaning in meanings], weights),
        besides,
    )


def fade(
    first: Condition, second: Condition, *, start: float = 0.0, end: float = 1.0, mode: str = MixMode.COMPLEMENTARY
) -> Condition:
    """One prompt that turns into another while outputs are denoised: early steps decide on the whole, late ones on
    details.

    start, end: shares of the run, 0 to 1, between which it turns at an even pace; equal ones make a switch.
    Raises PromptError if they are not such shares in order, and whatever `mix` raises.
    """
    if not 0 <= start <= end <= 1:
        raise PromptError(
            f"a fade must start and end between 0 and 1 of the steps, in this order, got {start} to {end}"
        )

    def at(share: float) -> Condition:
        turned = min(1.0, max(0.0, (share - start) / (end - start))) if start < end else float(share >= end)
        return mix([first.at(share), second.at(share)], [1 - turned, turned], mode)

    return _over_a_run(at)


def _over_a_run(course: Callable[[float], Condition]) -> Condition:
    return replace(course(0.0), course=course)
