from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comfyui_codi.codi_core.errors import PromptError, ShapeError
from comfyui_codi.codi_core.similarity import heat_map, mean_similarity, similarities
from comfyui_codi.codi_core.values import Condition, Picture

PICTURE = Picture(torch.linspace(-1, 1, 3 * 20 * 24).reshape(1, 3, 20, 24))


def pointing(*rows: tuple[float, float]) -> Condition:
    tokens = torch.tensor(rows, dtype=torch.float32)[:, None]
    return Condition(tokens, torch.zeros_like(tokens))


def test_the_cosine_of_conditions_is_that_of_their_tokens(tiny_pipeline):
    cosines = similarities(tiny_pipeline, [pointing((1, 0)), pointing((3, 3)), pointing((0, -2))])
    half = 0.5**0.5
    torch.testing.assert_close(cosines, torch.tensor([[1, half, 0], [half, 1, -half], [0, -half, 1]]))
    assert mean_similarity(cosines) == pytest.approx(0, abs=1e-6)


def test_one_row_is_compared_with_every_row_of_a_larger_batch(tiny_pipeline):
    cosines = similarities(tiny_pipeline, [pointing((1, 0)), pointing((1, 0), (0, 1))])
    torch.testing.assert_close(cosines, torch.tensor([[1, 0.5], [0.5, 1]]))


def test_a_thing_is_its_own_condition(tiny_pipeline):
    for thing in ("a red ball bounces", PICTURE):
        cosines = similarities(tiny_pipeline, [thing, tiny_pipeline.encode(thing)])
        torch.testing.assert_close(cosines, torch.ones(2, 2))


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_things_are_refused(tiny_pipeline, count):
    with pytest.raises(PromptError, match=f"wanted at least 2 things to compare, got {count}; connect more"):
        similarities(tiny_pipeline, ["a red ball"] * count)


def test_other_numbers_of_rows_are_refused(tiny_pipeline):
    things = [pointing(*[(1.0, 0.0)] * count) for count in (1, 2, 3)]
    with pytest.raises(ShapeError, match=r"one number of rows, or 1, got \[2, 3\]; compare them one by one"):
        similarities(tiny_pipeline, things)


def test_conditions_of_another_model_are_refused(tiny_pipeline):
    things = [pointing((1.0, 0.0)), pointing((1.0, 0.0, 0.0))]
    with pytest.raises(
        PromptError, match=r"wanted things of one model, got embeddings of widths \[2, 3\]; encode them"
    ):
        similarities(tiny_pipeline, things)


@given(count=st.integers(2, 12), cosine=st.floats(-1, 1))
def test_every_matrix_can_be_drawn(count, cosine):
    drawn = heat_map(torch.full((count, count), cosine), [f"{number} condition" for number in range(count)])
    assert len(drawn.getcolors(drawn.width * drawn.height)) > 3
