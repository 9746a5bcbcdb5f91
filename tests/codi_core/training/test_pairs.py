"""Tables of samples on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from comfyui_codi.codi_core.training.loop import TrainingError
from comfyui_codi.codi_core.training.pairs import kept


def make() -> dict[str, torch.Tensor]:
    return {"column": torch.arange(3.0)}


def test_a_table_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "tables" / "table.safetensors"
    made = []
    for _ in range(2):
        table = kept(path, lambda: made.append(None) or make())
        assert torch.equal(table["column"], make()["column"])
    assert len(made) == 1
    assert list(path.parent.iterdir()) == [path]


def test_a_disk_too_full_for_a_table_says_so_and_nothing_is_left_behind(tmp_path: Path, fill_disk) -> None:
    fill_disk(10)
    with pytest.raises(TrainingError, match=r"cannot write .*table\.safetensors .*make room"):
        kept(tmp_path / "table.safetensors", make)
    assert list(tmp_path.iterdir()) == []
