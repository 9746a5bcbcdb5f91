"""ComfyUI's values to ours and back, known by their form alone: ComfyUI itself is not needed.

STRING     str                                            str
IMAGE      float [batch, height, width, channels], 0…1    Picture
VIDEO      object with get_components()                   Frames
AUDIO      {"waveform": float [batch, channels,           Waveform
           samples], "sample_rate": int}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from .errors import MediaError
from .media_decode import read_frames
from .media_files import checked, checked_frame_rate, checked_sample_rate
from .values import Frames, Media, Picture, Waveform

MOST_PIXELS_AT_ONCE = 2**28
"""Of a video's frames: 3 GiB as ComfyUI keeps them. Files with more are read evenly thinned."""


def from_host(value: Any) -> Media:
    """The value of a ComfyUI wire as ours; it stays unchanged. MediaError if it is of none of these kinds."""
    if isinstance(value, str):
        return value
    if isinstance(value, Tensor):
        return Picture(_from_images(value))
    if isinstance(value, Mapping):
        return _from_audio(value)
    if hasattr(value, "get_components"):
        return _from_video(value)
    raise MediaError(f"wanted STRING, IMAGE, AUDIO or VIDEO, got {type(value).__name__}; connect such an output")


def _from_video(video: Any) -> Frames:
    # Of this kind alone the frames are not in memory yet, and ComfyUI would decode them all at once. That of the runs
    # without ComfyUI is read thinned anyway, and has no source to ask for.
    if type(video).__name__ == "VideoFromFile" and hasattr(video, "get_stream_source"):
        (width, height), count, source = video.get_dimensions(), video.get_frame_count(), video.get_stream_source()
        if count * width * height > MOST_PIXELS_AT_ONCE:
            if isinstance(source, str) and type(video)(source).get_frame_count() == count:
                return read_frames(Path(source))
            raise MediaError(
                f"wanted a VIDEO of at most {MOST_PIXELS_AT_ONCE // (width * height)} frames of {width}x{height}, got "
                f"a part of {count}; take a shorter part, or load a file that holds nothing else"
            )
    components = video.get_components()
    rate = checked_frame_rate(components.frame_rate, "a VIDEO")
    return Frames(_from_images(components.images)[None], rate)


def to_host_image(picture: Picture) -> Float[Tensor, "batch height width 3"]:
    """IMAGE: float32 on the CPU, 0…1, channels last."""
    return _to_images(picture.pixels)


def to_host_frames(frames: Frames) -> Float[Tensor, "frames height width 3"]:
    """The frames of one video as IMAGE, of which ComfyUI makes a VIDEO. MediaError for several videos."""
    if len(frames.pixels) != 1:
        raise MediaError(f"wanted one video, got a batch of {len(frames.pixels)}; pass it on row by row")
    return _to_images(frames.pixels[0])


def to_host_audio(waveform: Waveform) -> dict[str, Any]:
    """AUDIO: float32 on the CPU with its sample rate."""
    return {"waveform": waveform.samples.float().cpu(), "sample_rate": waveform.sample_rate_hz}


def _from_images(images: Tensor) -> Float[Tensor, "batch 3 height width"]:
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4) or not images.is_floating_point():
        raise MediaError(
            "wanted an IMAGE: float [batch, height, width, channels] with 1, 3 or 4 channels, "
            f"got {_form(images)}; connect an IMAGE output"
        )
    channels = checked(images, "an IMAGE").float().clamp(0, 1).movedim(-1, 1)
    colour = channels[:, :3].expand(-1, 3, -1, -1)
    # Transparent parts lie on white, as in files; without alpha there is nothing beyond the third channel.
    for alpha in channels[:, 3:].unbind(1):
        colour = colour * alpha[:, None] + 1 - alpha[:, None]
    return colour.mul(2).sub(1).contiguous()


def _from_audio(audio: Mapping[str, Any]) -> Waveform:
    waveform = audio.get("waveform")
    if not isinstance(waveform, Tensor) or waveform.ndim != 3 or not waveform.is_floating_point():
        raise MediaError(
            'wanted an AUDIO: a dict with "waveform", float [batch, channels, samples], and "sample_rate", '
            f"got {_form(waveform)} as waveform; connect an AUDIO output"
        )
    sample_rate_hz = checked_sample_rate(audio.get("sample_rate", 0), "an AUDIO")
    return Waveform(checked(waveform, "an AUDIO").float().clamp(-1, 1), sample_rate_hz)


def _form(value: object) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _to_images(pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch height width 3"]:
    return pixels.float().add(1).div(2).clamp(0, 1).movedim(1, -1).contiguous().cpu()
