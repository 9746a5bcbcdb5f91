"""Work that does not fit into memory at once is done once more, in the smallest pieces it has."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from .errors import OutOfMemoryError

Result = TypeVar("Result")

_SIGNS = ("can't allocate memory", "not enough memory", "out of memory")
"""In messages of devices that have no exception of their own for it; the processor's first."""


def ran_out(error: BaseException) -> bool:
    """Whether an exception says that a device's memory is used up."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)
    )


def free_caches() -> None:
    """Give back what torch keeps for later."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def in_pieces(run: Callable[[int], Result], most: int, what: str) -> Result:
    """`run(1)`, or `run(most)` if memory runs out; both do the same work, the argument says in how many pieces.

    Raises OutOfMemoryError, which names `what` and what to lower, where even that is too much.
    """
    for pieces in (1, most):
        try:
            return run(pieces)
        except RuntimeError as error:
            if not ran_out(error):
                raise
            shortage = str(error).splitlines()[0]
        # Only now is what the exception held on to gone.
        free_caches()
    raise OutOfMemoryError(
        f"{what} does not fit into memory even in the smallest pieces ({shortage}); make fewer or smaller outputs at "
        "once (width, height, frames, seconds, count), choose fp16 or bf16, or close what else uses the device"
    )
