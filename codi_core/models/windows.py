"""Videos longer than a diffuser was trained on: overlapping windows of frames, each by itself, then blended."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def window_starts(frames: int, length: int) -> list[int]:
    """First frames of windows that overlap by half and cover every frame; the last one ends with the video."""
    stride = max(1, length // 2)
    last = max(0, frames - length)
    return [*range(0, last, stride), last]


def blended(
    apply: Callable[[Tensor], Tensor], video: Float[Tensor, "batch channels frames height width"], length: int | None
) -> Float[Tensor, "batch channels frames height width"]:
    """What `apply` makes of a video, called with at most `length` frames at once (None: with all).

    Where windows overlap, each counts the more the farther a frame is from that window's ends.
    """
    frames = video.shape[2]
    if length is None or frames <= length:
        return apply(video)
    place = torch.arange(length, device=video.device)
    weight = torch.minimum(place + 1, length - place)[:, None, None].to(video.dtype)
    total, weights = torch.zeros_like(video), video.new_zeros(frames, 1, 1)
    for start in window_starts(frames, length):
        window = slice(start, start + length)
        total[:, :, window] += weight * apply(video[:, :, window])
        weights[window] += weight
    return total / weights
