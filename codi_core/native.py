"""Latents in the form that ComfyUI's LATENT has: samplers there want a batch, channels, and at least one axis more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .errors import ShapeError
from .modality import Modality

MODALITIES, SECONDS = "codi_modalities", "codi_seconds"
"""What our LATENTs hold besides samples and masks; ComfyUI's samplers pass it on."""
_FLAT = {Modality.TEXT}
"""Modalities whose latents are plain vectors."""


def to_grid(modality: Modality, latent: Tensor) -> Tensor:
    """(batch, width) → (batch, width, 1); others as they are."""
    return latent[..., None] if modality in _FLAT else latent


def from_grid(modality: Modality, latent: Tensor) -> Tensor:
    """The inverse of `to_grid`."""
    return latent[..., 0] if modality in _FLAT else latent


def in_rows(modality: Modality, latent: Tensor, rows: int) -> Tensor:
    """A known latent for each row of the condition; a single one serves all. Raises ShapeError for another number."""
    if len(latent) not in (1, rows):
        raise ShapeError(
            f"wanted 1 {modality} to keep, or {rows} of them, one for each row of the condition, got {len(latent)}"
        )
    return latent.expand(rows, *latent.shape[1:])


def modalities_in(latent: Mapping[str, Any]) -> list[Modality]:
    """The modalities of a LATENT's samples, in their order. Raises ShapeError for a LATENT of another kind."""
    if MODALITIES not in latent:
        raise ShapeError(
            "wanted a LATENT that began at Native Model, got one that doesn't say which modalities it holds; "
            "connect that node's LATENT to the sampler"
        )
    return latent[MODALITIES]
