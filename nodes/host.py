"""The only contact with ComfyUI's modules, beside host_model.py: every node takes the host's names from here.

Where ComfyUI is absent (`codi run`, tests) the stand-in of `codi_core.headless.host` gives the same names.
"""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..codi_core.modality import Modality
from ..codi_core.parts import Parts
from ..codi_core.pipeline import CoDiPipeline
from ..codi_core.placement import COMPUTES_ON

if TYPE_CHECKING or find_spec("comfy_api") is None:
    from ..codi_core.headless.host import (
        ComfyExtension,
        InputImpl,
        ProgressBar,
        Types,
        default_dtype,
        device,
        io,
        is_watched,
        model_folders,
        native_model,
        native_noise,
        nested,
        send_event,
        temp_folder,
        throw_if_interrupted,
        ui,
        unnested,
    )
    from ..codi_core.offload import RestingParts

    def share_memory(parts: Parts) -> Parts:
        """The same parts; with nobody to share the device with they make room for one another."""
        return RestingParts(parts.config, parts.folder, parts.dtype, parts.device)

else:
    from pathlib import Path

    import comfy.ops
    import folder_paths
    import torch
    from comfy import model_management
    from comfy.model_patcher import ModelPatcher
    from comfy.utils import ProgressBar
    from comfy_api.latest import ComfyExtension, InputImpl, Types, io, ui
    from server import PromptServer

    from . import host_model
    from .host_model import nested, unnested

    native_noise = host_model.NativeNoise

    folder_paths.add_model_folder_path("codi", str(Path(folder_paths.models_dir) / "codi"))
    # A newly registered folder lists every file, read-me files too, until its endings are set.
    folder_paths.folder_names_and_paths["codi"] = (
        folder_paths.get_folder_paths("codi"),
        {".safetensors", ".sft"},
    )

    def model_folders() -> list[Path]:
        """Where models for this pack may lie, the user's own folders first."""
        return [Path(folder) for folder in folder_paths.get_folder_paths("codi")]

    def temp_folder() -> Path:
        """Where previews go; the host empties it at every start."""
        folder = Path(folder_paths.get_temp_directory())
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def device() -> torch.device:
        return model_management.get_torch_device()

    def default_dtype() -> torch.dtype:
        """The fastest precision that the host trusts this device with."""
        if model_management.should_use_fp16(device()):
            return torch.float16
        return torch.bfloat16 if model_management.should_use_bf16(device()) else torch.float32

    def throw_if_interrupted() -> None:
        """Raises the host's own exception if the user has pressed Cancel."""
        model_management.throw_exception_if_processing_interrupted()

    def native_model(pipeline: CoDiPipeline, outputs: list[Modality]) -> ModelPatcher:
        """A MODEL that denoises these outputs together; in this order they stand in LATENTs."""
        return host_model.native_model(pipeline, outputs, model_management.unet_offload_device())

    def is_watched() -> bool:
        """Whether an editor waits for this run."""
        return PromptServer.instance.client_id is not None

    def send_event(name: str, content: dict[str, Any]) -> None:
        """Tell the editor that waits for this run, and which one it is, as the host's own events do."""
        server = PromptServer.instance
        server.send_sync(name, {**content, "prompt_id": server.last_prompt_id}, server.client_id)

    FETCHED = {
        getattr(torch.nn, name): getattr(comfy.ops.disable_weight_init, name)
        for name in ("Linear", "Conv1d", "Conv2d", "Conv3d", "GroupNorm", "LayerNorm", "ConvTranspose1d")
    }
    """Layers, and the host's own of the same arithmetic, whose weights it can fetch when they compute."""

    def _fetchable(part: torch.nn.Module) -> torch.nn.Module:
        """The same part of the host's layers, as far as it has any."""
        for layer in part.modules():
            layer.__class__ = FETCHED.get(type(layer), type(layer))
        return part

    def _move_the_rest(part: torch.nn.Module, device: torch.device) -> None:
        """What the host cannot fetch layer by layer has to be there: a partial load leaves it behind."""
        for layer in part.modules():
            if not hasattr(layer, "comfy_cast_weights"):
                for tensor in (*layer.parameters(recurse=False), *layer.buffers(recurse=False)):
                    tensor.data = tensor.data.to(device)

    class _SharingParts(Parts):
        """Parts that share the device's memory with the host's other models.

        A part rests where the host keeps idle models. Looked up, it moves to the device together with all others looked
        up in this stage, so that none of these makes room for another. What does not fit there stays behind, and is
        fetched layer by layer.
        """

        def __init__(self, parts: Parts) -> None:
            super().__init__(parts.config, parts.folder, parts.dtype, parts.device)
            self.patchers: dict[str, ModelPatcher] = {}
            self.in_use: dict[str, ModelPatcher] = {}

        def begin_stage(self) -> None:
            # Parts that earlier stages used may now make room.
            self.in_use.clear()

        def _make(self, name: str) -> torch.nn.Module:
            idle_device = model_management.unet_offload_device()
            part = _fetchable(self._loaded_on(idle_device, name))
            setattr(part, COMPUTES_ON, self.device)
            # Wrapped, since the host sets attributes that parts have as read-only properties.
            self.patchers[name] = ModelPatcher(torch.nn.ModuleDict({name: part}), self.device, idle_device)
            return part

        def __getitem__(self, name: str) -> torch.nn.Module:
            part = super().__getitem__(name)
            if name not in self.in_use:
                self.in_use[name] = self.patchers[name]
                model_management.load_models_gpu(list(self.in_use.values()))
                for patcher in self.in_use.values():
                    _move_the_rest(patcher.model, self.device)
            return part

    def share_memory(parts: Parts) -> Parts:
        """The same parts, moved to the device and away from it as the host sees fit."""
        return _SharingParts(parts)


CATEGORY = "CoDi"
CoDiModel = io.Custom("CODI_MODEL")
CoDiCondition = io.Custom("CODI_CONDITION")
CoDiLatents = io.Custom("CODI_LATENTS")

# Older hosts know fewer schema fields and raise TypeError for the others.
_SCHEMA_FIELDS = {field.name for field in dataclasses.fields(io.Schema)}


def schema(**fields: Any) -> io.Schema:
    """A node's schema in our category, with as much of it as this version of the host knows."""
    known = {name: value for name, value in fields.items() if name in _SCHEMA_FIELDS}
    return io.Schema(category=CATEGORY, **known)


__all__ = [
    "CoDiCondition",
    "CoDiLatents",
    "CoDiModel",
    "ComfyExtension",
    "InputImpl",
    "ProgressBar",
    "Types",
    "default_dtype",
    "device",
    "io",
    "is_watched",
    "model_folders",
    "native_model",
    "native_noise",
    "nested",
    "schema",
    "send_event",
    "share_memory",
    "temp_folder",
    "throw_if_interrupted",
    "ui",
    "unnested",
]
