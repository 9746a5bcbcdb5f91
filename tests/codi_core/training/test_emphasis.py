"""How loudly diffusers are told things, found again for answers that were made too soft by as much as is known."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from comfyui_codi.codi_core.config import mini
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.pipeline import BUNDLED
from comfyui_codi.codi_core.training.emphasis import emphasis_of, measure_emphasis
from comfyui_codi.codi_core.training.workshop import prepare

ROWS = 400


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("heeded", "least", "most"), [(1.0, 0.99, 1.01), (0.9, 0.99, 1.01), (0.5, 1.5, 2), (0.25, 2, 4)]
)
def test_what_is_heeded_too_little_is_told_more_loudly_and_nothing_else(heeded, least, most):
    asked, turn = draw(ROWS, 3, seed=1), torch.linalg.qr(draw(3, 3, seed=2))[0]
    softly = turn @ torch.diag(torch.tensor([1.0, 1.0, heeded])) @ turn.T
    answered = asked @ softly.T + 0.02 * draw(ROWS, 3, seed=3)
    along = turn.T @ emphasis_of(asked, asked, answered) @ turn
    assert least < along[2, 2] < most
    torch.testing.assert_close(along[:2, :2], torch.eye(2), atol=0.03, rtol=0)
    torch.testing.assert_close(along - torch.diag(along.diag()), torch.zeros(3, 3), atol=0.1, rtol=0)


def test_what_outputs_cannot_show_is_told_as_it_is():
    asked, shows = draw(ROWS, 3, seed=1), torch.diag(torch.tensor([1.0, 1.0, 0.0]))
    said = asked @ shows.T
    torch.testing.assert_close(emphasis_of(asked, said, said), torch.eye(3), atol=1e-4, rtol=0)


def test_few_answers_leave_no_number_undefined():
    assert emphasis_of(draw(2, 3, seed=1), draw(2, 3, seed=2), draw(2, 3, seed=3)).isfinite().all()


def test_one_diffuser_is_asked_and_others_keep_their_emphasis(tmp_path: Path) -> None:
    workshop: Any = prepare(shutil.copytree(BUNDLED["codi-mini"], tmp_path / "model"), mini())
    told: list[int] = []
    workshop.on_progress = lambda progress: told.append(progress.step)
    measure_emphasis(workshop, Modality.IMAGE, rows=24)
    assert told == [16, 24]
    folders = BUNDLED["codi-mini"], tmp_path / "model"
    before, after = (cast(Any, prepare(folder, mini())["prompt_factors"]) for folder in folders)
    for modality in Modality:
        assert torch.equal(after(modality).loadings, before(modality).loadings)
        assert torch.equal(after(modality).emphasis, before(modality).emphasis) == (modality is not Modality.IMAGE)


def test_measured_again_it_is_the_same(tmp_path: Path) -> None:
    """What was found before has no part in what is found."""
    workshop: Any = prepare(shutil.copytree(BUNDLED["codi-mini"], tmp_path / "model"), mini())
    found = []
    for _ in range(2):
        measure_emphasis(workshop, Modality.TEXT, rows=16)
        found.append(workshop["prompt_factors"](Modality.TEXT).emphasis.clone())
    assert torch.equal(*found)


@pytest.mark.parametrize("parts", [set(mini().parts) - {"prompt_factors"}, set(mini().parts)])
def test_models_that_know_no_factors_yet_are_left_alone(tmp_path: Path, parts: set[str]) -> None:
    config = replace(mini(), parts={name: mini().parts[name] for name in parts})
    workshop = prepare(tmp_path, config)
    measure_emphasis(workshop, Modality.IMAGE, rows=16)
    assert not workshop.has("prompt_factors")
