"""The parts of a model: building, strict loading and saving, each in a folder of its own, read when first used."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from .config import INDEX_NAME, CoDiConfig
from .decoders.audio import build_vocoder
from .decoders.image import build_image_autoencoder
from .decoders.text import DECODER_TOKENIZER, ENCODER_TOKENIZER, TextAutoencoder
from .encoders import CLAPEncoder, CLIPEncoder, PromptFactors
from .encoders.clip import TOKENIZER
from .errors import CheckpointError, ConfigError
from .models.unet import UNet

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
DIFFUSER = "diffuser_"
PROMPT_FACTORS = "prompt_factors"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Number formats of weights, by the names that users know."""

_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "clip": CLIPEncoder,
    "clap": CLAPEncoder,
    PROMPT_FACTORS: PromptFactors,
    "image_autoencoder": lambda **arguments: build_image_autoencoder(arguments),
    "audio_autoencoder": AutoencoderKL,
    "vocoder": lambda **arguments: build_vocoder(arguments),
    "text_autoencoder": TextAutoencoder,
}

_TOKENIZERS: dict[str, tuple[tuple[str, ...], Callable[[Any, Path], None]]] = {
    "clip": ((TOKENIZER,), lambda part, folder: part.attach_tokenizer(folder / TOKENIZER)),
    "text_autoencoder": (
        (ENCODER_TOKENIZER, DECODER_TOKENIZER),
        lambda part, folder: part.attach_tokenizers(folder),
    ),
}
"""Per part the folders of its tokenizers, and how to attach them."""


def build_part(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """A part with fresh weights. Every part whose name starts with `diffuser_` is a UNet."""
    builder = UNet if name.startswith(DIFFUSER) else _BUILDERS[name]
    return builder(**arguments)


def attach_tokenizers(name: str, part: nn.Module, folder: Path) -> None:
    """Give a part that reads text its tokenizers from its folder. Unless all are there it does all but reading text."""
    places, attach = _TOKENIZERS.get(name, ((), None))
    if attach is not None and all((folder / place).exists() for place in places):
        attach(part, folder)


def load_part(
    folder: Path, name: str, arguments: Mapping[str, Any], dtype: torch.dtype, device: torch.device | str
) -> nn.Module:
    """A part with the weights of `folder`/`name`, in evaluation mode.

    Raises CheckpointError for a missing or damaged file, arguments that no part takes, and weights of another shape or
    name; nothing but safetensors is ever read.
    """
    path = folder / name / WEIGHTS_NAME
    try:
        state = load_file(path, device=str(device))
    except FileNotFoundError:
        raise CheckpointError(
            f"the model in {folder} lacks its part {name!r}: wanted {path}; convert or download it anew"
        ) from None
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file ({error}); download it anew") from error
    try:
        with init_empty_weights(include_buffers=False):
            part = build_part(name, arguments)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / name / CONFIG_NAME} does not describe a part {name!r} ({error!r}); convert or download it anew"
        ) from error
    state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
    try:
        part.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"the weights in {path} do not fit its {CONFIG_NAME}: {error}") from error
    attach_tokenizers(name, part, folder / name)
    return part.to(device).eval().requires_grad_(False)


def save_part(folder: Path, name: str, part: nn.Module, arguments: Mapping[str, Any], dtype: torch.dtype) -> None:
    """Write config and weights of a part; the folder's tokenizers, if any, stay as they are. Each file is replaced
    whole or not at all."""
    state = part.state_dict()
    if any(value.is_meta for value in state.values()):
        raise ConfigError(
            f"the part {name!r} rests layer by layer and cannot be saved; load the model without offloading"
        )
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    state = {
        key: (value.to(dtype) if value.is_floating_point() else value).contiguous().cpu()
        for key, value in state.items()
    }
    with tempfile.TemporaryDirectory(dir=target, prefix=".saving-") as scratch:
        save_file(state, Path(scratch) / WEIGHTS_NAME)
        (Path(scratch) / CONFIG_NAME).write_text(json.dumps(arguments, indent=2) + "\n", encoding="utf-8")
        for file in Path(scratch).iterdir():
            file.replace(target / file.name)


class Parts(Mapping[str, nn.Module]):
    """The parts of a model by name. A part is loaded, or built with fresh weights, when it is first looked up."""

    def __init__(
        self,
        config: CoDiConfig,
        folder: Path | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        """folder: where the weights lie; None builds parts with random ones."""
        self.config = config
        self.folder = folder
        self.dtype = dtype
        self.device = torch.device(device)
        self.loaded: dict[str, nn.Module] = {}

    def __getitem__(self, name: str) -> nn.Module:
        if name not in self.loaded:
            self.loaded[name] = self._make(name)
        return self.loaded[name]

    def begin_stage(self) -> None:
        """Encoding, sampling or decoding begins: kinds of parts that make room for one another use this."""

    def _make(self, name: str) -> nn.Module:
        return self._loaded_on(self.device, name)

    def _loaded_on(self, device: torch.device, name: str) -> nn.Module:
        if name not in self.config.parts:
            raise CheckpointError(
                f"the model {self.config.name!r} lacks its part {name!r}; it has {', '.join(self.config.parts)}"
            )
        arguments = self.config.parts[name]
        if self.folder is not None:
            return load_part(self.folder, name, arguments, self.dtype, device)
        # diffusers' own `to` warns of every change of precision.
        return nn.Module.to(build_part(name, arguments), device, self.dtype).eval()

    def __iter__(self) -> Iterator[str]:
        return iter(self.config.parts)

    def __len__(self) -> int:
        return len(self.config.parts)

    def save(self, folder: Path, dtype: torch.dtype) -> None:
        """Write the whole model. The index comes last, so that a folder without it is known to be incomplete."""
        for name, part in self.items():
            save_part(folder, name, part, self.config.parts[name], dtype)
            if self.folder is not None and self.folder.resolve() != folder.resolve():
                copy_tokenizers(self.folder / name, folder / name)
        write_index(self.config, folder)


def copy_tokenizers(source: Path, target: Path) -> None:
    """Copy the tokenizer folders of a part."""
    for tokenizer in source.glob("*tokenizer"):
        shutil.copytree(tokenizer, target / tokenizer.name, dirs_exist_ok=True)


def write_index(config: CoDiConfig, folder: Path) -> None:
    """Write model_index.json, whole or not at all."""
    scratch = folder / f".{INDEX_NAME}"
    scratch.write_text(json.dumps(config.to_index(), indent=2) + "\n", encoding="utf-8")
    scratch.replace(folder / INDEX_NAME)
