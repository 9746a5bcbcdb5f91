"""How the released pipeline squares and resizes media before its encoders see them.

Our own encoders take media as they are, which loses less; with these steps before them they get what the released
ones got. The released code draws the place of a picture's square and mirrors it by chance, also when it generates;
both are arguments here.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional

from .media_files import from_bytes

PICTURE_SIDE = 512
VIDEO_SIDE = 256


def squared_picture(
    levels: UInt8[np.ndarray, "height width 3"],
    side: int = PICTURE_SIDE,
    offset: int | None = None,
    mirrored: bool = False,
) -> Float[Tensor, "1 3 side side"]:
    """A square as large as fits, resized by Pillow's bicubic filter, in [-1, 1].

    offset: pixels along the longer side; by default the square lies in the middle.
    """
    height, width = levels.shape[:2]
    shortest = min(height, width)
    top, left = ((edge - shortest) // 2 if offset is None else min(offset, edge - shortest) for edge in (height, width))
    square = Image.fromarray(levels[top : top + shortest, left : left + shortest])
    resized = np.array(square.resize((side, side), Image.Resampling.BICUBIC))
    return from_bytes(resized[:, ::-1].copy() if mirrored else resized)[None]


def squared_frames(
    levels: UInt8[np.ndarray, "frames height width 3"], side: int = VIDEO_SIDE
) -> Float[Tensor, "1 frames 3 side side"]:
    """The middle square of every frame, resized bicubically without antialiasing to whole levels, in [-1, 1]."""
    height, width = levels.shape[1:3]
    shortest = min(height, width)
    # Rounded up, unlike a picture's.
    top, left = (-(-(edge - shortest) // 2) for edge in (height, width))
    square = torch.from_numpy(levels[:, top : top + shortest, left : left + shortest]).permute(0, 3, 1, 2)
    resized = functional.interpolate(square.float(), (side, side), mode="bicubic", align_corners=False)
    whole = resized.clamp(0, 255).round().to(torch.uint8)
    return from_bytes(whole.permute(0, 2, 3, 1).numpy())[None]
