from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comfyui_codi.codi_core.evaluation.estimates import (
    bootstrap,
    difference,
    mean,
    mean_of_shares,
    median,
    share,
    share_of_groups,
)


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


def test_newcombes_interval_of_a_difference_as_in_the_paper():
    found = difference(share(56, 70), share(48, 80))
    assert (found.mean, found.count) == (pytest.approx(0.2), 70)
    assert (found.low, found.high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


def test_more_answers_narrow_the_interval():
    few, many = share(8, 10), share(800, 1000)
    assert many.high - many.low < (few.high - few.low) / 5


def test_nothing_asked_is_no_number():
    for found in (
        share(0, 0),
        share_of_groups([0, 0], [0, 0]),
        mean(torch.tensor([])),
        median(torch.tensor([math.nan])),
    ):
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


def test_the_median_of_an_even_count_lies_in_the_middle():
    assert median(torch.tensor([1.0, 2.0, 4.0, 9.0])).mean == 3.0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda pair: (min(pair), max(pair))), min_size=1))
def test_a_share_of_groups_is_that_of_their_answers_and_no_surer(groups):
    right, asked = zip(*groups, strict=True)
    found, alone = share_of_groups(right, asked), share(sum(right), sum(asked))
    assert found.count == alone.count
    if found.count:
        assert found.mean == alone.mean
        assert found.low <= alone.low + 1e-9
        assert found.high >= alone.high - 1e-9


def test_answers_that_always_go_together_count_once():
    """Eighty groups of nine answers, all right or all wrong, are eighty answers."""
    found = share_of_groups([9] * 60 + [0] * 20, [9] * 80)
    once = share(60, 80)
    assert found.low == pytest.approx(once.low, abs=2e-3)
    assert found.high == pytest.approx(once.high, abs=2e-3)


def test_answers_of_a_group_that_have_nothing_to_do_with_one_another_count_each():
    hits = torch.rand(2000, 9, generator=torch.Generator().manual_seed(0)) < 0.7
    found = share_of_groups(hits.sum(dim=1).tolist(), [9] * 2000)
    each = share(int(hits.sum()), 18_000)
    assert found.high - found.low == pytest.approx(each.high - each.low, rel=0.05)


def test_every_share_counts_alike_in_their_mean():
    right, asked = torch.tensor([[90, 0], [0, 1], [0, 0]]), torch.tensor([[90, 10], [0, 2], [0, 0]])
    found = mean_of_shares(right, asked)
    assert (found.mean, found.count) == (pytest.approx((0.9 + 0.5) / 2), 102)


def test_shares_of_the_same_groups_are_no_surer_together():
    """Ten shares whose groups are right or wrong in all of them alike."""
    hits = (torch.rand(1, 200, generator=torch.Generator().manual_seed(0)) < 0.7).long().expand(10, -1)
    found, once = mean_of_shares(hits, torch.ones_like(hits)), share(int(hits[0].sum()), 200)
    assert found.mean == pytest.approx(once.mean)
    assert found.high - found.low == pytest.approx(once.high - once.low, rel=0.1)


def test_draws_of_which_nothing_can_be_said_do_not_count():
    values = torch.tensor([1.0, 2.0])
    found = bootstrap(lambda chosen: values[chosen].sum().where(chosen.sum() > 0, torch.nan), 2, 2)
    assert (found.mean, found.low, found.high) == (3.0, 3.0, 4.0)
