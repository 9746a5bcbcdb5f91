"""The procedural world of codi-mini: facts that text, image, video and audio all carry, drawn without end.

Every fact can be measured again from what was rendered (see evaluation/facts.py), so no claim about the model
rests on a network's opinion.

| fact            | text                    | image   | video      | audio                                         |
|-----------------|-------------------------|---------|------------|-----------------------------------------------|
| shape           | noun                    | outline | outline    | timbre                                        |
| colour          | adjective               | hue     | hue        | pitch                                         |
| motion          | verb phrase             | –       | trajectory | steady, fading, swelling, a hit a bounce      |
| bounce moments  | never                   | –       | contacts   | onsets                                        |
| size            | at times, small / large | area    | area       | loudness, too vague to be read                |
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from fractions import Fraction

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..modality import Modality

CLIP_FRAMES = 16
FRAMES_PER_SECOND = Fraction(25, 4)
SAMPLE_RATE_HZ = 16_000
CLIP_SECONDS = float(CLIP_FRAMES / FRAMES_PER_SECOND)
CLIP_SAMPLES = round(CLIP_SECONDS * SAMPLE_RATE_HZ)

SIZE_RANGE = (0.12, 0.21)
"""Radius of the disc of equal area, in units of the picture's shorter side."""
BOUNCE_PERIOD_RANGE_S = (0.6, 1.0)
FIRST_BOUNCE_EARLIEST_S = 0.15
FIRST_BOUNCE_LATEST_PERIODS = 0.85
LAST_BOUNCE_S = float((CLIP_FRAMES - 1) / FRAMES_PER_SECOND)
"""The last frame's moment: what would touch the ground later is neither seen nor heard."""
MOST_BOUNCES = 4

NONE = -1
"""The category of a fact that is left open: neither small nor large, unstated, or not readable."""


class Shape(StrEnum):
    CIRCLE = "circle"
    SQUARE = "square"
    TRIANGLE = "triangle"
    STAR = "star"


class Colour(StrEnum):
    """In the order of their hues (60 degrees apart) and of their pitches."""

    RED = "red"
    YELLOW = "yellow"
    GREEN = "green"
    CYAN = "cyan"
    BLUE = "blue"
    MAGENTA = "magenta"


class Motion(StrEnum):
    STILL = "still"
    LEFT = "left"
    RIGHT = "right"
    BOUNCE = "bounce"


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


class Fact(StrEnum):
    """A fact with named values. A category is an index into its values, or NONE."""

    SHAPE = "shape"
    COLOUR = "colour"
    MOTION = "motion"
    SIZE = "size"


MAIN_FACTS = (Fact.SHAPE, Fact.COLOUR, Fact.MOTION)
"""The facts that combinations are made of. Sizes are vague, and said too rarely to go by."""

VALUES: dict[Fact, tuple[StrEnum, ...]] = {
    Fact.SHAPE: tuple(Shape),
    Fact.COLOUR: tuple(Colour),
    Fact.MOTION: tuple(Motion),
    Fact.SIZE: tuple(Size),
}

CARRIED: dict[Modality, tuple[Fact, ...]] = {
    Modality.TEXT: tuple(Fact),
    Modality.IMAGE: (Fact.SHAPE, Fact.COLOUR, Fact.SIZE),
    Modality.VIDEO: tuple(Fact),
    Modality.AUDIO: (Fact.SHAPE, Fact.COLOUR, Fact.MOTION),
}
"""Which facts can be read from a modality."""


class Split(StrEnum):
    TRAIN = "train"
    HELD_OUT = "held_out"
    ALL = "all"


HELD_OUT_PAIRS = ((Shape.TRIANGLE, Colour.CYAN), (Shape.STAR, Colour.RED))
"""Shape and colour never seen together in training, whatever the motion."""

HELD_OUT_COMBINATIONS = (
    (Shape.CIRCLE, Colour.BLUE, Motion.BOUNCE),
    (Shape.SQUARE, Colour.YELLOW, Motion.LEFT),
    (Shape.SQUARE, Colour.MAGENTA, Motion.STILL),
    (Shape.STAR, Colour.GREEN, Motion.RIGHT),
)


@dataclass(frozen=True)
class Facts:
    """What is so in each row of a batch; every rendering of one row shows the same facts.

    shape, colour, motion: indices into Shape, Colour, Motion.
    size: see SIZE_RANGE. position: 0 to 1 across and down the room that the figure's extent leaves free.
    first_bounce_s, bounce_period_s: drawn for every row, of consequence where the motion is a bounce.
    background: RGB in [0, 1], low in saturation.
    """

    shape: Int[Tensor, "batch"]
    colour: Int[Tensor, "batch"]
    motion: Int[Tensor, "batch"]
    size: Float[Tensor, "batch"]
    first_bounce_s: Float[Tensor, "batch"]
    bounce_period_s: Float[Tensor, "batch"]
    position: Float[Tensor, "batch 2"]
    background: Float[Tensor, "batch 3"]

    def __len__(self) -> int:
        return len(self.shape)

    def __getitem__(self, rows: Tensor | slice) -> Facts:
        """Some of the rows, chosen by indices, by a mask or by a slice."""
        return Facts(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @property
    def categories(self) -> dict[Fact, Int[Tensor, "batch"]]:
        """Per fact the index into VALUES; the size of a middling figure is NONE."""
        small, large = size_limits()
        size = torch.full_like(self.shape, NONE)
        size[self.size < small] = VALUES[Fact.SIZE].index(Size.SMALL)
        size[self.size > large] = VALUES[Fact.SIZE].index(Size.LARGE)
        return {Fact.SHAPE: self.shape, Fact.COLOUR: self.colour, Fact.MOTION: self.motion, Fact.SIZE: size}

    @property
    def bounces(self) -> Bool[Tensor, "batch"]:
        return self.motion == tuple(Motion).index(Motion.BOUNCE)

    @property
    def bounce_moments_s(self) -> Float[Tensor, "batch moments"]:
        """Seconds from the start, in order; NaN after a row's last bounce and in rows that don't bounce."""
        count = torch.arange(MOST_BOUNCES, device=self.shape.device)
        moments = self.first_bounce_s[:, None] + count * self.bounce_period_s[:, None]
        heard = self.bounces[:, None] & (moments <= LAST_BOUNCE_S)
        return moments.where(heard, torch.nan)


def size_limits() -> tuple[float, float]:
    """Below the first a figure may be called small, above the second large: the outer thirds of the range."""
    low, high = SIZE_RANGE
    return low + (high - low) / 3, high - (high - low) / 3


def _held_out_table() -> Bool[Tensor, "shapes colours motions"]:
    held_out = torch.zeros(len(Shape), len(Colour), len(Motion), dtype=torch.bool)
    for shape, colour in HELD_OUT_PAIRS:
        held_out[tuple(Shape).index(shape), tuple(Colour).index(colour)] = True
    for shape, colour, motion in HELD_OUT_COMBINATIONS:
        held_out[tuple(Shape).index(shape), tuple(Colour).index(colour), tuple(Motion).index(motion)] = True
    return held_out


def is_held_out(facts: Facts, modality: Modality | None = None) -> Bool[Tensor, "batch"]:
    """Whether a row's shape, colour and motion never occur together in training.

    modality: as far as it shows them: a picture shows no motion, so it is held out if its figure is with every motion.
    """
    held_out = _held_out_table().to(facts.shape.device)
    if modality is not None and Fact.MOTION not in CARRIED[modality]:
        held_out = held_out.all(dim=2, keepdim=True).expand_as(held_out)
    return held_out[facts.shape, facts.colour, facts.motion]


@dataclass(frozen=True)
class World:
    """An endless source of facts. All combinations of the split are equally frequent."""

    split: Split = Split.TRAIN

    def draw(self, count: int, generator: torch.Generator) -> Facts:
        """A batch of facts, on the generator's device."""
        device = generator.device

        def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
            return low + (high - low) * torch.rand(count, *shape, generator=generator, device=device)

        combinations = self._combinations().to(device)
        chosen = torch.randint(len(combinations), (count,), generator=generator, device=device)
        shape, colour, motion = combinations[chosen].unbind(1)
        period_s = uniform(low=BOUNCE_PERIOD_RANGE_S[0], high=BOUNCE_PERIOD_RANGE_S[1])
        latest_s = FIRST_BOUNCE_LATEST_PERIODS * period_s
        brightness, tint = uniform(1, low=0.2, high=0.6), uniform(3, low=-0.04, high=0.04)
        return Facts(
            shape=shape,
            colour=colour,
            motion=motion,
            size=uniform(low=SIZE_RANGE[0], high=SIZE_RANGE[1]),
            first_bounce_s=FIRST_BOUNCE_EARLIEST_S + uniform() * (latest_s - FIRST_BOUNCE_EARLIEST_S),
            bounce_period_s=period_s,
            position=uniform(2),
            background=brightness + tint,
        )

    def _combinations(self) -> Int[Tensor, "combinations 3"]:
        held_out = _held_out_table()
        allowed = {Split.TRAIN: ~held_out, Split.HELD_OUT: held_out, Split.ALL: torch.ones_like(held_out)}
        return allowed[self.split].nonzero()
