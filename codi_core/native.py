"""Latents in the form that ComfyUI's LATENT has: samplers there want a batch, channels, and at least one axis more."""

from __future__ import annotations

from torch import Tensor

from .modality import Modality

_FLAT = {Modality.TEXT}
"""Modalities whose latents are plain vectors."""


def to_grid(modality: Modality, latent: Tensor) -> Tensor:
    """(batch, width) → (batch, width, 1); others as they are."""
    return latent[..., None] if modality in _FLAT else latent


def from_grid(modality: Modality, latent: Tensor) -> Tensor:
    """The inverse of `to_grid`."""
    return latent[..., 0] if modality in _FLAT else latent
