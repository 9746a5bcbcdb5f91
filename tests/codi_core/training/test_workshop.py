"""A model in the making: what a new folder begins with, and what is measured on the way."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from comfyui_codi.codi_core.config import mini, tiny
from comfyui_codi.codi_core.errors import ConfigError
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.parts import write_index
from comfyui_codi.codi_core.pipeline import BUNDLED
from comfyui_codi.codi_core.training.workshop import measure_scale, prepare


def test_latent_scales_bring_latents_to_unit_variance(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(BUNDLED["codi-mini"], folder)
    workshop = prepare(folder, mini())
    measure_scale(workshop, Modality.IMAGE)
    scale = workshop.config.modalities[Modality.IMAGE].latent_scale
    assert prepare(folder, mini()).config.modalities[Modality.IMAGE].latent_scale == scale
    assert 0.1 < scale < 10


def test_a_new_folder_gets_tokenizers_that_fit_the_preset(tmp_path: Path) -> None:
    workshop: Any = prepare(tmp_path / "new", mini())
    sentence = "a red circle bounces"
    assert workshop["clip"].encode_text([sentence]).isfinite().all()
    text_autoencoder = workshop["text_autoencoder"]
    _, *tokens, _ = text_autoencoder.decoder_ids([sentence])[0].tolist()
    assert text_autoencoder.decoded(tokens).strip() == sentence
    ids, _ = text_autoencoder.encoder_ids([sentence])
    assert text_autoencoder.tokenizer_encoder.unk_token_id not in ids


def test_a_folder_of_another_model_is_refused(tmp_path: Path) -> None:
    write_index(tiny(), tmp_path)
    with pytest.raises(ConfigError, match=r"wanted a model folder of codi-mini, got .* of tiny; name the preset"):
        prepare(tmp_path, mini())
