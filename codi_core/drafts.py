"""Drafts: what outputs are becoming while they are made, for those who wait.

They are decoded like the outputs themselves, but one row only, no more than MOST_FRAMES of a video, the spectrogram
instead of the sound, and no oftener than a small share of the run's time allows. (An affine map from latent cells to
colours, as is usual for large autoencoders, explains codi-mini's badly: correlation 0.34.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from .decoders import build_codec
from .decoders.audio import AudioCodec
from .decoders.image import ImageCodec, VideoCodec
from .decoders.text import TextCodec
from .errors import CoDiError
from .modality import Modality
from .pipeline import CoDiPipeline

Draft = str | list[Image.Image]
"""A text, or pictures: one of an image or of a sound's spectrogram, several of a video."""

SHARE_OF_TIME = 0.1
MOST_FRAMES = 8
SIDE = 160
"""Pixels of a draft's longer side."""
SILENT, LOUD = -9.0, 0.0
"""Log-mel magnitudes between which colours change."""
LOUDNESS_COLOURS = torch.tensor([[0, 0, 4], [80, 18, 123], [182, 54, 121], [251, 136, 97], [252, 253, 191]]) / 255
"""From silent to loud, at even distances; lightness grows evenly as well."""


def _text(codec: TextCodec, latent: Float[Tensor, "1 width"]) -> Draft:
    return codec.decode(latent)[0]


def _image(codec: ImageCodec, latent: Float[Tensor, "1 channels height width"]) -> Draft:
    return [_resized(pixels) for pixels in codec.decode(latent).pixels.add(1).div(2)]


def _video(codec: VideoCodec, latent: Float[Tensor, "1 channels frames height width"]) -> Draft:
    length = latent.shape[2]
    shown = torch.linspace(0, length - 1, min(length, MOST_FRAMES)).round().long()
    return [_resized(pixels) for pixels in codec.decode(latent[:, :, shown]).pixels[0].add(1).div(2)]


def _audio(codec: AudioCodec, latent: Float[Tensor, "1 channels time mel"]) -> Draft:
    """Time to the right, pitch upwards."""
    loudness = (codec.decode_mel(latent)[0, 0].T.flip(0).cpu() - SILENT) / (LOUD - SILENT)
    place = loudness.clamp(0, 1)[..., None] * (len(LOUDNESS_COLOURS) - 1)
    below = place.long().clamp(max=len(LOUDNESS_COLOURS) - 2)
    colours = LOUDNESS_COLOURS[below[..., 0]].lerp(LOUDNESS_COLOURS[below[..., 0] + 1], place - below)
    return [_resized(colours.movedim(-1, 0))]


def _resized(pixels: Float[Tensor, "3 height width"]) -> Image.Image:
    """pixels: 0 to 1."""
    picture = Image.fromarray(pixels.float().clamp(0, 1).mul(255).round().byte().movedim(0, -1).cpu().numpy())
    scale = SIDE / max(picture.size)
    return picture.resize([max(1, round(side * scale)) for side in picture.size], Image.Resampling.BICUBIC)


_DRAWING: dict[Modality, Callable[..., Draft]] = {
    Modality.TEXT: _text,
    Modality.IMAGE: _image,
    Modality.VIDEO: _video,
    Modality.AUDIO: _audio,
}


class Drafts:
    """Asked after every step, it draws as often as SHARE_OF_TIME allows.

    What decodes a modality is loaded when its first draft is drawn.
    """

    def __init__(self, pipeline: CoDiPipeline) -> None:
        self.pipeline = pipeline
        self.drawable = set(Modality)
        self.began_s, self.spent_s = time.monotonic(), 0.0

    def __call__(self, clean: Mapping[Modality, Tensor]) -> dict[Modality, Draft]:
        """Drafts of the first rows of clean latents, as a `StepReport` has them; none where it is too early for new
        ones.

        What cannot be drawn goes without: the run is good for all the rest, and whoever decodes it is told what fails.
        """
        if self.spent_s > SHARE_OF_TIME * (time.monotonic() - self.began_s):
            return {}
        drafts = {}
        for modality in [each for each in clean if each in self.drawable]:
            try:
                # Loading is no part of a draft's time: whoever decodes the result needs the same.
                build_codec(modality, self.pipeline.parts, self.pipeline.config)
                start_s = time.monotonic()
                drafts[modality] = self.draw(modality, clean[modality][:1])
                self.spent_s += time.monotonic() - start_s
            except CoDiError:
                self.drawable.remove(modality)
        return drafts

    def draw(self, modality: Modality, latent: Float[Tensor, "1 ..."]) -> Draft:
        codec = build_codec(modality, self.pipeline.parts, self.pipeline.config)
        return _DRAWING[modality](codec, latent)
