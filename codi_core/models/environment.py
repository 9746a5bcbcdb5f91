"""The environment encoder V of a diffuser: its noisy latent, projected into the space that all diffusers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from .layers import ResidualBlock, SpatialLayers, VectorLayers
from .temporal import TemporalModule, TemporalNormalization


class EnvironmentStage(nn.Module):
    """One width of the encoder: residual block, temporal module (video), downsampling (all but the last stage)."""

    def __init__(self, residual: ResidualBlock, temporal: TemporalModule | None, downsample: nn.Module | None):
        super().__init__()
        self.residual = residual
        self.temporal = temporal
        self.downsample = downsample

    def forward(self, hidden: Tensor, embedding: Tensor, frames: int | None) -> Tensor:
        hidden = self.residual(hidden, embedding)
        if self.temporal is not None and frames is not None:
            hidden = self.temporal(hidden, frames)
        return hidden if self.downsample is None else self.downsample(hidden)


class EnvironmentEncoder(nn.Module):
    """V(z) of the paper: reads a noisy latent and the timestep, never the prompt."""

    def __init__(
        self,
        layers: SpatialLayers | VectorLayers,
        latent_channels: int,
        width: int,
        multipliers: Sequence[int],
        embedding_width: int,
        environment_width: int,
        temporal: TemporalNormalization | None,
        operations: Any = nn,
    ):
        super().__init__()
        self.stem = layers.stem(latent_channels, width // 2)
        self.stages = nn.ModuleList()
        before = width // 2
        for index, multiplier in enumerate(multipliers):
            after = width * multiplier
            self.stages.append(
                EnvironmentStage(
                    layers.residual(before, after, embedding_width),
                    None if temporal is None else TemporalModule(after, temporal, operations),
                    layers.downsample(after) if index < len(multipliers) - 1 else None,
                )
            )
            before = after
        self.head = layers.head(before, environment_width)

    def forward(self, latent: Tensor, embedding: Tensor, frames: int | None) -> Float[Tensor, "rows width *map"]:
        """The feature map before pooling; frames are folded into the rows."""
        hidden = self.stem(latent)
        for stage in self.stages:
            hidden = stage(hidden, embedding, frames)
        return self.head(hidden)


def pool_environment(features: Float[Tensor, "rows width *map"], frames: int | None) -> Float[Tensor, "batch 1 width"]:
    """The mean over all positions and frames, scaled to unit L2 norm: one token per latent."""
    pooled = features.flatten(2).mean(dim=2) if features.ndim > 2 else features
    if frames is not None:
        pooled = pooled.unflatten(0, (-1, frames)).mean(dim=1)
    return (pooled / pooled.norm(dim=-1, keepdim=True))[:, None]
