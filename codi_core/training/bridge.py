"""Stage `bridge`: prompt encoders aligned by contrast, text being the bridge (CoDi paper, Bridging Alignment).

CLIP learns on text and image, then on text and video as well; then it is frozen, and CLAP learns to meet the text. (The
paper freezes CLIP before videos come. It had read of motions in 400 million captions; ours, frozen, would never learn a
word for one, nor see where in a picture the figure is, which no caption of a picture tells.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as functional
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..audio_ops import resample
from ..decoders.audio import AudioCodec
from ..encoders import CLAPEncoder, CLIPEncoder
from ..encoders.clip import clip_pixels
from ..modality import Modality
from ..processes import gathered
from ..values import Frames, Picture, Waveform
from .source import Source

LARGEST_LOGIT_SCALE = math.log(100.0)
FIRST_LOGIT_SCALE = math.log(1 / 0.07)
PICTURES_PER_VIDEO = 4
"""A picture is one frame; they take little of a step's time."""
TEXTS_PER_VIDEO = 4
"""Nor do captions."""
PLACE_WEIGHT = 2.0
THINNED = 0.7
"""Share of the steps in which every second frame is left out."""

BAND_GAIN_DB = 6.0
"""Standard deviation of what is done to each band of a sound, as rooms and loudspeakers do."""
NOISES = (1e-4, 2e-2)
"""Least and most white noise that is added to a sound, 1 being full scale."""
REMADE = 0.5
"""Share of the sounds that are heard as the model itself would make them."""


def contrastive_loss(
    first: Float[Tensor, "batch width"],
    second: Float[Tensor, "batch width"],
    fits: Bool[Tensor, "batch all"],
    fitted: Bool[Tensor, "batch all"],
    logit_scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """InfoNCE in both directions; a row with several fitting partners shall find them all alike.

    fits: [i, j] whether the second of row j, counted over all processes, fits the first of our row i. fitted: the same
    with the roles of first and second exchanged.
    """
    forth = first.float() @ gathered(second.float()).T * logit_scale.exp()
    back = second.float() @ gathered(first.float()).T * logit_scale.exp()
    return (_cross_entropy(forth, fits) + _cross_entropy(back, fitted)) / 2


def _cross_entropy(logits: Tensor, fits: Tensor) -> Tensor:
    target = fits.float() / fits.sum(dim=1, keepdim=True)
    return functional.cross_entropy(logits, target)


def without_filling(token_ids: Int[Tensor, "batch tokens"]) -> Int[Tensor, "batch shorter"]:
    """Cut after the longest text's end token. What follows an end token isn't seen by it, and costs time."""
    filling = token_ids[:, 1:] == token_ids[:, :-1]
    longest = token_ids.shape[1] - int((filling.flip(1).cummin(dim=1).values).sum(dim=1).min())
    return token_ids[:, :longest]


def _unchanged(features: Tensor) -> Tensor:
    return features


@dataclass(frozen=True)
class Pairing:
    """What captions are held against.

    prepare: from media to what the network takes. features, embed: from there to features, and from these to
    embeddings. share: of samples, against the batch.
    """

    prepare: Callable[[Any, torch.Generator], Tensor]
    features: Callable[[Tensor], Tensor]
    embed: Callable[[Tensor], Float[Tensor, "batch 1 width"]] = _unchanged
    share: int = 1


class BridgeObjective(nn.Module):
    """Contrast between captions and one or more other modalities; only the modules of `trained` learn.

    Where the source knows where the figures of pictures are, the features that embeddings are made of shall tell it too
    (locator). No caption says it, but who doesn't see places doesn't see motion either.
    """

    def __init__(
        self,
        clip: CLIPEncoder,
        source: Source,
        pairings: Mapping[Modality, Pairing],
        trained: Sequence[nn.Module],
    ):
        super().__init__()
        self.clip = clip.requires_grad_(False)
        self.source = source
        self.trained = nn.ModuleList(trained).requires_grad_(True)
        self.pairings = pairings
        self.logit_scale = nn.Parameter(torch.tensor(FIRST_LOGIT_SCALE))
        self.locator = nn.Linear(clip.clip.vision_embed_dim, 2) if Modality.IMAGE in pairings else None

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Any]:
        return {str(modality): self._draw(modality, count, generator) for modality in self.pairings}

    def _draw(self, modality: Modality, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        pairing = self.pairings[modality]
        pairs = self.source.pairs(modality, count * pairing.share, generator)
        tokens = without_filling(self.clip.tokenize(pairs.texts))
        media = pairing.prepare(pairs.media, generator)
        drawn = {"tokens": tokens, "media": media, "fits": pairs.fits, "fitted": pairs.fits.T}
        return drawn if pairs.places is None else {**drawn, "places": pairs.places}

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        for modality, pairing in self.pairings.items():
            part = batch[str(modality)]
            texts = self.clip.embed_tokens(part["tokens"])[:, 0]
            features = pairing.features(part["media"])
            others = pairing.embed(features)[:, 0]
            scale = self.logit_scale.clamp(max=LARGEST_LOGIT_SCALE)
            losses[str(modality)] = contrastive_loss(texts, others, part["fits"], part["fitted"], scale)
            found = (texts @ gathered(others).T).argmax(dim=1)
            losses[f"right_{modality}"] = part["fits"].gather(1, found[:, None]).float().mean()
            if self.locator is not None and "places" in part:
                losses["misplaced"] = functional.mse_loss(self.locator(features).float(), part["places"])
        loss = torch.stack([losses[str(modality)] for modality in self.pairings]).mean()
        if "misplaced" in losses:
            loss = loss + PLACE_WEIGHT * losses["misplaced"]
        return {"loss": loss, **losses}


def _pictures(clip: CLIPEncoder, share: int = 1) -> Pairing:
    def prepare(picture: Picture, generator: torch.Generator) -> Tensor:
        return clip_pixels(picture.pixels, clip.image_size)

    return Pairing(prepare, clip.picture_features, clip.embed_picture_features, share)


def _texts(clip: CLIPEncoder, share: int = 1) -> Pairing:
    """Captions that say little against such as say all: so words are told apart before anything is seen of what they
    mean. Left and right look alike to a network that knows no motion, and where they do, their words grow alike too."""

    def prepare(texts: list[str], generator: torch.Generator) -> Tensor:
        return without_filling(clip.tokenize(texts))

    return Pairing(prepare, clip.embed_tokens, share=share)


def _held(source: Source, pairings: Mapping[Modality, Pairing]) -> dict[Modality, Pairing]:
    """Those that there are samples for."""
    return {modality: pairing for modality, pairing in pairings.items() if source.holds({Modality.TEXT, modality})}


def image_objective(clip: CLIPEncoder, source: Source) -> BridgeObjective:
    """All of CLIP but the temporal blocks."""
    pairings = {Modality.IMAGE: _pictures(clip), Modality.TEXT: _texts(clip)}
    return BridgeObjective(clip, source, pairings, [clip.clip])


def video_objective(clip: CLIPEncoder, source: Source) -> BridgeObjective:
    """All of CLIP, on videos, with pictures and texts beside them so that these are not forgotten."""

    def prepare(frames: Frames, generator: torch.Generator) -> Tensor:
        # Fewer frames tell the same for half the work, and a video given as prompt may be slower or faster.
        step = 2 if torch.rand((), generator=generator) < THINNED else 1
        pixels = frames.pixels[:, ::step]
        return clip_pixels(pixels.flatten(0, 1), clip.image_size).unflatten(0, pixels.shape[:2])

    beside = {Modality.IMAGE: _pictures(clip, PICTURES_PER_VIDEO), Modality.TEXT: _texts(clip, TEXTS_PER_VIDEO)}
    pairings = {Modality.VIDEO: Pairing(prepare, clip.embed_frames), **_held(source, beside)}
    return BridgeObjective(clip, source, pairings, [clip])


def noisy(sound: Waveform, generator: torch.Generator) -> Waveform:
    """The same with white noise, of another loudness in each row."""
    samples, (least, most) = sound.samples, NOISES
    levels = least * (most / least) ** torch.rand(len(samples), 1, 1, generator=generator)
    noise = levels * torch.randn(samples.shape, generator=generator)
    return replace(sound, samples=(samples + noise.to(samples)).clamp(-1, 1))


def remade(sound: Waveform, codec: AudioCodec, generator: torch.Generator) -> Waveform:
    """The same, some of its rows encoded and decoded again."""
    rows = torch.randperm(len(sound.samples), generator=generator)[: round(REMADE * len(sound.samples))]
    made = codec.decode(codec.encode(replace(sound, samples=sound.samples[rows])))
    again = resample(made.samples, made.sample_rate_hz, sound.sample_rate_hz)[..., : sound.samples.shape[-1]]
    return replace(sound, samples=sound.samples.index_copy(0, rows, again))


def audio_objective(
    clip: CLIPEncoder, clap: CLAPEncoder, source: Source, codec: AudioCodec | None = None
) -> BridgeObjective:
    """All of CLAP. codec: of the model's own sounds, if it makes any by now.

    Every sound's bands are made louder and softer. As they are, what neighbouring bands have of a tone gives its pitch
    away to a hair, and timbres are learned for each pitch by itself. Noise is added, and some are heard as the model
    would make them: else CLAP learns to go by what lies below the tones, and is lost where that is anything else.
    """

    @torch.no_grad()
    def prepare(sound: Waveform, generator: torch.Generator) -> Tensor:
        heard = sound if codec is None else remade(sound, codec, generator)
        log_mel = clap.log_mel(clap.hear(noisy(heard, generator)))
        bands = (len(log_mel), 1, 1, log_mel.shape[-1])
        return log_mel + BAND_GAIN_DB * torch.randn(bands, generator=generator).to(log_mel.device)

    return BridgeObjective(clip, source, {Modality.AUDIO: Pairing(prepare, clap.embed_mel)}, [clap])
