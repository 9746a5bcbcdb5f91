"""Stage `autoencode`: media ↔ latents. Image and audio autoencoders, vocoder, text autoencoder."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as functional
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float
from torch import Tensor, nn
from transformers import SpeechT5HifiGan

from ..decoders.mel import MelFrontend
from ..decoders.text import TextAutoencoder
from .pictures import chroma
from .source import Source

KL_WEIGHT = 5e-4
SQUARED_WEIGHT = 4.0
CHROMA_WEIGHT = 8.0
SURROUNDINGS_PIXELS = 5
"""How far colour is looked for. If a figure's pixels alone counted more, its edges would be drawn outside of it."""
TEXT_KL_WEIGHT = 0.02
TOKEN_DROPOUT = 0.3
WAVE_WEIGHT = 20.0
QUIETEST_MAGNITUDE = 0.05
"""Of a short-time spectrum; what lies below is noise, of which there is so much that it would outweigh the tones."""
PIECE_FRAMES = 96
SEGMENT_FRAMES = 48
SHARP_RISE = 1.5
"""Of the loudness from one mel frame to the next, in nepers."""
RESOLUTIONS = (256, 512, 1024)
"""Window lengths, in samples, of the spectra that the vocoder is compared on."""


def pixel_weights(pixels: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch 1 height width"]:
    """More where there is colour at a pixel or beside it; 1 without any."""
    near = functional.max_pool2d(chroma(pixels), SURROUNDINGS_PIXELS, stride=1, padding=SURROUNDINGS_PIXELS // 2)
    return 1 + CHROMA_WEIGHT * near


class AutoencoderObjective(nn.Module):
    """Error of the reconstruction, and a little Kullback–Leibler divergence from a standard normal.

    Pixels count more the more colour there is at them or beside them: figures cover few of them, and a plain error is
    long content with a background of the right grey. Of a single channel, such as a spectrogram, all count alike.
    """

    def __init__(self, autoencoder: AutoencoderKL, source: Source):
        super().__init__()
        self.autoencoder = autoencoder
        self.source = source

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Any]:
        return {"media": self.source.pictures(count, generator).pixels}

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        posterior = self.autoencoder.encode(batch["media"], return_dict=False)[0]
        latent: Any = posterior.mean + posterior.std * torch.randn_like(posterior.mean)
        rebuilt = self.autoencoder.decode(latent, return_dict=False)[0]
        wanted = batch["media"]
        weight = pixel_weights(wanted)
        difference = rebuilt.float() - wanted
        error = (weight * difference.abs()).mean() / weight.mean()
        squared = (weight * difference.square()).mean() / weight.mean()
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
        loss = error + SQUARED_WEIGHT * squared + KL_WEIGHT * divergence
        return {"loss": loss, "error": error, "squared": squared, "divergence": divergence}


class DecoderObjective(AutoencoderObjective):
    """The same with the encoder at rest, so that latents, and what has learned to make them, stay as they are."""

    def __init__(self, autoencoder: AutoencoderKL, source: Source):
        super().__init__(autoencoder, source)
        autoencoder.requires_grad_(False)
        autoencoder.decoder.requires_grad_(True)


class AudioAutoencoderObjective(AutoencoderObjective):
    """The same on log-mel spectrograms, of which it sees pieces: it is convolutional along time."""

    def __init__(self, autoencoder: AutoencoderKL, source: Source, mel: MelFrontend):
        super().__init__(autoencoder, source)
        self.mel = mel

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Any]:
        samples = self.source.sounds(count, generator).samples[:, 0]
        log_mel = self.mel.log_mel(self.mel.normalise(samples))
        start = int(torch.randint(log_mel.shape[2] - PIECE_FRAMES + 1, (1,), generator=generator))
        return {"media": log_mel[:, :, start : start + PIECE_FRAMES]}


class VocoderObjective(nn.Module):
    """Distance of the waves and of their spectra at several resolutions.

    Waves can be compared because the world's tones keep step with the mel frames (see sounds.PITCHES_HZ).
    """

    def __init__(self, vocoder: SpeechT5HifiGan, source: Source, mel: MelFrontend):
        super().__init__()
        self.vocoder = vocoder
        self.source = source
        self.mel = mel

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Any]:
        """Segments of sounds, every second one with an onset in it where the sound has any."""
        samples = self.mel.normalise(self.source.sounds(count, generator).samples[:, 0])
        log_mel = self.mel.log_mel(samples)[:, 0]
        starts = _segment_starts(log_mel, generator)
        hop = self.mel.hop_samples
        frames = torch.stack([row[s : s + SEGMENT_FRAMES] for row, s in zip(log_mel, starts, strict=True)])
        sounds = torch.stack(
            [row[s * hop : (s + SEGMENT_FRAMES) * hop] for row, s in zip(samples, starts, strict=True)]
        )
        return {"log_mel": frames, "samples": sounds}

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        made = self.vocoder(batch["log_mel"])[:, : batch["samples"].shape[1]].float()
        wanted = batch["samples"]
        distances = [spectral_distance(made, wanted, window) for window in RESOLUTIONS]
        wave = functional.l1_loss(made, wanted)
        spectral = torch.stack(distances).mean()
        return {"loss": WAVE_WEIGHT * wave + spectral, "wave": wave, "spectral": spectral}


def _segment_starts(log_mel: Float[Tensor, "batch frames bands"], generator: torch.Generator) -> list[int]:
    """Anywhere, or in every second row with the sharpest onset in the middle, if there is a sharp one."""
    latest = log_mel.shape[1] - SEGMENT_FRAMES
    anywhere = torch.randint(latest + 1, (len(log_mel),), generator=generator)
    rise, onset = log_mel.logsumexp(dim=2).diff(n=1, dim=1).max(dim=1)
    chosen = (rise > SHARP_RISE) & (torch.arange(len(log_mel)) % 2 == 0)
    return torch.where(chosen, onset - SEGMENT_FRAMES // 2, anywhere).clamp(0, latest).tolist()


def start_vocoder(vocoder: SpeechT5HifiGan) -> SpeechT5HifiGan:
    """Fresh weights of torch's own scale. transformers draws them so small that, without weight normalisation, hardly
    anything of the spectrogram reaches the end."""
    for module in vocoder.modules():
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
            module.reset_parameters()
    return vocoder


def spectral_distance(
    made: Float[Tensor, "batch samples"], wanted: Float[Tensor, "batch samples"], window_samples: int
) -> Float[Tensor, ""]:
    """Spectral convergence plus mean log-magnitude error (Parallel WaveGAN's STFT loss)."""
    window = torch.hann_window(window_samples, device=made.device)
    magnitudes = [
        torch.stft(sound, window_samples, window_samples // 4, window=window, return_complex=True)
        .abs()
        .clamp(min=QUIETEST_MAGNITUDE)
        for sound in (made, wanted)
    ]
    convergence = (magnitudes[0] - magnitudes[1]).norm() / magnitudes[1].norm()
    return convergence + functional.l1_loss(magnitudes[0].log(), magnitudes[1].log())


class TextAutoencoderObjective(nn.Module):
    """Cross-entropy of the caption given its latent, and a little divergence (OPTIMUS).

    Some input tokens are hidden from the decoder, so that it must take the words from the latent.
    """

    def __init__(self, autoencoder: TextAutoencoder, source: Source):
        super().__init__()
        self.autoencoder = autoencoder
        self.source = source

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Any]:
        texts = self.source.texts(count, generator)
        ids, mask = self.autoencoder.encoder_ids(texts)
        written = self.autoencoder.decoder_ids(texts)
        hidden = torch.rand(written.shape, generator=generator).to(written.device) < TOKEN_DROPOUT
        hidden[:, 0] = False
        return {"ids": ids, "mask": mask, "written": written, "hidden": hidden}

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        autoencoder, written = self.autoencoder, cast(Tensor, batch["written"])
        mean, log_variance = autoencoder.encode_tokens(batch["ids"], batch["mask"])
        latent = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        seen = written.masked_fill(batch["hidden"], autoencoder.pad_id)
        logits = autoencoder.logits(seen[:, :-1], latent)
        error = functional.cross_entropy(
            logits.float().flatten(0, 1), written[:, 1:].flatten(), ignore_index=autoencoder.pad_id
        )
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).float().mean()
        return {"loss": error + TEXT_KL_WEIGHT * divergence, "error": error, "divergence": divergence}
