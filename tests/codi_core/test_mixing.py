from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from comfyui_codi.codi_core.errors import ConfigError, PromptError
from comfyui_codi.codi_core.mixing import MixMode, fade, mix
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.values import UNTOLD, Condition, Meaning

modes = st.sampled_from(MixMode)
weights = st.floats(0.01, 100)


def prompt(seed: int, batch: int = 1) -> Condition:
    """A random direction of length 1, and another one as null."""
    generator = torch.Generator().manual_seed(seed)
    made = torch.nn.functional.normalize(torch.randn(2, batch, 1, 8, generator=generator), dim=-1)
    said, avoided = torch.randn(2, batch, 1, 3, generator=generator)
    besides = {list(Modality)[seed % 4]: made[0]}
    return Condition(made[0], made[1], meaning=replace(meant(said), besides=besides), null_meaning=meant(avoided))


def meant(said: Tensor, reliably: tuple[float, ...] = (1.0, 0.5, 0.0)) -> Meaning:
    reliability = torch.diag(torch.tensor(reliably))
    return Meaning(said @ reliability, reliability.expand(*said.shape, -1))


def along(*numbers: float) -> Condition:
    row = torch.tensor([[numbers]], dtype=torch.float32)
    return Condition(row, row)


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-5)


@given(mode=modes, weight=weights)
def test_one_prompt_mixes_to_itself_and_only_complementary_keeps_its_meaning(mode, weight):
    one = prompt(0)
    mixed = mix([one], [weight], mode)
    assert mixed.embedding is one.embedding
    assert mixed.null is one.null
    kept = mode is MixMode.COMPLEMENTARY
    assert (mixed.meaning, mixed.null_meaning) == ((one.meaning, one.null_meaning) if kept else (None, None))
    assert mix([mixed], [weight], mode) is mixed


@given(mode=modes, count=st.integers(2, 4), shares=st.lists(weights, min_size=4, max_size=4))
def test_equal_prompts_mix_to_themselves(mode, count, shares):
    mixed = mix([prompt(0)] * count, shares[:count], mode)
    assert close(mixed.embedding, prompt(0).embedding)
    assert close(mixed.null, prompt(0).null)


@given(mode=modes, shares=st.lists(weights, min_size=3, max_size=3), factor=weights)
def test_only_the_ratio_of_weights_counts(mode, shares, factor):
    prompts = [prompt(seed) for seed in range(3)]
    one, other = mix(prompts, shares, mode), mix(prompts, [share * factor for share in shares], mode)
    assert close(one.embedding, other.embedding)
    assert close(one.null, other.null)


@given(order=st.permutations(range(3)), mode=st.sampled_from(sorted(set(MixMode) - {MixMode.SLERP, MixMode.COMPOSED})))
def test_the_order_of_prompts_does_not_matter_where_all_are_mixed_at_once(order, mode):
    prompts, shares = [prompt(seed) for seed in range(3)], [1.0, 2.0, 4.0]
    straight = mix(prompts, shares, mode)
    shuffled = mix([prompts[index] for index in order], [shares[index] for index in order], mode)
    assert close(straight.embedding, shuffled.embedding)


@given(mode=modes, share=weights)
def test_a_weight_of_zero_leaves_a_prompt_out(mode, share):
    for shares in ([share, 0.0], [0.0, share]):
        kept = prompt(shares.index(share))
        assert close(mix([prompt(0), prompt(1)], shares, mode).embedding, kept.embedding)


@pytest.mark.parametrize("mode", MixMode)
def test_no_weights_are_equal_weights(mode):
    prompts = [prompt(seed) for seed in range(3)]
    assert torch.equal(mix(prompts, mode=mode).embedding, mix(prompts, [1.0, 1.0, 1.0], mode).embedding)


def test_a_composed_mixture_keeps_every_prompt_with_its_weight_also_in_another_one():
    inner = mix([prompt(0), prompt(1)], [1.0, 3.0], MixMode.COMPOSED)
    outer = mix([inner, prompt(2, batch=2), prompt(3)], [2.0, 2.0, 0.0], MixMode.COMPOSED)
    assert [weight for _, weight in outer.guides] == [0.125, 0.375, 0.5]
    for (embedding, _), one in zip(outer.guides, (prompt(0), prompt(1), prompt(2, batch=2)), strict=True):
        assert torch.equal(embedding, one.embedding.expand(2, -1, -1))
    linear = mix([mix([prompt(0), prompt(1)], [1.0, 3.0]), prompt(2, batch=2)])
    assert close(outer.embedding, linear.embedding)
    assert not mix([inner, prompt(2)]).parts
    assert [embedding.shape for embedding, _ in outer.repeated(3).guides] == [(6, 1, 8)] * 3


def test_linear_is_the_weighted_mean_and_is_not_normalised():
    mixed = mix([along(1, 0), along(0, 1)], [3.0, 1.0]).embedding
    assert close(mixed, torch.tensor([[[0.75, 0.25]]]))


@given(share=st.floats(0.05, 0.95), motion=st.floats(-3, 3))
def test_complementary_keeps_what_one_kind_alone_can_tell_and_averages_what_all_tell(share, motion):
    still, moving = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[-1.0, motion]]])
    picture = replace(prompt(0), meaning=meant(still, (1.0, 0.0)))
    text = replace(prompt(1), meaning=meant(moving, (1.0, 1.0)))
    factors = mix([picture, text], [1 - share, share]).meaning.factors[0, 0]
    assert close(factors[0] * (1 + UNTOLD), torch.tensor(1 - 2 * share))
    assert close(factors[1] * (share + UNTOLD), torch.tensor(motion * share))


@given(shares=st.lists(weights, min_size=3, max_size=3))
def test_a_complementary_mixture_of_mixtures_is_that_of_all_their_prompts(shares):
    prompts = [prompt(seed) for seed in range(3)]
    nested = mix([mix(prompts[:2], shares[:2]), prompts[2]], [sum(shares[:2]), shares[2]])
    whole = mix(prompts, shares)
    for name in ("meaning", "null_meaning"):
        assert close(getattr(nested, name).factors, getattr(whole, name).factors)
    assert nested.meaning.besides.keys() == {Modality.TEXT, Modality.IMAGE, Modality.VIDEO}
    assert all(close(rows, whole.meaning.besides[kind]) for kind, rows in nested.meaning.besides.items())


def test_prompts_without_a_negative_one_have_no_say_in_what_to_stay_away_from():
    one, other = prompt(0), replace(prompt(1), null_meaning=None)
    mixed = mix([one, other], [1.0, 3.0])
    assert torch.allclose(mixed.null_meaning.evidence, one.null_meaning.evidence / 4)
    assert mix([other, other]).null_meaning is None


def test_complementary_is_linear_where_the_model_does_not_know_what_prompts_mean():
    known, unknown = prompt(0), replace(prompt(1), meaning=None)
    mixed = mix([known, unknown], mode=MixMode.COMPLEMENTARY)
    assert (mixed.meaning, mixed.null_meaning) == (None, None)
    assert torch.equal(mixed.embedding, mix([known, unknown], mode=MixMode.LINEAR).embedding)


def test_norm_preserving_keeps_the_direction_of_the_mean_and_the_length_of_the_prompts():
    mixed = mix([along(1, 0), along(0, 1)], mode="norm_preserving").embedding
    assert close(mixed, torch.full((1, 1, 2), math.sqrt(0.5)))


@given(share=st.floats(0.0, 1.0))
def test_slerp_goes_along_the_circle_at_even_speed(share):
    mixed = mix([along(1, 0), along(0, 1)], [1 - share, share], "slerp").embedding
    angle = share * math.pi / 2
    assert close(mixed, torch.tensor([[[math.cos(angle), math.sin(angle)]]]))


def test_slerp_interpolates_lengths():
    assert close(mix([along(2, 0), along(0, 4)], mode="slerp").embedding.norm(), torch.tensor(3.0))


@pytest.mark.parametrize("mode", MixMode)
@pytest.mark.parametrize("second", [(-1.0, 0.0), (0.0, 0.0), (1.0, 1e-7)], ids=["opposite", "zero", "parallel"])
def test_degenerate_pairs_stay_finite(mode, second):
    assert mix([along(1, 0), along(*second)], mode=mode).embedding.isfinite().all()


@pytest.mark.parametrize("mode", MixMode)
def test_each_row_and_the_null_prompts_are_mixed_alike(mode):
    first, second = prompt(0, batch=3), prompt(1, batch=3)
    mixed = mix([first, second], [1.0, 2.0], mode)
    for row in range(3):
        rows = [
            Condition(each.embedding[row : row + 1], each.null[row : row + 1], meaning=row_of(each.meaning, row))
            for each in (first, second)
        ]
        alone = mix(rows, [1.0, 2.0], mode)
        assert close(mixed.embedding[row : row + 1], alone.embedding)
        assert close(mixed.null[row : row + 1], alone.null)
        if mode is MixMode.COMPLEMENTARY:
            assert close(row_of(mixed.meaning, row).factors, alone.meaning.factors)


def row_of(meaning: Meaning, row: int) -> Meaning:
    besides = {kind: rows[row : row + 1] for kind, rows in meaning.besides.items()}
    evidence, reliability = (getattr(meaning, name)[row : row + 1] for name in ("evidence", "reliability"))
    return Meaning(evidence, reliability, besides)


@pytest.mark.parametrize("mode", MixMode)
def test_one_row_serves_every_row_of_a_larger_batch(mode):
    many, one = prompt(0, batch=3), prompt(1)
    served, spelt_out = mix([many, one], mode=mode), mix([many, one.repeated(3)], mode=mode)
    assert close(served.embedding, spelt_out.embedding)
    if mode is MixMode.COMPLEMENTARY:
        assert close(served.meaning.factors, spelt_out.meaning.factors)
        assert all(close(rows, spelt_out.meaning.besides[kind]) for kind, rows in served.meaning.besides.items())
        assert close(served.null_meaning.factors, spelt_out.null_meaning.factors)


@pytest.mark.parametrize(
    ("prompts", "shares", "message"),
    [
        ([], None, "wanted at least one prompt, got none; connect or give one"),
        ([0, 1], [1.0], r"one weight for each of the 2 prompts, got 1: \[1.0\]"),
        ([0, 1], [1.0, -0.5], "a weight must be a number from 0 on, got -0.5; use 0 to leave a prompt out"),
        ([0, 1], [1.0, math.nan], "from 0 on, got nan"),
        ([0, 1], [1.0, math.inf], "from 0 on, got inf"),
        ([0, 1], [0.0, 0.0], "all 2 weights are zero; raise at least one above 0"),
    ],
)
def test_unusable_weights_say_what_is_wrong(prompts, shares, message):
    with pytest.raises(PromptError, match=message):
        mix([prompt(seed) for seed in prompts], shares)


def test_prompts_of_different_batches_say_both_shapes():
    with pytest.raises(PromptError, match=r"\(2, 1, 8\), \(3, 1, 8\).*encode them all with the same model"):
        mix([prompt(0, batch=2), prompt(1, batch=3)])


def test_an_unknown_mode_lists_the_modes():
    with pytest.raises(ConfigError, match="unknown mode 'cubic'; choose one of: complementary, linear,"):
        mix([prompt(0), prompt(1)], mode="cubic")


@given(mode=modes, start=st.floats(0, 0.9), length=st.floats(0.05, 1), share=st.floats(0, 1))
def test_a_fade_is_the_first_before_it_starts_the_second_once_it_ends_and_a_mixture_between(mode, start, length, share):
    end = min(1.0, start + length)
    told = fade(prompt(0), prompt(1), start=start, end=end, mode=mode).at(share)
    turned = min(1.0, max(0.0, (share - start) / (end - start)))
    wanted = mix([prompt(0), prompt(1)], [1 - turned, turned], mode)
    assert close(told.embedding, wanted.embedding)
    assert close(told.null, wanted.null)


@given(start=st.floats(0, 1), share=st.floats(0, 1))
def test_a_fade_that_ends_where_it_starts_is_a_switch(start, share):
    told = fade(prompt(0), prompt(1), start=start, end=start).at(share)
    assert close(told.embedding, prompt(int(share >= start)).embedding)


@given(share=st.floats(0, 1))
def test_what_fades_still_does_when_mixed_or_faded_again(share):
    fading = fade(prompt(0), prompt(1))
    mixed = mix([fading, prompt(2)], [1.0, 3.0])
    assert close(mixed.at(share).embedding, mix([fading.at(share), prompt(2)], [1.0, 3.0]).embedding)
    assert close(mixed.embedding, mixed.at(0.0).embedding)
    again = fade(fading, prompt(2), start=0.5)
    assert close(again.at(0.25).embedding, fading.at(0.25).embedding)
    assert close(again.at(1.0).embedding, prompt(2).embedding)
    assert close(fading.repeated(3).at(share).embedding, fading.at(share).embedding.repeat(3, 1, 1))


@pytest.mark.parametrize(("start", "end"), [(0.6, 0.5), (-0.1, 1.0), (0.0, 1.1), (math.nan, 1.0)])
def test_a_fade_outside_the_run_says_what_was_wanted(start, end):
    with pytest.raises(PromptError, match=f"between 0 and 1 of the steps, in this order, got {start} to {end}"):
        fade(prompt(0), prompt(1), start=start, end=end)
