"""Clean-up of generated text, exactly as the released CoDi does it (plain string rules, no tokens)."""

from __future__ import annotations

GLUE = "<puncnext>"
"""Stands between a punctuation mark and the word it belongs to while repeats are removed."""

_OPENING = "([{"
_CLOSING = "?!.,:;}])"
_REPLACEMENTS = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


def sentence(decoded: str) -> str:
    """What lies between the first and the last word of a decoded row, which are its begin and end tokens.

    Spaces before punctuation and contractions go first. A first word without a space in front is glued to the
    begin token and leaves with it.
    """
    for spaced, joined in _REPLACEMENTS:
        decoded = decoded.replace(spaced, joined)
    return " ".join(decoded.split()[1:-1])


def without_repeats(text: str) -> str:
    """Drop words, then word groups of any length, that follow their own like: "a cat a cat cat" → "a cat".

    Punctuation counts as words of its own. A mark at the very start or end of the text keeps a visible
    "<puncnext>", a habit of the released model.
    """
    words = text.split()
    kept = [word for i, word in enumerate(words) if i == 0 or word != words[i - 1]]
    groups = [entry for word in kept for entry in _split_punctuation(word)]
    length = 1
    while len(groups) > 1:
        _drop_repeats(groups, length)
        if len(groups) > 1:
            groups = [f"{groups[i]} {groups[i + 1].rsplit(' ', 1)[-1]}" for i in range(len(groups) - 1)]
            length += 1
    return "".join(groups).replace(f" {GLUE} ", "")


def _split_punctuation(word: str) -> list[str]:
    """ "(wow!)" → ( glue wow glue ! glue )"""
    head: list[str] = []
    tail: list[str] = []
    while word.startswith(tuple(_OPENING)):
        head += [word[0], GLUE]
        word = word[1:]
    while word.endswith(tuple(_CLOSING)):
        tail = [GLUE, word[-1], *tail]
        word = word[:-1]
    return [*head, *([word] if word else []), *tail]


def _drop_repeats(groups: list[str], length: int) -> None:
    """Delete, in place, every group equal to the one `length` entries before it, and what stands between."""
    start = 0
    while start + length < len(groups):
        if groups[start] == groups[start + length]:
            del groups[start + 1 : start + length + 1]
            start = 0
        else:
            start += 1
