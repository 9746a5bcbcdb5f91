"""Where parts lie while they are idle, for devices that cannot hold a whole model."""

from __future__ import annotations

from enum import StrEnum

import torch
from accelerate import cpu_offload
from torch import nn

from .parts import Parts

MAIN_MEMORY = torch.device("cpu")


class Offload(StrEnum):
    """none: whatever was used once stays on the device.
    parts: a part is on the device only during a stage that uses it.
    layers: a layer is on the device only while it computes. Slow, and needs least memory of the device.
    """

    NONE = "none"
    PARTS = "parts"
    LAYERS = "layers"


class RestingParts(Parts):
    """Parts that rest in main memory; all those that one stage uses are on the device together."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.in_use: set[str] = set()

    def begin_stage(self) -> None:
        self.in_use.clear()

    def _make(self, name: str) -> nn.Module:
        return self._loaded_on(MAIN_MEMORY, name)

    def __getitem__(self, name: str) -> nn.Module:
        part = super().__getitem__(name)
        if name not in self.in_use:
            self.in_use.add(name)
            for idle in self.loaded.keys() - self.in_use:
                self.loaded[idle].to(MAIN_MEMORY)
            part.to(self.device)
        return part


class LayerwiseParts(Parts):
    """Parts whose layers fetch their weights from main memory when they compute (accelerate's hooks)."""

    def _make(self, name: str) -> nn.Module:
        return cpu_offload(self._loaded_on(MAIN_MEMORY, name), self.device, offload_buffers=True)


OFFLOADING: dict[Offload, type[Parts]] = {
    Offload.NONE: Parts,
    Offload.PARTS: RestingParts,
    Offload.LAYERS: LayerwiseParts,
}
