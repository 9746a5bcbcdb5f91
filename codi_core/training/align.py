"""Stage `align`: environment encoders and connectors, on pairs of modalities (CoDi paper, Latent Alignment)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..modality import Modality
from ..models.environment import whole
from ..models.joint import JointDenoiser
from ..models.unet import UNet
from ..processes import gathered, processes
from .diffuse import draw_timesteps, mixed_prompts, pick
from .losses import diffusion_loss
from .pairs import Columns

CONTRAST_WEIGHT = 0.05
CONTRAST_TEMPERATURE = 0.1
CONTRASTED = 4
"""Times as many samples as are denoised: V takes little of a step's time, and contrast lives by numbers."""
EMPTY = 0.5
"""Share of rows whose prompt says nothing at all."""


@dataclass(frozen=True)
class AlignStep:
    """pair: the modalities that are denoised together. trained: whose V and connectors learn; others' are frozen."""

    pair: tuple[Modality, Modality]
    trained: tuple[Modality, ...]


ALIGN_STEPS = (
    AlignStep((Modality.IMAGE, Modality.TEXT), (Modality.IMAGE, Modality.TEXT)),
    AlignStep((Modality.AUDIO, Modality.TEXT), (Modality.AUDIO,)),
    AlignStep((Modality.VIDEO, Modality.AUDIO), (Modality.VIDEO,)),
)
"""In this order: a linear number of pairs, after which any set of outputs can be denoised together."""


def weighted_contrast(
    first: Float[Tensor, "batch width"],
    second: Float[Tensor, "batch width"],
    weights: Float[Tensor, "batch"],
) -> Float[Tensor, ""]:
    """InfoNCE between the environments of the pair, both directions; rows whose latents are mostly noise count less."""
    forth = first.float() @ gathered(second.float()).T / CONTRAST_TEMPERATURE
    back = second.float() @ gathered(first.float()).T / CONTRAST_TEMPERATURE
    place = processes()
    target = torch.arange(len(forth), device=forth.device) + place.process_index * len(forth)
    losses = functional.cross_entropy(forth, target, reduction="none")
    losses = losses + functional.cross_entropy(back, target, reduction="none")
    # The mean over all processes, of whose losses the mean is taken, is that over all rows.
    return (losses * weights).sum() * place.num_processes / gathered(weights).sum() / 2


class AlignObjective(nn.Module):
    """Diffusion losses of both directions plus the contrast between V of the pair; the trunks stay frozen."""

    def __init__(
        self,
        step: AlignStep,
        diffusers: Mapping[Modality, UNet],
        scheduler: Any,
        table: Columns,
        nulls: Mapping[Modality, Float[Tensor, "width"]],
    ):
        super().__init__()
        self.diffusers = nn.ModuleDict({str(modality): diffusers[modality] for modality in step.pair})
        self.diffusers.requires_grad_(False)
        for modality in step.trained:
            for module in (diffusers[modality].environment_encoder, *diffusers[modality].connectors()):
                assert module is not None, "this diffuser has no environment encoder to train"
                module.requires_grad_(True)
        self.denoiser = JointDenoiser({modality: diffusers[modality] for modality in step.pair})
        self.pair = step.pair
        self.prompts = [modality for modality in Modality if f"prompt_{modality}" in table]
        self.scheduler = scheduler
        self.table = table
        self.nulls = nulls

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Any]:
        """Prompts are captions that leave facts open, or empty: what is open only the other output can tell."""
        rows, noised = self._noised(count, generator)
        noised["timestep"] = draw_timesteps(count, generator)
        prompts = torch.stack([pick(self.table[f"prompt_{kind}"], rows, generator) for kind in self.prompts], dim=1)
        empty = torch.rand(count, 1, 1, generator=generator) < EMPTY
        nulls = torch.stack([self.nulls[kind] for kind in self.prompts])
        prompts = torch.where(empty, nulls[None], prompts)
        _, contrasted = self._noised(count * CONTRASTED, generator)
        # Each side has timesteps of its own: partners that share theirs are found by the timestep alone.
        contrasted["timestep"] = {modality: draw_timesteps(count * CONTRASTED, generator) for modality in self.pair}
        return {**noised, "context": mixed_prompts(prompts, nulls, generator), "contrasted": contrasted}

    def _noised(self, count: int, generator: torch.Generator) -> tuple[Int[Tensor, "count"], dict[str, Any]]:
        """Rows of the table, and what their noisy latents are made of."""
        rows = torch.randint(len(self.table[f"latent_{self.pair[0]}"]), (count,), generator=generator)
        clean = {modality: self.table[f"latent_{modality}"][rows].float() for modality in self.pair}
        noise = {modality: torch.randn(each.shape, generator=generator) for modality, each in clean.items()}
        return rows, {"clean": clean, "noise": noise}

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        context: Tensor = batch["context"]
        contexts = dict.fromkeys(self.pair, context)
        crossed = diffusion_loss(
            self.denoiser, self.scheduler, batch["clean"], batch["noise"], batch["timestep"], contexts
        )
        contrast = self._contrast(**batch["contrasted"])
        return {"loss": crossed + CONTRAST_WEIGHT * contrast, "crossed": crossed, "contrast": contrast}

    def _contrast(
        self, clean: Mapping[Modality, Tensor], noise: Mapping[Modality, Tensor], timestep: Mapping[Modality, Tensor]
    ) -> Float[Tensor, ""]:
        tokens, signal = [], torch.ones(())
        for modality in self.pair:
            noisy = self.scheduler.add_noise(clean[modality], noise[modality], timestep[modality])
            tokens.append(whole(self.denoiser.diffusers[modality].encode_environment(noisy, timestep[modality]))[:, 0])
            signal = signal * self.scheduler.alphas_cumprod.to(noisy.device)[timestep[modality]]
        first, second = tokens
        return weighted_contrast(first, second, signal)
