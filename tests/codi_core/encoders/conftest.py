"""Real encoders at a size that runs in milliseconds, with vocabularies trained on a few captions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from comfyui_codi.codi_core.encoders import CLAPEncoder, CLIPEncoder
from comfyui_codi.codi_core.training.tokenizers import train_tokenizers

CAPTIONS = [
    "a red ball bounces",
    "a blue square moves left",
    "a low tone falls",
    "the green star stays still",
]


TOKENS = 540


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizers")
    train_tokenizers(CAPTIONS * 3, folder, largest=TOKENS)
    return folder / "clip"


def untrained_clip(normalization: str = "frames") -> CLIPEncoder:
    """Untrained, but with temporal blocks that act."""
    torch.manual_seed(0)
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    size = {"vocab_size": TOKENS, "max_position_embeddings": 12, "hidden_size": 16}
    ends = {"bos_token_id": TOKENS - 2, "eos_token_id": TOKENS - 1, "pad_token_id": TOKENS - 1}
    clip = CLIPEncoder(
        text={**layers, **size, **ends},
        vision={**layers, "hidden_size": 24, "patch_size": 8, "image_size": 32},
        projection_dim=20,
        temporal={"heads": 2, "normalization": normalization},
    )
    for block in clip.temporal_blocks:
        nn.init.normal_(block.attention.to_out.weight)
        nn.init.normal_(block.feed_forward.proj_out.weight, std=0.1)
    return clip.eval()


@pytest.fixture
def make_clip() -> Callable[..., CLIPEncoder]:
    return untrained_clip


@pytest.fixture
def clip(vocabulary: Path) -> CLIPEncoder:
    encoder = untrained_clip()
    encoder.attach_tokenizer(vocabulary)
    return encoder


@pytest.fixture
def clap() -> CLAPEncoder:
    """0.64 s at 16 kHz, 64 mel frames of 16 bands, folded into a picture of 32 x 32."""
    torch.manual_seed(0)
    network = {
        "depths": [1, 1],
        "num_attention_heads": [1, 2],
        "patch_embeds_hidden_size": 8,
        "hidden_size": 16,
    }
    image = {"spec_size": 32, "num_mel_bins": 16, "window_size": 4, "patch_size": 4, "patch_stride": [4, 4]}
    sound = {"sampling_rate": 16_000, "hop_length": 160, "fft_window_size": 512, "frequency_max": 8000}
    return CLAPEncoder(
        audio={**network, **image, "projection_dim": 20},
        features={**sound, "feature_size": 16, "max_length_s": 0.64},
    ).eval()
