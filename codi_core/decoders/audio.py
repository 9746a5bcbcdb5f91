"""Sound ↔ latents: log-mel spectrogram, audio autoencoder, and HiFi-GAN for the way back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float
from torch import Tensor
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from ..audio_ops import resample
from ..errors import ConfigError, ShapeError
from ..modality import Modality
from ..placement import device_of
from ..precision import require_finite
from ..values import Waveform
from .latent import channels_of, check_latent, decode_scaled, encode_mean, factor_of
from .mel import MelFrontend

OUTLIER = 100.0
CLIPPED = 10.0
"""Where one number of a batch of latents exceeds OUTLIER, the released model clips the batch to ±CLIPPED."""


def build_vocoder(kwargs: Mapping[str, Any]) -> SpeechT5HifiGan:
    """HiFi-GAN with plain weights (no weight norm) from `SpeechT5HifiGanConfig` arguments.

    Mel frames are not normalised before the network, whatever transformers' default is.
    """
    return SpeechT5HifiGan(SpeechT5HifiGanConfig(**{"normalize_before": False, **kwargs}))


@dataclass(frozen=True)
class AudioCodec:
    """Waveform ↔ latent (batch, channels, time, mel bands / 4). Mono, at the mel front end's sample rate.

    Raises ConfigError if the vocoder was built for another number of bands or another hop.
    """

    autoencoder: AutoencoderKL
    vocoder: SpeechT5HifiGan
    mel: MelFrontend
    latent_scale: float

    def __post_init__(self) -> None:
        wanted = (self.mel.bands, self.mel.hop_samples)
        got = (self.vocoder.config.model_in_dim, math.prod(self.vocoder.config.upsample_rates))
        if wanted != got:
            raise ConfigError(
                f"wanted a vocoder for {wanted[0]} mel bands and a hop of {wanted[1]} samples, got one for "
                f"{got[0]} bands and {got[1]} samples; use the vocoder that belongs to this audio autoencoder"
            )

    def encode(self, media: Waveform) -> Float[Tensor, "batch channels time mel"]:
        """Mixes to mono, converts the rate, normalises loudness and zero-pads to whole latent cells."""
        samples = resample(media.samples.float().mean(dim=1), media.sample_rate_hz, self.mel.sample_rate_hz)
        factor = factor_of(self.autoencoder)
        frames = math.ceil(self.mel.frames_of(samples.shape[-1]) / factor) * factor
        log_mel = self.mel.log_mel(self.mel.normalise(samples), frames)
        return encode_mean(self.autoencoder, log_mel, self.latent_scale)

    def decode(self, latent: Float[Tensor, "batch channels time mel"], seconds: float | None = None) -> Waveform:
        """Mono sound of exactly the duration asked for, by default all that the latent holds.

        Raises ShapeError for a latent of another model, with NaNs, or shorter than `seconds`.
        """
        cells = self.mel.bands // factor_of(self.autoencoder)
        check_latent(latent, Modality.AUDIO, ("batch", channels_of(self.autoencoder), "time", cells))
        length = self._length(latent.shape[2], seconds)
        samples = self.vocode(self.decode_mel(latent))
        return Waveform(samples[..., :length], self.mel.sample_rate_hz)

    def decode_mel(self, latent: Float[Tensor, "batch channels time mel"]) -> Float[Tensor, "batch 1 frames bands"]:
        """The log-mel spectrogram of a latent."""
        if latent.abs().amax() > OUTLIER:
            latent = latent.clamp(-CLIPPED, CLIPPED)
        log_mel = decode_scaled(self.autoencoder, latent, self.latent_scale)
        return require_finite(log_mel, "audio_autoencoder", self.autoencoder)

    @torch.no_grad()
    def vocode(self, log_mel: Float[Tensor, "batch 1 frames bands"]) -> Float[Tensor, "batch 1 samples"]:
        """HiFi-GAN's samples of a log-mel spectrogram; the official one makes 32 more than frames * hop."""
        rows = log_mel[:, 0].to(device_of(self.vocoder), self.vocoder.dtype)
        return require_finite(self.vocoder(rows).float(), "vocoder", self.vocoder)[:, None]

    def _length(self, time: int, seconds: float | None) -> int:
        held = time * factor_of(self.autoencoder) * self.mel.hop_samples
        length = held if seconds is None else round(seconds * self.mel.sample_rate_hz)
        if not 0 < length <= held:
            raise ShapeError(
                f"wanted a duration of up to the {held / self.mel.sample_rate_hz:g} s that the latent holds, "
                f"got {seconds:g} s; sample a longer latent or ask for less"
            )
        return length
