"""The temporal module of the vision diffuser: what turns an image network into a video network."""

from __future__ import annotations

from enum import StrEnum

import torch
import torch.nn.functional as functional
from jaxtyping import Float
from torch import Tensor, nn

from .layers import GROUPS, zeroed

TEMPORAL_HEADS = 8
MAXIMUM_FRAMES = 30
SHIFT_GROUPS = 8
# The released network was only ever run with the row for 4 frames per second.
FRAME_RATE_ROW = 3


class TemporalNormalization(StrEnum):
    """Over which axis rows (rows, frames, channels) are normalised before temporal attention."""

    FRAMES = "frames"
    CHANNELS = "channels"

    @property
    def axis(self) -> int:
        return {TemporalNormalization.FRAMES: 1, TemporalNormalization.CHANNELS: 2}[self]


class AxisNorm(nn.Module):
    """Zero mean and unit variance along one axis, with a gain per channel.

    The variance is bounded from below (1e-5, or 1e-3 in half precision); nothing is added to it.
    """

    def __init__(self, channels: int, axis: int):
        super().__init__()
        self.axis = axis
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, rows: Float[Tensor, "rows frames channels"]) -> Float[Tensor, "rows frames channels"]:
        centred = rows - rows.mean(dim=self.axis, keepdim=True)
        variance = centred.square().mean(dim=self.axis, keepdim=True)
        floor = 1e-5 if rows.dtype == torch.float32 else 1e-3
        return centred * variance.clamp(min=floor).rsqrt() * self.gain.to(rows)


def delay(frames: Float[Tensor, "rows frames *rest"], steps: int) -> Float[Tensor, "rows frames *rest"]:
    """Each frame gets what stood `steps` frames earlier; zeros come in at the start."""
    count = frames.shape[1]
    if steps == 0:
        return frames
    if steps >= count:
        return torch.zeros_like(frames)
    return torch.cat([torch.zeros_like(frames[:, :steps]), frames[:, : count - steps]], dim=1)


class RelativePositionBias(nn.Module):
    """A bias per head from the signed logarithm of the distance between two frames."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(1, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, heads),
        )

    def forward(self, frames: int, like: Tensor) -> Float[Tensor, "heads frames frames"]:
        """`like` gives device and dtype."""
        index = torch.arange(frames, device=like.device)
        distance = (index[:, None] - index[None, :]).float()
        signed = distance.sign() * torch.log(distance.abs() + 1)
        return self.net(signed[..., None].to(like.dtype)).permute(2, 0, 1)


class TemporalAttention(nn.Module):
    """Attention over the frames at each position, with learned tables for frame number and frame rate."""

    def __init__(
        self,
        channels: int,
        normalization: TemporalNormalization = TemporalNormalization.FRAMES,
    ):
        super().__init__()
        self.norm = AxisNorm(channels, normalization.axis)
        self.positions = nn.Parameter(torch.zeros(1, MAXIMUM_FRAMES, channels))
        self.frame_rates = nn.Parameter(torch.zeros(1, MAXIMUM_FRAMES, channels))
        self.to_q = nn.Linear(channels, 2 * channels, bias=False)
        self.to_kv = nn.Linear(channels, 4 * channels, bias=False)
        self.to_out = zeroed(nn.Linear(2 * channels, channels, bias=False))

    def forward(
        self,
        rows: Float[Tensor, "rows frames channels"],
        bias: Float[Tensor, "heads frames frames"],
    ) -> Float[Tensor, "rows frames channels"]:
        """What to add to `rows`."""
        positions = self.positions[:, : rows.shape[1]].to(rows)
        rate = self.frame_rates[:, FRAME_RATE_ROW : FRAME_RATE_ROW + 1].to(rows)
        normed = self.norm(rows + positions + rate)
        query, key, value = (
            part.unflatten(-1, (TEMPORAL_HEADS, -1)).transpose(1, 2)
            for part in (self.to_q(normed), *self.to_kv(normed).chunk(2, dim=-1))
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class TemporalFeedForward(nn.Module):
    """Gated feed-forward in which half of the hidden channels come from the frame before."""

    def __init__(self, channels: int):
        super().__init__()
        inner = int(channels * 4 * 2 / 3)
        self.proj_in = nn.Linear(channels, 2 * inner, bias=False)
        self.norm = AxisNorm(inner, TemporalNormalization.CHANNELS.axis)
        self.proj_out = zeroed(nn.Linear(inner, channels, bias=False))

    def forward(self, rows: Float[Tensor, "rows frames channels"]) -> Float[Tensor, "rows frames channels"]:
        """What to add to `rows`."""
        value, gate = self.proj_in(rows).chunk(2, dim=-1)
        current, previous = (value * functional.gelu(gate)).chunk(2, dim=-1)
        return self.proj_out(self.norm(torch.cat([current, delay(previous, 1)], dim=-1)))


class FrameShift(nn.Module):
    """A convolution whose output channels are delayed by 0 to 7 frames, an eighth of them each."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.conv = zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, hidden: Float[Tensor, "rows c h w"], frames: int) -> Float[Tensor, "rows c h w"]:
        """What to add to `hidden`; its rows are batch × frames."""
        features = self.conv(functional.silu(self.norm(hidden))).unflatten(0, (-1, frames))
        groups = features.chunk(SHIFT_GROUPS, dim=2)
        return torch.cat([delay(group, steps) for steps, group in enumerate(groups)], dim=2).flatten(0, 1)


class TemporalModule(nn.Module):
    """Temporal attention, feed-forward and frame shift, on feature maps with the frames folded into the rows.

    A new module changes nothing until it is trained, so that an image network can be grown into a video network.
    """

    def __init__(
        self,
        channels: int,
        normalization: TemporalNormalization = TemporalNormalization.FRAMES,
    ):
        super().__init__()
        self.position_bias = RelativePositionBias(channels // 2, TEMPORAL_HEADS)
        self.attention = TemporalAttention(channels, normalization)
        self.feed_forward = TemporalFeedForward(channels)
        self.frame_shift = FrameShift(channels)

    def forward(self, hidden: Float[Tensor, "rows c h w"], frames: int) -> Float[Tensor, "rows c h w"]:
        """`hidden` holds batch × frames rows, all frames of a clip together."""
        height, width = hidden.shape[2:]
        # Of a single clip the axes would be turned in place, and linear layers then copy their weights for every row.
        rows = hidden.unflatten(0, (-1, frames)).permute(0, 3, 4, 1, 2).flatten(0, 2).contiguous()
        rows = rows + self.attention(rows, self.position_bias(frames, rows))
        rows = rows + self.feed_forward(rows)
        hidden = rows.unflatten(0, (-1, height, width)).permute(0, 3, 4, 1, 2).flatten(0, 1)
        return hidden + self.frame_shift(hidden, frames)
