"""Official checkpoint files → a model folder, strictly, part by part, whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn

from ..config import INDEX_NAME, CoDiConfig, official
from ..errors import CheckpointError
from ..modality import Modality
from ..parts import CONFIG_NAME, DIFFUSER, WEIGHTS_NAME, build_part, write_index
from .convert import Counterpart, counterparts, from_official
from .files import open_official, write_safetensors, writing_to
from .official import OFFICIAL_PARTS, has_alignment
from .tokenizers import add_tokenizers, lacking

SCRATCH_NAME = ".converting"
TOUCHED_BYTES = 2**28
"""How much of an official file is held in memory at once, but for a single tensor that is larger."""
OnProgress = Callable[[str, int, int], None]
"""Called with the part's name, the bytes of it written so far and the bytes in all."""


@dataclass(frozen=True)
class FoundPart:
    """A part found in an official file.

    source: that file, or the part's own folder if it was there already and lacked but tokenizers. aligned: whether it
    has environment encoder and connectors; None for parts that never do. tokenizers_missing: those of its tokenizers
    that could not be had, by their names on the Hugging Face hub.
    """

    name: str
    source: Path
    arguments: Mapping[str, Any]
    aligned: bool | None
    tokenizers_missing: tuple[str, ...] = ()

    def module(self) -> nn.Module:
        """Without weights; buffers that follow from the configuration are there."""
        with init_empty_weights(include_buffers=False):
            return build_part(self.name, self.arguments)


def find_parts(sources: Sequence[Path], config: CoDiConfig) -> list[FoundPart]:
    """Which parts the files hold, whatever the files are called. Names and shapes are checked, weights not yet read.

    Raises CheckpointError for a file without any part, two files with the same one, and weights that do not fit.
    """
    found: dict[str, FoundPart] = {}
    for source in sources:
        state = open_official(source)
        here = _names_in(state)
        if not here:
            some = ", ".join(list(state)[:3]) or "nothing"
            raise CheckpointError(
                f"{source} is not a CoDi checkpoint: wanted names that begin with "
                f"{', '.join(part.prefix for part in OFFICIAL_PARTS.values())}, got {some}"
            )
        for name in here:
            if name in found:
                raise CheckpointError(
                    f"both {found[name].source} and {source} hold the part {name!r}; give only one of them"
                )
            found[name] = _examined(name, source, state, config.parts[name])
    return [found[name] for name in OFFICIAL_PARTS if name in found]


def _names_in(state: Iterable[str]) -> list[str]:
    """The parts that official names belong to."""
    return [name for name, part in OFFICIAL_PARTS.items() if any(map(part.wants, state))]


def unconverted(sources: Sequence[Path], folder: Path) -> list[Path]:
    """Those of the official files that hold a part which the model of the folder lacks."""
    known = CoDiConfig.from_folder(folder).parts
    return [source for source in sources if not known.keys() >= set(_names_in(open_official(source)))]


def _examined(name: str, source: Path, state: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> FoundPart:
    aligned = None
    if name.startswith(DIFFUSER):
        aligned = has_alignment(state, OFFICIAL_PARTS[name].prefix)
        if not aligned:
            arguments = {**arguments, "environment": None}
    part = FoundPart(name, source, arguments, aligned)
    try:
        from_official(state, _places(part, part.module()), OFFICIAL_PARTS[name])
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    return part


def _places(part: FoundPart, module: nn.Module) -> dict[str, Counterpart]:
    return counterparts(module, OFFICIAL_PARTS[part.name], part.arguments)


def convert(
    sources: Sequence[Path],
    destination: Path,
    *,
    config: CoDiConfig | None = None,
    dtype: torch.dtype | None = None,
    tokenizers: Path | None = None,
    on_progress: OnProgress = lambda part, written, total: None,
) -> list[FoundPart]:
    """Write the parts of official files as a model folder, or add them to one that lacks them.

    config: of the checkpoint's model, by default the released one. dtype: of the written weights, None keeps theirs.
    tokenizers: a folder with the public vocabularies (see `add_tokenizers`), by default the hub is asked; a part whose
    vocabulary is missing is written all the same, and does everything but reading and writing text. Parts of the
    folder that still lack theirs are completed; for that alone no sources are needed.
    The index is written last: until then the folder is no model, or the one that it was. What an earlier conversion
    left behind when it was killed is cleared away.
    Raises CheckpointError for unusable files, a folder of another model, a part that the folder has already, files in
    the way, and a full disk.
    """
    config = official() if config is None else config
    found = find_parts(sources, config)
    there = _there_already(destination, config)
    if not sources and not there.parts:
        raise CheckpointError(
            f"wanted checkpoint files and a folder to write to, got only {destination}; name the folder last"
        )
    for part in found:
        _require_free(destination, part.name, there)
    scratch = destination / SCRATCH_NAME
    try:
        with writing_to(destination):
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            found = [_written(part, scratch / part.name, dtype, tokenizers, on_progress) for part in found]
            for part in found:
                # What lies there belongs to no model: an earlier conversion was stopped between here and the index.
                shutil.rmtree(destination / part.name, ignore_errors=True)
                (scratch / part.name).rename(destination / part.name)
            write_index(_joined(there, config, {part.name: part.arguments for part in found}), destination)
            return [*found, *_completed(destination, there, tokenizers)]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if not any(destination.glob("*")):
            shutil.rmtree(destination, ignore_errors=True)


def _there_already(destination: Path, config: CoDiConfig) -> CoDiConfig:
    """The model in the destination so far; one without parts where there is none."""
    if not (destination / INDEX_NAME).exists():
        return replace(config, parts={}, modalities={})
    there = CoDiConfig.from_folder(destination)
    if there.name != config.name:
        raise CheckpointError(
            f"wanted a folder of the model {config.name!r}, got {destination} with {there.name!r}; "
            "choose another folder"
        )
    return there


def _require_free(destination: Path, name: str, there: CoDiConfig) -> None:
    """Raises CheckpointError unless nothing but an unfinished conversion lies where a part belongs."""
    if name in there.parts:
        raise CheckpointError(
            f"{destination} has the part {name} already; choose another folder, or leave out the files if it lacks "
            "nothing but vocabularies"
        )
    place = destination / name
    if place.exists() and not (place.is_dir() and all(map(_is_of_a_part, place.iterdir()))):
        raise CheckpointError(
            f"wanted room for the part {name} in {place}, got files that belong to no conversion; "
            "choose another folder, or move them away"
        )


def _is_of_a_part(path: Path) -> bool:
    return any(fnmatch(path.name, known) for known in (CONFIG_NAME, WEIGHTS_NAME, "*tokenizer"))


def _joined(there: CoDiConfig, config: CoDiConfig, parts: Mapping[str, Mapping[str, Any]]) -> CoDiConfig:
    """The model with these parts of `config` added; it makes what it has diffusers for."""
    made = {modality: entry for modality, entry in config.modalities.items() if entry.diffuser in parts}
    made |= there.modalities
    modalities = {modality: made[modality] for modality in Modality if modality in made}
    return replace(there, parts={**there.parts, **parts}, modalities=modalities)


def _completed(destination: Path, there: CoDiConfig, tokenizers: Path | None) -> Iterator[FoundPart]:
    """Adds the tokenizers that parts still lack."""
    for name, arguments in there.parts.items():
        if lacking(name, destination / name):
            missing = add_tokenizers(name, destination / name, tokenizers)
            yield FoundPart(name, destination / name, arguments, None, tuple(missing))


def notes(part: FoundPart, folder: Path) -> Iterator[str]:
    """What users should know about a part as it came out in a model folder."""
    if part.aligned is False:
        yield "has no environment encoder and connectors: its outputs do not see those made together with them"
    if part.tokenizers_missing:
        yield (
            f"cannot read or write text without the vocabulary of {' and '.join(part.tokenizers_missing)}, which could "
            f"not be had: run `codi convert {folder}` when the hub can be reached, or download the small files of that "
            "repository into a folder of its name, and add --tokenizers and the folder around it"
        )


def _weights(part: FoundPart) -> dict[str, Tensor]:
    """All that our module holds, by our names. What comes from the file stays on disk until it is touched."""
    module = part.module()
    places = _places(part, module)
    computed = {name: tensor for name, tensor in module.state_dict().items() if name not in places}
    return from_official(open_official(part.source), places, OFFICIAL_PARTS[part.name]) | computed


def _streamed(part: FoundPart, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
    """The weights with these names, one by one. What was touched stays in memory until the file is opened anew."""
    weights, touched = _weights(part), 0
    for name in names:
        if touched > TOUCHED_BYTES:
            weights, touched = _weights(part), 0
        touched += weights[name].nbytes
        yield name, weights[name]


def _written(
    part: FoundPart, folder: Path, dtype: torch.dtype | None, tokenizers: Path | None, on_progress: OnProgress
) -> FoundPart:
    layout = {
        name: torch.empty_like(tensor, dtype=dtype if dtype and tensor.is_floating_point() else None, device="meta")
        for name, tensor in _weights(part).items()
    }
    total = sum(each.nbytes for each in layout.values())
    written = 0

    def count(more: int) -> None:
        nonlocal written
        written += more
        on_progress(part.name, written, total)

    folder.mkdir()
    write_safetensors(folder / WEIGHTS_NAME, layout, _streamed(part, layout), count)
    (folder / CONFIG_NAME).write_text(json.dumps(part.arguments, indent=2) + "\n", encoding="utf-8")
    return replace(part, tokenizers_missing=tuple(add_tokenizers(part.name, folder, tokenizers)))
