"""Says the world's facts in words: many synonyms, several ways to build the sentence, facts left out at random.

The moments of bounces, the position and the background are never said. The vocabulary is public: the fact reader
looks words up in the same tables, and the tokenizers of codi-mini learn from `corpus`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Bool
from torch import Tensor

from .world import MAIN_FACTS, NONE, VALUES, Colour, Fact, Facts, Motion, Shape, Size, Split, World

STATED = {Fact.SHAPE: 0.75, Fact.COLOUR: 0.75, Fact.MOTION: 0.75, Fact.SIZE: 0.3}
"""How often a fact is said. Of shape, colour and motion at least one always is."""

NAMES: dict[StrEnum, tuple[str, ...]] = {
    Shape.CIRCLE: ("circle", "disc", "ball", "dot"),
    Shape.SQUARE: ("square", "box", "block", "tile"),
    Shape.TRIANGLE: ("triangle", "wedge", "pyramid", "cone"),
    Shape.STAR: ("star", "starburst", "pentagram", "spark"),
    Colour.RED: ("red", "scarlet", "crimson", "ruby"),
    Colour.YELLOW: ("yellow", "golden", "lemon", "sunny"),
    Colour.GREEN: ("green", "emerald", "grassy", "jade"),
    Colour.CYAN: ("cyan", "turquoise", "aqua", "teal"),
    Colour.BLUE: ("blue", "navy", "sapphire", "cobalt"),
    Colour.MAGENTA: ("magenta", "pink", "fuchsia", "orchid"),
    Size.SMALL: ("small", "little", "tiny"),
    Size.LARGE: ("large", "big", "huge"),
}
"""Nouns of shapes, adjectives of colours and sizes."""

ANYTHING = ("thing", "figure", "object")
"""Nouns for a figure whose shape is left open."""

_GOING = (
    ("moves", "moving"),
    ("glides", "gliding"),
    ("drifts", "drifting"),
    ("slides", "sliding"),
    ("travels", "travelling"),
    ("goes", "going"),
)


@dataclass(frozen=True)
class MotionWords:
    """verbs: third person and participle; complements: what may follow them; signs: words that give it away."""

    verbs: tuple[tuple[str, str], ...]
    complements: tuple[str, ...]
    signs: tuple[str, ...]


MOTIONS: dict[Motion, MotionWords] = {
    Motion.STILL: MotionWords(
        verbs=(("stands", "standing"), ("stays", "staying"), ("sits", "sitting")),
        complements=("still", "motionless", "at rest"),
        signs=("still", "rest", "motionless", "resting", "static", "unmoving"),
    ),
    Motion.LEFT: MotionWords(verbs=_GOING, complements=("left", "to the left", "leftward"), signs=("left", "leftward")),
    Motion.RIGHT: MotionWords(
        verbs=_GOING, complements=("right", "to the right", "rightward"), signs=("right", "rightward")
    ),
    Motion.BOUNCE: MotionWords(
        verbs=(("bounces", "bouncing"), ("hops", "hopping"), ("jumps", "jumping")),
        complements=("", "up and down", "on the ground"),
        signs=("bounce", "bouncing", "hop", "hopping", "jump", "jumping"),
    ),
}


@dataclass(frozen=True)
class _Words:
    """The words of one caption; what is left open is empty, except the noun, which then is a general one."""

    noun: str
    named: bool
    adjectives: tuple[str, ...]
    colour: str
    finite: str
    participle: str

    @property
    def noun_phrase(self) -> str:
        return " ".join((*self.adjectives, self.noun))


def _article(noun_phrase: str, indefinite: bool = True) -> str:
    if not indefinite:
        return f"the {noun_phrase}"
    return f"{'an' if noun_phrase[0] in 'aeiou' else 'a'} {noun_phrase}"


def _plain(words: _Words, chance: random.Random) -> str:
    verb = chance.choice((words.finite, words.participle))
    return f"{_article(words.noun_phrase, chance.random() < 0.7)} {verb}".strip()


def _there_is(words: _Words, chance: random.Random) -> str:
    opening = chance.choice(("there is", "here is", "this is"))
    return f"{opening} {_article(words.noun_phrase)} {words.participle}".strip()


def _two_sentences(words: _Words, chance: random.Random) -> str:
    said = [text for text in (f"is {words.colour}" * bool(words.colour), words.finite) if text]
    chance.shuffle(said)
    size = words.adjectives[:-1] if words.colour else words.adjectives
    subject = _article(" ".join((*size, words.noun)))
    if not said:
        return f"there is {subject}"
    return f"there is {subject}. it {' and '.join(said)}"


def _relative_clause(words: _Words, chance: random.Random) -> str:
    if not words.finite:
        return _plain(words, chance)
    return f"{_article(words.noun_phrase)} that {words.finite}"


def _verb_first(words: _Words, chance: random.Random) -> str:
    if not words.participle:
        return _there_is(words, chance)
    return f"{words.participle}{chance.choice((',', ':'))} {_article(words.noun_phrase)}"


def _list(words: _Words, chance: random.Random) -> str:
    items = [*words.adjectives, *([words.noun] if words.named else []), *filter(None, [words.participle])]
    chance.shuffle(items)
    return chance.choice((", ", " ")).join(items)


_GRAMMARS: tuple[Callable[[_Words, random.Random], str], ...] = (
    _plain,
    _plain,
    _there_is,
    _two_sentences,
    _relative_clause,
    _verb_first,
    _list,
)


def _words(values: dict[Fact, StrEnum], chance: random.Random) -> _Words:
    said = {fact: chance.choice(NAMES[value]) for fact, value in values.items() if fact != Fact.MOTION}
    finite = participle = ""
    if Fact.MOTION in values:
        motion = MOTIONS[Motion(values[Fact.MOTION])]
        verb, complement = chance.choice(motion.verbs), chance.choice(motion.complements)
        finite, participle = (f"{form} {complement}".strip() for form in verb)
    return _Words(
        noun=said.get(Fact.SHAPE) or chance.choice(ANYTHING),
        named=Fact.SHAPE in said,
        adjectives=tuple(said[fact] for fact in (Fact.SIZE, Fact.COLOUR) if fact in said),
        colour=said.get(Fact.COLOUR, ""),
        finite=finite,
        participle=participle,
    )


def draw_stated(
    facts: Facts, generator: torch.Generator, sayable: Collection[Fact]
) -> dict[Fact, Bool[Tensor, "batch"]]:
    """Per fact the rows whose caption shall say it, at random; of shape, colour and motion at least one."""
    device = generator.device

    def chance() -> Tensor:
        return torch.rand(len(facts), generator=generator, device=device)

    stated = {fact: chance() < share for fact, share in STATED.items()}
    stated[Fact.SIZE] &= facts.categories[Fact.SIZE] != NONE
    for fact in stated.keys() - set(sayable):
        stated[fact] = torch.zeros_like(stated[fact])
    main = [fact for fact in MAIN_FACTS if fact in sayable]
    silent = ~torch.stack([stated[fact] for fact in main]).any(dim=0)
    rescued = torch.randint(len(main), (len(facts),), generator=generator, device=device)
    for index, fact in enumerate(main):
        stated[fact] |= silent & (rescued == index)
    return stated


def captions(
    facts: Facts, generator: torch.Generator, sayable: Collection[Fact] = tuple(Fact)
) -> tuple[list[str], dict[Fact, Bool[Tensor, "batch"]]]:
    """One caption per row, in lower case, and per fact whether the caption says it.

    sayable: what captions may speak of, for instance only what a picture shows; one main fact of it is always said.
    """
    stated = draw_stated(facts, generator, sayable)
    return phrase(facts, stated, generator), stated


def phrase(facts: Facts, stated: Mapping[Fact, Bool[Tensor, "batch"]], generator: torch.Generator) -> list[str]:
    """One caption per row that says these facts and no others. What has no name (NONE) must not be stated."""
    seed = torch.randint(2**62, (1,), generator=generator, device=generator.device)
    chance = random.Random(int(seed))
    columns = {fact: category.tolist() for fact, category in facts.categories.items()}
    said = {fact: mask.tolist() for fact, mask in stated.items()}
    texts = []
    for row in range(len(facts)):
        values = {fact: VALUES[fact][columns[fact][row]] for fact in said if said[fact][row]}
        text = chance.choice(_GRAMMARS)(_words(values, chance), chance)
        texts.append(text + "." if chance.random() < 0.5 else text)
    return texts


def corpus(count: int, generator: torch.Generator) -> list[str]:
    """Captions of `count` draws from the whole world, each once, for tokenizers to learn from."""
    texts, _ = captions(World(Split.ALL).draw(count, generator), generator)
    return list(dict.fromkeys(texts))
