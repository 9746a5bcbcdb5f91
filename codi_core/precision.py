"""Half precision overflows silently: what leaves a part is checked, so that nobody sees black pictures instead."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .errors import ConfigError, PrecisionError


def check_precision(dtype: torch.dtype, device: torch.device | str) -> None:
    """Raise ConfigError for fp16 on a processor, which computes it some ten times slower than either alternative."""
    if dtype == torch.float16 and torch.device(device).type == "cpu":
        raise ConfigError("wanted fp32 or bf16, got fp16, which CPUs compute very slowly; choose one of the two")


def require_finite(made: Float[Tensor, "..."], part: str, module: nn.Module) -> Float[Tensor, "..."]:
    """What a part made, if all of it is finite. Raises PrecisionError that names the part."""
    if not made.isfinite().all():
        dtype = next(module.parameters()).dtype
        raise PrecisionError(
            f"the part {part!r} gave {int((~made.isfinite()).sum())} numbers that are NaN or infinite as {dtype}; "
            "load the model in bf16 or fp32"
        )
    return made
