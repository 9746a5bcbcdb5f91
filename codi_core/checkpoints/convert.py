"""From a state dict with official names to one of our modules' and back, strictly."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from .names import entry_of
from .official import OfficialPart

LISTED = 10


@dataclass(frozen=True)
class Counterpart:
    """Where one of our parameters stands in an official file, and its shape there and with us.

    piece: (index, count), see `Rename`.
    """

    official: str
    official_shape: tuple[int, ...]
    shape: tuple[int, ...]
    piece: tuple[int, int]


def counterparts(module: nn.Module, part: OfficialPart, arguments: Mapping[str, Any]) -> dict[str, Counterpart]:
    """Per parameter and buffer of `module`, built with these arguments, its place in an official file."""
    table = {entry.ours: entry for entry in part.renames(arguments)}
    found = {}
    for ours, tensor in module.state_dict().items():
        if any(re.fullmatch(pattern, ours) for pattern in part.computed):
            continue
        entry, rest = entry_of(ours, table)
        shape = tuple(tensor.shape)
        official_shape = shape
        if shape:
            official_shape = (shape[0] * entry.piece[1], *shape[1:])
        if rest != ["bias"]:
            official_shape = (*(1,) * entry.leading_ones, *official_shape, *(1,) * entry.trailing_ones)
        name = ".".join([entry.official, *rest] if entry.official else rest)
        found[ours] = Counterpart(part.prefix + name, official_shape, shape, entry.piece)
    return found


def from_official(
    state: Mapping[str, Tensor], places: Mapping[str, Counterpart], part: OfficialPart
) -> dict[str, Tensor]:
    """Our state dict from an official one, as views of its tensors.

    Raises CheckpointError that lists what is missing, unexpected or of another shape, by its official name; nothing
    is skipped silently.
    """
    wanted = {place.official: place.official_shape for place in places.values()}
    present = {name for name in state if part.wants(name)}
    wrong = [
        f"{name} {tuple(state[name].shape)} instead of {shape}"
        for name, shape in wanted.items()
        if name in present and tuple(state[name].shape) != shape
    ]
    problems = {
        "missing": sorted(wanted.keys() - present),
        "unexpected": sorted(present - wanted.keys()),
        "of another shape": wrong,
    }
    if any(problems.values()):
        told = "; ".join(f"{kind}: {_list(names)}" for kind, names in problems.items() if names)
        raise CheckpointError(f"the weights below {part.prefix!r} are not those of this model: {told}")
    return {ours: _piece(state[place.official], place) for ours, place in places.items()}


def to_official(state: Mapping[str, Tensor], places: Mapping[str, Counterpart]) -> dict[str, Tensor]:
    """The way back: an official state dict from ours."""
    pieces: dict[str, dict[int, Tensor]] = {}
    for ours, place in places.items():
        pieces.setdefault(place.official, {})[place.piece[0]] = state[ours]
    shapes = {place.official: place.official_shape for place in places.values()}
    return {
        name: (torch.cat([found[index] for index in sorted(found)]) if len(found) > 1 else found[0]).reshape(
            shapes[name]
        )
        for name, found in pieces.items()
    }


def _piece(tensor: Tensor, place: Counterpart) -> Tensor:
    index, count = place.piece
    return (tensor.chunk(count)[index] if count > 1 else tensor).reshape(place.shape)


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
