"""Writing video and sound files, through PyAV. Equal values give equal bytes wherever PyAV is the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from .errors import MediaError
from .media_files import checked_frame_rate, checked_sample_rate, only_row, replacing, to_bytes, to_int16
from .modality import Modality
from .values import Frames, Waveform

_SOUND_CODECS = {".flac": "flac", ".wav": "pcm_s16le"}
_LAYOUTS = {1: "mono", 2: "stereo"}
_WITHOUT_VERSIONS = {"fflags": "+bitexact"}
_COLOUR_MATRIX_BT601, _COLOUR_RANGE_LIMITED, _PRIMARIES_AND_TRANSFER_BT709 = 5, 1, 1


def write_waveform(path: Path, waveform: Waveform, metadata: Mapping[str, str]) -> None:
    """One mono or stereo sound as 16-bit FLAC or WAV, by the suffix. WAV only keeps a title and the like."""
    samples = _one_sound(waveform)
    suffix, layout = path.suffix.lower(), _LAYOUTS[len(samples)]
    interleaved = to_int16(samples).T.reshape(1, -1)
    with (
        replacing(path, Modality.AUDIO) as partial,
        av.open(str(partial.absolute()), "w", format=suffix[1:], options=_WITHOUT_VERSIONS) as container,
    ):
        container.metadata.update(metadata)
        stream = container.add_stream(_SOUND_CODECS[suffix], rate=waveform.sample_rate_hz, layout=layout)
        _encode(container, stream, [_sound_frame(interleaved, "s16", layout, waveform.sample_rate_hz)])


def write_video(
    path: str | Path,
    frames: Frames,
    waveform: Waveform | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """One video as MP4: H.264 (yuv420p), and AAC if there is a waveform, mono or stereo.

    Frame count, frame rate and duration are exact; the sound is cut or padded with silence to the video's
    duration. H.264 in yuv420p needs even sides: of an odd one the last row or column is left out.
    metadata: names and texts to keep in the file. Raises MediaError for what cannot be written.
    """
    path = Path(path)
    pixels = to_bytes(_even(only_row(frames.pixels, "video")))
    rate = checked_frame_rate(frames.frames_per_second, "a video")
    sound = None if waveform is None else _fitted(waveform, len(pixels) / rate)
    options = {"movflags": "+faststart+use_metadata_tags", **_WITHOUT_VERSIONS}
    if sound is not None:
        # The sound's length is noted in units of the whole file, by default milliseconds: too coarse.
        options["movie_timescale"] = str(_aac_rate_hz(sound))
    with (
        replacing(path, Modality.VIDEO) as partial,
        av.open(str(partial.absolute()), "w", format="mp4", options=options) as container,
    ):
        container.metadata.update(metadata or {})
        tracks = [_h264(container, pixels, rate)]
        if sound is not None:
            tracks.append(_aac(container, sound))
        for stream, raw in tracks:
            _encode(container, stream, raw)


def _one_sound(waveform: Waveform) -> Float[Tensor, "channels samples"]:
    samples = only_row(waveform.samples, "sound")
    if len(samples) not in _LAYOUTS:
        raise MediaError(f"wanted a sound of 1 or 2 channels, got {len(samples)}; mix them down to one")
    checked_sample_rate(waveform.sample_rate_hz, "a sound")
    return samples.clamp(-1, 1)


def _fitted(waveform: Waveform, duration_s: Fraction) -> Waveform:
    """Cut, or padded with silence, to exactly that duration."""
    samples = _one_sound(waveform)
    missing = round(duration_s * waveform.sample_rate_hz) - samples.shape[1]
    return Waveform(functional.pad(samples, (0, missing))[None], waveform.sample_rate_hz)


def _even(pixels: Float[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames 3 even_height even_width"]:
    height, width = pixels.shape[-2:]
    if min(height, width) < 2:
        raise MediaError(f"wanted a video of at least 2x2 pixels, got {width}x{height}; make it larger")
    return pixels[..., : height // 2 * 2, : width // 2 * 2]


def _h264(
    container: Any, pixels: UInt8[np.ndarray, "frames height width 3"], rate: Fraction
) -> tuple[Any, Iterable[av.VideoFrame | av.AudioFrame]]:
    """A new track, and the frames to encode into it."""
    # Some of x264's fast paths read memory that nobody wrote: equal frames then differ in their bytes, now and then.
    options = {"crf": "18", "x264-params": "cpu-independent=1"}
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.height, stream.width = pixels.shape[1:3]
    stream.pix_fmt = "yuv420p"
    stream.time_base = 1 / rate
    # x264 divides its work by the number of threads, which shows in the bytes.
    stream.thread_count = 1
    # BT.601 is also what readers assume that overlook this note.
    stream.codec_context.colorspace = _COLOUR_MATRIX_BT601
    stream.codec_context.color_range = _COLOUR_RANGE_LIMITED
    stream.codec_context.color_primaries = _PRIMARIES_AND_TRANSFER_BT709
    stream.codec_context.color_trc = _PRIMARIES_AND_TRANSFER_BT709
    return stream, _picture_frames(pixels, rate)


def _picture_frames(pixels: UInt8[np.ndarray, "frames height width 3"], rate: Fraction) -> Iterator[av.VideoFrame]:
    for index, image in enumerate(pixels):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=_COLOUR_MATRIX_BT601, dst_color_range=_COLOUR_RANGE_LIMITED
        )
        frame.pts, frame.time_base = index, 1 / rate
        yield frame


def _aac(container: Any, sound: Waveform) -> tuple[Any, Iterable[av.VideoFrame | av.AudioFrame]]:
    """A new track, and the frames to encode into it."""
    samples = sound.samples[0].numpy()
    layout = _LAYOUTS[len(samples)]
    stream = container.add_stream("aac", rate=_aac_rate_hz(sound), layout=layout)
    return stream, [_sound_frame(samples, "fltp", layout, sound.sample_rate_hz)]


def _aac_rate_hz(sound: Waveform) -> int:
    """AAC knows thirteen sample rates; PyAV resamples any other to the next one up, or to the highest."""
    known = sorted(av.Codec("aac", "w").audio_rates or [])
    return next((rate_hz for rate_hz in known if rate_hz >= sound.sample_rate_hz), known[-1])


def _sound_frame(samples: np.ndarray, kind: str, layout: str, sample_rate_hz: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(samples, format=kind, layout=layout)
    frame.sample_rate = sample_rate_hz
    frame.pts, frame.time_base = 0, Fraction(1, sample_rate_hz)
    return frame


def _encode(container: Any, stream: Any, frames: Iterable[av.VideoFrame | av.AudioFrame]) -> None:
    for frame in frames:
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
