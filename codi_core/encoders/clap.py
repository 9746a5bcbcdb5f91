"""CLAP as prompt encoder for sound: resampling, log-mel, the HTSAT network and its projection."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from transformers import ClapAudioConfig, ClapAudioModelWithProjection, ClapFeatureExtractor

from ..audio_ops import resample
from ..errors import ConfigError, MediaError
from ..placement import device_of
from ..values import Waveform
from .common import as_token, require_usable

QUIETEST_POWER = 1e-10


class CLAPEncoder(ModelMixin, ConfigMixin):
    """Sounds in the space of CLIPEncoder, each as one token of unit L2 norm.

    audio: what transformers' ClapAudioConfig takes. features: what its ClapFeatureExtractor takes (rate, hop,
    bands, longest duration). heard_sample_rate_hz: sounds are brought to this rate first, so that the network
    hears no higher tones than it was trained with: the released one, at 48 kHz, was fed 16 kHz sound only.

    `encode_audio` takes media and gives no gradients; `embed_mel` takes what `log_mel` makes and does.
    """

    @register_to_config
    def __init__(self, *, audio: dict[str, Any], features: dict[str, Any], heard_sample_rate_hz: int = 16_000):
        super().__init__()
        self.clap = ClapAudioModelWithProjection(ClapAudioConfig(**audio))
        self.extractor = ClapFeatureExtractor(**features)
        self._mel_filters = torch.from_numpy(self.extractor.mel_filters_slaney).float()
        bands, frames = self.clap.config.num_mel_bins, self.longest_samples // self.extractor.hop_length
        if self.extractor.feature_size != bands or frames > self._longest_mel:
            raise ConfigError(
                f"wanted log-mels of {bands} bands and at most {self._longest_mel} frames for this CLAP, got "
                f"{self.extractor.feature_size} and {frames}; change feature_size, max_length_s or hop_length"
            )

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the samples that `log_mel` takes."""
        return self.extractor.sampling_rate

    @property
    def longest_samples(self) -> int:
        """How much sound the network hears, in samples at its own rate."""
        return round(self.extractor.max_length_s * self.extractor.sampling_rate)

    @property
    def _longest_mel(self) -> int:
        """Frames that fit the square picture into which HTSAT folds the log-mel."""
        config = self.clap.config
        return config.spec_size * (config.spec_size // config.num_mel_bins)

    @torch.no_grad()
    def encode_audio(self, sound: Waveform) -> Float[Tensor, "batch 1 width"]:
        """Sounds of any rate, length and number of channels.

        Short ones are heard several times in a row, of long ones (official: over 10 s) the middle.
        """
        return self.embed_mel(self.log_mel(self.hear(sound)))

    def hear(self, sound: Waveform) -> Float[Tensor, "batch longest"]:
        """What of a sound is heard: mono, at the network's rate and as long as it wants."""
        require_usable(sound.samples, "a sound")
        rate = sound.sample_rate_hz
        if rate <= 0:
            raise MediaError(f"wanted a sample rate above 0 Hz, got {rate}; give the sound its own rate")
        heard_rate: int = self.config["heard_sample_rate_hz"]
        middle = _middle(sound.samples, round(self.extractor.max_length_s * rate))
        mono = middle.to(device_of(self), torch.float32).mean(1)
        samples = resample(resample(mono, rate, heard_rate), heard_rate, self.sample_rate_hz)
        return self.fit(samples)

    def fit(self, samples: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch longest"]:
        """Shorter sounds are repeated as often as they fit whole, then silence; of longer ones the middle."""
        samples = _middle(samples, self.longest_samples)
        repeated = samples.repeat(1, self.longest_samples // samples.shape[1])
        return functional.pad(repeated, (0, self.longest_samples - repeated.shape[1]))

    def log_mel(self, samples: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch 1 frames bands"]:
        """Mel power spectrogram in decibels, at least -100; always in float32.

        The last frame is centred on the very end of the sound; it goes if the network has no room for it.
        """
        window_samples = self.extractor.fft_window_size
        spectrum = torch.stft(
            samples.float(),
            window_samples,
            hop_length=self.extractor.hop_length,
            window=torch.hann_window(window_samples, device=samples.device),
            return_complex=True,
        )
        power = spectrum.abs().square().transpose(1, 2)
        mel = power @ self._mel_filters.to(samples.device)
        return 10 * mel.clamp(min=QUIETEST_POWER).log10()[:, None, : self._longest_mel]

    def embed_mel(self, mel: Float[Tensor, "batch 1 frames bands"]) -> Float[Tensor, "batch 1 width"]:
        """From `log_mel`."""
        return as_token(self.clap(input_features=mel.to(self.dtype)).audio_embeds)


def _middle(samples: Float[Tensor, "*batch samples"], longest: int) -> Float[Tensor, "*batch kept"]:
    start = max(0, (samples.shape[-1] - longest) // 2)
    return samples[..., start : start + longest]
