"""The vocabularies of the released model's parts: public files that its checkpoints do not hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import (
    BertTokenizerFast,  # pyright: ignore[reportAttributeAccessIssue]
    CLIPTokenizerFast,  # pyright: ignore[reportAttributeAccessIssue]
    GPT2TokenizerFast,  # pyright: ignore[reportAttributeAccessIssue]
)

from ..decoders.text import DECODER_TOKENIZER, ENCODER_TOKENIZER, SPECIAL_TOKENS
from ..encoders.clip import TOKENIZER


@dataclass(frozen=True)
class PublicTokenizer:
    """hub_name: on the Hugging Face hub. settings: what its class is told. added: tokens behind its own."""

    hub_name: str
    kind: Any
    settings: Mapping[str, Any] = field(default_factory=dict)
    added: tuple[str, ...] = ()


PUBLIC_TOKENIZERS: Mapping[str, Mapping[str, PublicTokenizer]] = {
    "clip": {TOKENIZER: PublicTokenizer("openai/clip-vit-large-patch14", CLIPTokenizerFast)},
    "text_autoencoder": {
        ENCODER_TOKENIZER: PublicTokenizer("google-bert/bert-base-cased", BertTokenizerFast, {"do_lower_case": False}),
        DECODER_TOKENIZER: PublicTokenizer("openai-community/gpt2", GPT2TokenizerFast, added=SPECIAL_TOKENS),
    },
}
"""Per part: folder → what belongs there."""


def lacking(name: str, folder: Path) -> dict[str, PublicTokenizer]:
    """The tokenizers that are not yet in the folder of a part."""
    tokenizers = PUBLIC_TOKENIZERS.get(name, {})
    return {place: public for place, public in tokenizers.items() if not (folder / place).exists()}


def add_tokenizers(name: str, folder: Path, given: Path | None) -> list[str]:
    """Write the tokenizers that a part's folder lacks; those that cannot be had are returned, by their hub names.

    One tokenizer of two is of no use to a part, so it gets all of them or none.
    given: a folder with one folder per tokenizer, called as on the hub without its owner; by default the hub is asked.
    """
    found, missing = {}, []
    for place, public in lacking(name, folder).items():
        source = public.hub_name if given is None else str(given / public.hub_name.split("/")[1])
        try:
            tokenizer = public.kind.from_pretrained(source, local_files_only=given is not None, **public.settings)
        except (OSError, ValueError, TypeError):
            tokenizer = None
        # Some versions of transformers make an empty tokenizer of an empty or missing folder.
        if tokenizer is None or tokenizer.vocab_size <= len(tokenizer.all_special_ids):
            missing.append(public.hub_name)
            continue
        tokenizer.add_tokens(list(public.added), special_tokens=True)
        found[place] = tokenizer
    if missing:
        return missing
    for place, tokenizer in found.items():
        scratch = folder / f".{place}"
        tokenizer.save_pretrained(scratch)
        scratch.rename(folder / place)
    return []
