"""Work shared among processes, each started by a launcher such as `accelerate launch`; alone, all is its own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed.nn.functional as distributed
from accelerate import PartialState
from jaxtyping import Float
from torch import Tensor

LONGEST_WAIT = timedelta(days=7)
"""Of processes for one another. What one does for all, such as a large model's table, takes hours."""


def processes() -> PartialState:
    """This process's place among all."""
    # Without GPUs, several processes find one another only if told that they are to stay on the CPU.
    return PartialState(cpu=not torch.cuda.is_available(), timeout=LONGEST_WAIT)


def share_of(batch: Mapping[str, Any], place: int, count: int) -> dict[str, Any]:
    """One of `count` equal parts of a batch: of each tensor, below any number of names, some of the rows."""
    return {
        name: share_of(value, place, count) if isinstance(value, Mapping) else value.tensor_split(count)[place]
        for name, value in batch.items()
    }


def gathered(rows: Float[Tensor, "share *rest"]) -> Float[Tensor, "all *rest"]:
    """The rows of all processes, in the order of their shares; gradients find their way back."""
    if processes().num_processes == 1:
        return rows
    return torch.cat(distributed.all_gather(rows.contiguous()))
