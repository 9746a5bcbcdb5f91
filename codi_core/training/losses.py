"""Training losses of the diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as functional
from jaxtyping import Float, Int
from torch import Tensor

from ..modality import Modality
from ..models.joint import JointDenoiser


def diffusion_target(scheduler: Any, clean: Tensor, noise: Tensor, timestep: Int[Tensor, "batch"]) -> Tensor:
    """What the network shall predict: the noise, or the velocity, as the noise schedule says."""
    if scheduler.config.prediction_type == "v_prediction":
        return scheduler.get_velocity(clean, noise, timestep)
    return noise


def diffusion_loss(
    denoiser: JointDenoiser,
    scheduler: Any,
    clean: Mapping[Modality, Tensor],
    noise: Mapping[Modality, Tensor],
    timesteps: Mapping[Modality, Int[Tensor, "batch"]],
    contexts: Mapping[Modality, Float[Tensor, "batch tokens width"]],
) -> Float[Tensor, ""]:
    """Mean squared error per modality that has a context, each at its own timestep, then the mean over these."""
    noisy = {
        modality: scheduler.add_noise(latent, noise[modality], timesteps[modality])
        for modality, latent in clean.items()
    }
    predicted = denoiser(noisy, timesteps, contexts)
    losses = [
        functional.mse_loss(
            output.float(), diffusion_target(scheduler, clean[modality], noise[modality], timesteps[modality])
        )
        for modality, output in predicted.items()
    ]
    return torch.stack(losses).mean()
