"""A video and a sound as values, and files of any codec that are made of such."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from comfyui_codi.codi_core.values import Frames, Waveform

SIXTEEN_FRAMES = Frames(torch.linspace(-1, 1, 16 * 3 * 32 * 48).reshape(1, 16, 3, 32, 48), Fraction(25, 4))
TONE = Waveform(0.5 * torch.sin(torch.arange(40_960) / 20)[None, None], 16_000)


def sound_file(path: Path, codec: str, samples: np.ndarray, kind: str, rate_hz: int = 16_000) -> Path:
    """A sound file of any codec; samples: (channels, samples), interleaved for packed kinds."""
    layout = {1: "mono", 2: "stereo", 6: "5.1", 10: "5.1.4"}[len(samples)]
    packed = samples if kind.endswith("p") else samples.T.reshape(1, -1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(packed), format=kind, layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def video_file(path: Path, codec: str, kind: str, images: np.ndarray, rate: Fraction) -> Path:
    """A video file of any codec; images: bytes (frames, height, width, 3)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = kind
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=kind)))
        container.mux(stream.encode(None))
    return path
