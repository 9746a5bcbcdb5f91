"""The official configuration and the synthetic weights of a folder of goldens, loaded through the real converter."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import init_empty_weights
from torch import Tensor, nn

from comfyui_codi.codi_core.checkpoints.convert import counterparts, from_official
from comfyui_codi.codi_core.checkpoints.official import OFFICIAL_PARTS, has_alignment
from comfyui_codi.codi_core.config import CoDiConfig, official
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.models.unet import UNet
from comfyui_codi.codi_core.parts import DIFFUSER, build_part

COMPUTED = r".*(\.position_ids|\.num_batches_tracked|\.relative_position_index|\.attn_mask|\.fn_STFT\..*)"
HALVED = ("pos_embeds", "frame_rate_embeds", "class_embedding", "relative_position_bias_table")
STORED_TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def synthetic_tensor(name: str, shape: tuple[int, ...], seed: str) -> Tensor | None:
    """The weight that stands under an official name: uniform numbers from a stream seeded by the name.

    The rule is that of the goldens' generator. None for what the official modules compute themselves; zero for
    CLIP's temperature, which no golden depends on.
    """
    last = name.rsplit(".", 1)[-1]
    if re.fullmatch(COMPUTED, name) or (last == "bias" and len(shape) == 4):
        return None
    if last == "logit_scale":
        return torch.zeros(shape)
    tied = name.replace("decoder.lm_head.weight", "decoder.transformer.wte.weight")
    stream = np.random.RandomState(zlib.crc32(f"{seed}:{tied}".encode()))
    fan_in = math.prod(shape[1:])
    if name.endswith(STORED_TRANSPOSED):
        fan_in = shape[0]
    elif re.search(r"vocoder\.ups\.\d+\.weight$", name):
        fan_in = 3 * shape[0]
    offset, scale = 0.0, math.sqrt(3) / math.sqrt(fan_in)
    if last == "running_mean":
        scale = 0.1 * math.sqrt(3)
    elif last == "running_var":
        offset, scale = 1.0, 0.25
    elif last == "g" or (last == "weight" and len(shape) == 1):
        offset, scale = 1.0, 0.1 * math.sqrt(3)
    elif last == "bias":
        scale = 0.05 * math.sqrt(3)
    elif last in HALVED:
        scale = 0.5 * math.sqrt(3)
    uniform = stream.random_sample(math.prod(shape))
    # In place, and in this order: full-size tensors are large, and the goldens' generator rounds so.
    uniform *= 2.0
    uniform -= 1.0
    uniform *= scale
    uniform += offset
    return torch.from_numpy(uniform.astype(np.float32).reshape(shape))


class OfficialModel(Mapping[str, Any]):
    """The parts of one golden configuration by name, built and loaded when first asked for."""

    def __init__(self, config: CoDiConfig, shapes: Mapping[str, Any], seed: str, dtype: torch.dtype):
        self.config = config
        self.shapes = shapes
        self.seed = seed
        self.dtype = dtype
        self._parts: dict[str, nn.Module] = {}
        self._parameters: dict[str, torch.nn.Parameter] = {}

    def state(self, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
        """The synthetic official tensors with these names."""
        made = {
            name: synthetic_tensor(name, tuple(entry["shape"]), self.seed)
            for name, entry in self.shapes.items()
            if wanted(name)
        }
        return {name: tensor for name, tensor in made.items() if tensor is not None}

    def __iter__(self) -> Iterator[str]:
        return iter(self.config.parts)

    def __len__(self) -> int:
        return len(self.config.parts)

    def __getitem__(self, name: str) -> Any:
        if name not in self._parts:
            spec, arguments = OFFICIAL_PARTS[name], self.config.parts[name]
            state = self.state(spec.wants)
            if name.startswith(DIFFUSER) and not has_alignment(state, spec.prefix):
                arguments = {**arguments, "environment": None}
            with init_empty_weights(include_buffers=False):
                part = build_part(name, arguments)
            places = counterparts(part, spec, arguments)
            computed = {key: value for key, value in part.state_dict().items() if key not in places}
            part.load_state_dict(from_official(state, places, spec) | computed, strict=True, assign=True)
            # diffusers' own `to` warns of every change of precision.
            nn.Module.to(part, self.dtype).requires_grad_(True)
            ours = dict(part.named_parameters())
            self._parameters |= {place.official: ours[key] for key, place in places.items() if key in ours}
            self._parts[name] = part.eval()
        return self._parts[name]

    def keep_only(self, official: Sequence[str]) -> None:
        """Let go of all parts but those below these official prefixes: full-size ones do not fit memory together."""
        self._parts = {
            name: part
            for name, part in self._parts.items()
            if OFFICIAL_PARTS[name].prefix.startswith(tuple(f"{prefix}." for prefix in official))
        }
        self._parameters.clear()

    def diffuser(self, modality: Modality) -> UNet:
        return self[self.config.modalities[modality].diffuser]

    def parameter(self, modality: Modality, official: str) -> torch.nn.Parameter:
        """Our parameter behind an official name."""
        self.diffuser(modality)
        return self._parameters[official]

    def diffusers(self, modalities: list[Modality]) -> dict[Modality, UNet]:
        return {modality: self.diffuser(modality) for modality in modalities}


def diffuser_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of our UNet from the official configuration of a diffuser."""
    return {
        "latent_channels": settings["input_channels"],
        "width": settings["model_channels"],
        "multipliers": settings["channel_mult"],
        "units": settings["num_noattn_blocks"],
        "transformer_levels": settings["with_attn"],
        "connector_levels": settings["with_connector"],
        "context_width": settings["context_dim"],
        "heads": settings["num_heads"],
        "slots": settings["second_dim"][0] if "second_dim" in settings else None,
        "temporal": "frames" if settings.get("use_video_architecture") else None,
        "environment": {
            "width": settings["connector_output_channel"],
            "multipliers": settings["channel_mult_connector"],
        },
        "deepest_skip": "middle",
    }


def autoencoder_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    widths = [settings["ch"] * multiplier for multiplier in settings["ch_mult"]]
    return {
        "in_channels": settings["in_channels"],
        "out_channels": settings["out_ch"],
        "latent_channels": settings["z_channels"],
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        "layers_per_block": settings["num_res_blocks"],
    }


def tiny_config(settings: Mapping[str, Any]) -> CoDiConfig:
    """Our configuration from the official one of the goldens, the released model being the pattern."""
    full = official()
    clip, clap, optimus, vocoder = (settings[name] for name in ("clip", "clap", "optimus", "hifigan"))
    width = clap["embed_dim"]
    parts = {
        "clip": {
            "text": full.parts["clip"]["text"] | clip["text"] | {"projection_dim": clip["projection_dim"]},
            "vision": full.parts["clip"]["vision"] | clip["vision"] | {"projection_dim": clip["projection_dim"]},
            "projection_dim": clip["projection_dim"],
            "temporal": {"heads": clip["vision"]["num_attention_heads"], "normalization": "frames"},
        },
        "clap": {
            "audio": full.parts["clap"]["audio"]
            | {
                "patch_embeds_hidden_size": width,
                "depths": clap["depths"],
                "num_attention_heads": clap["num_heads"],
                "hidden_size": width * 2 ** (len(clap["depths"]) - 1),
                "projection_dim": clap["joint_embed_shape"],
            },
            "features": full.parts["clap"]["features"],
        },
        "image_autoencoder": autoencoder_arguments(settings["autokl"]["ddconfig"]),
        "audio_autoencoder": autoencoder_arguments(settings["audioldm"]["ddconfig"]),
        "vocoder": full.parts["vocoder"]
        | {name: value for name, value in vocoder.items() if name != "num_mels"}
        | {"model_in_dim": vocoder["num_mels"]},
        "text_autoencoder": {
            "encoder": optimus["bert"],
            "decoder": {
                name: optimus["gpt2"][name]
                for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "layer_norm_epsilon")
            },
            "latent_width": optimus["latent_size"],
        },
        "diffuser_vision": diffuser_arguments(settings["unet_image"]),
        "diffuser_audio": diffuser_arguments(settings["unet_audio"]),
        "diffuser_text": diffuser_arguments(settings["unet_text"]),
    }
    return CoDiConfig(
        name="tiny", parts=parts, modalities=full.modalities, frames_per_second=full.frames_per_second, mel=full.mel
    )


def load_models(folder: Path, dtype: torch.dtype) -> dict[tuple[str, str, str], OfficialModel]:
    """A model per (config, params, seed) that the cases of a folder name; weights are made when first used.

    dtype: of the weights, whatever the goldens were made in.
    """
    models = {}
    for path in sorted(folder.glob("*.json")):
        case = json.loads(path.read_text())
        key = (case.get("config", ""), case.get("params", ""), case.get("seed", ""))
        if not key[1] or key in models:
            continue
        shapes: dict[str, Any] = {}
        # A single list of parameters, or for the full size one list for each part.
        for spec in sorted(folder.glob(key[1])):
            content = json.loads(spec.read_text())
            shapes |= content.get("tensors", content)
        settings = folder / key[0]
        config = tiny_config(json.loads(settings.read_text())) if settings.is_file() else official()
        models[key] = OfficialModel(config, shapes, key[2], dtype)
    return models
