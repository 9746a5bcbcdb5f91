from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from comfyui_codi.codi_core.encoders import PromptFactors
from comfyui_codi.codi_core.encoders.factors import TABLES, KindFactors, products, symmetric
from comfyui_codi.codi_core.mixing import mixed_meaning
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.values import UNTOLD, Meaning


def kind(modality: Modality, reliability: tuple[float, ...] = (1.0, 1.0)) -> KindFactors:
    """Two factors told in five numbers, in directions of the kind's own."""
    generator = torch.Generator().manual_seed(list(Modality).index(modality))
    mean, null, loadings = (torch.randn(*shape, generator=generator) for shape in ((5,), (5,), (5, 2)))
    reliably, nothing = torch.diag(torch.tensor(reliability)), torch.zeros(3, 3)
    return KindFactors(
        modality, mean, torch.linalg.pinv(loadings), reliably, mean, loadings, null, torch.eye(2), nothing
    )


FACTORS = torch.tensor([[[1.0, -2.0]], [[0.5, 0.0]]])


def saying(one: KindFactors, factors: Tensor) -> Tensor:
    return one.base + factors @ one.loadings.T


def test_what_a_kind_tells_is_read_from_it_and_told_as_another():
    one, other = kind(Modality.IMAGE), kind(Modality.AUDIO)
    meaning = one.meaning(saying(one, FACTORS))
    torch.testing.assert_close(meaning.factors, FACTORS / (1 + UNTOLD))
    torch.testing.assert_close(other.told(meaning), saying(other, FACTORS / (1 + UNTOLD)))


def test_a_prompt_told_as_its_own_kind_is_that_prompt_whatever_it_holds():
    one = kind(Modality.IMAGE, (0.7, 0.0))
    prompt = torch.randn(3, 1, 5, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(one.told(one.meaning(prompt)), prompt)


def test_emphasis_is_laid_on_factors_alone():
    one = replace(kind(Modality.IMAGE), emphasis=torch.diag(torch.tensor([1.0, 3.0])))
    prompt = torch.randn(2, 1, 5, generator=torch.Generator().manual_seed(9))
    meaning = one.meaning(prompt)
    louder = meaning.factors * torch.tensor([0.0, 2.0])
    torch.testing.assert_close(one.told(meaning), prompt + louder @ one.loadings.T)


@given(st.integers(1, 6), st.integers(0, 2**31))
def test_products_are_those_of_a_symmetric_matrix(size: int, seed: int) -> None:
    factors = torch.randn(3, size, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(symmetric(products(factors)), factors[:, :, None] * factors[:, None])


def test_what_is_hardly_said_is_left_to_prompts_that_say_it():
    assurance = torch.diag(torch.tensor([1.0, 0.0, 1.0]))
    caption = replace(kind(Modality.TEXT, (0.0, 0.0)), assurance=assurance)
    shown = kind(Modality.VIDEO)
    second_alone = shown.meaning(saying(shown, torch.tensor([[[0.0, -1.0]]])))

    def beside_it(said: Tensor) -> Tensor:
        both = caption.meaning(saying(caption, said)), second_alone
        return mixed_meaning(both, [0.5, 0.5], 1).factors[0, 0]

    hardly, silent = torch.tensor([[[1.0, 0.1]]]), torch.tensor([[[1.0, 0.0]]])
    reliability = caption.meaning(saying(caption, hardly)).reliability[0, 0]
    torch.testing.assert_close(reliability, torch.diag(torch.tensor([1.0, 0.01])), atol=1e-5, rtol=0)
    torch.testing.assert_close(beside_it(silent), torch.tensor([0.5, -1.0]), atol=0.05, rtol=0)
    torch.testing.assert_close(beside_it(hardly), beside_it(silent), atol=0.02, rtol=0)


def test_what_was_read_softly_is_told_in_full_where_it_can_be_relied_upon():
    def told(reliability: float) -> float:
        one = kind(Modality.TEXT, (reliability, 1.0))
        return float(one.meaning(saying(one, torch.tensor([[[reliability, 0.0]]]))).factors[0, 0, 0])

    assert [told(each) for each in (0.95, 0.5, 0.01)] == pytest.approx([1.0, 0.9, 0.0], abs=0.05)


def test_reliability_stays_within_0_and_1():
    loud = replace(kind(Modality.TEXT), assurance=torch.eye(3))
    values = torch.linalg.eigvalsh(loud.meaning(saying(loud, 5 * FACTORS)).reliability)
    assert values.min() > -1e-5
    assert values.max() < 1 + 1e-5


def test_what_a_kind_cannot_tell_is_the_mean():
    one, other = kind(Modality.IMAGE, (1.0, 0.0)), kind(Modality.AUDIO)
    told = other.told(one.meaning(saying(one, FACTORS)))
    torch.testing.assert_close(told, saying(other, FACTORS * torch.tensor([1 / (1 + UNTOLD), 0.0])))


def test_the_null_prompt_says_nothing_and_is_told_as_every_kinds_null_prompt():
    one, other = kind(Modality.TEXT), kind(Modality.IMAGE)
    prompts = torch.stack([one.null * 1.005, saying(one, FACTORS[0, 0])])[:, None]
    meaning = one.meaning(prompts)
    assert not meaning.evidence[0].any()
    assert not meaning.reliability[0].any()
    assert torch.equal(other.told(meaning)[0, 0], other.null)
    torch.testing.assert_close(other.told(meaning)[1:], other.told(one.meaning(prompts[1:])))


def test_beside_the_null_prompt_others_say_what_they_say_alone():
    words, picture, sound = (kind(each) for each in (Modality.TEXT, Modality.IMAGE, Modality.AUDIO))
    shown = picture.meaning(saying(picture, FACTORS))
    mixed = mixed_meaning([shown, words.meaning(words.null[None, None])], [0.5, 0.5], len(FACTORS))
    torch.testing.assert_close(sound.told(mixed), sound.told(shown), atol=0.1, rtol=0)


def test_meanings_are_finite_where_nobody_tells_anything():
    assert torch.equal(Meaning(torch.zeros(1, 1, 3), torch.zeros(1, 1, 3, 3)).factors, torch.zeros(1, 1, 3))


def test_a_part_returns_what_was_put_there_and_nothing_of_other_modalities():
    part = PromptFactors(width=5, factors=2)
    put = kind(Modality.AUDIO)
    part.put(put)
    found = part(Modality.AUDIO)
    assert found is not None
    for name in TABLES:
        assert torch.equal(getattr(found, name), getattr(put, name))
    assert part(Modality.VIDEO) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_says_nearly_the_same_in_full_precision(dtype):
    part = PromptFactors(width=5, factors=2)
    part.put(kind(Modality.TEXT))
    found = part.to(dtype)(Modality.TEXT)
    assert found is not None
    meaning = found.meaning(saying(kind(Modality.TEXT), FACTORS))
    assert meaning.evidence.dtype == torch.float32
    torch.testing.assert_close(meaning.factors, FACTORS, atol=0.1, rtol=0.05)
