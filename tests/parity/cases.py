"""A golden case as its checks see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from official_weights import OfficialModel
from torch import Tensor

from comfyui_codi.codi_core.mixing import mix
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.values import Condition

Pairs = dict[str, tuple[Any, Any]]
"""(ours, golden) by the output's name: tensors, or what must be equal."""


@dataclass(frozen=True)
class Case:
    """One golden: its JSON, its tensors, and the model with the weights that it was made with."""

    facts: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    model: OfficialModel

    def given(self, name: str) -> Tensor:
        return self.tensors[f"in.{name}"]

    def fed(self, name: str) -> Tensor:
        """An input in the precision of the weights, for what is called without the code that sees to that."""
        return self.given(name).to(self.model.dtype)

    def expected(self, name: str) -> Tensor:
        return self.tensors[f"out.{name}"]

    def paired(self, made: Mapping[str, Any]) -> Pairs:
        """Every output of the golden with what was made for it; what it lacks is left out."""
        outputs = [name.removeprefix("out.") for name in self.tensors if name.startswith("out.")]
        return {name: (made[name], self.expected(name)) for name in outputs}

    def modalities(self) -> list[Modality]:
        return [Modality(name) for name in self.facts["call"]["xtype"]]

    def latents(self) -> dict[Modality, Tensor]:
        single = "in.x" in self.tensors
        return {m: self.given("x" if single else f"x_{m}") for m in self.modalities()}

    def context(self, prefix: str = "") -> Tensor:
        """The conditions mixed by the case's weights."""
        call = self.facts["call"]
        kinds = call.get("condition_types", ["text"])
        weights = [call.get("mix_weight", {}).get(kind, 1.0) for kind in kinds]
        rows = [self.given(f"{prefix}cond_{kind}") for kind in kinds]
        return mix([Condition(row, row) for row in rows], weights).embedding
