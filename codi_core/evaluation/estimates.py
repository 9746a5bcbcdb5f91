"""Means with the interval in which the true one lies, at 95 % confidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

DEVIATIONS = 1.96
"""Of the normal distribution, for 95 %."""
RESAMPLINGS = 2000


@dataclass(frozen=True)
class Estimate:
    """count: of the observations; without any, the mean and both bounds are NaN."""

    mean: float
    low: float
    high: float
    count: int


def share(right: int, asked: int) -> Estimate:
    """The share of right answers, with Wilson's score interval, which holds for few answers and near 0 and 1 too."""
    return _wilson(right, asked, float(asked))


def share_of_groups(right: Sequence[int], asked: Sequence[int]) -> Estimate:
    """The share of right answers where those of a group hang together, such as all about one row of facts.

    Wilson's interval, of as many answers as would scatter alike if they were independent (Korn and Graubard, Confidence
    Intervals for Proportions with Small Expected Number of Positive Counts Estimated from Survey Data, 1998). Where all
    are right, or none, groups count as one answer each.
    """
    total, groups = sum(asked), [pair for pair in zip(right, asked, strict=True) if pair[1]]
    found = sum(right) / total if total else 0.0
    if len(groups) < 2 or found in (0.0, 1.0):
        return _wilson(sum(right), total, float(len(groups)))
    scatter = sum((hits - found * count) ** 2 for hits, count in groups) * len(groups) / (len(groups) - 1)
    return _wilson(
        sum(right), total, min(float(total), found * (1 - found) * total**2 / scatter) if scatter else float(total)
    )


def _wilson(right: int, asked: int, effective: float) -> Estimate:
    if asked == 0:
        return Estimate(*[float("nan")] * 3, count=0)
    found, weight = right / asked, DEVIATIONS**2 / effective
    middle = (found + weight / 2) / (1 + weight)
    reach = (found * (1 - found) * weight + weight**2 / 4) ** 0.5 / (1 + weight)
    # At 0 and 1 the bound is the share itself, but for rounding.
    return Estimate(found, min(middle - reach, found), max(middle + reach, found), asked)


def difference(first: Estimate, second: Estimate) -> Estimate:
    """How much more the first is, where the two are independent; count: the smaller of theirs.

    The interval is put together of theirs (Newcombe, Interval Estimation for the Difference Between Independent
    Proportions, 1998).
    """
    apart = first.mean - second.mean
    below = math.hypot(first.mean - first.low, second.high - second.mean)
    above = math.hypot(first.high - first.mean, second.mean - second.low)
    return Estimate(apart, apart - below, apart + above, min(first.count, second.count))


def mean(values: Float[Tensor, "count"]) -> Estimate:
    """The mean of the finite values, with the percentile interval of the bootstrap, the same at every call."""
    return _of_finite(values, torch.mean)


def median(values: Float[Tensor, "count"]) -> Estimate:
    """The median of the finite values, as `mean`; its value stands in `mean`."""
    return _of_finite(values, lambda chosen: chosen.quantile(0.5))


def mean_of_shares(right: Int[Tensor, "shares groups"], asked: Int[Tensor, "shares groups"]) -> Estimate:
    """The mean of shares, each as good as the other, where the answers of a group hang together in all of them.

    Shares of which nothing was asked don't count. count: of all answers. The interval is the bootstrap's.
    """
    return bootstrap(
        lambda chosen: (right[:, chosen].sum(dim=1) / asked[:, chosen].sum(dim=1)).nanmean(),
        asked.shape[1],
        int(asked.sum()),
    )


def bootstrap(statistic: Callable[[Int[Tensor, "groups"]], Tensor], groups: int, count: int) -> Estimate:
    """A statistic of groups, of which it is given the indices, with the interval in which it lies where as many are
    drawn again and again (Efron, Bootstrap Methods, 1979); the same at every call.

    Draws of which it is NaN don't count.
    """
    drawn = torch.randint(groups, (RESAMPLINGS, groups), generator=torch.Generator().manual_seed(0))
    found = torch.stack([statistic(chosen) for chosen in drawn]).double()
    low, high = found.nanquantile(torch.tensor([0.025, 0.975], dtype=found.dtype)).tolist()
    return Estimate(float(statistic(torch.arange(groups))), low, high, count)


def _of_finite(values: Float[Tensor, "count"], statistic: Callable[[Tensor], Tensor]) -> Estimate:
    values = values[values.isfinite()].double()
    if len(values) == 0:
        return Estimate(*[float("nan")] * 3, count=0)
    return bootstrap(lambda chosen: statistic(values[chosen]), len(values), len(values))
