"""CLIP as prompt encoder for text, pictures and video: one vision tower, with temporal blocks for frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    # In transformers 4 the plain name is another class that splits Chinese text; in 5 both are this one.
    CLIPTokenizerFast,  # pyright: ignore[reportAttributeAccessIssue]
)

from ..errors import CheckpointError, PromptError, choose
from ..models.temporal import MAXIMUM_FRAMES, TemporalNormalization
from ..placement import device_of
from ..values import Frames, Picture
from .common import as_token, require_usable
from .temporal import TemporalBlock

TOKENIZER = "tokenizer"
"""Folder of the part's tokenizer."""
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


class CLIPEncoder(ModelMixin, ConfigMixin):
    """Texts, pictures and videos in one space, each as one token of unit L2 norm.

    text, vision: what transformers' CLIPTextConfig and CLIPVisionConfig take. projection_dim: width of the
    space. temporal: `heads` and `normalization` ("frames" or "channels") of the temporal blocks.

    `encode_*` take media and give no gradients; `embed_*` take token numbers or prepared pixels and do.
    """

    tokenizer: Any = None

    @register_to_config
    def __init__(self, *, text: dict[str, Any], vision: dict[str, Any], projection_dim: int, temporal: dict[str, Any]):
        super().__init__()
        self.clip = CLIPModel(
            CLIPConfig(text_config=dict(text), vision_config=dict(vision), projection_dim=projection_dim)
        )
        normalization = choose("temporal normalization", temporal["normalization"], TemporalNormalization)
        self.temporal_blocks = nn.ModuleList(
            TemporalBlock(self.clip.vision_embed_dim, temporal["heads"], normalization)
            for _ in self.clip.vision_model.encoder.layers
        )

    @property
    def image_size(self) -> int:
        """Side of the square pictures that the vision tower sees, in pixels."""
        settings: Any = self.clip.vision_model.config
        return settings.image_size

    def attach_tokenizer(self, folder: Path | str) -> None:
        """Read vocab.json and merges.txt (or tokenizer.json).

        Raises CheckpointError if they are missing or belong to other weights.
        """
        wanted = self.clip.text_model.config
        try:
            tokenizer = CLIPTokenizerFast.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"wanted CLIP's vocab.json and merges.txt in {folder}, got: {error}; get these files again"
            ) from error
        if tokenizer.eos_token_id != wanted.eos_token_id or len(tokenizer) > wanted.vocab_size:
            raise CheckpointError(
                f"wanted at most {wanted.vocab_size} tokens with the end token at {wanted.eos_token_id}, got "
                f"{len(tokenizer)} with it at {tokenizer.eos_token_id} from {folder}; "
                "use the vocabulary that belongs to these weights"
            )
        tokenizer.pad_token = tokenizer.eos_token
        self.tokenizer = tokenizer

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> Float[Tensor, "batch 1 width"]:
        """Case does not matter; what goes beyond the last position (77 in the released model) is cut off."""
        if not texts:
            raise PromptError("wanted at least one text, got none; use an empty text for no wish")
        return self.embed_tokens(self.tokenize(texts))

    @torch.no_grad()
    def encode_image(self, picture: Picture) -> Float[Tensor, "batch 1 width"]:
        """Pictures of any size; of oblong ones the middle square is seen."""
        require_usable(picture.pixels, "a picture")
        return self.embed_pixels(clip_pixels(picture.pixels, self.image_size).to(device_of(self)))

    @torch.no_grad()
    def encode_video(self, frames: Frames) -> Float[Tensor, "batch 1 width"]:
        """Videos of any size and length; of more than 30 frames, 30 at even distances are seen."""
        require_usable(frames.pixels, "a video")
        count = frames.pixels.shape[1]
        seen = torch.linspace(0, count - 1, min(count, MAXIMUM_FRAMES)).round().long()
        pixels = frames.pixels[:, seen]
        prepared = clip_pixels(pixels.flatten(0, 1), self.image_size).unflatten(0, pixels.shape[:2])
        return self.embed_frames(prepared.to(device_of(self)))

    def tokenize(self, texts: list[str]) -> Int[Tensor, "batch tokens"]:
        """Token numbers, filled up with the end token to the model's number of positions."""
        if self.tokenizer is None:
            raise CheckpointError(
                "wanted CLIP's tokenizer to read a text, got none; add the vocabulary with `codi convert FOLDER` and "
                "the model's folder, and --tokenizers if the hub is out of reach"
            )
        positions = self.clip.text_model.config.max_position_embeddings
        rows = self.tokenizer(texts, padding="max_length", truncation=True, max_length=positions)
        return torch.tensor(rows["input_ids"], device=device_of(self))

    def embed_tokens(self, token_ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch 1 width"]:
        """The state at the first end token, after the final norm. There is no mask but the causal one."""
        pooled = self.clip.text_model(input_ids=token_ids).pooler_output
        return as_token(self.clip.text_projection(pooled))

    def embed_pixels(self, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch 1 width"]:
        """From `clip_pixels`, at the vision tower's size."""
        return self.embed_picture_features(self.picture_features(pixels))

    def picture_features(self, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch vision_width"]:
        """The class token, of which `embed_picture_features` makes the embedding."""
        return self.clip.vision_model(pixel_values=pixels.to(self.dtype)).pooler_output

    def embed_picture_features(self, features: Float[Tensor, "batch vision_width"]) -> Float[Tensor, "batch 1 width"]:
        return as_token(self.clip.visual_projection(features))

    def embed_frames(self, pixels: Float[Tensor, "batch frames 3 size size"]) -> Float[Tensor, "batch 1 width"]:
        """The mean of the frames' class tokens. A single frame is read as a picture."""
        batch, frames = pixels.shape[:2]
        if frames == 1:
            return self.embed_pixels(pixels[:, 0])
        tower = self.clip.vision_model
        layers: Any = zip(tower.encoder.layers, self.temporal_blocks, strict=True)
        hidden = tower.pre_layrnorm(tower.embeddings(pixels.flatten(0, 1).to(self.dtype)))
        for layer, temporal in layers:
            hidden = hidden + layer.self_attn(layer.layer_norm1(hidden))[0]
            hidden = temporal(hidden, frames)
            hidden = hidden + layer.mlp(layer.layer_norm2(hidden))
        pooled = tower.post_layernorm(hidden[:, 0].unflatten(0, (batch, frames)).mean(1))
        return as_token(self.clip.visual_projection(pooled))


def clip_pixels(pixels: Float[Tensor, "batch 3 height width"], size: int) -> Float[Tensor, "batch 3 size size"]:
    """Pictures in [-1, 1] as the vision tower wants them; gives no gradients.

    8 bits, cut off, not rounded; shortest edge to `size` by Pillow's bicubic; middle square; normalised.
    """
    levels = ((pixels.float().clamp(-1, 1) + 1) / 2 * 255).to(torch.uint8)
    if min(levels.shape[2:]) != size:
        levels = torch.stack([_resize_shortest_edge(picture, size) for picture in levels.cpu()])
    top, left = ((edge - size) // 2 for edge in levels.shape[2:])
    square = levels[:, :, top : top + size, left : left + size].float() / 255
    mean, deviation = (square.new_tensor(each)[:, None, None] for each in (PIXEL_MEAN, PIXEL_DEVIATION))
    return ((square - mean) / deviation).to(pixels.device)


def _resize_shortest_edge(levels: UInt8[Tensor, "3 height width"], size: int) -> UInt8[Tensor, "3 rows columns"]:
    picture = Image.fromarray(levels.permute(1, 2, 0).numpy())
    shortest = min(picture.size)
    columns, rows = (edge * size // shortest for edge in picture.size)
    resized = picture.resize((columns, rows), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)
