"""Stage `bridge`: prompt encoders aligned by contrast, text being the bridge (CoDi paper, Bridging Alignment).

CLIP learns on text and image; then it is frozen, and video and audio learn to meet the text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as functional
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..encoders import CLAPEncoder, CLIPEncoder
from ..encoders.clip import clip_pixels
from ..modality import Modality
from .captions import captions
from .pictures import render_images, render_videos
from .sounds import render_sounds
from .world import CARRIED, NONE, Fact, Facts, World

LARGEST_LOGIT_SCALE = math.log(100.0)
FIRST_LOGIT_SCALE = math.log(1 / 0.07)


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
    fits: Bool[Tensor, "batch batch"],
    logit_scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """InfoNCE in both directions; a row with several fitting partners shall find them all alike."""
    logits = first.float() @ second.float().T * logit_scale.exp()
    return (_cross_entropy(logits, fits) + _cross_entropy(logits.T, fits.T)) / 2


def _cross_entropy(logits: Tensor, fits: Tensor) -> Tensor:
    target = fits.float() / fits.sum(dim=1, keepdim=True)
    return functional.cross_entropy(logits, target)


def without_filling(token_ids: Int[Tensor, "batch tokens"]) -> Int[Tensor, "batch shorter"]:
    """Cut after the longest text's end token. What follows an end token isn't seen by it, and costs time."""
    filling = token_ids[:, 1:] == token_ids[:, :-1]
    longest = token_ids.shape[1] - int((filling.flip(1).cummin(dim=1).values).sum(dim=1).min())
    return token_ids[:, :longest]


class BridgeObjective(nn.Module):
    """Contrast between captions and one other modality."""

    def __init__(
        self,
        clip: CLIPEncoder,
        modality: Modality,
        prepare: Callable[[Facts, torch.Generator], Tensor],
        embed: Callable[[Tensor], Float[Tensor, "batch 1 width"]],
        trained: nn.Module,
    ):
        super().__init__()
        self.clip = clip.requires_grad_(False)
        self.trained = trained.requires_grad_(True)
        self.modality = modality
        self.prepare = prepare
        self.embed = embed
        self.logit_scale = nn.Parameter(torch.tensor(FIRST_LOGIT_SCALE))

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Any]:
        facts = World().draw(count, generator)
        texts, stated = captions(facts, generator, CARRIED[self.modality])
        fits = agreeing(facts.categories, stated, facts.categories)
        tokens = without_filling(self.clip.tokenize(texts))
        return {"tokens": tokens, "media": self.prepare(facts, generator), "fits": fits}

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        texts = self.clip.embed_tokens(batch["tokens"])[:, 0]
        others = self.embed(batch["media"])[:, 0]
        scale = self.logit_scale.clamp(max=LARGEST_LOGIT_SCALE)
        loss = contrastive_loss(texts, others, batch["fits"], scale)
        found = (texts @ others.T).argmax(dim=1)
        right = batch["fits"].gather(1, found[:, None]).float().mean()
        return {"loss": loss, "right": right}


def image_objective(clip: CLIPEncoder) -> BridgeObjective:
    """All of CLIP but the temporal blocks."""

    def prepare(facts: Facts, generator: torch.Generator) -> Tensor:
        return clip_pixels(render_images(facts, generator).pixels, clip.image_size)

    return BridgeObjective(clip, Modality.IMAGE, prepare, clip.embed_pixels, clip.clip)


def video_objective(clip: CLIPEncoder) -> BridgeObjective:
    """The temporal blocks alone, so that texts and images stay where they are."""

    def prepare(facts: Facts, generator: torch.Generator) -> Tensor:
        pixels = render_videos(facts, generator).pixels
        return clip_pixels(pixels.flatten(0, 1), clip.image_size).unflatten(0, pixels.shape[:2])

    return BridgeObjective(clip, Modality.VIDEO, prepare, clip.embed_frames, clip.temporal_blocks)


def audio_objective(clip: CLIPEncoder, clap: CLAPEncoder) -> BridgeObjective:
    """All of CLAP."""

    def prepare(facts: Facts, generator: torch.Generator) -> Tensor:
        return clap.log_mel(clap.fit(render_sounds(facts, generator).samples[:, 0]))

    return BridgeObjective(clip, Modality.AUDIO, prepare, clap.embed_mel, clap)
