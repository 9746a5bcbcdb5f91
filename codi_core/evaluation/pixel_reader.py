"""Reads the world's facts from pictures and videos by measuring colour, outline and trajectory.

The figure is what stands out in chroma from the sky. Blur keeps its area and its centre, so the outline that fits
best among figures of that area and centre is its shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from ..training.pictures import coverage
from ..training.world import (
    NONE,
    SIZE_RANGE,
    VALUES,
    Colour,
    Fact,
    Shape,
    Size,
)
from ..values import Frames, Picture
from .readings import MOST_MOMENTS, ROWS_AT_ONCE, ReadFacts, concatenate
from .trajectory_reader import read_trajectory

LEAST_CHROMA = 0.15
"""Of a full saturated colour; fainter figures count as not there."""
LEAST_FIT = 0.6
"""Intersection over union with the best outline."""
CLEAR_MARGIN = 0.1
"""Lead over the second best outline that counts as certain."""


@dataclass(frozen=True)
class _Sight:
    """The figure in each picture. chroma: red and yellow-to-green axis; centre and size: as Facts' renderings."""

    chroma: Float[Tensor, "pictures 2"]
    fits: Float[Tensor, "pictures shapes"]
    centre: Float[Tensor, "pictures 2"]
    size: Float[Tensor, "pictures"]

    @property
    def found(self) -> Bool[Tensor, "pictures"]:
        return self.chroma.norm(dim=1) > LEAST_CHROMA


def _chroma(
    pixels: Float[Tensor, "pictures 3 height width"],
) -> Float[Tensor, "pictures 2 height width"]:
    """Hexagonal chroma plane: the length is the saturation, the angle the hue. Linear, so noise does not add up."""
    red, green, blue = ((pixels + 1) / 2).unbind(1)
    plane = torch.stack([red - (green + blue) / 2, math.sqrt(3) / 2 * (green - blue)], dim=1)
    return functional.avg_pool2d(plane, 3, stride=1, padding=1, count_include_pad=False)


def _mask(
    plane: Float[Tensor, "pictures 2 height width"],
) -> tuple[Float[Tensor, "pictures height width"], Float[Tensor, "pictures 2"]]:
    """How far each pixel belongs to the figure, with steep edges at one half, and the figure's chroma."""
    flat = plane.flatten(2)
    flat = flat - flat.median(dim=2, keepdim=True).values
    strength = torch.hypot(flat[:, 0], flat[:, 1])
    brightest = strength.topk(max(1, strength.shape[1] // 100), dim=1).values.mean(dim=1, keepdim=True)
    core = (strength > 0.6 * brightest).float()
    chroma = (flat * core[:, None]).sum(dim=2) / core.sum(dim=1, keepdim=True).clamp(min=1)
    share = (flat * chroma[:, :, None]).sum(dim=1) / chroma.square().sum(dim=1, keepdim=True).clamp(min=1e-6)
    return ((share - 0.25) * 2).clamp(0, 1).view(plane[:, 0].shape), chroma


def _look(pixels: Float[Tensor, "pictures 3 height width"]) -> _Sight:
    mask, chroma = _mask(_chroma(pixels))
    height, width = mask.shape[1:]
    side = min(height, width)
    area = mask.sum(dim=(1, 2)).clamp(min=1)
    across = (torch.arange(width, device=mask.device) + 0.5) / side
    down = (torch.arange(height, device=mask.device) + 0.5) / side
    centre = torch.stack(
        [(mask.sum(dim=1) * across).sum(dim=1) / area, (mask.sum(dim=2) * down).sum(dim=1) / area], dim=1
    )
    size = (area / math.pi).sqrt() / side
    fits = []
    for index in range(len(Shape)):
        outline = coverage(torch.full_like(area, index, dtype=torch.long), centre, size, height, width)
        overlap = torch.minimum(mask, outline).sum(dim=(1, 2))
        fits.append(overlap / torch.maximum(mask, outline).sum(dim=(1, 2)))
    return _Sight(chroma, torch.stack(fits, dim=1), centre, size)


def _read_shape(
    fits: Float[Tensor, "batch shapes"], found: Bool[Tensor, "batch"]
) -> tuple[Int[Tensor, "batch"], Float[Tensor, "batch"]]:
    best, shape = fits.topk(2, dim=1)
    seen = found & (best[:, 0] > LEAST_FIT)
    confidence = ((best[:, 0] - best[:, 1]) / CLEAR_MARGIN).clamp(max=1)
    return shape[:, 0].where(seen, NONE), confidence.where(seen, 0.0)


def _read_colour(
    chroma: Float[Tensor, "batch 2"], found: Bool[Tensor, "batch"]
) -> tuple[Int[Tensor, "batch"], Float[Tensor, "batch"]]:
    hue = torch.atan2(chroma[:, 1], chroma[:, 0]) * len(Colour) / (2 * math.pi)
    confidence = 1 - 2 * (hue - hue.round()).abs()
    return (hue.round().long() % len(Colour)).where(found, NONE), confidence.where(found, 0.0)


def _read_size(
    size: Float[Tensor, "batch"], found: Bool[Tensor, "batch"]
) -> tuple[Int[Tensor, "batch"], Float[Tensor, "batch"]]:
    middle, half = sum(SIZE_RANGE) / 2, (SIZE_RANGE[1] - SIZE_RANGE[0]) / 2
    small, large = (VALUES[Fact.SIZE].index(name) for name in (Size.SMALL, Size.LARGE))
    category = torch.full_like(size, small, dtype=torch.long).where(size < middle, large)
    return category.where(found, NONE), ((size - middle).abs() / half).clamp(max=1).where(found, 0.0)


def _assemble(facts: dict[Fact, tuple[Tensor, Tensor]], moments_s: Float[Tensor, "batch moments"]) -> ReadFacts:
    return ReadFacts(
        categories={fact: category for fact, (category, _) in facts.items()},
        confidence={fact: confidence for fact, (_, confidence) in facts.items()},
        bounce_moments_s=moments_s,
    )


def read_image(picture: Picture) -> ReadFacts:
    """Shape by outline, colour by hue, size by area, of pictures of any height and width."""
    sight = _look(picture.pixels.float())
    facts = {
        Fact.SHAPE: _read_shape(sight.fits, sight.found),
        Fact.COLOUR: _read_colour(sight.chroma, sight.found),
        Fact.SIZE: _read_size(sight.size, sight.found),
    }
    return _assemble(facts, sight.size.new_full((len(sight.size), MOST_MOMENTS), torch.nan))


def _read_clips(pixels: Float[Tensor, "batch frames 3 height width"], frames_per_second: float) -> ReadFacts:
    batch, count = pixels.shape[:2]
    sight = _look(pixels.float().flatten(0, 1))
    seen = sight.found.view(batch, count)
    weight = seen.float() / seen.sum(dim=1, keepdim=True).clamp(min=1)

    def mean(values: Float[Tensor, "pictures features"]) -> Float[Tensor, "batch features"]:
        return (weight[:, :, None] * values.view(batch, count, -1)).sum(dim=1)

    found = seen.float().mean(dim=1) >= 0.5
    motion, certainty, moments_s = read_trajectory(sight.centre.view(batch, count, 2), weight, frames_per_second)
    facts = {
        Fact.SHAPE: _read_shape(mean(sight.fits), found),
        Fact.COLOUR: _read_colour(mean(sight.chroma), found),
        Fact.MOTION: (motion.where(found, NONE), certainty.where(found, 0.0)),
        Fact.SIZE: _read_size(mean(sight.size[:, None]).squeeze(1), found),
    }
    return _assemble(facts, moments_s.where(found[:, None], torch.nan))


def read_video(frames: Frames) -> ReadFacts:
    """Shape, colour and size as in pictures, over all frames; motion and bounces by the path of the centre."""
    rate = float(frames.frames_per_second)
    return concatenate([_read_clips(part, rate) for part in frames.pixels.split(ROWS_AT_ONCE)])
