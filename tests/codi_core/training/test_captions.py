from __future__ import annotations

import re
from collections import Counter

import pytest
import torch

from comfyui_codi.codi_core.evaluation.facts import read_text
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.training.captions import MOTIONS, NAMES, STATED, captions, corpus, phrase
from comfyui_codi.codi_core.training.world import CARRIED, NONE, Fact, Facts, Split, World


def drawn(count: int) -> Facts:
    return World(Split.ALL).draw(count, torch.Generator().manual_seed(1))


def told(facts: Facts, seed: int = 0, **options: object) -> tuple[list[str], dict[Fact, torch.Tensor]]:
    return captions(facts, torch.Generator().manual_seed(seed), **options)


def test_a_caption_says_what_it_states_and_nothing_else():
    facts = drawn(2000)
    texts, stated = told(facts)
    for fact, read in read_text(texts).categories.items():
        assert torch.equal(read, facts.categories[fact].where(stated[fact], NONE))


def test_every_caption_says_shape_colour_or_motion():
    _, stated = told(drawn(2000))
    assert (stated[Fact.SHAPE] | stated[Fact.COLOUR] | stated[Fact.MOTION]).all()


@pytest.mark.parametrize("fact", [Fact.SHAPE, Fact.COLOUR, Fact.MOTION])
def test_facts_are_left_out_now_and_then(fact: Fact):
    _, stated = told(drawn(2000))
    assert float(stated[fact].float().mean()) == pytest.approx(STATED[fact], abs=0.05)


def test_a_middling_size_is_never_said():
    facts = drawn(2000)
    _, stated = told(facts)
    assert not (stated[Fact.SIZE] & (facts.categories[Fact.SIZE] == NONE)).any()


@pytest.mark.parametrize("modality", list(Modality))
def test_captions_for_a_modality_say_only_what_it_carries(modality: Modality):
    _, stated = told(drawn(300), sayable=CARRIED[modality])
    assert {fact for fact, rows in stated.items() if rows.any()} == set(CARRIED[modality])


def test_captions_are_lower_case_with_simple_punctuation():
    texts, _ = told(drawn(1000))
    assert all(re.fullmatch(r"[a-z]+([,:.]?( [a-z]+))*\.?", text) for text in texts)


def test_articles_fit_the_next_word():
    texts, _ = told(drawn(3000))
    assert not any(re.search(r"\ba [aeiou]|\ban [^aeiou]", text) for text in texts)


def test_same_seed_gives_the_same_captions_and_another_seed_others():
    facts = drawn(50)
    assert told(facts, 4)[0] == told(facts, 4)[0]
    assert told(facts, 4)[0] != told(facts, 5)[0]


def test_no_word_names_two_things():
    signs = [word for words in NAMES.values() for word in words]
    signs += [word for motion in MOTIONS.values() for word in motion.signs]
    assert [word for word, count in Counter(signs).items() if count > 1] == []


def test_the_corpus_is_large_has_no_doubles_and_uses_all_the_words():
    texts = corpus(5000, torch.Generator().manual_seed(0))
    assert len(texts) == len(set(texts)) > 4000
    words = {word for text in texts for word in re.findall(r"[a-z]+", text)}
    assert {word for names in NAMES.values() for word in names} <= words


def test_a_phrase_says_what_it_is_told_to_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    facts = World(Split.ALL).draw(200, generator)
    for fact in (Fact.SHAPE, Fact.COLOUR, Fact.MOTION):
        read = read_text(phrase(facts, {fact: torch.ones_like(facts.bounces)}, generator)).categories
        assert torch.equal(read[fact], facts.categories[fact])
        assert all((read[other] == NONE).all() for other in Fact if other != fact)
