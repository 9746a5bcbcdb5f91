"""CoDi as one of ComfyUI's own models, so that its samplers, schedulers, guiders and masks work on it.

Imported by host.py, and only inside ComfyUI.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import comfy.conds
import comfy.model_base
import torch
from comfy.latent_formats import LatentFormat
from comfy.model_patcher import ModelPatcher
from comfy.nested_tensor import NestedTensor
from torch import Tensor

from ..codi_core.geometry import latent_shape
from ..codi_core.modality import Modality
from ..codi_core.native import from_grid, modalities_in, to_grid
from ..codi_core.pipeline import CoDiPipeline
from ..codi_core.sampling import noise_generator, starting_noise
from ..codi_core.values import OutputSize

UNCONDITIONAL = 1
"""How ComfyUI marks rows of the negative prompt."""
MEMORY_USAGE_FACTOR = 2.0
"""Bytes of activations per number of a latent, in ComfyUI's units; a guess on the safe side."""


def nested(tensors: list[Tensor]) -> Any:
    """Latents as ComfyUI's samplers take them: several as one nested tensor."""
    return tensors[0] if len(tensors) == 1 else NestedTensor(tensors)


def unnested(samples: Any) -> list[Tensor]:
    return samples.unbind() if getattr(samples, "is_nested", False) else [samples]


class _JointNetwork(torch.nn.Module):
    """All chosen diffusers behind the face of one. Holds no weights: the host manages each part's memory by itself."""

    dtype = torch.float32

    def __init__(self, pipeline: CoDiPipeline, outputs: list[Modality]) -> None:
        super().__init__()
        self.pipeline, self.outputs = pipeline, outputs

    def forward(
        self, latents: list[Tensor], timestep: Tensor, context: Tensor, transformer_options: Any, **_: Any
    ) -> list[Tensor] | Tensor:
        """Of a single latent the result comes without a list, as the host wants it. Rows: one block for each entry of
        its list of positive and negative prompts; in each a token for every output, in their order."""
        denoiser = self.pipeline.denoiser(self.outputs)
        blocks = transformer_options["cond_or_uncond"]
        made: dict[Modality, list[Tensor]] = {modality: [] for modality in self.outputs}
        given = dict(zip(self.outputs, latents, strict=True))
        for index, kind in enumerate(blocks):
            rows = {modality: from_grid(modality, each.chunk(len(blocks))[index]) for modality, each in given.items()}
            when, prompt = (each.chunk(len(blocks))[index] for each in (timestep, context))
            alone = denoiser.guided and kind == UNCONDITIONAL
            environments = {} if alone else denoiser.environments(rows, dict.fromkeys(rows, when))
            for (modality, row), told in zip(rows.items(), prompt.chunk(len(rows), dim=1), strict=True):
                memories = denoiser.prepare_context(modality, told)
                output = denoiser.denoise(modality, row, when, memories, environments)
                made[modality].append(to_grid(modality, output.float()))
        outputs = [torch.cat(made[modality]) for modality in self.outputs]
        return outputs if len(outputs) > 1 else outputs[0]


class _CoDiModel(comfy.model_base.BaseModel):
    def __init__(self, pipeline: CoDiPipeline, outputs: list[Modality], device: torch.device) -> None:
        schedule = pipeline.config.noise_schedule
        by_velocity = schedule["prediction_type"] == "v_prediction"
        latent_format = LatentFormat()
        # Empty latents with another number of channels are not taken as they are.
        latent_format.latent_channels = latent_shape(pipeline.config, outputs[0], OutputSize())[0]
        settings = SimpleNamespace(
            unet_config={"disable_unet_model_creation": True},
            latent_format=latent_format,
            manual_cast_dtype=None,
            custom_operations=None,
            optimizations={},
            memory_usage_factor=MEMORY_USAGE_FACTOR,
            sampling_settings={
                "linear_start": schedule["beta_start"],
                "linear_end": schedule["beta_end"],
                "zsnr": schedule.get("rescale_betas_zero_snr", False),
            },
        )
        kinds = comfy.model_base.ModelType
        super().__init__(settings, kinds.V_PREDICTION if by_velocity else kinds.EPS, device)
        self.diffusion_model = _JointNetwork(pipeline, outputs)

    def extra_conds(self, **given: Any) -> dict[str, Any]:
        # A run begins, for which other models may have been unloaded.
        self.diffusion_model.pipeline.parts.begin_stage()
        return {
            "c_crossattn": comfy.conds.CONDRegular(given["cross_attn"]),
            "latent_shapes": comfy.conds.CONDConstant(given["latent_shapes"]),
        }


def native_model(pipeline: CoDiPipeline, outputs: list[Modality], idle_device: torch.device) -> ModelPatcher:
    """A MODEL that denoises these outputs together; in this order they stand in LATENTs."""
    return ModelPatcher(_CoDiModel(pipeline, outputs, pipeline.parts.device), pipeline.parts.device, idle_device)


class NativeNoise:
    """A NOISE whose noise in each modality depends on the seed and that modality alone, as Joint Sampler's does."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def generate_noise(self, latent: dict[str, Any]) -> Any:
        """Raises ShapeError for a LATENT that doesn't say which modalities it holds."""
        tensors = []
        for modality, each in zip(modalities_in(latent), unnested(latent["samples"]), strict=True):
            tensors.append(starting_noise(each.shape[1:], len(each), noise_generator(self.seed, modality)))
        return nested(tensors)
