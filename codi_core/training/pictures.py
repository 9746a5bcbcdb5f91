"""Draws the world's facts as pictures and videos: a coloured figure over a ground, before a dim, greyish sky.

Lengths are in units of the picture's shorter side, x to the right and y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..values import Frames, Picture
from .world import CLIP_FRAMES, FRAMES_PER_SECOND, Colour, Facts, Motion, Shape

GROUND = 0.12
"""Height of the ground."""
MARGIN = 0.03
"""Least distance of a figure from the left, right and upper edge."""
TRAVEL = 0.75
"""Share of the free room that a moving figure crosses; the position decides where in the room."""
BETWEEN = (1 / 3, 2 / 3)
"""Where between two of the world's hues those lie that have no name in it."""
HUE_JITTER = 8.0
"""Degrees."""
NOISE = 0.02
SKY_DRIFT_CYCLES_PER_S = 0.15

# Each figure has the area of the unit disc, so that `size` says how large it looks whatever its shape.
SQUARE_HALF_SIDE = math.sqrt(math.pi) / 2
TRIANGLE_INRADIUS = math.sqrt(math.pi / (3 * math.sqrt(3)))
STAR_INNER_RATIO = 0.45
STAR_RADIUS = math.sqrt(math.pi / (5 * STAR_INNER_RATIO * math.sin(math.radians(36))))

Plane = Float[Tensor, "batch height width"]
Column = Float[Tensor, "batch height 1"]
Row = Float[Tensor, "batch 1 width"]


def _circle(x: Row, y: Column) -> Plane:
    return (x.square() + y.square()).sqrt_().sub_(1)


def _square(x: Row, y: Column) -> Plane:
    return torch.maximum(x.abs(), y.abs()).sub_(SQUARE_HALF_SIDE)


def _triangle(x: Row, y: Column) -> Plane:
    sides = x.abs() * math.cos(math.radians(30)) - y * math.sin(math.radians(30))
    return torch.maximum(sides, y).sub_(TRIANGLE_INRADIUS)


def _star(x: Row, y: Column) -> Plane:
    """Folds the plane onto half of the upper point; what is left is the distance from one straight edge."""
    fold_x, fold_y = math.cos(math.radians(36)), -math.sin(math.radians(36))
    across, up = x.abs(), -y
    for _ in range(2):
        beyond = (across * fold_x + up * fold_y).clamp_(min=0).mul_(2)
        across, up = (across - beyond * fold_x).abs_(), up - beyond * fold_y
    inner_across = STAR_INNER_RATIO * STAR_RADIUS * math.cos(math.radians(54))
    inner_up = STAR_INNER_RATIO * STAR_RADIUS * math.sin(math.radians(54))
    edge = math.hypot(STAR_RADIUS - inner_up, inner_across)
    normal_x, normal_y = (STAR_RADIUS - inner_up) / edge, inner_across / edge
    return across.mul_(normal_x).add_(up.mul_(normal_y)).sub_(normal_y * STAR_RADIUS)


def chroma(pixels: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch 1 height width"]:
    return pixels.amax(dim=1, keepdim=True) - pixels.amin(dim=1, keepdim=True)


@dataclass(frozen=True)
class _Figure:
    """Signed distance from the outline of a figure of size 1 (negative inside), and how far it reaches."""

    distance: Callable[[Row, Column], Plane]
    reach_aside: float
    reach_up: float
    reach_down: float


_FIGURES = {
    Shape.CIRCLE: _Figure(_circle, 1.0, 1.0, 1.0),
    Shape.SQUARE: _Figure(_square, SQUARE_HALF_SIDE, SQUARE_HALF_SIDE, SQUARE_HALF_SIDE),
    Shape.TRIANGLE: _Figure(_triangle, math.sqrt(3) * TRIANGLE_INRADIUS, 2 * TRIANGLE_INRADIUS, TRIANGLE_INRADIUS),
    Shape.STAR: _Figure(
        _star,
        STAR_RADIUS * math.cos(math.radians(18)),
        STAR_RADIUS,
        STAR_RADIUS * math.cos(math.radians(36)),
    ),
}


def coverage(
    shape: Int[Tensor, "batch"],
    centre: Float[Tensor, "batch 2"],
    size: Float[Tensor, "batch"],
    height: int,
    width: int,
) -> Plane:
    """How much of each pixel a figure covers, 0 to 1. centre: x and y; size: see Facts."""
    side = min(height, width)
    across = (torch.arange(width, device=size.device) + 0.5) / side
    down = (torch.arange(height, device=size.device) + 0.5) / side
    x = ((across - centre[:, :1]) / size[:, None])[:, None, :]
    y = ((down - centre[:, 1:]) / size[:, None])[:, :, None]
    covered = torch.empty(len(size), height, width, device=size.device)
    for index, name in enumerate(Shape):
        rows = (shape == index).nonzero().squeeze(1)
        distance_pixels = _FIGURES[name].distance(x[rows], y[rows]).mul_(size[rows, None, None] * side)
        covered[rows] = distance_pixels.neg_().add_(0.5).clamp_(0, 1)
    return covered


def _room(facts: Facts, height: int, width: int) -> tuple[Float[Tensor, "batch 2"], Float[Tensor, "batch 2"]]:
    """The least and the greatest x and y at which the figure's centre may lie."""
    side = min(height, width)
    reach = torch.tensor(
        [(figure.reach_aside, figure.reach_up, figure.reach_down) for figure in _FIGURES.values()],
        device=facts.size.device,
    )[facts.shape]
    aside, up, down = (reach * facts.size[:, None]).unbind(1)
    least = torch.stack([aside + MARGIN, up + MARGIN], dim=1)
    greatest = torch.stack([width / side - MARGIN - aside, height / side - GROUND - down], dim=1)
    return least, greatest


def figure_places(facts: Facts, height: int = 64, width: int = 64) -> Float[Tensor, "batch 2"]:
    """x and y of the figures' centres in `render_images`, in units of the picture's shorter side."""
    least, greatest = _room(facts, height, width)
    return torch.lerp(least, greatest, facts.position)


def _resting(facts: Facts, progress: Tensor, time_s: Tensor) -> Tensor:
    return facts.position[:, None].expand(-1, len(time_s), 2)


def _moving_right(facts: Facts, progress: Tensor, time_s: Tensor) -> Tensor:
    start = facts.position * facts.position.new_tensor([1 - TRAVEL, 1.0])
    return start[:, None] + torch.stack([TRAVEL * progress, torch.zeros_like(progress)], dim=1)


def _moving_left(facts: Facts, progress: Tensor, time_s: Tensor) -> Tensor:
    return _moving_right(facts, 1 - progress, time_s)


def _bouncing(facts: Facts, progress: Tensor, time_s: Tensor) -> Tensor:
    phase = ((time_s - facts.first_bounce_s[:, None]) / facts.bounce_period_s[:, None]) % 1
    fall = 1 - (1 - (1 - TRAVEL) * facts.position[:, 1:]) * 4 * phase * (1 - phase)
    return torch.stack([facts.position[:, :1].expand_as(fall), fall], dim=2)


_TRAJECTORIES = {
    Motion.STILL: _resting,
    Motion.LEFT: _moving_left,
    Motion.RIGHT: _moving_right,
    Motion.BOUNCE: _bouncing,
}


def _centres(facts: Facts, height: int, width: int) -> Float[Tensor, "batch frames 2"]:
    time_s = torch.arange(CLIP_FRAMES, device=facts.size.device) / float(FRAMES_PER_SECOND)
    progress = time_s / time_s[-1]
    place = torch.empty(len(facts), CLIP_FRAMES, 2, device=facts.size.device)
    for index, name in enumerate(Motion):
        rows = (facts.motion == index).nonzero().squeeze(1)
        place[rows] = _TRAJECTORIES[name](facts[rows], progress, time_s)
    least, greatest = _room(facts, height, width)
    return torch.lerp(least[:, None], greatest[:, None], place)


def _rgb(
    hue: Float[Tensor, "batch"], saturation: Float[Tensor, "batch"], value: Float[Tensor, "batch"]
) -> Float[Tensor, "batch 3"]:
    """HSV to RGB in [0, 1]; hue in degrees."""
    sector = (hue[:, None] / 60 + hue.new_tensor([5.0, 3.0, 1.0])) % 6
    return value[:, None] * (1 - saturation[:, None] * torch.minimum(sector, 4 - sector).clamp(0, 1))


def draw_colours(count: int, generator: torch.Generator) -> Float[Tensor, "batch 3"]:
    """RGB in [0, 1], pale ones too: colours that the world has no name for."""

    def uniform(low: float, high: float) -> Float[Tensor, "batch"]:
        return low + (high - low) * torch.rand(count, generator=generator, device=generator.device)

    sector = torch.randint(len(Colour), (count,), generator=generator, device=generator.device)
    return _rgb(360 / len(Colour) * (sector + uniform(*BETWEEN)), uniform(0.4, 1.0), uniform(0.6, 1.0))


def _paint(
    facts: Facts,
    centres: Float[Tensor, "batch frames 2"],
    height: int,
    width: int,
    generator: torch.Generator,
    colours: Float[Tensor, "batch 3"] | None,
) -> Float[Tensor, "batch frames 3 height width"]:
    (batch, frames, _), side, device = centres.shape, min(height, width), facts.size.device

    def uniform(low: float, high: float) -> Float[Tensor, "batch"]:
        return low + (high - low) * torch.rand(batch, generator=generator, device=device)

    hue = 360 / len(Colour) * facts.colour + uniform(-HUE_JITTER, HUE_JITTER)
    named = _rgb(hue, uniform(0.8, 1.0), uniform(0.8, 1.0))
    figure = (named if colours is None else colours).mul(2).sub(1)
    sky = facts.background.mul(2).sub(1)
    waves_across, waves_down, wave_phase = uniform(-1.0, 1.0), uniform(-1.0, 1.0), uniform(0.0, 1.0)

    across = torch.arange(width, device=device).add(0.5).div(side)
    down = torch.arange(height, device=device).add(0.5).div(side)
    time_s = torch.arange(frames, device=device) / float(FRAMES_PER_SECOND)
    cycles_down = waves_down[:, None, None] * down + (
        wave_phase[:, None, None] + SKY_DRIFT_CYCLES_PER_S * time_s[:, None]
    )
    wave = (2 * math.pi * (cycles_down[..., None] + (waves_across[:, None] * across)[:, None, None])).sin_()
    under_ground = ((down - (height / side - GROUND)) * side + 0.5).clamp(0, 1)
    light = wave.mul_(0.1).sub_(0.2 * under_ground[:, None])
    # Lit from above: the figure darkens from its upper to its lower edge.
    depth = (down - centres[..., 1:]) / facts.size[:, None, None]
    shade = 0.15 * depth.clamp(-1, 1)

    covered = coverage(
        facts.shape.repeat_interleave(frames),
        centres.flatten(0, 1),
        facts.size.repeat_interleave(frames),
        height,
        width,
    ).view(batch, frames, 1, height, width)
    noise = torch.randn(batch, frames, 1, height, width, generator=generator, device=device).mul_(2 * NOISE)
    background = sky[:, None, :, None, None] + light[:, :, None]
    lit_figure = figure[:, None, :, None, None] - shade[:, :, None, :, None]
    return background.lerp_(lit_figure.expand_as(background), covered).add_(noise).clamp_(-1, 1)


def render_images(
    facts: Facts,
    generator: torch.Generator,
    height: int = 64,
    width: int = 64,
    colours: Float[Tensor, "batch 3"] | None = None,
) -> Picture:
    """One picture per row, the figure at its position; hue, light and noise vary with the generator.

    colours: RGB in [0, 1], other ones than those of the facts.
    """
    centres = figure_places(facts, height, width)
    return Picture(_paint(facts, centres[:, None], height, width, generator, colours)[:, 0])


def render_videos(
    facts: Facts,
    generator: torch.Generator,
    height: int = 64,
    width: int = 64,
    colours: Float[Tensor, "batch 3"] | None = None,
) -> Frames:
    """One clip per row. Frame i shows the moment i / FRAMES_PER_SECOND; the sky drifts slowly.

    colours: RGB in [0, 1], other ones than those of the facts.
    """
    centres = _centres(facts, height, width)
    return Frames(_paint(facts, centres, height, width, generator, colours), FRAMES_PER_SECOND)
