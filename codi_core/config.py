"""What a CoDi model consists of, as data, and the presets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from .errors import CheckpointError, choose
from .modality import Modality
from .sampling import NOISE_SCHEDULE, ZERO_TERMINAL_SNR_SCHEDULE
from .values import OutputSize

INDEX_NAME = "model_index.json"
MEL = {"sample_rate_hz": 16000, "hop_samples": 160, "window_samples": 1024, "bands": 64, "maximum_hz": 8000.0}


@dataclass(frozen=True, kw_only=True)
class ModalityConfig:
    """How a model treats one modality.

    diffuser: the part that denoises it. latent_scale: what its autoencoder's latents are multiplied with.
    size: what is made when nothing else is asked for. guidance: the scale that suits it.
    """

    diffuser: str
    latent_scale: float
    size: OutputSize = field(default_factory=OutputSize)
    guidance: float = 7.5


@dataclass(frozen=True, kw_only=True)
class CoDiConfig:
    """A whole model: its parts' constructor arguments and what ties them together.

    parts: part name → arguments of its class (see parts.py). mel: arguments of the mel front end.
    frames_per_second: of the videos it makes. noise_schedule: in diffusers' words. guided_alignment: whether guidance
    acts on environments, too (`JointDenoiser.guided`); the paper doesn't tell, the released code doesn't.
    """

    name: str
    parts: Mapping[str, Mapping[str, Any]]
    modalities: Mapping[Modality, ModalityConfig]
    frames_per_second: Fraction
    mel: Mapping[str, Any] = field(default_factory=lambda: dict(MEL))
    noise_schedule: Mapping[str, Any] = field(default_factory=lambda: dict(NOISE_SCHEDULE))
    guided_alignment: bool = False

    def to_index(self) -> dict[str, Any]:
        """The content of model_index.json; the parts' arguments stand in their own folders."""
        return {
            "_class_name": "CoDiPipeline",
            "name": self.name,
            "parts": sorted(self.parts),
            "modalities": {str(modality): asdict(entry) for modality, entry in self.modalities.items()},
            "frames_per_second": str(self.frames_per_second),
            "mel": dict(self.mel),
            "noise_schedule": dict(self.noise_schedule),
            "guided_alignment": self.guided_alignment,
        }

    def with_modalities(self, folder: Path) -> CoDiConfig:
        """This model as far as it has been trained in a folder: what was measured in training comes from there."""
        return replace(self, modalities=_modalities(read_json(folder / INDEX_NAME)))

    @staticmethod
    def from_folder(folder: Path) -> CoDiConfig:
        """Read model_index.json and every part's config.json. Raises CheckpointError that names what is amiss."""
        index = read_json(folder / INDEX_NAME)
        try:
            return CoDiConfig(
                name=index["name"],
                parts={part: read_json(folder / part / "config.json") for part in index["parts"]},
                modalities=_modalities(index),
                frames_per_second=Fraction(index["frames_per_second"]),
                mel=index["mel"],
                noise_schedule=index["noise_schedule"],
                guided_alignment=index.get("guided_alignment", False),
            )
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{folder / INDEX_NAME} does not describe a CoDi model ({error!r}); convert or download it anew"
            ) from error


def _modalities(index: Mapping[str, Any]) -> dict[Modality, ModalityConfig]:
    return {
        Modality(modality): ModalityConfig(**entry | {"size": OutputSize(**entry["size"])})
        for modality, entry in index["modalities"].items()
    }


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model folder. Raises CheckpointError if it is missing or is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"wanted {path.name} in {path.parent}, found none; is this a CoDi model folder, complete?"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}; convert or download the model anew") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"wanted a JSON object in {path}, got {type(content).__name__}")
    return content


def _diffuser(**arguments: Any) -> dict[str, Any]:
    """A U-Net's arguments in the layout of the released ones; presets change what they need."""
    return {
        "width": 320,
        "multipliers": [1, 2, 4, 4],
        "units": [2, 2, 2, 2],
        "transformer_levels": [True, True, True, False],
        "connector_levels": [True, True, True, False],
        "context_width": 768,
        "heads": 8,
        "environment": {"width": 1280, "multipliers": [1, 2, 4]},
        "deepest_skip": "middle",
    } | arguments


def _autoencoder(image_channels: int, latent_channels: int, widths: list[int], **arguments: Any) -> dict[str, Any]:
    """Arguments of diffusers' AutoencoderKL."""
    return {
        "in_channels": image_channels,
        "out_channels": image_channels,
        "latent_channels": latent_channels,
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        "layers_per_block": 2,
    } | arguments


def _vocoder(**arguments: Any) -> dict[str, Any]:
    """Arguments of transformers' SpeechT5HifiGanConfig: HiFi-GAN at 16 kHz from 64 mel bands, hop 160."""
    return {
        "model_in_dim": 64,
        "sampling_rate": 16000,
        "upsample_initial_channel": 1024,
        "upsample_rates": [5, 4, 2, 2, 2],
        "upsample_kernel_sizes": [16, 16, 8, 4, 4],
        "resblock_kernel_sizes": [3, 7, 11],
        "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
        "leaky_relu_slope": 0.1,
        "normalize_before": False,
    } | arguments


def official() -> CoDiConfig:
    """The released system: 256² × 8 frames, 10.24 s of sound; 4.9 billion parameters, and V and connectors besides."""
    vision = OutputSize(height=256, width=256, frames=8)
    return CoDiConfig(
        name="official",
        frames_per_second=Fraction(4),
        modalities={
            Modality.TEXT: ModalityConfig(diffuser="diffuser_text", latent_scale=4.3108),
            Modality.IMAGE: ModalityConfig(diffuser="diffuser_vision", latent_scale=0.18215, size=vision),
            Modality.VIDEO: ModalityConfig(diffuser="diffuser_vision", latent_scale=0.18215, size=vision),
            Modality.AUDIO: ModalityConfig(
                diffuser="diffuser_audio", latent_scale=0.9228, size=OutputSize(seconds=10.24)
            ),
        },
        parts={
            "clip": {
                "text": {
                    "hidden_size": 768,
                    "intermediate_size": 3072,
                    "num_hidden_layers": 12,
                    "num_attention_heads": 12,
                    "projection_dim": 768,
                    "bos_token_id": 49406,
                    "eos_token_id": 49407,
                    "pad_token_id": 49407,
                },
                "vision": {
                    "hidden_size": 1024,
                    "intermediate_size": 4096,
                    "num_hidden_layers": 24,
                    "num_attention_heads": 16,
                    "patch_size": 14,
                    "projection_dim": 768,
                },
                "projection_dim": 768,
                "temporal": {"heads": 16, "normalization": "frames"},
            },
            "clap": {
                "audio": {
                    "patch_embeds_hidden_size": 256,
                    "depths": [2, 2, 12, 2],
                    "num_attention_heads": [4, 8, 16, 32],
                    "hidden_size": 2048,
                    "projection_dim": 768,
                    "projection_hidden_act": "relu",
                },
                "features": {
                    "feature_size": 64,
                    "sampling_rate": 48000,
                    "hop_length": 480,
                    "frequency_min": 50,
                    "frequency_max": 14000,
                },
            },
            "image_autoencoder": _autoencoder(3, 4, [128, 256, 512, 512], sample_size=256),
            "audio_autoencoder": _autoencoder(1, 8, [128, 256, 512], sample_size=256),
            "vocoder": _vocoder(),
            "text_autoencoder": {
                "encoder": {"vocab_size": 28996},
                "decoder": {"vocab_size": 50260},
                "latent_width": 768,
            },
            "diffuser_vision": _diffuser(latent_channels=4, temporal="frames"),
            "diffuser_audio": _diffuser(latent_channels=8, width=192),
            "diffuser_text": _diffuser(latent_channels=768, slots=4),
        },
    )


def mini() -> CoDiConfig:
    """codi-mini: 64² pictures, 16 frames, 2.56 s of sound; trained on the procedural world and shipped."""
    environment = {"width": 128, "multipliers": [1, 2]}

    def keeping(time_axis: str) -> dict[str, Any]:
        return {"environment": {**environment, "time_axis": time_axis}}

    diffuser = {
        "width": 64,
        "multipliers": [1, 2],
        "units": [1, 1],
        "transformer_levels": [False, True],
        "connector_levels": [False, True],
        "context_width": 128,
        "heads": 4,
        "environment": environment,
        "deepest_skip": "input",
    }
    vision = OutputSize(height=64, width=64, frames=16)
    autoencoder = {"layers_per_block": 1, "norm_num_groups": 8}
    # As the tokenizers of the procedural world's captions came out.
    clip_tokens, bert_tokens, gpt2_tokens = 779, 454, 541
    return CoDiConfig(
        name="codi-mini",
        frames_per_second=Fraction(25, 4),
        noise_schedule=ZERO_TERMINAL_SNR_SCHEDULE,
        guided_alignment=True,
        modalities={
            Modality.TEXT: ModalityConfig(diffuser="diffuser_text", latent_scale=1.0, guidance=3.0),
            Modality.IMAGE: ModalityConfig(diffuser="diffuser_image", latent_scale=1.0, size=vision, guidance=3.0),
            Modality.VIDEO: ModalityConfig(diffuser="diffuser_video", latent_scale=1.0, size=vision, guidance=3.0),
            Modality.AUDIO: ModalityConfig(
                diffuser="diffuser_audio", latent_scale=1.0, size=OutputSize(seconds=2.56), guidance=3.0
            ),
        },
        parts={
            "clip": {
                "text": {
                    "vocab_size": clip_tokens,
                    "hidden_size": 128,
                    "intermediate_size": 256,
                    "num_hidden_layers": 3,
                    "num_attention_heads": 4,
                    "max_position_embeddings": 48,
                    "projection_dim": 128,
                    "bos_token_id": clip_tokens - 2,
                    "eos_token_id": clip_tokens - 1,
                    "pad_token_id": clip_tokens - 1,
                },
                "vision": {
                    "hidden_size": 128,
                    "intermediate_size": 256,
                    "num_hidden_layers": 4,
                    "num_attention_heads": 4,
                    "patch_size": 8,
                    "image_size": 64,
                    "projection_dim": 128,
                },
                "projection_dim": 128,
                "temporal": {"heads": 4, "normalization": "channels"},
            },
            "clap": {
                "audio": {
                    "spec_size": 128,
                    "num_mel_bins": 64,
                    "patch_embeds_hidden_size": 32,
                    "depths": [2, 2, 2],
                    "num_attention_heads": [2, 4, 8],
                    "hidden_size": 128,
                    "projection_dim": 128,
                },
                "features": {
                    "feature_size": 64,
                    "sampling_rate": 16000,
                    "hop_length": 160,
                    "max_length_s": 2.56,
                    "frequency_min": 50,
                    "frequency_max": 8000,
                },
            },
            # Some more than its world's facts have degrees of freedom (shape 3, colour 5, motion 3, size 1), since
            # softly told ones come last; what is none of them is hardly reliable.
            "prompt_factors": {"width": 128, "factors": 16},
            "text_autoencoder": {
                "encoder": {
                    "vocab_size": bert_tokens,
                    "hidden_size": 128,
                    "num_hidden_layers": 2,
                    "num_attention_heads": 4,
                    "intermediate_size": 256,
                    "max_position_embeddings": 64,
                },
                "decoder": {
                    "vocab_size": gpt2_tokens,
                    "n_positions": 64,
                    "n_embd": 128,
                    "n_layer": 2,
                    "n_head": 4,
                    "pad_token_id": gpt2_tokens - 3,
                    "bos_token_id": gpt2_tokens - 2,
                    "eos_token_id": gpt2_tokens - 1,
                },
                "latent_width": 64,
            },
            "image_autoencoder": _autoencoder(3, 8, [16, 32, 64, 96], sample_size=64, **autoencoder),
            "audio_autoencoder": _autoencoder(1, 8, [16, 32, 64, 96], sample_size=64, **autoencoder),
            "vocoder": _vocoder(
                upsample_initial_channel=128,
                upsample_rates=[8, 5, 4],
                upsample_kernel_sizes=[16, 11, 8],
                resblock_kernel_sizes=[3, 7],
                resblock_dilation_sizes=[[1, 3], [1, 3]],
            ),
            "diffuser_image": _diffuser(**diffuser, latent_channels=8),
            # What bounces sounds at that moment, so these two keep time.
            "diffuser_video": _diffuser(**diffuser | keeping("frames"), latent_channels=8, temporal="channels"),
            "diffuser_audio": _diffuser(**diffuser | keeping("height"), latent_channels=8),
            "diffuser_text": _diffuser(**diffuser | {"multipliers": [1, 1]}, latent_channels=64, slots=2),
        },
    )


def tiny() -> CoDiConfig:
    """codi-mini's world and layout at the smallest widths: for trying the training out, which then takes minutes."""
    pattern = mini()
    layer = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    diffuser = {"multipliers": [1, 1], "context_width": 32, "heads": 2}
    diffuser |= {"environment": {"width": 32, "multipliers": [1, 1]}}
    narrower: dict[str, dict[str, Any]] = {
        "clip": {
            "text": {**layer, "projection_dim": 32},
            "vision": {**layer, "projection_dim": 32},
            "projection_dim": 32,
            "temporal": {"heads": 2},
        },
        "clap": {
            "audio": {"patch_embeds_hidden_size": 8, "depths": [1, 1, 1], "hidden_size": 32, "projection_dim": 32},
        },
        "prompt_factors": {"width": 32},
        "text_autoencoder": {"encoder": layer, "decoder": {"n_embd": 32, "n_layer": 1, "n_head": 2}},
        "image_autoencoder": {"block_out_channels": [8, 8, 16, 16]},
        "audio_autoencoder": {"block_out_channels": [8, 8, 16, 16]},
        "vocoder": {"upsample_initial_channel": 32},
        **{name: diffuser for name in pattern.parts if name.startswith("diffuser_")},
    }
    parts = {name: _changed(arguments, narrower[name]) for name, arguments in pattern.parts.items()}
    return replace(pattern, name="tiny", parts=parts)


def _changed(arguments: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments with some replaced, down to any depth."""
    return dict(arguments) | {
        name: _changed(arguments[name], value) if isinstance(value, dict) else value for name, value in changes.items()
    }


PRESETS: dict[str, Callable[[], CoDiConfig]] = {"official": official, "mini": mini, "tiny": tiny}


def preset(name: str) -> CoDiConfig:
    """A preset by name. Raises ConfigError for an unknown one, naming those there are."""
    return PRESETS[choose("preset", name, PRESETS)]()
