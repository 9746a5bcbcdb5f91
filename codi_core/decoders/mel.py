"""Waveform → log-mel spectrogram, as the audio autoencoder and the vocoder expect it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from transformers.audio_utils import mel_filter_bank

from ..errors import ShapeError

FLOOR = 1e-5
"""Mel magnitudes below it count as silence."""


@dataclass(frozen=True, kw_only=True)
class MelFrontend:
    """Magnitude spectrogram in Slaney's mel bands (area-normalised), then the natural logarithm.

    hop_samples: from one mel frame to the next. window_samples: of the Hann window and of the transform.
    minimum_hz, maximum_hz: outer edges of the first and the last band.
    """

    sample_rate_hz: int = 16_000
    hop_samples: int = 160
    window_samples: int = 1024
    bands: int = 64
    minimum_hz: float = 0.0
    maximum_hz: float = 8000.0

    def normalise(self, samples: Float[Tensor, "*batch samples"]) -> Float[Tensor, "*batch samples"]:
        """Each row without its mean and with a peak of 0.5; silence stays silent. Precedes padding."""
        centred = samples - samples.mean(dim=-1, keepdim=True)
        return 0.5 * centred / (centred.abs().amax(dim=-1, keepdim=True) + 1e-8)

    def frames_of(self, samples: int) -> int:
        """How many mel frames that many samples fill, the last one perhaps in part."""
        return math.ceil(samples / self.hop_samples)

    def log_mel(
        self, samples: Float[Tensor, "batch samples"], frames: int | None = None
    ) -> Float[Tensor, "batch 1 frames bands"]:
        """Of already normalised samples, in float32.

        frames: what the sound is zero-padded or cut to; by default as many as the samples fill.
        Raises ShapeError if that is less than half a window.
        """
        frames = self.frames_of(samples.shape[-1]) if frames is None else frames
        length = frames * self.hop_samples
        if length <= self.window_samples // 2:
            raise ShapeError(
                f"wanted more than {self.window_samples // 2} samples for a spectrogram, got {length}; "
                "use a longer sound"
            )
        window, filters = analysis(self, samples.device)
        with torch.autocast(samples.device.type, enabled=False):  # half precision cannot resolve quiet bands
            padded = functional.pad(samples.float(), (0, length - samples.shape[-1])).clamp(-1, 1)
            spectrum = torch.stft(padded, self.window_samples, self.hop_samples, window=window, return_complex=True)
            magnitude = spectrum.abs()[..., :frames].transpose(1, 2)
            return (magnitude @ filters).clamp(min=FLOOR).log()[:, None]


@lru_cache(maxsize=8)
def analysis(mel: MelFrontend, device: torch.device) -> tuple[Float[Tensor, "window"], Float[Tensor, "bins bands"]]:
    """The window of the transform, and what turns its magnitudes into mel bands."""
    filters = mel_filter_bank(
        num_frequency_bins=mel.window_samples // 2 + 1,
        num_mel_filters=mel.bands,
        min_frequency=mel.minimum_hz,
        max_frequency=mel.maximum_hz,
        sampling_rate=mel.sample_rate_hz,
        norm="slaney",
        mel_scale="slaney",
    )
    window = torch.hann_window(mel.window_samples, device=device)
    return window, torch.from_numpy(filters.astype(numpy.float32)).to(device)
