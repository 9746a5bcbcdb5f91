"""Tables of official parameter names and ours, which can be read both ways."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Rename:
    """A module (or one parameter) and all below it, by its dotted name here and there.

    leading_ones, trailing_ones: axes of size 1 that the official `weight` or parameter has before and behind ours,
    because a 1×1 convolution stands there where we have a linear layer.
    piece: (index, count) where ours is one of so many equal pieces of the official tensor, cut along its first axis.
    """

    ours: str
    official: str
    trailing_ones: int = 0
    leading_ones: int = 0
    piece: tuple[int, int] = (0, 1)

    def below(self, ours: str, official: str) -> Rename:
        """The same entry for a module that stands at these places."""
        return replace(self, ours=join(ours, self.ours), official=join(official, self.official))


def join(*parts: str) -> str:
    """A dotted name; empty parts vanish."""
    return ".".join(part for part in parts if part)


def at(ours: str, official: str, table: Sequence[Rename]) -> Iterator[Rename]:
    """A table for a module that stands at these places."""
    for entry in table:
        yield entry.below(ours, official)


def entry_of(ours: str, table: Mapping[str, Rename]) -> tuple[Rename, list[str]]:
    """The longest entry that covers one of our parameters, and what its name has beyond it.

    table: entries by `ours`. Raises KeyError for a name that no entry covers.
    """
    parts = ours.split(".")
    for length in range(len(parts), -1, -1):
        entry = table.get(".".join(parts[:length]))
        if entry is not None:
            return entry, parts[length:]
    raise KeyError(ours)
