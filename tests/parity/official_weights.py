"""The official configuration and the synthetic weights of a folder of goldens, loaded through the real converter."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from comfyui_codi.codi_core.checkpoints.convert import counterparts, from_official, has_alignment
from comfyui_codi.codi_core.checkpoints.names import diffuser_renames
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.models.unet import UNet

ROOT = "model.diffusion_model."
DIFFUSER_OF = {
    Modality.IMAGE: "unet_image",
    Modality.VIDEO: "unet_image",
    Modality.AUDIO: "unet_audio",
    Modality.TEXT: "unet_text",
}
EMBEDDED = ("pos_embeds", "frame_rate_embeds", "class_embedding", "relative_position_bias_table")


def synthetic_tensor(name: str, shape: tuple[int, ...], seed: str) -> Tensor:
    """The weight that stands under an official name: uniform numbers from a stream seeded by the name.

    The rule is that of the goldens' generator, for the kinds of parameters that diffusers have.
    """
    stream = np.random.RandomState(zlib.crc32(f"{seed}:{name}".encode()))
    last = name.rsplit(".", 1)[-1]
    offset, scale = 0.0, math.sqrt(3) / math.sqrt(math.prod(shape[1:]))
    if last == "g" or (last == "weight" and len(shape) == 1):
        offset, scale = 1.0, 0.1 * math.sqrt(3)
    elif last == "bias":
        scale = 0.05 * math.sqrt(3)
    elif last in EMBEDDED:
        scale = 0.5 * math.sqrt(3)
    uniform = stream.random_sample(math.prod(shape)) * 2.0 - 1.0
    return torch.from_numpy((uniform * scale + offset).astype(np.float32).reshape(shape))


class OfficialModel:
    """The diffusers of one golden configuration, built and loaded when first asked for."""

    def __init__(self, config: Mapping[str, Any], shapes: Mapping[str, Any], seed: str):
        self.config = config
        self.shapes = shapes
        self.seed = seed
        self._diffusers: dict[str, UNet] = {}
        self._parameters: dict[str, torch.nn.Parameter] = {}

    def state(self, prefix: str) -> dict[str, Tensor]:
        """The synthetic state dict below an official prefix."""
        return {
            name: synthetic_tensor(name, tuple(entry["shape"]), self.seed)
            for name, entry in self.shapes.items()
            if name.startswith(prefix)
        }

    def diffuser(self, modality: Modality) -> UNet:
        part = DIFFUSER_OF[modality]
        if part not in self._diffusers:
            prefix = f"{ROOT}{part}."
            state = self.state(prefix)
            arguments = diffuser_arguments(self.config[part], has_alignment(state, prefix))
            with torch.device("meta"):
                diffuser = UNet(**arguments)
            places = counterparts(diffuser, diffuser_renames(arguments), prefix)
            diffuser.load_state_dict(from_official(state, places, prefix), strict=True, assign=True)
            diffuser.requires_grad_(True)
            ours = dict(diffuser.named_parameters())
            self._parameters |= {place.official: ours[name] for name, place in places.items()}
            self._diffusers[part] = diffuser.eval()
        return self._diffusers[part]

    def parameter(self, modality: Modality, official: str) -> torch.nn.Parameter:
        """Our parameter behind an official name."""
        self.diffuser(modality)
        return self._parameters[official]

    def diffusers(self, modalities: list[Modality]) -> dict[Modality, UNet]:
        return {modality: self.diffuser(modality) for modality in modalities}


def diffuser_arguments(official: Mapping[str, Any], aligned: bool) -> dict[str, Any]:
    """Arguments of our UNet from the official configuration of a diffuser."""
    environment = {
        "width": official["connector_output_channel"],
        "multipliers": official["channel_mult_connector"],
    }
    return {
        "latent_channels": official["input_channels"],
        "width": official["model_channels"],
        "multipliers": official["channel_mult"],
        "units": official["num_noattn_blocks"],
        "transformer_levels": official["with_attn"],
        "connector_levels": official["with_connector"],
        "context_width": official["context_dim"],
        "heads": official["num_heads"],
        "slots": official["second_dim"][0] if "second_dim" in official else None,
        "temporal": "frames" if official.get("use_video_architecture") else None,
        "environment": environment if aligned else None,
        "deepest_skip": "middle",
    }


def load_models(folder: Path) -> dict[tuple[str, str, str], OfficialModel]:
    """A model per (config, params, seed) that the cases of a folder name; weights are made when first used."""
    models = {}
    for path in sorted(folder.glob("*.json")):
        case = json.loads(path.read_text())
        if not re.fullmatch(r"params_.*\.json", str(case.get("params", ""))):
            continue
        key = (case["config"], case["params"], case["seed"])
        if key not in models:
            config = json.loads((folder / key[0]).read_text())
            shapes = json.loads((folder / key[1]).read_text())
            models[key] = OfficialModel(config, shapes, key[2])
    return models
