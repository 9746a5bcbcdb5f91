"""What all media share: limits and their checks, figures of a file, safe opening and replacing, ranges."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from av.error import FFmpegError
from jaxtyping import Float, Int16, UInt8
from torch import Tensor

from .errors import MediaError
from .modality import Modality

WRITTEN_SUFFIXES = {
    Modality.TEXT: (".txt",),
    Modality.IMAGE: (".png",),
    Modality.VIDEO: (".mp4",),
    Modality.AUDIO: (".flac", ".wav"),
}
MOST_TEXT_BYTES = 2**20
MOST_PIXELS = 2**26
"""Of one picture or one frame in a file: 8192 x 8192."""
MOST_FRAMES = 256
"""Of a video as a value; longer files are thinned evenly, and their frame rate with them."""
LONGEST_FRAME_SIDE = 512
"""In pixels, of a video as a value; larger frames are scaled down as they are decoded."""
MOST_DECODED_FRAMES = 36_000
"""Of a video file: ten minutes at 60 frames per second."""
MOST_SAMPLES = 60_000_000
"""Of a sound file, over all channels: ten minutes of stereo at 48 kHz, 240 MB as a value."""
SAMPLE_RATES_HZ = range(1_000, 384_001)
FRAME_RATES = (Fraction(1, 100), Fraction(1_000))
"""Slowest and fastest, in frames per second."""


@dataclass(frozen=True, kw_only=True)
class TextInfo:
    """Figures of a text file."""

    characters: int

    def describe(self) -> str:
        return f"text, {self.characters} characters"


@dataclass(frozen=True, kw_only=True)
class PictureInfo:
    """Figures of a picture file; width and height as it is shown."""

    codec: str
    width: int
    height: int

    def describe(self) -> str:
        return f"picture {self.codec} {self.width}x{self.height}"


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Figures of a video track, counted by decoding it; width and height as it is shown."""

    codec: str
    width: int
    height: int
    frames: int
    frames_per_second: Fraction

    @property
    def duration_s(self) -> float:
        return float(self.frames / self.frames_per_second)

    def describe(self) -> str:
        rate, duration = _short(float(self.frames_per_second)), _short(self.duration_s)
        size = f"{self.width}x{self.height}"
        return f"video {self.codec} {size}, {self.frames} frames at {rate} fps, {duration} s"


@dataclass(frozen=True, kw_only=True)
class SoundInfo:
    """Figures of a sound track, counted by decoding it; `samples` are those of one channel."""

    codec: str
    sample_rate_hz: int
    channels: int
    samples: int

    @property
    def duration_s(self) -> float:
        return self.samples / self.sample_rate_hz

    def describe(self) -> str:
        channels = {1: "mono", 2: "stereo"}.get(self.channels, f"{self.channels} channels")
        return f"sound {self.codec} {self.sample_rate_hz} Hz {channels}, {_short(self.duration_s)} s"


StreamInfo = TextInfo | PictureInfo | VideoInfo | SoundInfo


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """What a media file holds: one entry per track; texts and pictures have one."""

    path: Path
    streams: tuple[StreamInfo, ...]

    def describe(self) -> str:
        """One line, such as `a.mp4: video h264 64x64, 16 frames at 6.25 fps, 2.56 s; sound aac …`."""
        return f"{self.path}: {'; '.join(stream.describe() for stream in self.streams)}"


def _short(number: float) -> str:
    return f"{number:.3f}".rstrip("0").rstrip(".")


def existing(path: Path) -> Path:
    """The path itself if a file with content lies there; MediaError otherwise."""
    try:
        if path.is_dir():
            raise MediaError(f"wanted a file, got the folder {path}; name one file in it")
        if not path.is_file():
            raise MediaError(f"wanted a file, got {path}, where there is none; check its name and folder")
        if path.stat().st_size == 0:
            raise MediaError(f"wanted a file with content, got {path} with 0 bytes; save it again")
    except (OSError, ValueError) as error:
        raise MediaError(f"wanted a file, got {path}: {error}; check its name and folder") from error
    return path


@contextmanager
def decoding(path: Path, wanted: str) -> Iterator[None]:
    """Turns whatever a decoder trips over in a damaged or foreign file into a MediaError."""
    try:
        yield
    except MediaError:
        raise
    except Exception as error:  # decoders promise no closed list
        raise MediaError(
            f"wanted {wanted}, got {path}, which cannot be read as that ({error}); "
            "it may be damaged, cut off or of another kind: save or convert it anew"
        ) from error


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it takes the place of `path` only once all went well.

    Parent folders are created. Nothing half-written is left behind after an error or an interruption.
    """
    partial = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, ValueError, FFmpegError) as error:
        raise MediaError(f"wanted to write {path}, got: {error}; choose another folder or name") from error


def replacing(path: Path, modality: Modality) -> AbstractContextManager[Path]:
    """As `written_whole`, for a file of this modality. MediaError for a name that no such file can have."""
    if path.suffix.lower() not in WRITTEN_SUFFIXES[modality]:
        known = " or ".join(WRITTEN_SUFFIXES[modality])
        raise MediaError(f"wanted a file name ending in {known} for {modality}, got {path}; rename it")
    return written_whole(path)


def only_row(values: Float[Tensor, "batch *rest"], what: str) -> Float[Tensor, "*rest"]:
    """The one row of a batch, float32 on the CPU. MediaError for several, and as `checked` does."""
    if len(values) > 1:
        raise MediaError(f"wanted one {what} per file, got a batch of {len(values)}; write row by row")
    return checked(values, what)[0].float().cpu()


def checked(values: Float[Tensor, "*shape"], what: str) -> Float[Tensor, "*shape"]:
    """The values themselves; MediaError if there are none, or if some are NaN or infinite."""
    if values.numel() == 0:
        raise MediaError(f"wanted {what} with content, got the shape {tuple(values.shape)}; use a longer one")
    if not values.isfinite().all():
        raise MediaError(f"wanted {what} of finite numbers, got NaN or infinity in it; make or load it anew")
    return values


def checked_sample_rate(sample_rate_hz: int | float, what: str) -> int:
    """The rate as an integer; MediaError unless it is one of SAMPLE_RATES_HZ."""
    if sample_rate_hz not in SAMPLE_RATES_HZ:
        lowest, highest = SAMPLE_RATES_HZ[0], SAMPLE_RATES_HZ[-1]
        raise MediaError(
            f"wanted {what} of {lowest} to {highest} samples per second, got {sample_rate_hz}; resample it"
        )
    return int(sample_rate_hz)


def checked_frame_rate(frames_per_second: Fraction | int | float, what: str) -> Fraction:
    """The rate in terms that containers can hold, as usual ones are. MediaError outside FRAME_RATES."""
    slowest, fastest = FRAME_RATES
    if not slowest <= frames_per_second <= fastest:
        raise MediaError(
            f"wanted {what} of {slowest} to {fastest} frames per second, got {frames_per_second}; convert it"
        )
    return Fraction(frames_per_second).limit_denominator(100_000)


def to_bytes(pixels: Float[Tensor, "*batch 3 height width"]) -> UInt8[np.ndarray, "*batch height width 3"]:
    """[-1, 1] to 0…255, rounded and clamped; channels move last."""
    scaled = pixels.add(1).mul(127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).movedim(-3, -1).contiguous().numpy()


def from_bytes(pixels: UInt8[np.ndarray, "*batch height width 3"]) -> Float[Tensor, "*batch 3 height width"]:
    """0…255 to [-1, 1]; channels move first."""
    channels_first = torch.from_numpy(pixels).movedim(-1, -3)
    return channels_first.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1)


def to_int16(samples: Float[Tensor, "channels samples"]) -> Int16[np.ndarray, "channels samples"]:
    """[-1, 1] to 16-bit integers, rounded and clamped: 1 becomes 32767, the largest there is."""
    return samples.mul(2**15).round().clamp(-(2**15), 2**15 - 1).to(torch.int16).numpy()
