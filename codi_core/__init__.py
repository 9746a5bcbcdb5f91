"""The CoDi system: prompt encoders, mixing, joint diffusion, decoders. Knows nothing of ComfyUI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pipeline import CoDiPipeline

__all__ = ["CoDiPipeline"]


def __getattr__(name: str) -> Any:
    """CoDiPipeline is imported when it is asked for, since it brings torch: help and refusals can do without."""
    if name == "CoDiPipeline":
        from .pipeline import CoDiPipeline

        return CoDiPipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
