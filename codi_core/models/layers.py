"""Building blocks of the diffusers: residual block, transformer, resampling, in a spatial and a vector kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as functional
from diffusers.models.embeddings import get_timestep_embedding
from jaxtyping import Float, Shaped
from torch import Tensor, nn

GROUPS = 32


@dataclass(frozen=True)
class Memory:
    """What an attention layer needs of its context, independent of the query: computed once, used at every step.

    With a single token the softmax has one key and equals 1, so the layer's whole output is known beforehand:
    `keys` is None and `values` holds `to_out(to_v(token))`, shape (batch, 1, width); or (batch, positions, width) if
    every position has a token of its own.
    """

    keys: Float[Tensor, "batch heads tokens head_width"] | None
    values: Tensor

    def repeat_rows(self, times: int) -> Memory:
        """The same memory with every row repeated, for hidden states that fold frames into the batch."""
        keys = None if self.keys is None else self.keys.repeat_interleave(times, dim=0)
        return Memory(keys, self.values.repeat_interleave(times, dim=0))

    def part(self, index: int, parts: int) -> Memory:
        """One of `parts` equal numbers of rows."""
        keys = None if self.keys is None else self.keys.chunk(parts)[index]
        return Memory(keys, self.values.chunk(parts)[index])


Memories = dict[nn.Module, Memory]
"""Per attending module (transformer or connector) its prepared context."""


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with all weights at zero: a residual branch that ends in it adds nothing until it is trained."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class TimeEmbedding(nn.Module):
    """Sinusoids of the timestep (cosines first), then two linear layers."""

    def __init__(self, width: int, embedding_width: int):
        super().__init__()
        self.width = width
        self.linear_1 = nn.Linear(width, embedding_width)
        self.linear_2 = nn.Linear(embedding_width, embedding_width)

    def forward(self, timestep: Shaped[Tensor, "batch"], like: Tensor) -> Float[Tensor, "batch embedding"]:
        """`like` gives the dtype to compute in; the sinusoids themselves are always made in float32."""
        waves = get_timestep_embedding(timestep, self.width, flip_sin_to_cos=True, downscale_freq_shift=0)
        return self.linear_2(functional.silu(self.linear_1(waves.to(like.dtype))))


class Attention(nn.Module):
    """Multi-head attention; queries and output without and with bias as in Stable Diffusion 1."""

    def __init__(self, width: int, context_width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context_width, width, bias=False)
        self.to_v = nn.Linear(context_width, width, bias=False)
        self.to_out = nn.Linear(width, width)

    def _split(self, rows: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch heads tokens part"]:
        return rows.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def prepare_each(self, context: Float[Tensor, "batch tokens context_width"]) -> Memory:
        return Memory(None, self.to_out(self.to_v(context)))

    def prepare(self, context: Float[Tensor, "batch tokens context_width"]) -> Memory:
        if context.shape[1] == 1:
            return self.prepare_each(context)
        return Memory(self._split(self.to_k(context)), self._split(self.to_v(context)))

    def forward(self, hidden: Float[Tensor, "rows positions width"], memory: Memory) -> Tensor:
        """What to add to `hidden`. A memory of fewer rows serves several consecutive rows each (frames)."""
        if len(memory.values) != len(hidden):
            memory = memory.repeat_rows(len(hidden) // len(memory.values))
        if memory.keys is None:
            return memory.values
        query = self._split(self.to_q(hidden))
        mixed = functional.scaled_dot_product_attention(query, memory.keys, memory.values)
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class GatedFeedForward(nn.Module):
    """GEGLU: the second half of the first projection gates the first."""

    def __init__(self, width: int):
        super().__init__()
        self.proj_in = nn.Linear(width, 8 * width)
        self.proj_out = nn.Linear(4 * width, width)

    def forward(self, hidden: Float[Tensor, "rows positions width"]) -> Float[Tensor, "rows positions width"]:
        value, gate = self.proj_in(hidden).chunk(2, dim=-1)
        return self.proj_out(value * functional.gelu(gate))


class Transformer(nn.Module):
    """Self-attention, attention over a context, feed-forward, on the positions of a feature map.

    Serves as the diffusers' own transformer (context: the prompt) and as connector (context: environments).
    """

    def __init__(self, width: int, context_width: int, heads: int):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width, eps=1e-6)
        self.proj_in = nn.Linear(width, width)
        self.norm_self = nn.LayerNorm(width)
        self.self_attention = Attention(width, width, heads)
        self.norm_cross = nn.LayerNorm(width)
        self.cross_attention = Attention(width, context_width, heads)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = GatedFeedForward(width)
        self.proj_out = nn.Linear(width, width)

    def prepare(self, context: Float[Tensor, "batch tokens context_width"]) -> Memory:
        return self.cross_attention.prepare(context)

    def prepare_each(self, context: Float[Tensor, "batch tokens context_width"]) -> Memory:
        """For positions that attend to one of the tokens each."""
        return self.cross_attention.prepare_each(context)

    def forward(
        self, hidden: Float[Tensor, "rows width height breadth"], memory: Memory
    ) -> Float[Tensor, "rows width height breadth"]:
        tokens = self.proj_in(self.norm(hidden).flatten(2).transpose(1, 2))
        normed = self.norm_self(tokens)
        tokens = tokens + self.self_attention(normed, self.self_attention.prepare(normed))
        tokens = tokens + self.cross_attention(self.norm_cross(tokens), memory)
        tokens = tokens + self.feed_forward(self.norm_feed_forward(tokens))
        return hidden + self.proj_out(tokens).transpose(1, 2).unflatten(2, hidden.shape[2:])


class ResidualBlock(nn.Module):
    """Two mixing layers with the timestep added in between.

    `mixing` builds the layers that mix channels (3×3 convolution or linear), `shortcut` the one that adapts the
    skip path; it exists only if the number of channels changes.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        embedding_width: int,
        mixing: Callable[[int, int], nn.Module],
        shortcut: Callable[[int, int], nn.Module],
    ):
        super().__init__()
        before, after = channels
        self.norm_in = nn.GroupNorm(GROUPS, before)
        self.mix_in = mixing(before, after)
        self.time_projection = nn.Linear(embedding_width, after)
        self.norm_out = nn.GroupNorm(GROUPS, after)
        self.mix_out = mixing(after, after)
        self.shortcut = shortcut(before, after) if before != after else nn.Identity()

    def forward(self, hidden: Tensor, embedding: Float[Tensor, "rows embedding"]) -> Tensor:
        inner = self.mix_in(functional.silu(self.norm_in(hidden)))
        time = self.time_projection(functional.silu(embedding))
        inner = inner + time.reshape(*time.shape, *(1,) * (inner.ndim - 2))
        return self.shortcut(hidden) + self.mix_out(functional.silu(self.norm_out(inner)))


class VectorResidualBlock(ResidualBlock):
    """A residual block on (rows, channels, slots, 1): all channels of all slots are mixed."""

    def forward(self, hidden: Tensor, embedding: Float[Tensor, "rows embedding"]) -> Tensor:
        slots = hidden.shape[2]
        return super().forward(hidden.flatten(1), embedding).unflatten(1, (-1, slots, 1))


class Upsample(nn.Module):
    """Nearest neighbour ×2, then a 3×3 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, hidden: Float[Tensor, "rows c h w"]) -> Float[Tensor, "rows c h2 w2"]:
        return self.conv(functional.interpolate(hidden, scale_factor=2.0, mode="nearest"))


class VectorLinear(nn.Module):
    """A linear layer over all channels and slots of a vector state; stands in for stem and resampling."""

    def __init__(self, channels: tuple[int, int], slots: int, *, stem: bool = False):
        super().__init__()
        before, after = channels
        self.slots = slots
        self.linear = nn.Linear(before if stem else before * slots, after * slots)

    def forward(self, hidden: Tensor) -> Float[Tensor, "rows channels slots 1"]:
        return self.linear(hidden.flatten(1)).unflatten(1, (-1, self.slots, 1))


class Head(nn.Module):
    """Group norm, SiLU and a last layer to the width that is asked for."""

    def __init__(self, channels: int, last: nn.Module):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.last = last

    def forward(self, hidden: Tensor) -> Tensor:
        return self.last(functional.silu(self.norm(hidden)))


class SpatialLayers:
    """Makes the layers of a diffuser whose latent is a map: pictures, frames, spectrograms."""

    def _conv(self, before: int, after: int) -> nn.Module:
        return nn.Conv2d(before, after, 3, padding=1)

    def stem(self, before: int, after: int) -> nn.Module:
        return self._conv(before, after)

    def residual(self, before: int, after: int, embedding_width: int) -> ResidualBlock:
        def shortcut(a: int, b: int) -> nn.Module:
            return nn.Conv2d(a, b, 1)

        return ResidualBlock((before, after), embedding_width, self._conv, shortcut)

    def downsample(self, channels: int) -> nn.Module:
        return nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def upsample(self, channels: int) -> nn.Module:
        return Upsample(channels)

    def head(self, before: int, after: int) -> nn.Module:
        return Head(before, self._conv(before, after))


class VectorLayers:
    """Makes the layers of a diffuser whose latent is one vector (text), kept as `slots` tokens inside."""

    def __init__(self, slots: int):
        self.slots = slots

    def stem(self, before: int, after: int) -> nn.Module:
        return VectorLinear((before, after), self.slots, stem=True)

    def residual(self, before: int, after: int, embedding_width: int) -> ResidualBlock:
        linear, slots = nn.Linear, self.slots
        channels = (before * slots, after * slots)
        return VectorResidualBlock(channels, embedding_width, linear, linear)

    def downsample(self, channels: int) -> nn.Module:
        return VectorLinear((channels, channels), self.slots)

    def upsample(self, channels: int) -> nn.Module:
        return VectorLinear((channels, channels), self.slots)

    def head(self, before: int, after: int) -> nn.Module:
        last = nn.Sequential(nn.Flatten(), nn.Linear(before * self.slots, after))
        return Head(before, last)
