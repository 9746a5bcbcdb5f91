from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comfyui_codi.codi_core.evaluation.estimates import mean, median, share


@given(st.integers(1, 500).flatmap(lambda asked: st.tuples(st.integers(0, asked), st.just(asked))))
def test_a_share_lies_in_its_interval_and_the_interval_in_0_to_1(counts):
    right, asked = counts
    found = share(right, asked)
    assert found.count == asked
    assert found.mean == right / asked
    assert -1e-9 <= found.low <= found.mean <= found.high <= 1 + 1e-9
    assert found.low < found.high


def test_wilsons_interval_as_in_the_textbook():
    found = share(81, 263)
    assert found.low == pytest.approx(0.2553, abs=1e-4)
    assert found.high == pytest.approx(0.3662, abs=1e-4)


def test_more_answers_narrow_the_interval():
    few, many = share(8, 10), share(800, 1000)
    assert many.high - many.low < (few.high - few.low) / 5


def test_nothing_asked_is_no_number():
    for found in (share(0, 0), mean(torch.tensor([])), median(torch.tensor([math.nan]))):
        assert found.count == 0
        assert all(math.isnan(each) for each in (found.mean, found.low, found.high))


@pytest.mark.parametrize("statistic", [mean, median])
def test_the_bootstrap_covers_the_truth_and_repeats_itself(statistic):
    values = 3 + torch.randn(400, generator=torch.Generator().manual_seed(0))
    found = statistic(values)
    assert found.low < 3 < found.high
    assert 0.1 < found.high - found.low < 0.4
    assert found == statistic(values)


def test_what_is_not_finite_does_not_count():
    assert mean(torch.tensor([1.0, math.nan, 3.0, math.inf])).mean == 2.0
