"""Small vocabularies for small models, in the file formats of CLIP, BERT (cased) and GPT-2."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
CHARACTERS = sorted(string.ascii_letters + string.digits + string.punctuation)
WORD_END = "</w>"
CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
CLIP_SPECIAL = ["<|startoftext|>", "<|endoftext|>"]
BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GPT2_SPECIAL = {
    "unk_token": "<|endoftext|>",
    "pad_token": "<PAD>",
    "bos_token": "<BOS>",
    "eos_token": "<EOS>",
}
# Trainers get their alphabets as special tokens: complete and in a fixed order, so that ties don't fall by chance.
LEARNING: dict[str, Any] = {"min_frequency": 2, "show_progress": False}


def train_tokenizers(captions: Iterable[str], folder: Path, largest: int = 1000) -> dict[str, int]:
    """Write `folder`/clip, /bert and /gpt2, each loadable by from_pretrained of transformers' tokenizer.

    CLIP's and GPT-2's vocabularies know every byte and so any text, BERT's all of ASCII; what is learned from
    the captions comes on top, `largest` tokens in all. Returns the number of tokens of each.
    """
    texts = list(captions)
    sizes = {}
    for name, train in {"clip": _train_clip, "bert": _train_bert, "gpt2": _train_gpt2}.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        sizes[name] = train(texts, folder / name, largest)
    return sizes


def _train_clip(texts: list[str], folder: Path, largest: int) -> int:
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    # Any byte may end a word, seen in training or not: an unknown token would read as the end of the text.
    alphabet = [*BYTES, *(symbol + WORD_END for symbol in BYTES)]
    size = largest - len(CLIP_SPECIAL)
    trainer = trainers.BpeTrainer(special_tokens=alphabet, vocab_size=size, end_of_word_suffix=WORD_END, **LEARNING)
    tokenizer.train_from_iterator(texts, trainer)
    return _write_byte_pairs(tokenizer, CLIP_SPECIAL, folder, {"tokenizer_class": "CLIPTokenizer"})


def _train_gpt2(texts: list[str], folder: Path, largest: int) -> int:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(special_tokens=BYTES, vocab_size=largest - len(GPT2_SPECIAL), **LEARNING)
    tokenizer.train_from_iterator(texts, trainer)
    config = {"tokenizer_class": "GPT2Tokenizer", **GPT2_SPECIAL}
    return _write_byte_pairs(tokenizer, list(GPT2_SPECIAL.values()), folder, config)


def _train_bert(texts: list[str], folder: Path, largest: int) -> int:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    alphabet = [*BERT_SPECIAL, *CHARACTERS, *(f"##{character}" for character in CHARACTERS)]
    trainer = trainers.WordPieceTrainer(special_tokens=alphabet, vocab_size=largest, **LEARNING)
    tokenizer.train_from_iterator((text.lower() for text in texts), trainer)
    tokens = _numbered(tokenizer)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    _write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": False})
    return len(tokens)


def _numbered(tokenizer: Tokenizer) -> list[str]:
    numbers = tokenizer.get_vocab()
    return sorted(numbers, key=numbers.__getitem__)


def _write_byte_pairs(tokenizer: Tokenizer, special: list[str], folder: Path, config: dict[str, Any]) -> int:
    tokens = [*_numbered(tokenizer), *special]
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    _write_json(folder / "vocab.json", {token: number for number, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _write_json(folder / "tokenizer_config.json", config)
    return len(tokens)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
