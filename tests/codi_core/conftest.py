"""A whole CoDi so small that a run takes a second: real parts, random weights, tokenizers trained on four captions."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from comfyui_codi.codi_core.config import CoDiConfig, ModalityConfig
from comfyui_codi.codi_core.encoders.factors import KindFactors
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.models.unet import UNet
from comfyui_codi.codi_core.parts import Parts
from comfyui_codi.codi_core.pipeline import CoDiPipeline
from comfyui_codi.codi_core.training.tokenizers import train_tokenizers
from comfyui_codi.codi_core.values import Condition, OutputSize

CAPTIONS = ["a red ball bounces", "a blue square moves left", "a low tone falls", "the green star stays still"]
CONTEXT_WIDTH = 20
TEXT_LATENT = 6
TOKENIZERS = {
    "clip": "clip/tokenizer",
    "bert": "text_autoencoder/encoder_tokenizer",
    "gpt2": "text_autoencoder/decoder_tokenizer",
}


def diffuser(**arguments: Any) -> dict[str, Any]:
    """Two levels; 64 channels, so that half of them make one group of 1 each in V."""
    return {
        "width": 64,
        "multipliers": [1, 1],
        "units": [1, 1],
        "transformer_levels": [True, False],
        "connector_levels": [True, False],
        "context_width": CONTEXT_WIDTH,
        "heads": 2,
        "environment": {"width": 24, "multipliers": [1, 1]},
    } | arguments


def autoencoder(channels: int) -> dict[str, Any]:
    return {
        "in_channels": channels,
        "out_channels": channels,
        "latent_channels": 4,
        "block_out_channels": [8, 8],
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
        "layers_per_block": 1,
        "norm_num_groups": 4,
    }


def parts_arguments(tokens: dict[str, int]) -> dict[str, Any]:
    """tokens: the size of each vocabulary."""
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}
    end = tokens["clip"] - 1
    return {
        "clip": {
            "text": {
                **layers,
                "vocab_size": tokens["clip"],
                "max_position_embeddings": 12,
                "bos_token_id": end - 1,
                "eos_token_id": end,
                "pad_token_id": end,
            },
            "vision": {**layers, "patch_size": 8, "image_size": 16},
            "projection_dim": CONTEXT_WIDTH,
            "temporal": {"heads": 2, "normalization": "channels"},
        },
        "clap": {
            "audio": {
                "depths": [1, 1],
                "num_attention_heads": [1, 2],
                "patch_embeds_hidden_size": 8,
                "hidden_size": 16,
                "spec_size": 32,
                "num_mel_bins": 16,
                "window_size": 4,
                "patch_size": 4,
                "patch_stride": [4, 4],
                "projection_dim": CONTEXT_WIDTH,
            },
            "features": {
                "feature_size": 16,
                "sampling_rate": 16_000,
                "hop_length": 160,
                "fft_window_size": 512,
                "frequency_max": 8000,
                "max_length_s": 0.64,
            },
        },
        "prompt_factors": {"width": CONTEXT_WIDTH, "factors": 3},
        "image_autoencoder": autoencoder(3),
        "audio_autoencoder": autoencoder(1),
        "vocoder": {
            "model_in_dim": 16,
            "sampling_rate": 8000,
            "upsample_initial_channel": 16,
            "upsample_rates": [5, 4, 4],
            "upsample_kernel_sizes": [16, 16, 8],
            "resblock_kernel_sizes": [3],
            "resblock_dilation_sizes": [[1, 3]],
            "initializer_range": 0.2,
        },
        "text_autoencoder": {
            "encoder": {**layers, "vocab_size": tokens["bert"], "max_position_embeddings": 16},
            "decoder": {
                "vocab_size": tokens["gpt2"],
                "n_embd": 16,
                "n_layer": 1,
                "n_head": 2,
                "n_positions": 16,
                "initializer_range": 0.5,
            },
            "latent_width": TEXT_LATENT,
            "maximum_tokens": 12,
        },
        "diffuser_vision": diffuser(latent_channels=4, temporal="channels"),
        "diffuser_audio": diffuser(latent_channels=4),
        "diffuser_text": diffuser(latent_channels=TEXT_LATENT, slots=2),
    }


def tiny(tokens: dict[str, int]) -> CoDiConfig:
    vision = OutputSize(height=16, width=16, frames=4)
    return CoDiConfig(
        name="tiny",
        parts=parts_arguments(tokens),
        modalities={
            Modality.TEXT: ModalityConfig(diffuser="diffuser_text", latent_scale=1.0),
            Modality.IMAGE: ModalityConfig(diffuser="diffuser_vision", latent_scale=1.0, size=vision),
            Modality.VIDEO: ModalityConfig(diffuser="diffuser_vision", latent_scale=1.0, size=vision),
            Modality.AUDIO: ModalityConfig(
                diffuser="diffuser_audio", latent_scale=1.0, size=OutputSize(seconds=0.32), guidance=2.0
            ),
        },
        frames_per_second=Fraction(25, 2),
        mel={"sample_rate_hz": 8000, "hop_samples": 80, "window_samples": 512, "bands": 16, "maximum_hz": 4000.0},
    )


def wake(part: torch.nn.Module) -> torch.nn.Module:
    """Give weights to the layers that start at zero, so that every branch of the network acts."""
    for parameter in part.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return part


def kind_factors(modality: Modality) -> KindFactors:
    """Of prompts that say three things, each of them reliably; every kind of output is told with another emphasis."""
    mean, null, loadings = torch.randn(CONTEXT_WIDTH), torch.randn(CONTEXT_WIDTH), torch.randn(CONTEXT_WIDTH, 3)
    one, nothing = torch.eye(3), torch.zeros(6, 6)
    emphasis = (1 + list(Modality).index(modality) / 4) * one
    return KindFactors(modality, mean, torch.linalg.pinv(loadings), one, mean, loadings, null, emphasis, nothing)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a folder; don't change it."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizers = tmp_path_factory.mktemp("tokenizers")
    parts = Parts(tiny(train_tokenizers(CAPTIONS * 3, tokenizers)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for part in parts.values():
            wake(part)
        factors: Any = parts["prompt_factors"]
        for modality in Modality:
            factors.put(kind_factors(modality))
    parts.save(folder, torch.float32)
    for name, place in TOKENIZERS.items():
        shutil.copytree(tokenizers / name, folder / place)
    return folder


@pytest.fixture(scope="session")
def tiny_pipeline(tiny_folder: Path) -> CoDiPipeline:
    return CoDiPipeline.from_pretrained(tiny_folder)


@pytest.fixture(scope="session")
def tiny_config(tiny_pipeline: CoDiPipeline) -> CoDiConfig:
    return tiny_pipeline.config


@pytest.fixture(scope="session")
def tiny_diffusers(tiny_pipeline: CoDiPipeline) -> dict[Modality, UNet]:
    """The diffuser of each modality; image and video share one."""
    return dict(tiny_pipeline.denoiser(list(Modality)).diffusers)


@pytest.fixture
def condition(tiny_pipeline: CoDiPipeline) -> Condition:
    return tiny_pipeline.encode(CAPTIONS[0])
