"""The factors that prompts share, found again in samples that were made of factors that are known."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from comfyui_codi.codi_core.config import mini
from comfyui_codi.codi_core.encoders.factors import KindFactors
from comfyui_codi.codi_core.mixing import MixMode, mix, mixed_meaning
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.pipeline import BUNDLED, CoDiPipeline
from comfyui_codi.codi_core.training.factors import CAPTIONS, Told, fit, measure_factors
from comfyui_codi.codi_core.training.pictures import render_images
from comfyui_codi.codi_core.training.workshop import prepare
from comfyui_codi.codi_core.training.world import SIZE_RANGE, World
from comfyui_codi.codi_core.training.world_source import full_captions
from comfyui_codi.codi_core.values import Meaning

WIDTH, ROWS = 16, 2000
TELLS = {
    Modality.TEXT: (1.0, 1.0, 0.2),
    Modality.IMAGE: (1.0, 0.0, 0.1),
    Modality.AUDIO: (1.0, 1.0, 0.0),
}
"""How loudly each kind says each of three factors: pictures nothing of the second, sounds nothing of the third."""


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def said(modality: Modality, factors: Tensor, seed: int, noise: float = 0.01) -> Tensor:
    """Prompts that say these, along directions of their kind's own."""
    number = list(Modality).index(modality)
    axes = torch.linalg.qr(draw(WIDTH, 3, seed=number))[0]
    told = factors * torch.tensor(TELLS[modality])
    return draw(WIDTH, seed=10 + number) + told @ axes.T + noise * draw(len(factors), WIDTH, seed=seed)


@pytest.fixture(scope="module")
def found() -> dict[Modality, KindFactors]:
    told, text = {}, Modality.TEXT
    for number, modality in enumerate((Modality.IMAGE, Modality.AUDIO)):
        factors = draw(ROWS, 3, seed=100 + number).sign()
        captions = [said(text, factors * stated(seed), seed) for seed in range(200, 200 + CAPTIONS)]
        told[modality] = Told(
            prompts=said(modality, factors, seed=1),
            captions=torch.stack(captions, dim=1),
            outputs=said(text, factors, seed=4),
        )
    return {kind.modality: kind for kind in fit(told, dict.fromkeys(TELLS, torch.zeros(WIDTH)), count=3)}


def stated(seed: int) -> Tensor:
    """A caption leaves out a third of what there is to say."""
    return draw(ROWS, 3, seed=1000 + seed) > -0.43


def mean_of(meanings: list[Meaning]) -> Meaning:
    return mixed_meaning(meanings, [1 / len(meanings)] * len(meanings), len(meanings[0].evidence))


def read(found: dict[Modality, KindFactors], meaning: Meaning, to: Modality) -> Tensor:
    """Which factors the prompt says that this is told in."""
    told = found[to].told(replace(meaning, besides={}))[:, 0]
    axes = torch.linalg.qr(draw(WIDTH, 3, seed=list(Modality).index(to)))[0]
    loud = torch.tensor(TELLS[to])
    return ((told - found[to].base) @ axes / loud.where(loud > 0, torch.tensor(1.0))).where(loud > 0, torch.tensor(0.0))


def retold(found: dict[Modality, KindFactors], factors: Tensor, sources: list[Modality], to: Modality) -> Tensor:
    """Which factors a prompt says that was told from these, mixed evenly."""
    return read(found, mean_of([found[each].meaning(said(each, factors, seed=5)[:, None]) for each in sources]), to)


@pytest.mark.parametrize(
    ("sources", "to", "kept"),
    [
        ([Modality.IMAGE], Modality.IMAGE, (1, 0, 1)),
        ([Modality.IMAGE], Modality.AUDIO, (1, 0, 0)),
        ([Modality.AUDIO], Modality.IMAGE, (1, 0, 0)),
        ([Modality.IMAGE, Modality.AUDIO], Modality.IMAGE, (1, 0, 1)),
        ([Modality.IMAGE, Modality.AUDIO], Modality.AUDIO, (1, 1, 0)),
        ([Modality.IMAGE, Modality.AUDIO], Modality.TEXT, (1, 1, 1)),
    ],
)
def test_each_factor_comes_through_whole_if_any_prompt_tells_it_and_not_at_all_else(found, sources, to, kept):
    factors = draw(400, 3, seed=6)
    difference = retold(found, factors, sources, to) - factors * torch.tensor(kept)
    assert float(difference.square().mean(dim=0).max()) < 0.05


@pytest.mark.parametrize("to", [Modality.IMAGE, Modality.AUDIO])
def test_what_a_caption_leaves_out_is_told_by_others_and_what_it_says_is_not_told_too_loudly(found, to):
    factors, kept = draw(ROWS, 3, seed=6).sign(), torch.tensor(TELLS[to]) > 0
    half = factors * stated(seed=7)
    text, shown = Modality.TEXT, Modality.AUDIO
    meanings = [
        found[text].meaning(said(text, half, seed=8)[:, None]),
        found[shown].meaning(said(shown, factors, seed=5)[:, None]),
    ]
    for mixed, expected in ((meanings[0], half), (mean_of(meanings), factors)):
        # Of the third factor sounds say nothing.
        difference = (read(found, mixed, to) - expected)[:, :2] * kept[:2]
        assert float(difference.square().mean(dim=0).max()) < 0.05


def test_what_a_kind_never_says_is_not_reliable(found):
    assert float(torch.linalg.eigvalsh(found[Modality.IMAGE].reliability)[0]) < 0.05
    assert float(torch.linalg.eigvalsh(found[Modality.IMAGE].reliability)[1]) > 0.9


def test_beside_a_text_the_shipped_model_still_takes_the_size_from_a_picture() -> None:
    """Of little room in an embedding: in the mean of both it drowns."""
    pipeline, generator = CoDiPipeline.from_pretrained("codi-mini"), torch.Generator().manual_seed(0)
    facts = World().draw(32, generator)
    text = pipeline.encode(full_captions(facts, generator))
    low, high = SIZE_RANGE
    small, large = (
        pipeline.encode(render_images(replace(facts, size=torch.full((32,), size)), generator)) for size in (low, high)
    )

    def right(mode: MixMode) -> int:
        """Of mixtures of the text with either picture, those that lie nearer to that picture than to the other."""
        count = 0
        for one, other in ((small, large), (large, small)):
            told = pipeline.tell(mix([text, one], mode=mode), Modality.IMAGE).embedding
            nearer = (told - one.embedding).norm(dim=-1) < (told - other.embedding).norm(dim=-1)
            count += int(nearer.sum())
        return count

    assert right(MixMode.COMPLEMENTARY) > max(60, right(MixMode.LINEAR))


def test_modalities_without_samples_keep_what_was_known_of_them(tmp_path: Path, monkeypatch) -> None:
    workshop: Any = prepare(shutil.copytree(BUNDLED["codi-mini"], tmp_path / "model"), mini())
    monkeypatch.setattr(workshop.source, "holds", lambda modalities: Modality.VIDEO not in modalities)
    before = workshop["prompt_factors"](Modality.VIDEO)
    measure_factors(workshop, rows=16)
    kept: Any = prepare(tmp_path / "model", mini())["prompt_factors"]
    assert torch.equal(kept(Modality.VIDEO).loadings, before.loadings)
    assert kept(Modality.AUDIO).loadings.any()


def test_models_without_a_part_for_factors_are_left_alone(tmp_path: Path) -> None:
    parts = {name: arguments for name, arguments in mini().parts.items() if name != "prompt_factors"}
    workshop = prepare(tmp_path, replace(mini(), parts=parts))
    measure_factors(workshop, rows=16)
    assert not workshop.has("prompt_factors")
