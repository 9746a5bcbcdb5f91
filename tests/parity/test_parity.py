"""Our networks with the official weights' names give the official tensors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from checks import Case, check_for
from official_weights import OfficialModel
from safetensors.torch import load_file
from torch import Tensor


def relative_error(ours: Tensor, golden: Tensor) -> float:
    assert ours.shape == golden.shape, f"shape {tuple(ours.shape)} instead of {tuple(golden.shape)}"
    difference = (ours.detach().double() - golden.double()).norm()
    return float(difference / golden.double().norm().clamp(min=1e-30))


@torch.no_grad()
def test_case_matches(
    golden: Path, official_models: dict[tuple[str, str, str], OfficialModel], parity_table: list
) -> None:
    check = check_for(golden.stem)
    if check is None:
        pytest.skip(f"{golden.stem}: this kind of case is not compared")
    facts = json.loads(golden.read_text())
    tensors = load_file(golden.with_suffix(".safetensors"))
    model = official_models[facts["config"], facts["params"], facts["seed"]]
    pairs = check(Case(facts, tensors, model))
    tolerance = facts["tolerance"]
    errors = {name: relative_error(*pair) for name, pair in pairs.items()}
    limits = {name: tolerance["gradient_norm_rel" if name.startswith("gradient_norm") else "rel_l2"] for name in errors}
    worst = max(errors, key=lambda name: errors[name] / limits[name])
    parity_table.append((golden.stem, len(errors), worst, errors[worst], limits[worst]))
    assert all(errors[name] <= limits[name] for name in errors), errors
