"""Reads motion and the moments of bounces from the path of a figure's centre, by least squares."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..training.world import BOUNCE_PERIOD_RANGE_S, NONE, Motion
from .readings import MOST_MOMENTS

LEAST_TRAVEL = 0.1
"""Shorter sides of the picture; what moves less is still."""
MOST_UNREST = 0.03
"""Standard deviation of the place of a figure that counts as still."""
LEAST_REGULARITY = 0.6
"""Share of the variance that a motion must explain to count as seen."""
PERIODS_TRIED = 46
PHASES_TRIED = 64


def _regress(
    weight: Float[Tensor, "batch frames"],
    place: Float[Tensor, "batch frames"],
    curves: Float[Tensor, "curves frames"],
) -> tuple[Float[Tensor, "batch curves"], Float[Tensor, "batch curves"]]:
    """How much of each curve is in the place, and the share of the variance that it explains. Weights sum to 1."""
    mean = (weight * place).sum(dim=1, keepdim=True)
    centred = weight * (place - mean)
    variance = (centred * (place - mean)).sum(dim=1, keepdim=True)
    curve_variance = (weight @ curves.square().T - (weight @ curves.T).square()).clamp(min=1e-6)
    covariance = centred @ curves.T
    return covariance / curve_variance, covariance.square() / (curve_variance * variance.clamp(min=1e-9))


def _bounce_curves(
    time_s: Float[Tensor, "frames"],
) -> tuple[Float[Tensor, "curves frames"], Float[Tensor, "curves"], Float[Tensor, "curves"]]:
    """Height lost in parabolic hops, for many periods and first moments; and those two, in seconds."""
    low, high = BOUNCE_PERIOD_RANGE_S
    period_s = torch.linspace(low - 0.05, high + 0.05, PERIODS_TRIED, device=time_s.device)
    period_s = period_s.repeat_interleave(PHASES_TRIED)
    share = torch.arange(PHASES_TRIED, device=time_s.device).repeat(PERIODS_TRIED) / PHASES_TRIED
    first_s = share * period_s
    phase = ((time_s - first_s[:, None]) / period_s[:, None]) % 1
    return 1 - 4 * phase * (1 - phase), first_s, period_s


def read_trajectory(
    centre: Float[Tensor, "batch frames 2"], weight: Float[Tensor, "batch frames"], frames_per_second: float
) -> tuple[Int[Tensor, "batch"], Float[Tensor, "batch"], Float[Tensor, "batch moments"]]:
    """Motion (NONE if neither still nor regular), its confidence, and the bounce moments in seconds.

    centre: x and y in shorter sides of the picture, y downwards. weight: of each frame, summing to 1 per row.
    """
    time_s = torch.arange(centre.shape[1], device=centre.device) / frames_per_second
    across, down = centre.unbind(2)
    progress = time_s / time_s[-1]
    travel, travel_share = (part[:, 0] for part in _regress(weight, across, progress[None]))
    curves, first_s, period_s = _bounce_curves(time_s)
    falls, fall_shares = _regress(weight, down, curves)
    fall_share, best = fall_shares.where(falls > 0, 0.0).max(dim=1)
    fall = falls.gather(1, best[:, None]).squeeze(1)

    mean = (weight[:, :, None] * centre).sum(dim=1, keepdim=True)
    unrest = (weight[:, :, None] * (centre - mean).square()).sum(dim=(1, 2)).sqrt()
    # One row per motion: how much of the movement it explains, nothing below the thresholds.
    strength = torch.zeros(len(Motion), len(centre), device=centre.device)
    for name, size, share in (
        (Motion.LEFT, -travel, travel_share),
        (Motion.RIGHT, travel, travel_share),
        (Motion.BOUNCE, fall, fall_share),
    ):
        regular = (size > LEAST_TRAVEL) & (share > LEAST_REGULARITY)
        strength[tuple(Motion).index(name)] = (size * share).where(regular, 0.0)
    strongest, motion = strength.max(dim=0)
    still = (strongest == 0) & (unrest < MOST_UNREST)
    motion = motion.where(strongest > 0, torch.where(still, tuple(Motion).index(Motion.STILL), NONE))
    confidence = (strongest / (2 * LEAST_TRAVEL)).clamp(max=1).where(~still, 1 - unrest / MOST_UNREST)

    count = torch.arange(MOST_MOMENTS, device=centre.device)
    moments_s = first_s[best, None] + count * period_s[best, None]
    bounced = (motion == tuple(Motion).index(Motion.BOUNCE))[:, None] & (moments_s <= time_s[-1])
    return motion, confidence, moments_s.where(bounced, torch.nan)
