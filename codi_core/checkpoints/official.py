"""Which parts the official checkpoint files hold, under which names, and what in them is of no use."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .diffuser_names import diffuser_renames
from .library_names import (
    autoencoder_renames,
    clap_renames,
    clip_renames,
    text_autoencoder_renames,
    vocoder_renames,
)
from .names import Rename

DIFFUSERS = "model.diffusion_model."
ALIGNMENT_PREFIXES = ("connecters_out.", "input_block_connecters_in.", "output_block_connecters_in.")
"""Official names of environment encoder and connectors: the one group that a diffuser's file may lack."""


@dataclass(frozen=True)
class OfficialPart:
    """A part of the model in the official files.

    prefix: what its names begin with. renames: from our constructor arguments to the table of names.
    unused: expressions for names below the prefix that are not wanted: masks and numbers that follow from the
    configuration, tied or never used weights, or another part. computed: our own buffers of that kind.
    """

    prefix: str
    renames: Callable[[Mapping[str, Any]], list[Rename]]
    unused: tuple[str, ...] = ()
    computed: tuple[str, ...] = ()

    def wants(self, official: str) -> bool:
        """Whether a name of an official file belongs to this part."""
        rest = official.removeprefix(self.prefix)
        return rest != official and not any(re.fullmatch(pattern, rest) for pattern in self.unused)


OFFICIAL_PARTS: dict[str, OfficialPart] = {
    "clip": OfficialPart(
        "clip.model.",
        clip_renames,
        unused=(r".*\.position_ids", r".*\.temporal_attn\.(pos_embeds|frame_rate_embeds)"),
    ),
    "clap": OfficialPart(
        "clap.model.",
        clap_renames,
        unused=(
            r"audio_branch\.(tscam_conv|head|spectrogram_extractor|logmel_extractor)\..*",
            r"audio_transform\..*",
            r".*\.(relative_position_index|attn_mask|num_batches_tracked)",
        ),
        computed=(r".*\.(relative_position_index|num_batches_tracked)",),
    ),
    "image_autoencoder": OfficialPart("autokl.", autoencoder_renames),
    "audio_autoencoder": OfficialPart("audioldm.", autoencoder_renames, unused=(r"(vocoder|fn_STFT)\..*",)),
    "vocoder": OfficialPart("audioldm.vocoder.", vocoder_renames, computed=("mean", "scale")),
    "text_autoencoder": OfficialPart(
        "optimus.",
        text_autoencoder_renames,
        unused=(r"decoder\.transformer\.h\.\d+\.attn\.bias", r"decoder\.lm_head\.weight"),
    ),
    "diffuser_vision": OfficialPart(f"{DIFFUSERS}unet_image.", diffuser_renames),
    "diffuser_audio": OfficialPart(f"{DIFFUSERS}unet_audio.", diffuser_renames),
    "diffuser_text": OfficialPart(f"{DIFFUSERS}unet_text.", diffuser_renames),
}


def has_alignment(names: Iterable[str], prefix: str) -> bool:
    """Whether an official diffuser brings an environment encoder and connectors."""
    return any(name.startswith(tuple(prefix + group for group in ALIGNMENT_PREFIXES)) for name in names)
