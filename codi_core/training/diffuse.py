"""Stage `diffuse`: one diffuser per modality, trained alone on its own pairs (CoDi paper, individual diffusion)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ..modality import Modality
from ..models.joint import JointDenoiser
from ..models.unet import UNet
from ..sampling import TRAINING_TIMESTEPS
from .losses import diffusion_loss
from .pairs import Columns

DROPPED = 0.1
"""Share of rows whose prompt is replaced by the empty one, for classifier-free guidance."""

MODALITY_GAP = 0.8
"""Between the means of codi-mini's prompt embeddings, which have unit length, as far as it was measured."""

TIMESTEP_SHIFT: dict[Modality, float] = {
    Modality.TEXT: 1.0,
    Modality.IMAGE: 1.0,
    Modality.VIDEO: 3.0,
    Modality.AUDIO: 2.0,
}
"""Frames of a video and moments of a sound repeat one another, so it takes more noise to hide what they have in common,
and how they go on is decided where in a picture all is still open."""

PROMPTED_BY: dict[Modality, tuple[Modality, ...]] = {
    Modality.TEXT: (Modality.TEXT, Modality.IMAGE, Modality.VIDEO, Modality.AUDIO),
    Modality.IMAGE: (Modality.TEXT, Modality.IMAGE),
    Modality.VIDEO: (Modality.TEXT, Modality.VIDEO),
    Modality.AUDIO: (Modality.TEXT, Modality.AUDIO),
}
"""The prompts a diffuser sees in training: its own modality and text, so only pairs with text are ever used."""


def mixed_prompts(
    prompts: Float[Tensor, "batch kinds width"],
    nulls: Float[Tensor, "kinds width"],
    generator: torch.Generator,
) -> Float[Tensor, "batch 1 width"]:
    """Contexts: mostly one kind of prompt, at times a mixture by random weights; some rows empty."""
    batch, kinds = prompts.shape[:2]
    weights = torch.rand(batch, kinds, generator=generator) * (torch.rand(batch, kinds, generator=generator) < 0.5)
    alone = torch.nn.functional.one_hot(torch.randint(kinds, (batch,), generator=generator), kinds).float()
    single = torch.rand(batch, 1, generator=generator) < 0.7
    weights = torch.where(single | (weights.sum(dim=1, keepdim=True) == 0), alone, weights)
    weights = (weights / weights.sum(dim=1, keepdim=True)).to(prompts.device)
    dropped = (torch.rand(batch, 1, 1, generator=generator) < DROPPED).to(prompts.device)
    rows = torch.where(dropped, nulls[None].expand_as(prompts), prompts)
    return (weights[:, :, None] * rows).sum(dim=1, keepdim=True)


def displacements(rows: int, width: int, generator: torch.Generator) -> Float[Tensor, "rows 1 width"]:
    """Up to MODALITY_GAP long, each in a direction of its own.

    Prompt embeddings of each modality lie in a cone of their own (Liang et al., Mind the Gap, 2022), and a diffuser
    meets two of the four in training. Moved by these, it learns not to heed where the cone lies.
    """
    direction = functional.normalize(torch.randn(rows, 1, width, generator=generator), dim=-1)
    return MODALITY_GAP * torch.rand(rows, 1, 1, generator=generator) * direction


def draw_timesteps(count: int, generator: torch.Generator, shift: float = 1.0) -> Int[Tensor, "batch"]:
    """shift: above 1 more of the noisy ones; 1: all equally often (Esser et al., Scaling Rectified Flow Transformers,
    2024, formula 23)."""
    share = torch.rand(count, generator=generator)
    return (shift * share / (1 + (shift - 1) * share) * TRAINING_TIMESTEPS).long().clamp(max=TRAINING_TIMESTEPS - 1)


def pick(column: Tensor, rows: Int[Tensor, "batch"], generator: torch.Generator) -> Tensor:
    """One of each row's prompts (captions come several to a sample)."""
    choice = torch.randint(column.shape[1], rows.shape, generator=generator)
    return column[rows, choice].float()


class DiffusionObjective(nn.Module):
    """The diffusion loss of one modality on a table of latents and prompts.

    tables: one, or for text one per modality it is prompted by, since captions speak of what that modality shows.
    """

    def __init__(
        self,
        modality: Modality,
        diffuser: UNet,
        scheduler: Any,
        tables: list[tuple[tuple[Modality, ...], Columns]],
        nulls: dict[Modality, Float[Tensor, "width"]],
    ):
        super().__init__()
        self.diffuser = diffuser.requires_grad_(True)
        for module in (diffuser.environment_encoder, *diffuser.connectors()):
            if module is not None:
                module.requires_grad_(False)
        self.denoiser = JointDenoiser({modality: diffuser})
        self.modality = modality
        self.scheduler = scheduler
        self.tables = tables
        self.nulls = nulls

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Any]:
        kinds, table = self.tables[int(torch.randint(len(self.tables), (1,), generator=generator))]
        latents = table[f"latent_{self.modality}"]
        rows = torch.randint(len(latents), (count,), generator=generator)
        prompts = torch.stack([pick(table[f"prompt_{kind}"], rows, generator) for kind in kinds], dim=1)
        nulls = torch.stack([self.nulls[kind] for kind in kinds])
        clean = latents[rows].float()
        contexts = mixed_prompts(prompts, nulls, generator)
        return {
            "clean": clean,
            "noise": torch.randn(clean.shape, generator=generator),
            "timestep": draw_timesteps(count, generator, TIMESTEP_SHIFT[self.modality]),
            "context": contexts + displacements(count, contexts.shape[-1], generator),
        }

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        loss = diffusion_loss(
            self.denoiser,
            self.scheduler,
            {self.modality: batch["clean"]},
            {self.modality: batch["noise"]},
            batch["timestep"],
            {self.modality: batch["context"]},
        )
        return {"loss": loss}
