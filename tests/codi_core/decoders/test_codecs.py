from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from fractions import Fraction
from typing import Any

import pytest
import torch

from comfyui_codi.codi_core.config import CoDiConfig, ModalityConfig
from comfyui_codi.codi_core.decoders import CODECS, build_codec
from comfyui_codi.codi_core.modality import Modality


class Watched(Mapping[str, Any]):
    """Remembers which parts were asked for, as a lazy mapping would load them."""

    def __init__(self, parts: dict[str, Any]):
        self.parts, self.used = parts, []

    def __getitem__(self, name: str) -> Any:
        self.used.append(name)
        return self.parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)


@pytest.fixture
def config(audio_codec):
    return CoDiConfig(
        name="tiny",
        parts={},
        modalities={modality: ModalityConfig(diffuser="", latent_scale=2.0) for modality in Modality},
        frames_per_second=Fraction(25, 4),
        mel=asdict(audio_codec.mel),
    )


@pytest.fixture
def parts(image_autoencoder, audio_codec, text_autoencoder):
    return Watched(
        {
            "image_autoencoder": image_autoencoder,
            "audio_autoencoder": audio_codec.autoencoder,
            "vocoder": audio_codec.vocoder,
            "text_autoencoder": text_autoencoder,
        }
    )


LATENTS = {
    Modality.TEXT: (2, 6),
    Modality.IMAGE: (2, 4, 2, 2),
    Modality.VIDEO: (2, 4, 3, 2, 2),
    Modality.AUDIO: (2, 4, 5, 4),
}


@pytest.mark.parametrize("modality", Modality)
def test_every_modality_decodes_and_encodes_again(modality, parts, config):
    codec = build_codec(modality, parts, config)
    latent = torch.randn(LATENTS[modality], generator=torch.Generator().manual_seed(0))
    assert codec.encode(codec.decode(latent, seconds=0.2)).shape == latent.shape


@pytest.mark.parametrize("modality", Modality)
def test_only_the_parts_of_the_modality_are_touched(modality, parts, config):
    build_codec(modality, parts, config)
    assert tuple(parts.used) == CODECS[modality].parts
