from __future__ import annotations

import pytest

from comfyui_codi.codi_core import errors
from comfyui_codi.codi_core.errors import CoDiError, ConfigError, choose
from comfyui_codi.codi_core.modality import Modality

KINDS = ["PromptError", "MediaError", "ShapeError", "ConfigError", "CheckpointError", "GraphError"]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_caught_as_codi_error(name):
    with pytest.raises(CoDiError, match="wanted this"):
        raise getattr(errors, name)("wanted this")


def test_a_known_name_gives_its_choice():
    assert choose("modality", "audio", Modality) is Modality.AUDIO
    assert choose("modality", Modality.AUDIO, Modality) is Modality.AUDIO


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(ConfigError) as caught:
        choose("modality", "smell", Modality)
    assert str(caught.value) == "unknown modality 'smell'; choose one of: text, image, video, audio"


def test_choices_may_come_from_a_generator():
    assert choose("letter", "b", (letter for letter in "abc")) == "b"
    with pytest.raises(ConfigError, match="a, b, c"):
        choose("letter", "d", (letter for letter in "abc"))
