"""A model in the making: what a new folder begins with, and what is measured on the way."""

from __future__ import annotations

import shutil
from pathlib import Path

from comfyui_codi.codi_core.config import mini
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.pipeline import BUNDLED
from comfyui_codi.codi_core.training.workshop import measure_scale, prepare


def test_latent_scales_bring_latents_to_unit_variance(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(BUNDLED["codi-mini"], folder)
    workshop = prepare(folder, mini())
    measure_scale(Modality.IMAGE)(workshop)
    scale = workshop.config.modalities[Modality.IMAGE].latent_scale
    assert prepare(folder, mini()).config.modalities[Modality.IMAGE].latent_scale == scale
    assert 0.1 < scale < 10


def test_a_new_folder_gets_tokenizers_that_fit_the_preset(tmp_path: Path) -> None:
    workshop = prepare(tmp_path / "new", mini())
    workshop["clip"], workshop["text_autoencoder"]
