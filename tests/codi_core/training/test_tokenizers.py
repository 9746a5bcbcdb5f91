from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import BertTokenizerFast, CLIPTokenizerFast, GPT2TokenizerFast

from comfyui_codi.codi_core.training.tokenizers import BERT_SPECIAL, CLIP_SPECIAL, train_tokenizers

CAPTIONS = [
    f"a {colour} {shape} {motion}."
    for colour in ("red", "crimson", "blue", "green")
    for shape in ("ball", "square", "star")
    for motion in ("bounces", "moves to the left", "stays still")
]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizers")
    train_tokenizers(CAPTIONS, folder)
    return folder


@pytest.fixture(scope="module")
def clip(folder: Path) -> CLIPTokenizerFast:
    return CLIPTokenizerFast.from_pretrained(str(folder / "clip"))


@pytest.fixture(scope="module")
def bert(folder: Path) -> BertTokenizerFast:
    return BertTokenizerFast.from_pretrained(str(folder / "bert"), do_lower_case=False)


@pytest.fixture(scope="module")
def gpt2(folder: Path) -> GPT2TokenizerFast:
    return GPT2TokenizerFast.from_pretrained(str(folder / "gpt2"))


def test_sizes_are_returned_and_kept_below_the_limit(tmp_path: Path) -> None:
    sizes = train_tokenizers(CAPTIONS, tmp_path, largest=540)
    tokenizers = {"clip": CLIPTokenizerFast, "bert": BertTokenizerFast, "gpt2": GPT2TokenizerFast}
    loaded = {name: len(kind.from_pretrained(str(tmp_path / name))) for name, kind in tokenizers.items()}
    assert sizes == loaded
    assert all(size <= 540 for size in sizes.values())


def test_same_captions_give_the_same_files(folder: Path, tmp_path: Path) -> None:
    train_tokenizers(iter(CAPTIONS), tmp_path)
    for file in folder.rglob("*.*"):
        assert file.read_bytes() == (tmp_path / file.relative_to(folder)).read_bytes()


def test_frequent_words_are_single_tokens(
    clip: CLIPTokenizerFast, bert: BertTokenizerFast, gpt2: GPT2TokenizerFast
) -> None:
    assert clip.tokenize("a red ball") == ["a</w>", "red</w>", "ball</w>"]
    assert bert.tokenize("a red ball") == ["a", "red", "ball"]
    assert gpt2.tokenize(" a red ball") == ["Ġa", "Ġred", "Ġball"]


def test_clip_wraps_a_text_in_the_two_last_tokens(clip: CLIPTokenizerFast) -> None:
    ids = clip("A Red ball").input_ids
    assert (ids[0], ids[-1]) == (len(clip) - 2, len(clip) - 1) == (clip.bos_token_id, clip.eos_token_id)
    assert clip.decode(ids, skip_special_tokens=True) == "a red ball"


@settings(max_examples=50, deadline=None)
@given(ANY_TEXT)
def test_clip_knows_every_text(clip: CLIPTokenizerFast, text: str) -> None:
    # Written out, a special token is one, as with the released vocabulary.
    assume(not any(special in text.lower() for special in CLIP_SPECIAL))
    assert clip.eos_token_id not in clip(text).input_ids[:-1]


@settings(max_examples=50, deadline=None)
@given(ANY_TEXT)
def test_gpt2_gives_every_text_back(gpt2: GPT2TokenizerFast, text: str) -> None:
    assert gpt2.decode(gpt2(text).input_ids, clean_up_tokenization_spaces=False) == text


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20))
def test_bert_knows_all_of_ascii(bert: BertTokenizerFast, word: str) -> None:
    assume(not any(special in word for special in BERT_SPECIAL))
    tokens = bert.tokenize(word)
    assert "[UNK]" not in tokens
    assert "".join(token.removeprefix("##") if token != "##" else token for token in tokens) == word


def test_bert_numbers_its_special_tokens_first_and_keeps_case(bert: BertTokenizerFast) -> None:
    assert bert.convert_tokens_to_ids(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]) == [0, 1, 2, 3, 4]
    assert bert("Q").input_ids == [2, bert.convert_tokens_to_ids("Q"), 3]


def test_gpt2_ends_with_padding_begin_and_end(gpt2: GPT2TokenizerFast) -> None:
    plain = len(gpt2) - 3
    assert (gpt2.pad_token_id, gpt2.bos_token_id, gpt2.eos_token_id) == (plain, plain + 1, plain + 2)
    added = gpt2.add_special_tokens({"pad_token": "<PAD>", "bos_token": "<BOS>", "eos_token": "<EOS>"})
    assert added == 0
    assert gpt2("<BOS> red<EOS>").input_ids[::2] == [plain + 1, plain + 2]
