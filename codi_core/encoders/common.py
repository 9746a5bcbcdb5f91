"""What all prompt encoders do to what goes in and what comes out."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ..errors import MediaError


def require_usable(samples: Tensor, what: str) -> None:
    """Raises MediaError if pixels or samples are empty or not finite: one NaN would spoil every output."""
    if samples.numel() == 0:
        raise MediaError(f"wanted {what} to encode, got an empty one of shape {tuple(samples.shape)}; check its file")
    if not samples.isfinite().all():
        count = int((~samples.isfinite()).sum())
        raise MediaError(
            f"wanted {what} with values in [-1, 1], got {count} that are NaN or infinite; "
            "check the file or the node that made it"
        )


def as_token(projected: Float[Tensor, "batch width"]) -> Float[Tensor, "batch 1 width"]:
    """The single token of unit L2 norm that conditions every diffuser."""
    return functional.normalize(projected, dim=-1)[:, None]
