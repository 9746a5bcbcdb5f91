"""SIM of the CoDi paper, to be looked at: how near prompts and outputs of any kinds lie in the space they share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from . import encoders
from .errors import PromptError, ShapeError
from .pipeline import CoDiPipeline
from .values import Condition, Media

LEAST = 2
CELL, MARGIN, LEFT, TOP = 96, 24, 120, 48
"""Pixels: side of a cell, border, room for names."""
FAR, NEAR = torch.tensor([24.0, 28.0, 60.0]), torch.tensor([255.0, 214.0, 92.0])
"""Colours of cosine 0, or less, and of 1."""


@torch.no_grad()
def similarities(pipeline: CoDiPipeline, things: Sequence[Media | Condition]) -> Float[Tensor, "things things"]:
    """The cosine between the prompt embeddings of every two things, -1 to 1, as a mean over their rows.

    Things of batch 1 are compared with every row of larger ones. Raises PromptError for fewer than two things and for
    conditions of another model, ShapeError for other batches.
    """
    if len(things) < LEAST:
        raise PromptError(f"wanted at least {LEAST} things to compare, got {len(things)}; connect more")
    pipeline.parts.begin_stage()
    tokens = [
        thing.embedding if isinstance(thing, Condition) else encoders.encode(pipeline.parts, thing) for thing in things
    ]
    rows = [functional.normalize(each.float().mean(dim=1), dim=-1) for each in tokens]
    widths = sorted({each.shape[-1] for each in rows})
    if len(widths) > 1:
        raise PromptError(
            f"wanted things of one model, got embeddings of widths {widths}; encode them with the same one"
        )
    counts = {len(each) for each in rows} - {1}
    if len(counts) > 1:
        raise ShapeError(f"wanted things with one number of rows, or 1, got {sorted(counts)}; compare them one by one")
    together = torch.stack([each.expand(max(counts, default=1), -1) for each in rows])
    return torch.einsum("arw,brw->abr", together, together).mean(dim=-1).cpu()


def mean_similarity(cosines: Float[Tensor, "things things"]) -> float:
    """Over all pairs of different things."""
    first, second = torch.triu_indices(*cosines.shape, offset=1)
    return float(cosines[first, second].mean())


def heat_map(cosines: Float[Tensor, "things things"], names: Sequence[str]) -> Image.Image:
    """Every cosine in a cell of its colour."""
    side = CELL * len(names) + MARGIN
    picture = Image.new("RGB", (LEFT + side, TOP + side), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(18)
    for row, name in enumerate(names):
        middle = CELL * (row + 0.5)
        draw.text((LEFT - 8, TOP + middle), name, "black", font, anchor="rm")
        draw.text((LEFT + middle, TOP - 8), name, "black", font, anchor="md")
        for column in range(len(names)):
            cosine = float(cosines[row, column])
            corner = LEFT + CELL * column, TOP + CELL * row
            colour = FAR.lerp(NEAR, min(1.0, max(0.0, cosine))).round().int().tolist()
            draw.rectangle((*corner, corner[0] + CELL - 2, corner[1] + CELL - 2), fill=tuple(colour))
            ink = "black" if sum(colour) > 3 * 110 else "white"
            draw.text((corner[0] + CELL / 2, corner[1] + CELL / 2), f"{cosine:.2f}", ink, font, anchor="mm")
    return picture
