"""Stage `bridge`: prompt encoders aligned by contrast, text being the bridge (CoDi paper, Bridging Alignment).

CLIP learns on text and image, then on text and video as well; then it is frozen, and CLAP learns to meet the text. (The
paper freezes CLIP before videos come. It had read of motions in 400 million captions; ours, frozen, would never learn a
word for one, nor see where in a picture the figure is, which no caption of a picture tells.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..encoders import CLAPEncoder, CLIPEncoder
from ..encoders.clip import clip_pixels
from ..modality import Modality
from ..processes import gathered
from .captions import draw_stated, phrase
from .pictures import render_images, render_videos
from .sounds import render_sounds
from .world import CARRIED, NONE, Fact, Facts, World

LARGEST_LOGIT_SCALE = math.log(100.0)
FIRST_LOGIT_SCALE = math.log(1 / 0.07)
PICTURES_PER_VIDEO = 4
"""A picture is one frame; they take little of a step's time."""
MOTION_ALONE = 0.5
"""Share of the captions that say a motion and nothing else. Where shape and colour are said too, they alone tell nearly
all samples of a batch apart, and motions are not learned in thousands of steps."""
THINNED = 0.7
"""Share of the steps in which every second frame is left out."""


def agreeing(
    said: Mapping[Fact, Int[Tensor, "batch"]],
    stated: Mapping[Fact, Bool[Tensor, "batch"]],
    shown: Mapping[Fact, Int[Tensor, "batch"]],
) -> Bool[Tensor, "batch batch"]:
    """[i, j]: everything that caption i states is so in sample j. Captions that omit facts fit several samples."""
    fits = torch.ones(len(said[Fact.SHAPE]), len(said[Fact.SHAPE]), dtype=torch.bool)
    for fact, mask in stated.items():
        same = (said[fact][:, None] == shown[fact][None, :]) & (said[fact][:, None] != NONE)
        fits &= same | ~mask[:, None]
    return fits


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


@dataclass(frozen=True)
class Pairing:
    """What captions are held against. prepare: renders what the encoder wants. share: of samples, against the batch."""

    prepare: Callable[[Facts, torch.Generator], Tensor]
    embed: Callable[[Tensor], Float[Tensor, "batch 1 width"]]
    share: int = 1


class BridgeObjective(nn.Module):
    """Contrast between captions and one or more other modalities; only the modules of `trained` learn."""

    def __init__(self, clip: CLIPEncoder, pairings: Mapping[Modality, Pairing], trained: Sequence[nn.Module]):
        super().__init__()
        self.clip = clip.requires_grad_(False)
        self.trained = nn.ModuleList(trained).requires_grad_(True)
        self.pairings = pairings
        self.logit_scale = nn.Parameter(torch.tensor(FIRST_LOGIT_SCALE))

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Any]:
        return {str(modality): self._draw(modality, count, generator) for modality in self.pairings}

    def _draw(self, modality: Modality, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        pairing = self.pairings[modality]
        facts = World().draw(count * pairing.share, generator)
        stated = draw_stated(facts, generator, CARRIED[modality])
        if Fact.MOTION in CARRIED[modality]:
            alone = torch.rand(len(facts), generator=generator) < MOTION_ALONE
            stated = {fact: rows | alone if fact is Fact.MOTION else rows & ~alone for fact, rows in stated.items()}
        texts = phrase(facts, stated, generator)
        fits = agreeing(facts.categories, stated, facts.categories)
        tokens = without_filling(self.clip.tokenize(texts))
        return {"tokens": tokens, "media": pairing.prepare(facts, generator), "fits": fits, "fitted": fits.T}

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        for modality, pairing in self.pairings.items():
            part = batch[str(modality)]
            texts = self.clip.embed_tokens(part["tokens"])[:, 0]
            others = pairing.embed(part["media"])[:, 0]
            scale = self.logit_scale.clamp(max=LARGEST_LOGIT_SCALE)
            losses[str(modality)] = contrastive_loss(texts, others, part["fits"], part["fitted"], scale)
            found = (texts @ gathered(others).T).argmax(dim=1)
            losses[f"right_{modality}"] = part["fits"].gather(1, found[:, None]).float().mean()
        return {"loss": torch.stack([losses[str(modality)] for modality in self.pairings]).mean(), **losses}


def _pictures(clip: CLIPEncoder, share: int = 1) -> Pairing:
    def prepare(facts: Facts, generator: torch.Generator) -> Tensor:
        return clip_pixels(render_images(facts, generator).pixels, clip.image_size)

    return Pairing(prepare, clip.embed_pixels, share)


def image_objective(clip: CLIPEncoder) -> BridgeObjective:
    """All of CLIP but the temporal blocks."""
    return BridgeObjective(clip, {Modality.IMAGE: _pictures(clip)}, [clip.clip])


def video_objective(clip: CLIPEncoder) -> BridgeObjective:
    """All of CLIP, on videos, with pictures beside them so that these are not forgotten."""

    def prepare(facts: Facts, generator: torch.Generator) -> Tensor:
        pixels = render_videos(facts, generator).pixels
        # Fewer frames tell the same for half the work, and a video given as prompt may be slower or faster.
        step = 2 if torch.rand((), generator=generator) < THINNED else 1
        pixels = pixels[:, ::step]
        return clip_pixels(pixels.flatten(0, 1), clip.image_size).unflatten(0, pixels.shape[:2])

    videos, pictures = Pairing(prepare, clip.embed_frames), _pictures(clip, PICTURES_PER_VIDEO)
    return BridgeObjective(clip, {Modality.VIDEO: videos, Modality.IMAGE: pictures}, [clip])


def audio_objective(clip: CLIPEncoder, clap: CLAPEncoder) -> BridgeObjective:
    """All of CLAP."""

    def prepare(facts: Facts, generator: torch.Generator) -> Tensor:
        return clap.log_mel(clap.fit(render_sounds(facts, generator).samples[:, 0]))

    return BridgeObjective(clip, {Modality.AUDIO: Pairing(prepare, clap.embed_mel)}, [clap])
