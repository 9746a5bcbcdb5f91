"""The way to ComfyUI's own samplers and back: MODEL, CONDITIONING, NOISE and LATENT of what CoDi has."""

from __future__ import annotations

from typing import Any

import torch

from ..codi_core.errors import ConfigError, choose
from ..codi_core.geometry import filled, latent_shape
from ..codi_core.modality import Modality
from ..codi_core.native import MODALITIES, SECONDS, from_grid, in_rows, modalities_in, to_grid
from ..codi_core.pipeline import CoDiPipeline
from ..codi_core.values import Condition, Latents
from .host import (
    CoDiCondition,
    CoDiLatents,
    CoDiModel,
    io,
    native_model,
    native_noise,
    nested,
    schema,
    unnested,
)
from .sample import choice_inputs, output_size, seed_input, size_inputs


def to_latent(latents: Latents) -> dict[str, Any]:
    """LATENT on the CPU: the modalities in their usual order, text with an axis more.

    Where any of them has a mask, there are masks for all, and those without one are kept.
    """
    made = [modality for modality in Modality if modality in latents.samples]
    # The host joins all the samples before it moves them.
    samples = [to_grid(modality, latents.samples[modality]).cpu() for modality in made]
    told: dict[str, Any] = {"samples": nested(samples), MODALITIES: made, SECONDS: latents.seconds}
    if latents.masks:
        masks = [latents.masks.get(modality, torch.zeros(())) for modality in made]
        told["noise_mask"] = nested(
            [mask.cpu().expand_as(sample).contiguous() for sample, mask in zip(samples, masks, strict=True)]
        )
    return told


def from_latent(latent: dict[str, Any]) -> Latents:
    """The inverse of `to_latent`, without masks. Raises ShapeError for a LATENT of another kind."""
    samples = zip(modalities_in(latent), unnested(latent["samples"]), strict=True)
    return Latents({modality: from_grid(modality, sample) for modality, sample in samples}, latent[SECONDS])


class NativeModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="NativeModel",
            display_name="Native Model",
            description="CoDi for KSampler and all of ComfyUI's other samplers, schedulers and guiders: the chosen "
            "outputs are denoised together as one latent.",
            inputs=[
                CoDiModel.Input(
                    "model",
                    tooltip="The model from Load CoDi. Of its alignments, mutual has no effect, and both is paper.",
                ),
                CoDiCondition.Input("condition", tooltip="What to make, from Encode Modality or a mixture."),
                *choice_inputs(),
                *size_inputs(),
                CoDiLatents.Input(
                    "known",
                    optional=True,
                    tooltip="Latents to start from, for samplers with a denoise below 1. Without: empty ones.",
                ),
            ],
            outputs=[
                io.Model.Output("native_model", tooltip="MODEL, for samplers and guiders."),
                io.Conditioning.Output("positive", tooltip="CONDITIONING: the condition."),
                io.Conditioning.Output("negative", tooltip="CONDITIONING: what guidance moves away from."),
                io.Latent.Output("latent", tooltip="LATENT: what is known, else empty; one batch row per condition."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: CoDiPipeline,
        condition: Condition,
        width: int = 0,
        height: int = 0,
        frames: int = 0,
        seconds: float = 0.0,
        known: Latents | None = None,
        **chosen: bool,
    ) -> io.NodeOutput:
        known = Latents({}) if known is None else known
        outputs = [
            choose("modality", str(modality), model.config.modalities)
            for modality in Modality
            if chosen[modality] or modality in known.samples
        ]
        if not outputs:
            raise ConfigError(f"wanted at least one output, got none; switch on one of {', '.join(Modality)}")
        size = filled(model.config, output_size(width, height, frames, seconds), known, outputs)
        rows = len(condition.embedding)
        made = [modality for modality in outputs if modality not in known.samples]
        start = {modality: torch.zeros(rows, *latent_shape(model.config, modality, size)) for modality in made}
        start |= {modality: in_rows(modality, latent, rows) for modality, latent in known.samples.items()}
        masks = {**dict.fromkeys(made, torch.ones(())), **known.masks} if known.masks else {}
        told = [model.tell(condition, modality) for modality in outputs]
        return io.NodeOutput(
            native_model(model, outputs),
            [[torch.cat([each.embedding for each in told], dim=1), {}]],
            [[torch.cat([each.null for each in told], dim=1), {}]],
            to_latent(Latents(start, size.seconds, masks)),
        )


class NativeNoise(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="NativeNoise",
            display_name="Native Noise",
            description="Noise for SamplerCustomAdvanced that is the same as Joint Sampler's: each modality has its "
            "own, so adding one leaves that of the others as it was.",
            inputs=[seed_input("Start of the noise.")],
            outputs=[io.Noise.Output("noise", tooltip="NOISE, for SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, seed: int) -> io.NodeOutput:
        return io.NodeOutput(native_noise(seed))


class LatentsFromNative(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LatentsFromNative",
            display_name="Latents from Native",
            description="What one of ComfyUI's samplers made of a Native Model, for the Decode nodes.",
            inputs=[io.Latent.Input("latent", tooltip="LATENT of a sampler that had Native Model's.")],
            outputs=[CoDiLatents.Output("latents", tooltip="For the Decode nodes, or to start another run from.")],
        )

    @classmethod
    def execute(cls, latent: dict[str, Any]) -> io.NodeOutput:
        return io.NodeOutput(from_latent(latent))


class SplitLatents(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SplitLatents",
            display_name="Split Latents",
            description="One modality's latents out of several.",
            inputs=[
                CoDiLatents.Input("latents", tooltip="From a Joint Sampler, Encode to Latents or Latents from Native."),
                io.Combo.Input("modality", options=list(map(str, Modality)), tooltip="Which one to take."),
            ],
            outputs=[
                CoDiLatents.Output("chosen", tooltip="That modality alone."),
                CoDiLatents.Output("others", tooltip="All the others."),
            ],
        )

    @classmethod
    def execute(cls, latents: Latents, modality: str) -> io.NodeOutput:
        return io.NodeOutput(*latents.split(Modality(modality)))


class JoinLatents(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="JoinLatents",
            display_name="Join Latents",
            description="Latents of several modalities together; where both hold the same one, the second's.",
            inputs=[
                CoDiLatents.Input("first", tooltip="Latents of some modalities."),
                CoDiLatents.Input("second", tooltip="Latents of others."),
            ],
            outputs=[CoDiLatents.Output("latents", tooltip="Both.")],
        )

    @classmethod
    def execute(cls, first: Latents, second: Latents) -> io.NodeOutput:
        return io.NodeOutput(first.joined(second))
