"""From a state dict with official names to one of our modules' and back, strictly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ..errors import CheckpointError
from .names import Rename, official_name

LISTED = 10
ALIGNMENT_PREFIXES = ("connecters_out.", "input_block_connecters_in.", "output_block_connecters_in.")
"""Official names of environment encoder and connectors: the one group that a diffuser's file may lack."""


@dataclass(frozen=True)
class Counterpart:
    """Where one of our parameters stands in an official file, and its shape there and with us."""

    official: str
    official_shape: tuple[int, ...]
    shape: tuple[int, ...]


def counterparts(module: nn.Module, renames: Iterable[Rename], prefix: str) -> dict[str, Counterpart]:
    """Per parameter and buffer of `module` its official name, with the root's prefix, and its official shape."""
    table = {entry.ours: entry for entry in renames}
    found = {}
    for ours, tensor in module.state_dict().items():
        name, ones = official_name(ours, table)
        found[ours] = Counterpart(prefix + name, (*tensor.shape, *(1,) * ones), tuple(tensor.shape))
    return found


def has_alignment(names: Iterable[str], prefix: str) -> bool:
    """Whether an official diffuser brings an environment encoder and connectors."""
    return any(name.startswith(tuple(prefix + group for group in ALIGNMENT_PREFIXES)) for name in names)


def from_official(state: Mapping[str, Tensor], places: Mapping[str, Counterpart], prefix: str) -> dict[str, Tensor]:
    """Our state dict from an official one.

    Raises CheckpointError that lists what is missing, unexpected (below `prefix`) or of another shape, by its official
    name; nothing is skipped silently.
    """
    wanted = {place.official: place.official_shape for place in places.values()}
    present = {name for name in state if name.startswith(prefix)}
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
        raise CheckpointError(f"the weights below {prefix!r} are not those of this model: {told}")
    return {ours: state[place.official].reshape(place.shape) for ours, place in places.items()}


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
