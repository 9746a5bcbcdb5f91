"""The diffuser of one modality: one U-shape for pictures, videos, spectrograms and text vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ..errors import ConfigError, ShapeError, choose
from .environment import EnvironmentEncoder, TimeAxis, at_moments, pool_environment, whole
from .layers import Memories, Memory, SpatialLayers, TimeEmbedding, Transformer, VectorLayers, zeroed
from .temporal import MAXIMUM_FRAMES, TemporalModule, TemporalNormalization

DEEPEST_SKIPS = ("input", "middle")


class Unit(nn.Module):
    """What stands between two skip connections; every piece but the residual block is optional.

    residual → temporal (video only) → transformer (prompt) → upsample → connector (environments, joint runs only)
    """

    def __init__(
        self,
        residual: nn.Module,
        temporal: TemporalModule | None = None,
        transformer: Transformer | None = None,
        upsample: nn.Module | None = None,
        connector: Transformer | None = None,
    ):
        super().__init__()
        self.residual = residual
        self.temporal = temporal
        self.transformer = transformer
        self.upsample = upsample
        self.connector = connector

    def forward(self, hidden: Tensor, embedding: Tensor, memories: Memories, frames: int | None) -> Tensor:
        hidden = self.residual(hidden, embedding)
        if self.temporal is not None and frames is not None:
            hidden = self.temporal(hidden, frames)
        if self.transformer is not None:
            hidden = self.transformer(hidden, memories[self.transformer])
        if self.upsample is not None:
            hidden = self.upsample(hidden)
        if self.connector is not None and self.connector in memories:
            hidden = self.connector(hidden, at_positions(memories[self.connector], hidden, frames))
        return hidden


def at_positions(memory: Memory, hidden: Float[Tensor, "rows c h w"], frames: int | None) -> Memory:
    """Of moments those at which each position of a video's frames, or of a map whose height is time, lies."""
    if memory.keys is not None or memory.values.shape[1] == 1:
        return memory
    if frames is not None:
        return Memory(None, at_moments(memory.values, frames).flatten(0, 1)[:, None])
    height, width = hidden.shape[2:]
    return Memory(None, at_moments(memory.values, height).repeat_interleave(width, dim=1))


class DownLevel(nn.Module):
    """The units of one resolution on the way down, then a downsampling (all but the deepest level)."""

    def __init__(self, units: Sequence[Unit], downsample: nn.Module | None):
        super().__init__()
        self.units = nn.ModuleList(units)
        self.downsample = downsample

    def forward(self, hidden: Tensor, embedding: Tensor, memories: Memories, frames: int | None) -> list[Tensor]:
        """Every feature that the way up will see again; the last one goes on down."""
        features = []
        for unit in self.units:
            hidden = unit(hidden, embedding, memories, frames)
            features.append(hidden)
        return features if self.downsample is None else [*features, self.downsample(hidden)]


class UpLevel(nn.Module):
    """The units of one resolution on the way up; the last one of all but the first level upsamples."""

    def __init__(self, units: Sequence[Unit]):
        super().__init__()
        self.units = nn.ModuleList(units)

    def forward(
        self, hidden: Tensor, skips: list[Tensor], embedding: Tensor, memories: Memories, frames: int | None
    ) -> Tensor:
        """Takes one of the skips, from the end, for each unit."""
        for unit in self.units:
            hidden = unit(torch.cat([hidden, skips.pop()], dim=1), embedding, memories, frames)
        return hidden


class UNet(ModelMixin, ConfigMixin):
    """Predicts the noise in a latent, attending to a prompt and, in joint runs, to the other outputs' environments.

    latent_channels: channels of the latent; for text the width of the vector. slots: None for latents that are maps;
    for text the number of tokens the vector is cut into. width, multipliers: channels at the first level, and the
    factor at each. units: per level on the way down; one more on the way up. transformer_levels, connector_levels:
    which levels hold them. temporal: normalisation axis of the temporal modules ("frames", "channels"), None without
    any. environment: {"width", "multipliers"} of V, None if this diffuser has neither V nor connectors; with
    {"time_axis"} ("frames", or "height" of spectrograms) V keeps a token per moment, and connectors attend to the
    others' tokens moment by moment.
    deepest_skip: "input" feeds the first block of the way up with the last feature of the way down; "middle" with the
    middle block's output a second time, as the released model runs.
    """

    @register_to_config
    def __init__(
        self,
        *,
        latent_channels: int,
        width: int,
        multipliers: Sequence[int],
        units: Sequence[int],
        transformer_levels: Sequence[bool],
        connector_levels: Sequence[bool],
        context_width: int,
        heads: int = 8,
        slots: int | None = None,
        temporal: str | None = None,
        environment: Mapping[str, Any] | None = None,
        deepest_skip: str = "input",
    ):
        super().__init__()
        choose("deepest_skip", deepest_skip, DEEPEST_SKIPS)
        lengths = {len(multipliers), len(units), len(transformer_levels), len(connector_levels)}
        if len(lengths) > 1:
            raise ConfigError(
                "multipliers, units, transformer_levels and connector_levels must name the same levels, got lengths "
                f"{len(multipliers)}, {len(units)}, {len(transformer_levels)}, {len(connector_levels)}"
            )
        layers = SpatialLayers() if slots is None else VectorLayers(slots)
        normalization = None if temporal is None else choose("temporal", temporal, TemporalNormalization)
        embedding_width = 4 * width

        def residual(before: int, after: int) -> dict[str, Any]:
            time = None if normalization is None else TemporalModule(after, normalization)
            return {"residual": layers.residual(before, after, embedding_width), "temporal": time}

        def attending(channels: int, level: int) -> dict[str, Any]:
            pieces: dict[str, Any] = {}
            if transformer_levels[level]:
                pieces["transformer"] = Transformer(channels, context_width, heads)
            if environment is not None and connector_levels[level]:
                connector = Transformer(channels, environment["width"], heads)
                zeroed(connector.proj_out)
                pieces["connector"] = connector
            return pieces

        self.time_embedding = TimeEmbedding(width, embedding_width)
        self.stem = layers.stem(latent_channels, width)
        self.down = nn.ModuleList()
        channels, skips, deepest = width, [width], len(multipliers) - 1
        for level, multiplier in enumerate(multipliers):
            level_units = []
            for _ in range(units[level]):
                after = width * multiplier
                level_units.append(Unit(**residual(channels, after), **attending(after, level)))
                channels = after
                skips.append(channels)
            downsample = layers.downsample(channels) if level < deepest else None
            if downsample is not None:
                skips.append(channels)
            self.down.append(DownLevel(level_units, downsample))

        middle = Transformer(channels, context_width, heads)
        self.middle_first = Unit(**residual(channels, channels), transformer=middle)
        self.middle_last = Unit(**residual(channels, channels))

        self.up = nn.ModuleList()
        for level in reversed(range(len(multipliers))):
            level_units = []
            for index in range(units[level] + 1):
                after = width * multipliers[level]
                last = index == units[level] and level > 0
                level_units.append(
                    Unit(
                        **residual(channels + skips.pop(), after),
                        **attending(after, level),
                        upsample=layers.upsample(after) if last else None,
                    )
                )
                channels = after
            self.up.append(UpLevel(level_units))
        self.head = layers.head(channels, latent_channels)
        self.environment_encoder = self.time_axis = None
        if environment is not None:
            axis = environment.get("time_axis")
            self.time_axis = None if axis is None else choose("time_axis", axis, TimeAxis)
            self.environment_encoder = EnvironmentEncoder(
                layers,
                latent_channels,
                width,
                environment["multipliers"],
                embedding_width,
                environment["width"],
                normalization,
            )

    def _modules_named(self, name: str) -> Iterator[Transformer]:
        for module in self.modules():
            if isinstance(module, Unit) and getattr(module, name) is not None:
                yield getattr(module, name)

    def connectors(self) -> list[Transformer]:
        """The connector of every unit that has one: with `environment_encoder`, what latent alignment trains."""
        return list(self._modules_named("connector"))

    def prepare_context(self, context: Float[Tensor, "batch tokens context_width"]) -> Memories:
        """What the transformers need of a prompt; once per run."""
        return {module: module.prepare(context) for module in self._modules_named("transformer")}

    def prepare_environment(self, environment: Float[Tensor, "batch moments environment_width"]) -> Memories:
        """What the connectors need of the environments; once per step. Without a time axis they see them as a whole."""
        tokens = whole(environment) if self.time_axis is None else environment
        return {module: module.prepare_each(tokens) for module in self._modules_named("connector")}

    def _fold(
        self, latent: Tensor, timestep: Shaped[Tensor, "batch"]
    ) -> tuple[Tensor, Float[Tensor, "rows embedding"], int | None]:
        """Rows with the frames of a video folded in, the time embedding of each row, and the number of frames."""
        embedding = self.time_embedding(timestep, latent)
        if latent.ndim != 5:
            return latent, embedding, None
        frames = latent.shape[2]
        if frames > MAXIMUM_FRAMES:
            raise ShapeError(
                f"this diffuser makes at most {MAXIMUM_FRAMES} frames at once, got {frames}; ask for fewer"
            )
        return latent.transpose(1, 2).flatten(0, 1), embedding.repeat_interleave(frames, dim=0), frames

    def environment_map(self, latent: Tensor, timestep: Shaped[Tensor, "batch"]) -> Tensor:
        """The environment encoder's features before pooling; for video (batch × frames, width, h, w)."""
        assert self.environment_encoder is not None, "this diffuser has no environment encoder"
        return self.environment_encoder(*self._fold(latent, timestep))

    def encode_environment(
        self, latent: Tensor, timestep: Shaped[Tensor, "batch"]
    ) -> Float[Tensor, "batch moments environment_width"]:
        """V(z): a unit token that tells the other diffusers what this one is making; with a time axis, when."""
        frames = latent.shape[2] if latent.ndim == 5 else None
        return pool_environment(self.environment_map(latent, timestep), frames, self.time_axis)

    def forward(self, latent: Tensor, timestep: Shaped[Tensor, "batch"], memories: Memories) -> Tensor:
        """The noise in `latent`: (b, c, h, w), video (b, c, f, h, w), text (b, width).

        memories: of `prepare_context`, and in joint runs also of `prepare_environment`; connectors without a memory
        do not act.
        """
        hidden, embedding, frames = self._fold(latent, timestep)
        skips = [self.stem(hidden)]
        for level in self.down:
            skips += level(skips[-1], embedding, memories, frames)
        hidden = self.middle_first(skips[-1], embedding, memories, frames)
        hidden = self.middle_last(hidden, embedding, memories, frames)
        if self.config["deepest_skip"] == "middle":
            skips[-1] = hidden
        for level in self.up:
            hidden = level(hidden, skips, embedding, memories, frames)
        noise = self.head(hidden)
        return noise if frames is None else noise.unflatten(0, (-1, frames)).transpose(1, 2)
