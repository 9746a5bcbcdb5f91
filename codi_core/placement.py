"""On which device a module computes."""

from __future__ import annotations

import torch
from torch import nn


def device_of(module: nn.Module) -> torch.device:
    """Where a module computes, which is not where its weights lie if accelerate's hooks fetch them."""
    for each in module.modules():
        device = getattr(getattr(each, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    return next(module.parameters()).device
