"""Reading video and sound files, through PyAV."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.stream import Disposition
from jaxtyping import Float32

from .errors import MediaError
from .media_files import (
    LONGEST_FRAME_SIDE,
    MOST_DECODED_FRAMES,
    MOST_FRAMES,
    MOST_PIXELS,
    MOST_SAMPLES,
    SoundInfo,
    VideoInfo,
    checked,
    checked_frame_rate,
    checked_sample_rate,
    decoding,
    existing,
    from_bytes,
)
from .modality import Modality
from .values import Frames, Waveform

STRAYING = Fraction(2, 5)
"""Of a frame. Less than half of one: twice the pace stated is half of one off, but for the rounding to milliseconds."""
# What the suffixes in FACTS stand for: no playlists, which could pull in other files, and no still pictures.
CONTAINERS = "mov,matroska,webm,gif,flac,wav,mp3,ogg"
# Full scale and zero of the sample types that decoders deliver.
_SAMPLE_SCALES = {"u1": (2**7, 2**7), "i2": (2**15, 0), "i4": (2**31, 0), "f4": (1, 0), "f8": (1, 0)}
_MOST_PADDING_SAMPLES = 4096
_LEAST_SHARE_OF_PROMISED = 0.9


def read_frames(path: Path) -> Frames:
    """The first video track as players show it: at most MOST_FRAMES at an even pace, of at most LONGEST_FRAME_SIDE."""
    gathered = _Thinned()
    info = _watch(path, gathered.add)
    images = gathered.evenly(info.frames_per_second)
    return Frames(from_bytes(np.stack(images))[None], info.frames_per_second / gathered.stride)


def read_waveform(path: Path) -> Waveform:
    """The first sound track, also of a video, with its own channels and sample rate; clamped to [-1, 1]."""
    chunks: list[np.ndarray] = []
    info = _listen(path, chunks.append)
    samples = torch.from_numpy(np.concatenate(chunks, axis=1)[None, :, : info.samples])
    return Waveform(checked(samples, f"sound in {path}").clamp(-1, 1), info.sample_rate_hz)


def probe_tracks(path: Path) -> tuple[VideoInfo | SoundInfo, ...]:
    """Figures of the first video and of the first sound track, as far as there are such."""
    with _opened(path, "a video or sound file") as container:
        present = [modality for modality in _COUNTERS if _tracks(container, modality)]
    if not present:
        raise MediaError(f"wanted a video or sound file, got {path} with neither; choose another file")
    return tuple(_COUNTERS[modality](path, _forget) for modality in present)


@contextmanager
def _opened(path: Path, wanted: str) -> Iterator[Any]:
    options = {"format_whitelist": CONTAINERS}
    with (
        decoding(existing(path), wanted),
        av.open(str(path.absolute()), options=options, metadata_errors="replace") as container,
    ):
        yield container


def _tracks(container: Any, modality: Modality) -> list[Any]:
    """PyAV names its kinds of tracks as we name modalities. The cover picture of a song is not a video."""
    return [
        stream
        for stream in container.streams
        if stream.type == modality and not stream.disposition & Disposition.attached_pic
    ]


@contextmanager
def _decoded(path: Path, modality: Modality) -> Iterator[tuple[Any, Iterator[Any]]]:
    """The first track of a modality, and its frames as they are asked for."""
    with _opened(path, f"a file with {modality}") as container:
        tracks = _tracks(container, modality)
        if not tracks:
            found = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            raise MediaError(f"wanted a file with {modality}, got {path} with {found}; choose another file")
        if modality is Modality.VIDEO:
            tracks[0].codec_context.options = {"max_pixels": str(MOST_PIXELS)}
        yield tracks[0], _frames(path, container, tracks[0])


def _frames(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise _cut_off(path)
        yield from packet.decode()


def _cut_off(path: Path) -> MediaError:
    return MediaError(f"wanted a whole file, got {path}, which is cut off; copy or download it again")


def _promised_s(stream: Any) -> Fraction:
    """The duration by the header if that counts the packets, else 0: then it is but an estimate."""
    return stream.duration * stream.time_base if stream.frames and stream.duration else Fraction(0)


def _watch(path: Path, keep: Callable[[av.VideoFrame, int], object]) -> VideoInfo:
    """Decodes a video track from end to end, handing over each frame and its width in square pixels."""
    with _decoded(path, Modality.VIDEO) as (stream, decoded):
        starts: list[Fraction | None] = []
        count, height, width = 0, 0, 0
        for count, frame in enumerate(decoded, 1):
            if max(count, stream.frames) > MOST_DECODED_FRAMES:
                raise MediaError(
                    f"wanted a video of at most {MOST_DECODED_FRAMES} frames, got {path} with more; cut it"
                )
            square = round(frame.width * (stream.sample_aspect_ratio or 1))
            if count == 1:
                height, width = _upright(np.broadcast_to(0, (frame.height, square)), frame).shape
            starts.append(None if frame.pts is None else frame.pts * frame.time_base)
            keep(frame, square)
        if count == 0:
            raise MediaError(f"wanted a video, got {path} without a single frame; choose another file")
        rate = _pace(starts, stream.average_rate or stream.guessed_rate or Fraction(0))
        rate = checked_frame_rate(rate, f"a video ({path})")
        if count / rate < _promised_s(stream) * _LEAST_SHARE_OF_PROMISED:
            raise _cut_off(path)
        codec = stream.codec.canonical_name
        return VideoInfo(codec=codec, width=width, height=height, frames=count, frames_per_second=rate)


def _pace(starts: Sequence[Fraction | None], stated: Fraction) -> Fraction:
    """Frames per second: as the file states, or on average where a frame comes STRAYING off that pace or more.

    starts: of each frame, in seconds; None where the file does not tell.
    """
    known = [start for start in starts if start is not None]
    if len(known) < max(2, len(starts)) or not _ascend(known):
        return stated
    if all(abs((start - known[0]) * stated - place) < STRAYING for place, start in enumerate(known)):
        return stated
    return (len(known) - 1) / (known[-1] - known[0])


def _ascend(starts: Sequence[Fraction | float]) -> bool:
    return all(before < after for before, after in pairwise(starts))


def _upright(image: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """As players show it: phones store what they film sideways or mirrored, with a note of that."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV lists side data only if it knows every kind that is there
        return np.rot90(image, round(frame.rotation / 90))
    if matrix is None:
        return image
    # Where a pixel goes, by ISO/IEC 14496-12: x' = a x + c y, y' = b x + d y.
    (a, b), (c, d) = np.frombuffer(matrix, np.int32).reshape(3, 3)[:2, :2].astype(float)
    if abs(a) + abs(d) < abs(b) + abs(c):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


@dataclass
class _Thinned:
    """Gathers every stride-th frame; the stride doubles whenever there are more than MOST_FRAMES."""

    kept: list[np.ndarray] = field(default_factory=list)
    starts_s: list[float] = field(default_factory=list)
    stride: int = 1
    seen: int = 0
    size: tuple[int, int] = (0, 0)

    def add(self, frame: av.VideoFrame, width: int) -> None:
        if self.seen % self.stride == 0:
            # Later frames take the size of the first, should a spliced file change it midway.
            self.size = self.size if self.kept else _decoded_size(width, frame.height)
            self.kept.append(_upright(_rgb(frame, *self.size), frame))
            self.starts_s.append(math.nan if frame.time is None else frame.time)
        if len(self.kept) > MOST_FRAMES:
            self.kept, self.starts_s, self.stride = self.kept[::2], self.starts_s[::2], self.stride * 2
        self.seen += 1

    def evenly(self, frames_per_second: Fraction) -> list[np.ndarray]:
        """As many frames, at an even pace: what is on show half a frame after each one's time.

        frames_per_second: of the file. What lasts longer is repeated, and shorter frames may be passed over.
        """
        if not _ascend(self.starts_s):
            return self.kept
        times_s = (np.arange(len(self.kept)) * self.stride + 0.5) / float(frames_per_second)
        on_show = np.searchsorted(np.array(self.starts_s) - self.starts_s[0], times_s, side="right") - 1
        return [self.kept[place] for place in on_show]


def _decoded_size(width: int, height: int) -> tuple[int, int]:
    shrink = min(1.0, LONGEST_FRAME_SIDE / max(width, height))
    return max(1, round(width * shrink)), max(1, round(height * shrink))


def _rgb(frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
    # Left out, some versions of PyAV take the frame's own colour space for RGB's too, and for any range the narrow one.
    ranges = {"src_color_range": frame.color_range, "dst_colorspace": "ITU601"}
    return frame.to_ndarray(format="rgb24", width=width, height=height, **ranges)


def _listen(path: Path, keep: Callable[[np.ndarray], object]) -> SoundInfo:
    """Decodes a sound track from end to end, handing over its chunks; leaves padding uncounted."""
    with _decoded(path, Modality.AUDIO) as (stream, decoded):
        count, form = 0, (0, 0)
        for frame in decoded:
            chunk = _to_float(frame)
            form = form if count else (frame.sample_rate, len(chunk))
            if form != (frame.sample_rate, len(chunk)):
                raise MediaError(f"wanted one sample rate and channel count, got {path}, where they change; convert it")
            count += chunk.shape[1]
            if count * len(chunk) > MOST_SAMPLES:
                raise MediaError(
                    f"wanted a sound of at most {MOST_SAMPLES} samples, got {path} with more; cut a part out"
                )
            keep(chunk)
        if count == 0:
            raise MediaError(f"wanted a sound, got {path} without a single sample; choose another file")
        sample_rate_hz = checked_sample_rate(form[0], f"a sound ({path})")
        promised = round(_promised_s(stream) * sample_rate_hz)
        if count < promised * _LEAST_SHARE_OF_PROMISED:
            raise _cut_off(path)
        samples = promised if 0 < promised < count < promised + _MOST_PADDING_SAMPLES else count
        codec = stream.codec.canonical_name
        return SoundInfo(codec=codec, sample_rate_hz=sample_rate_hz, channels=form[1], samples=samples)


def _to_float(frame: av.AudioFrame) -> Float32[np.ndarray, "channels samples"]:
    """Decoders deliver integers or floats, one row per channel or all channels by turns in one row."""
    raw = frame.to_ndarray()
    full_scale, zero = _SAMPLE_SCALES[raw.dtype.str[1:]]
    rows = raw if frame.format.is_planar else raw.reshape(-1, frame.layout.nb_channels).T
    return (rows.astype(np.float32) - np.float32(zero)) / np.float32(full_scale)


def _forget(*_: object) -> None:
    """For whoever only counts."""


_COUNTERS: dict[Modality, Callable[..., VideoInfo | SoundInfo]] = {
    Modality.VIDEO: _watch,
    Modality.AUDIO: _listen,
}
