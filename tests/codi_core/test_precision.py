"""Numbers that overflow on the way: the part is named before anyone sees what became of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from comfyui_codi.codi_core.errors import ConfigError, PrecisionError
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.pipeline import CoDiPipeline
from comfyui_codi.codi_core.precision import require_finite

SPOILED = {
    "clip": Modality.TEXT,
    "text_autoencoder": Modality.TEXT,
    "image_autoencoder": Modality.VIDEO,
    "audio_autoencoder": Modality.AUDIO,
    "vocoder": Modality.AUDIO,
}


def test_finite_numbers_pass_as_they_are() -> None:
    made = torch.randn(3)
    assert require_finite(made, "clip", nn.Linear(1, 1)) is made


@pytest.mark.parametrize("part", SPOILED)
def test_a_part_that_overflows_is_named_with_its_format(part: str, tiny_folder) -> None:
    pipeline = CoDiPipeline.from_pretrained(tiny_folder, dtype=torch.bfloat16)
    module = pipeline.parts[part]
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(torch.inf)
    with pytest.raises(PrecisionError, match=rf"the part '{part}' gave .* as torch\.bfloat16; load the model in bf16"):
        pipeline(["a red ball"], [SPOILED[part]], steps=1)


def test_a_precision_that_the_processor_is_slow_at_is_refused(tiny_folder) -> None:
    with pytest.raises(ConfigError, match="wanted fp32 or bf16, got fp16"):
        CoDiPipeline.from_pretrained(tiny_folder, dtype=torch.float16, device="cpu")
