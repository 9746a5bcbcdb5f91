"""The fact reader: which facts of the procedural world an output shows, found by classical signal processing only.

`READERS` holds one reader per modality; what they return compares with targets and with other readings
(readings.py). How often the reader itself errs is measured in reader_errors.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch

from ..modality import Modality
from ..training.captions import MOTIONS, NAMES
from ..training.world import NONE, VALUES
from ..values import on_cpu
from .pixel_reader import read_image, read_video
from .readings import MOST_MOMENTS, ReadFacts, agreement, matches, moments_apart_s
from .sound_reader import read_sound

__all__ = [
    "READERS",
    "ReadFacts",
    "agreement",
    "matches",
    "moments_apart_s",
    "read_image",
    "read_sound",
    "read_text",
    "read_video",
]

_SIGNS = NAMES | {motion: words.signs for motion, words in MOTIONS.items()}
_CATEGORY_OF_WORD = {
    fact: {word: index for index, name in enumerate(names) for word in _SIGNS[name]} for fact, names in VALUES.items()
}


def _spoken(text: str, category_of_word: dict[str, int]) -> int:
    """The category that the words of a text point to; NONE without any, or if they contradict each other."""
    words = re.findall(r"[a-z]+", text.lower())
    known = {category_of_word.get(word, category_of_word.get(word.removesuffix("s"), NONE)) for word in words}
    known.discard(NONE)
    return known.pop() if len(known) == 1 else NONE


def read_text(texts: list[str]) -> ReadFacts:
    """Facts by keywords and their synonyms, in any order; what a text doesn't say, or contradicts, is NONE."""
    categories = {
        fact: torch.tensor([_spoken(text, words) for text in texts], dtype=torch.long)
        for fact, words in _CATEGORY_OF_WORD.items()
    }
    return ReadFacts(
        categories=categories,
        confidence={fact: (category != NONE).float() for fact, category in categories.items()},
        bounce_moments_s=torch.full((len(texts), MOST_MOMENTS), torch.nan),
    )


def _from_any_device(read: Callable[[Any], ReadFacts]) -> Callable[[Any], ReadFacts]:
    """Readings lie in main memory, where the facts are that they are compared with."""
    return lambda media: read(on_cpu(media))


READERS: dict[Modality, Callable[[Any], ReadFacts]] = {
    Modality.TEXT: read_text,
    Modality.IMAGE: _from_any_device(read_image),
    Modality.VIDEO: _from_any_device(read_video),
    Modality.AUDIO: _from_any_device(read_sound),
}
