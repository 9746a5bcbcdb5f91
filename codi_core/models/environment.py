"""The environment encoder V of a diffuser: its noisy latent, projected into the space that all diffusers share."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

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
                    None if temporal is None else TemporalModule(after, temporal),
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


class TimeAxis(StrEnum):
    """Where time runs in a latent whose environment keeps it."""

    FRAMES = "frames"
    HEIGHT = "height"


def pool_environment(
    features: Float[Tensor, "rows width *map"], frames: int | None, time_axis: TimeAxis | None = None
) -> Float[Tensor, "batch moments width"]:
    """Tokens of unit L2 norm: the mean over all positions and frames, or, with a time axis, one for each moment."""
    pooled = features.flatten(2).mean(dim=2)[:, None] if features.ndim > 2 else features[:, None]
    if frames is not None:
        pooled = pooled[:, 0].unflatten(0, (-1, frames))
        if time_axis is not TimeAxis.FRAMES:
            pooled = pooled.mean(dim=1, keepdim=True)
    elif time_axis is TimeAxis.HEIGHT:
        pooled = features.mean(dim=3).transpose(1, 2)
    return pooled / pooled.norm(dim=-1, keepdim=True)


def whole(tokens: Float[Tensor, "batch moments width"]) -> Float[Tensor, "batch 1 width"]:
    """All moments in one token, of unit L2 norm."""
    return tokens if tokens.shape[1] == 1 else functional.normalize(tokens.mean(dim=1, keepdim=True), dim=-1)


def at_moments(tokens: Float[Tensor, "batch moments width"], count: int) -> Float[Tensor, "batch count width"]:
    """The tokens of a clip at `count` moments, evenly spread over the same time; interpolated in between."""
    if tokens.shape[1] == count:
        return tokens
    return functional.interpolate(tokens.transpose(1, 2), size=count, mode="linear").transpose(1, 2)
