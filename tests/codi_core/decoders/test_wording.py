from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyui_codi.codi_core.decoders.wording import sentence, without_repeats

GOLDEN = Path(__file__).parents[2] / "goldens" / "text_postprocess.json"
CASES = json.loads(GOLDEN.read_text(encoding="utf-8"))["data"]["pairs"]
few_words = st.lists(st.sampled_from("abc"), max_size=12)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["input"] or "empty")
def test_repeats_go_as_in_the_released_model(case):
    assert without_repeats(case["input"]) == case["output"]


@given(few_words)
def test_no_group_of_words_follows_its_like(words):
    kept = without_repeats(" ".join(words)).split()
    for length in range(1, len(kept) // 2 + 1):
        for i in range(len(kept) - 2 * length + 1):
            assert kept[i : i + length] != kept[i + length : i + 2 * length]


@given(few_words)
def test_only_repeats_go(words):
    kept = without_repeats(" ".join(words)).split()
    assert set(kept) == set(words)
    assert without_repeats(" ".join(kept)) == " ".join(kept)


@given(st.lists(st.sampled_from(["circle", "moves,", "(left)", "up?"]), max_size=4, unique=True))
def test_a_text_without_repeats_stays(words):
    assert without_repeats(" ".join(["a", *words, "z"])) == " ".join(["a", *words, "z"])


@given(few_words)
def test_sentence_is_what_stands_between_begin_and_end(words):
    assert sentence(f" <BOS> {' '.join(words)} <EOS>") == " ".join(words)


@pytest.mark.parametrize(
    ("decoded", "text"),
    [
        (" <BOS> a red circle . <EOS>", "a red circle."),
        (" <BOS> it does n't , it 's <EOS>", "it doesn't, it's"),
        (" <BOS> they do not <EOS>", "they don't"),
        (" <BOS> rock ' n ' roll <EOS>", "rock'n'roll"),
        (" <BOS>glued to the begin <EOS>", "to the begin"),
        (" <BOS> <EOS>", ""),
        ("", ""),
    ],
)
def test_punctuation_and_contractions_close_up(decoded, text):
    assert sentence(decoded) == text
