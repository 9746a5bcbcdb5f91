"""A prompt of each modality, small enough for the tiny model, and the comparison of what is made of them."""

from __future__ import annotations

from fractions import Fraction

import torch

from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.values import Frames, Latents, Picture, Waveform

PROMPTS = {
    Modality.TEXT: "a red ball bounces",
    Modality.IMAGE: Picture(torch.linspace(-1, 1, 3 * 20 * 24).reshape(1, 3, 20, 24)),
    Modality.VIDEO: Frames(torch.linspace(-1, 1, 5 * 3 * 16 * 16).reshape(1, 5, 3, 16, 16), Fraction(8)),
    Modality.AUDIO: Waveform(torch.sin(torch.arange(8000.0) / 9).reshape(1, 1, -1), 16_000),
}


def equal(one: Latents, other: Latents, *modalities: Modality) -> bool:
    return all(torch.equal(one.samples[modality], other.samples[modality]) for modality in modalities)
