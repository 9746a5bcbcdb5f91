"""How CLIP sees motion: a block between attention and MLP of every vision layer, in which the frames meet."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..models.temporal import AxisNorm, RelativePositionBias, TemporalNormalization


class FrameAttention(nn.Module):
    """Self-attention over frames, each token of the picture by itself."""

    def __init__(self, width: int, heads: int, normalization: TemporalNormalization):
        super().__init__()
        self.heads = heads
        self.norm = AxisNorm(width, normalization.axis)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.to_out.weight)

    def forward(
        self, rows: Float[Tensor, "rows frames width"], bias: Float[Tensor, "heads frames frames"]
    ) -> Float[Tensor, "rows frames width"]:
        """What to add to `rows`."""
        normed = self.norm(rows)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.to_q(normed), *self.to_kv(normed).chunk(2, dim=-1))
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])
        mixed = self.to_out(mixed.transpose(1, 2).flatten(2))
        # As the released model does: where half precision overflows, the frame stays as it was.
        return mixed.masked_fill(mixed.isnan(), 0.0)


class ChannelFeedForward(nn.Module):
    """GELU-gated feed-forward, normalised over channels before the way back."""

    def __init__(self, width: int):
        super().__init__()
        inner = int(width * 8 / 3)
        self.proj_in = nn.Linear(width, 2 * inner, bias=False)
        self.norm = AxisNorm(inner, TemporalNormalization.CHANNELS.axis)
        self.proj_out = nn.Linear(inner, width, bias=False)
        nn.init.zeros_(self.proj_out.weight)

    def forward(self, rows: Float[Tensor, "rows frames width"]) -> Float[Tensor, "rows frames width"]:
        """What to add to `rows`."""
        value, gate = self.proj_in(rows).chunk(2, dim=-1)
        return self.proj_out(self.norm(value * functional.gelu(gate)))


class TemporalBlock(nn.Module):
    """Attention over frames, then a feed-forward. A new block changes nothing yet.

    Unlike the diffuser's temporal module it knows the distances between frames only, not their numbers.
    """

    def __init__(self, width: int, heads: int, normalization: TemporalNormalization):
        super().__init__()
        self.position_bias = RelativePositionBias(width // 2, heads)
        self.attention = FrameAttention(width, heads, normalization)
        self.feed_forward = ChannelFeedForward(width)

    def forward(
        self, hidden: Float[Tensor, "pictures tokens width"], frames: int
    ) -> Float[Tensor, "pictures tokens width"]:
        """`hidden` holds one picture per frame, all frames of a clip together."""
        tokens = hidden.shape[1]
        # Of a single clip the axes would be turned in place, and linear layers then copy their weights for every row.
        rows = hidden.unflatten(0, (-1, frames)).transpose(1, 2).flatten(0, 1).contiguous()
        rows = rows + self.attention(rows, self.position_bias(frames, rows))
        rows = rows + self.feed_forward(rows)
        return rows.unflatten(0, (-1, tokens)).transpose(1, 2).flatten(0, 1)
