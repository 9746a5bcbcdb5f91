"""On which device a module computes."""

from __future__ import annotations

import torch
from torch import nn

COMPUTES_ON = "computes_on"
"""Attribute of modules whose weights may lie elsewhere while they are idle."""


def device_of(module: nn.Module) -> torch.device:
    """Where a module computes, which is not where its weights lie if the host or accelerate's hooks fetch them."""
    declared = getattr(module, COMPUTES_ON, None)
    if declared is not None:
        return declared
    for each in module.modules():
        device = getattr(getattr(each, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    return next(module.parameters()).device
