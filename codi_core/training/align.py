"""Stage `align`: environment encoders and connectors, on pairs of modalities (CoDi paper, Latent Alignment)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from ..modality import Modality
from ..models.environment import whole
from ..models.joint import JointDenoiser
from ..models.unet import UNet
from ..processes import gathered, processes
from .diffuse import TIMESTEP_SHIFT, displacements, draw_timesteps, mixed_prompts, pick
from .losses import diffusion_loss
from .pairs import Columns

CONTRAST_WEIGHT = 0.05
CONTRAST_TEMPERATURE = 0.1
CONTRASTED = 4
"""Times as many samples as are denoised: V takes little of a step's time, and contrast lives by numbers."""
EMPTY = 0.5
"""Share of rows whose prompt says nothing at all."""

APART = 0.5
"""Share of rows in which each of a pair is at a timestep of its own. Where both are as noisy, one whose facts show
early, as colours do in a picture, never needs to hear them from one of whom they show late, and doesn't learn to."""


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


def contrast_of_pair(
    tokens: Sequence[Float[Tensor, "batch width"]], signals: Sequence[Float[Tensor, "batch"]]
) -> Float[Tensor, ""]:
    (first, second), (first_signal, second_signal) = tokens, signals
    return weighted_contrast(first, second, first_signal * second_signal)


def noised_rows(
    table: Columns, pair: tuple[Modality, Modality], count: int, generator: torch.Generator
) -> tuple[Int[Tensor, "count"], dict[str, Any]]:
    """Rows of the table, and what their noisy latents are made of."""
    rows = torch.randint(len(table[f"latent_{pair[0]}"]), (count,), generator=generator)
    clean = {modality: table[f"latent_{modality}"][rows].float() for modality in pair}
    noise = {modality: torch.randn(each.shape, generator=generator) for modality, each in clean.items()}
    return rows, {"clean": clean, "noise": noise}


class ContrastObjective(nn.Module):
    """The contrast between V of the pair alone, each side at timesteps of its own, and of both to what prompts tell.

    V learns by it what its latent is becoming, a hundred times faster than from what little V can spare a diffuser. The
    prompts are already aligned, so that V finds in them all facts at once; between themselves, two V found the colour
    and then nothing more for thousands of steps.
    """

    def __init__(self, step: AlignStep, diffusers: Mapping[Modality, UNet], scheduler: Any, table: Columns):
        super().__init__()
        self.diffusers = nn.ModuleDict({str(modality): diffusers[modality] for modality in step.pair})
        self.diffusers.requires_grad_(False)
        for modality in step.trained:
            encoder = diffusers[modality].environment_encoder
            assert encoder is not None, "this diffuser has no environment encoder to train"
            encoder.requires_grad_(True)
        self.pair = step.pair
        self.scheduler = scheduler
        self.table = table
        self.prompts = [modality for modality in Modality if f"prompt_{modality}" in table]
        context_width = table[f"prompt_{self.prompts[0]}"].shape[-1]
        self.projection = nn.Linear(context_width, diffusers[step.pair[0]].config["environment"]["width"], bias=False)

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Any]:
        rows, noised = noised_rows(self.table, self.pair, count, generator)
        prompts = torch.stack([self.table[f"prompt_{kind}"][rows].float().mean(dim=1) for kind in self.prompts])
        return {
            **noised,
            # Partners that shared theirs would be found by the timestep alone.
            "timestep": {modality: draw_timesteps(count, generator) for modality in self.pair},
            "prompt": prompts.mean(dim=0),
        }

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        tokens, signals = self.environments(batch)
        told = functional.normalize(self.projection(batch["prompt"]).float(), dim=-1)
        losses = [weighted_contrast(each, told, signal) for each, signal in zip(tokens, signals, strict=True)]
        return {"loss": torch.stack([*losses, contrast_of_pair(tokens, signals)]).mean()}

    def environments(
        self, batch: dict[str, Any]
    ) -> tuple[list[Float[Tensor, "batch width"]], list[Float[Tensor, "batch"]]]:
        """V of the pair, and how much of the signal its latents still hold."""
        tokens, signals = [], []
        for modality in self.pair:
            timestep = batch["timestep"][modality]
            noisy = self.scheduler.add_noise(batch["clean"][modality], batch["noise"][modality], timestep)
            diffuser: Any = self.diffusers[modality]
            tokens.append(whole(diffuser.encode_environment(noisy, timestep))[:, 0])
            # Not the power: what outputs are going to be is decided while they are mostly noise.
            signals.append(self.scheduler.alphas_cumprod.to(noisy.device)[timestep].sqrt())
        return tokens, signals


@dataclass(frozen=True, kw_only=True)
class DisplacingDenoiser(JointDenoiser):
    """Sees every environment displaced. V of each modality, too, lie in a cone of their own, and connectors shall heed
    those of modalities that were not their partners in training."""

    displaced: Mapping[Modality, Float[Tensor, "batch 1 width"]]

    def environments(
        self, latents: Mapping[Modality, Tensor], timesteps: Mapping[Modality, Shaped[Tensor, "batch"]]
    ) -> dict[Modality, Tensor]:
        found = super().environments(latents, timesteps)
        return {
            modality: functional.normalize(tokens + self.displaced[modality], dim=-1)
            for modality, tokens in found.items()
        }


def free_connectors(diffusers: Mapping[Modality, UNet], modalities: Sequence[Modality]) -> None:
    """Let the connectors of these modalities learn."""
    for modality in modalities:
        for connector in diffusers[modality].connectors():
            connector.requires_grad_(True)


class ListeningObjective(nn.Module):
    """The diffusion loss of one of a pair, whose connectors learn to heed the other's V. V itself stays as it is, so
    that a step costs one network's work.
    """

    def __init__(
        self,
        listeners: tuple[Modality, ...],
        pair: tuple[Modality, Modality],
        diffusers: Mapping[Modality, UNet],
        scheduler: Any,
        table: Columns,
        nulls: Mapping[Modality, Float[Tensor, "width"]],
    ):
        super().__init__()
        self.diffusers = nn.ModuleDict({str(modality): diffusers[modality] for modality in pair})
        self.diffusers.requires_grad_(False)
        free_connectors(diffusers, listeners)
        self.partners = {modality: diffusers[modality] for modality in pair}
        self.listeners = listeners
        self.pair = pair
        self.scheduler = scheduler
        self.table = table
        self.nulls = nulls

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Any]:
        """Prompts are captions that leave facts open, or empty: what is open only the other output can tell. Or they
        are of the listener's own kind and tell all, also what others cannot, such as a figure's size: connectors shall
        not drown it.
        """
        rows, noised = noised_rows(self.table, self.pair, count, generator)
        shared = draw_timesteps(count, generator, max(TIMESTEP_SHIFT[modality] for modality in self.pair))
        apart = torch.rand(count, generator=generator) < APART
        noised["timestep"] = {
            modality: torch.where(apart, draw_timesteps(count, generator, TIMESTEP_SHIFT[modality]), shared)
            for modality in self.pair
        }
        kinds = [modality for modality in Modality if f"prompt_{modality}" in self.table]
        prompts = torch.stack([pick(self.table[f"prompt_{kind}"], rows, generator) for kind in kinds], dim=1)
        empty = torch.rand(count, 1, 1, generator=generator) < EMPTY
        nulls = torch.stack([self.nulls[kind] for kind in kinds])
        prompts = torch.where(empty, nulls[None], prompts)
        width = self.partners[self.pair[0]].config["environment"]["width"]
        return {
            **noised,
            "context": mixed_prompts(prompts, nulls, generator),
            "displaced": {modality: displacements(count, width, generator) for modality in self.pair},
        }

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        context: Tensor = batch["context"]
        contexts = dict.fromkeys(self.listeners, context)
        denoiser = DisplacingDenoiser(self.partners, displaced=batch["displaced"])
        loss = diffusion_loss(denoiser, self.scheduler, batch["clean"], batch["noise"], batch["timestep"], contexts)
        return {"loss": loss}


class AlignObjective(ListeningObjective):
    """Diffusion losses of both directions plus the contrast between V of the pair; the trunks stay frozen."""

    def __init__(
        self,
        step: AlignStep,
        diffusers: Mapping[Modality, UNet],
        scheduler: Any,
        table: Columns,
        nulls: Mapping[Modality, Float[Tensor, "width"]],
    ):
        super().__init__(step.trained, step.pair, diffusers, scheduler, table, nulls)
        # The frozen one's own loss, too, tells V of the other what it wants to hear.
        self.listeners = step.pair
        self.contrast = ContrastObjective(step, diffusers, scheduler, table)
        self.contrast.projection.requires_grad_(False)
        free_connectors(diffusers, step.trained)

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Any]:
        return {
            **super().draw(count, generator),
            "contrasted": self.contrast.draw(count * CONTRASTED, generator),
        }

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        crossed = super().forward(batch)["loss"]
        contrast = contrast_of_pair(*self.contrast.environments(batch["contrasted"]))
        return {"loss": crossed + CONTRAST_WEIGHT * contrast, "crossed": crossed, "contrast": contrast}
