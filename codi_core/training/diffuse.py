"""Stage `diffuse`: one diffuser per modality, trained alone on its own pairs (CoDi paper, individual diffusion)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
MISFIT = 0.25
"""How far, at most, prompts of equal meaning are taken to lie apart when their cones are laid over one another."""

TIMESTEP_SHIFT: dict[Modality, float] = {
    Modality.TEXT: 1.0,
    Modality.IMAGE: 2.0,
    Modality.VIDEO: 3.0,
    Modality.AUDIO: 2.0,
}
"""Frames of a video and moments of a sound repeat one another, so it takes more noise to hide what they have in common,
and how they go on is decided where in a picture all is still open. A figure's size, too, is decided early."""

PROMPTED_BY: dict[Modality, tuple[Modality, ...]] = {
    Modality.TEXT: (Modality.TEXT, Modality.IMAGE, Modality.VIDEO, Modality.AUDIO),
    Modality.IMAGE: (Modality.TEXT, Modality.TEXT, Modality.IMAGE),
    Modality.VIDEO: (Modality.TEXT, Modality.TEXT, Modality.VIDEO),
    Modality.AUDIO: (Modality.TEXT, Modality.TEXT, Modality.AUDIO),
}
"""The prompts a diffuser sees in training: its own modality and text, so only pairs with text are ever used. Text
twice, since of two captions one may be silent on what the other says, as kinds of prompts are that cannot say it."""


def mixed_prompts(
    prompts: Float[Tensor, "batch kinds width"],
    nulls: Float[Tensor, "*batch kinds width"],
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
    rows = torch.where(dropped, nulls.expand_as(prompts), prompts)
    return (weights[:, :, None] * rows).sum(dim=1, keepdim=True)


def displacements(
    rows: int, width: int, generator: torch.Generator, longest: float = MODALITY_GAP
) -> Float[Tensor, "rows 1 width"]:
    """Each in a direction of its own. Where prompts are moved by these, it is learned not to heed exact places."""
    direction = functional.normalize(torch.randn(rows, 1, width, generator=generator), dim=-1)
    return longest * torch.rand(rows, 1, 1, generator=generator) * direction


@dataclass(frozen=True)
class Cones:
    """Where the prompt embeddings of each kind lie. means: of samples that need not match. nulls: of empty prompts.

    Prompt embeddings of each modality lie in a cone of their own (Liang et al., Mind the Gap, 2022), and a diffuser
    meets two of the four in training. Moved from cone to cone it learns not to heed which one it is; moved at random it
    would also unlearn facts that take little room, such as a figure's size.
    """

    means: dict[Modality, Float[Tensor, "width"]]
    nulls: dict[Modality, Float[Tensor, "width"]]

    def moved(
        self, prompts: Float[Tensor, "batch kinds width"], kinds: Sequence[Modality], generator: torch.Generator
    ) -> tuple[Float[Tensor, "batch kinds width"], Float[Tensor, "batch kinds width"]]:
        """Every second prompt in the cone of any modality, and the empty prompt of the cone each is in."""
        known = list(self.means)
        means, nulls = (torch.stack([each[modality] for modality in known]) for each in (self.means, self.nulls))
        own = torch.tensor([known.index(kind) for kind in kinds]).expand(prompts.shape[:2])
        other = torch.randint(len(known), own.shape, generator=generator)
        chosen = torch.where(torch.rand(own.shape, generator=generator) < 0.5, own, other)
        return prompts + means[chosen] - means[own], nulls[chosen]


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
        cones: Cones,
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
        self.cones = cones

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Any]:
        kinds, table = self.tables[int(torch.randint(len(self.tables), (1,), generator=generator))]
        latents = table[f"latent_{self.modality}"]
        rows = torch.randint(len(latents), (count,), generator=generator)
        prompts = torch.stack([pick(table[f"prompt_{kind}"], rows, generator) for kind in kinds], dim=1)
        prompts, nulls = self.cones.moved(prompts, kinds, generator)
        clean = latents[rows].float()
        contexts = mixed_prompts(prompts, nulls, generator)
        return {
            "clean": clean,
            "noise": torch.randn(clean.shape, generator=generator),
            "timestep": draw_timesteps(count, generator, TIMESTEP_SHIFT[self.modality]),
            "context": contexts + displacements(count, contexts.shape[-1], generator, MISFIT),
        }

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        loss = diffusion_loss(
            self.denoiser,
            self.scheduler,
            {self.modality: batch["clean"]},
            {self.modality: batch["noise"]},
            {self.modality: batch["timestep"]},
            {self.modality: batch["context"]},
        )
        return {"loss": loss}
