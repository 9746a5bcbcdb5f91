"""Half precision overflows silently: what leaves a part is checked, so that nobody sees black pictures instead."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from .errors import PrecisionError


def require_finite(made: Float[Tensor, "..."], part: str, module: nn.Module) -> Float[Tensor, "..."]:
    """What a part made, if all of it is finite. Raises PrecisionError that names the part."""
    if not made.isfinite().all():
        dtype = next(module.parameters()).dtype
        raise PrecisionError(
            f"the part {part!r} gave {int((~made.isfinite()).sum())} numbers that are NaN or infinite as {dtype}; "
            "load the model in bf16 or fp32"
        )
    return made
