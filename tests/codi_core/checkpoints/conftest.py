"""The tiny model as official files would hold it: they know of no factors that prompts share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from comfyui_codi.codi_core.config import CoDiConfig
from comfyui_codi.codi_core.parts import PROMPT_FACTORS, Parts
from comfyui_codi.codi_core.pipeline import CoDiPipeline


@pytest.fixture(scope="session")
def tiny_pipeline(tiny_folder: Path) -> CoDiPipeline:
    config = CoDiConfig.from_folder(tiny_folder)
    parts = {name: arguments for name, arguments in config.parts.items() if name != PROMPT_FACTORS}
    config = replace(config, parts=parts)
    return CoDiPipeline(config, Parts(config, tiny_folder))
