"""ComfyUI's names for runs without it: `nodes/host.py` takes them from here where ComfyUI is absent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from .. import media
from ..errors import GraphError, choose
from ..host_values import from_host, to_host_audio, to_host_frames
from ..media_files import SoundInfo
from ..modality import Modality
from ..parts import DTYPES
from ..pipeline import CoDiPipeline
from ..values import Frames, Waveform
from . import folders, io, ui

__all__ = [
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
    "send_event",
    "temp_folder",
    "throw_if_interrupted",
    "ui",
    "unnested",
]

on_step: ContextVar[Callable[[int, int], None]] = ContextVar("on_step", default=lambda step, steps: None)
"""Called with the steps done and the steps in all by whatever the running node counts."""


class ComfyExtension:
    """Base of a pack's entry point."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        raise NotImplementedError(f"{type(self).__name__} needs a get_node_list")


class ProgressBar:
    """The steps of the running node."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.current = 0

    def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
        """Say how far it is; previews are not shown."""
        self.current, self.total = value, total or self.total
        on_step.get()(self.current, self.total)

    def update(self, value: int) -> None:
        self.update_absolute(self.current + value)


def throw_if_interrupted() -> None:
    """Nothing to ask for here: without ComfyUI, Ctrl-C raises KeyboardInterrupt by itself."""


def is_watched() -> bool:
    """No editor waits for a run in a terminal."""
    return False


def send_event(name: str, content: dict[str, Any]) -> None:
    """Tells the editor, if there is one."""


def native_model(pipeline: CoDiPipeline, outputs: list[Modality]) -> Any:
    """ComfyUI's samplers are ComfyUI's. Raises GraphError."""
    raise GraphError("wanted ComfyUI, whose samplers Native Model is for, got a run without it; use Joint Sampler here")


def native_noise(seed: int) -> Any:
    """As `native_model`."""
    raise GraphError("wanted ComfyUI, whose samplers Native Noise is for, got a run without it; use Joint Sampler here")


def nested(tensors: list[Tensor]) -> Any:
    """Latents of a LATENT; without ComfyUI's own kind of tensor, a list."""
    return tensors


def unnested(samples: Any) -> list[Tensor]:
    return samples


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_dtype() -> torch.dtype:
    """The fastest precision that can be trusted on this machine."""
    return torch.float16 if torch.cuda.is_available() else torch.float32


def chosen_dtype(name: str | None) -> torch.dtype:
    """A precision by its name, or the default. Raises ConfigError for an unknown name."""
    return default_dtype() if name is None else DTYPES[choose("dtype", name, DTYPES)]


def model_folders() -> list[Path]:
    """Where models may lie: the same place below the current folder as below ComfyUI's."""
    return [Path("models/codi")]


def temp_folder() -> Path:
    return folders.current.get().temp


@dataclass
class VideoComponents:
    """What a VIDEO consists of. images: an IMAGE, one row per frame; audio: an AUDIO."""

    images: Float[Tensor, "frames height width channels"]
    frame_rate: Fraction
    audio: dict[str, Any] | None = None


class VideoFromComponents:
    """A VIDEO in memory."""

    def __init__(self, components: VideoComponents) -> None:
        self._components = components

    def get_components(self) -> VideoComponents:
        return self._components

    def save_to(
        self, path: str, format: str = "auto", codec: str = "auto", metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Write an MP4 with H.264 and AAC, the only format and codec. metadata: values that JSON can hold."""
        audio = self.get_components().audio
        sound = None if audio is None else cast(Waveform, from_host(audio))
        texts = {name: json.dumps(value) for name, value in (metadata or {}).items()}
        media.write_video(path, cast(Frames, from_host(self)), sound, texts)


class VideoFromFile(VideoFromComponents):
    """A VIDEO that is read when its content is asked for."""

    def __init__(self, path: str) -> None:
        self._path = path

    def get_components(self) -> VideoComponents:
        return self._content

    @cached_property
    def _content(self) -> VideoComponents:
        frames = cast(Frames, media.read(self._path, Modality.VIDEO))
        tracks = media.probe(self._path).streams
        sounds = [media.read(self._path, Modality.AUDIO) for track in tracks if isinstance(track, SoundInfo)]
        audio = to_host_audio(cast(Waveform, sounds[0])) if sounds else None
        return VideoComponents(to_host_frames(frames), frames.frames_per_second, audio)


class InputImpl:
    VideoFromComponents = VideoFromComponents
    VideoFromFile = VideoFromFile


class Types:
    VideoComponents = VideoComponents
