from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch.testing import assert_close

from comfyui_codi.codi_core.encoders import CLAPEncoder, CLIPEncoder, encode, null_like
from comfyui_codi.codi_core.encoders.prompt import READERS
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.values import Frames, Media, Picture, Waveform, modality_of

NO_WISH: dict[Modality, Media] = {
    Modality.TEXT: "",
    Modality.IMAGE: Picture(torch.zeros(1, 3, 50, 70)),
    Modality.VIDEO: Frames(torch.zeros(1, 8, 3, 50, 70), Fraction(8)),
    Modality.AUDIO: Waveform(torch.zeros(1, 2, 999), 44_100),
}


@pytest.mark.parametrize("modality", Modality)
def test_null_is_the_prompt_that_says_nothing(clip: CLIPEncoder, clap: CLAPEncoder, modality: Modality) -> None:
    parts = {"clip": clip, "clap": clap}
    null = null_like(parts, modality)
    assert modality_of(null) == modality
    assert_close(encode(parts, null), encode(parts, NO_WISH[modality]), atol=1e-4, rtol=0)


def test_only_the_part_that_reads_the_prompt_is_needed(clip: CLIPEncoder, clap: CLAPEncoder) -> None:
    assert encode({"clip": clip}, "a red ball").shape == (1, 1, 20)
    assert encode({"clap": clap}, NO_WISH[Modality.AUDIO]).shape == (1, 1, 20)


def test_every_modality_has_a_reader() -> None:
    assert set(READERS) == set(Modality)
