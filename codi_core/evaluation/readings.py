"""What the fact reader found, and how to compare it with what was meant or with what another output shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..training.world import NONE, Fact

MOST_MOMENTS = 8
"""Columns for bounce moments; a reading with more keeps the first ones."""

ROWS_AT_ONCE = 64
"""Bounds the memory of a reading."""


@dataclass(frozen=True)
class ReadFacts:
    """Facts measured in a batch of outputs of one modality.

    categories: per fact that the modality carries, the index into world.VALUES, or NONE where nothing was found.
    confidence: for the same facts, 0 (a guess, or NONE) to 1.
    bounce_moments_s: MOST_MOMENTS of them in order, padded with NaN; only NaN where nothing bounces.
    """

    categories: Mapping[Fact, Int[Tensor, "batch"]]
    confidence: Mapping[Fact, Float[Tensor, "batch"]]
    bounce_moments_s: Float[Tensor, "batch moments"]


def concatenate(readings: Sequence[ReadFacts]) -> ReadFacts:
    """One reading of all rows, in order."""
    first = readings[0]
    return ReadFacts(
        categories={fact: torch.cat([part.categories[fact] for part in readings]) for fact in first.categories},
        confidence={fact: torch.cat([part.confidence[fact] for part in readings]) for fact in first.confidence},
        bounce_moments_s=torch.cat([part.bounce_moments_s for part in readings]),
    )


def matches(
    reading: ReadFacts,
    target: Mapping[Fact, Int[Tensor, "batch"]],
    stated: Mapping[Fact, Bool[Tensor, "batch"]] | None = None,
) -> dict[Fact, Float[Tensor, "batch"]]:
    """Per fact 1 where the reading equals the target, 0 where it differs or found nothing, NaN where unasked.

    target: categories of Facts, or of another reading. A fact is asked in the rows where `stated` says so (all,
    if left out) and the target is not NONE; facts that either side lacks are left out.
    """
    result = {}
    for fact, read in reading.categories.items():
        if fact in target:
            asked = target[fact] != NONE
            if stated is not None:
                asked &= stated[fact]
            result[fact] = (read == target[fact]).float().where(asked, torch.nan)
    return result


def agreement(
    reading: ReadFacts,
    target: Mapping[Fact, Int[Tensor, "batch"]],
    stated: Mapping[Fact, Bool[Tensor, "batch"]] | None = None,
) -> dict[Fact, float]:
    """Per fact the share of rows that match, see `matches`; NaN where no row asks for the fact."""
    return {fact: float(match.nanmean()) for fact, match in matches(reading, target, stated).items()}


def moments_apart_s(
    first: Float[Tensor, "batch moments"], second: Float[Tensor, "batch others"]
) -> Float[Tensor, "batch"]:
    """How far two rows of moments lie apart: the median, both ways, from a moment to the nearest of the other row.

    A median, since a bounce at the very end may well be found in one output only. Both are padded with NaN; the
    result is NaN where either row has no moment.
    """
    gaps = (first[:, :, None] - second[:, None, :]).abs()
    gaps = gaps.where(gaps.isfinite(), torch.inf)
    nearest = torch.cat([gaps.amin(dim=2), gaps.amin(dim=1)], dim=1)
    return nearest.where(nearest.isfinite(), torch.nan).nanmedian(dim=1).values
