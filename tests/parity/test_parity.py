"""Our networks with the official weights' names give the official tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import Case
from checks import check_for
from official_weights import OfficialModel
from safetensors.torch import load_file
from torch import Tensor

STEPS_OFF = 1
"""By how many of 255 levels a pixel may differ: floats that are nearly equal can fall on both sides of a level."""
SHARE_OFF = 1e-3

LOOSENED = {torch.float32: 1.0, torch.float16: 125.0, torch.bfloat16: 1000.0}
"""By how much a tolerance that was stated for float32 grows with the weights' precision: less than its step does."""
LOOSEST = 0.25


def error_and_limit(
    name: str, ours: Any, golden: Any, tolerance: Mapping[str, float], dtype: torch.dtype
) -> tuple[float, float]:
    """Relative L2 error of numbers, share of pixels that differ for levels, 0 or 1 for what must be equal.

    What must be equal, and levels, are held to that in float32 alone.
    """
    exactly = dtype == torch.float32
    if not isinstance(golden, Tensor):
        return float(ours != golden), 0.0 if exactly else 1.0
    assert ours.shape == golden.shape, f"{name}: shape {tuple(ours.shape)} instead of {tuple(golden.shape)}"
    if golden.dtype == torch.uint8:
        apart = (ours.int() - golden.int()).abs() > STEPS_OFF
        return float(apart.float().mean()), SHARE_OFF if exactly else 1.0
    if not golden.is_floating_point():
        return float((ours != golden).float().mean()), 0.0 if exactly else 1.0
    difference = (ours.detach().double() - golden.double()).norm()
    error = float(difference / golden.double().norm().clamp(min=1e-30))
    limit = tolerance["gradient_norm_rel" if name.startswith("gradient_norm") else "rel_l2"]
    return error, min(limit * LOOSENED[dtype], LOOSEST)


@torch.no_grad()
def test_case_matches(
    golden: Path, official_models: dict[tuple[str, str, str], OfficialModel], parity_table: list
) -> None:
    check = check_for(golden.stem)
    if check is None:
        pytest.skip(f"{golden.stem}: this kind of case is not compared")
    facts = json.loads(golden.read_text())
    stored = golden.with_suffix(".safetensors")
    tensors = load_file(stored) if stored.exists() else {}
    model = official_models[facts["config"], facts["params"], facts["seed"]]
    if golden.stem.startswith("full_"):
        model.keep_only(facts["parts"])
    pairs = check(Case(facts, tensors, model))
    found = {name: error_and_limit(name, *pair, facts["tolerance"], model.dtype) for name, pair in pairs.items()}
    worst = max(found, key=lambda name: found[name][0] / max(found[name][1], 1e-12))
    parity_table.append((golden.stem, len(found), worst, *found[worst]))
    assert all(error <= limit for error, limit in found.values()), found
