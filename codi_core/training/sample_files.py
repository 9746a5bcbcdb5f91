"""Training samples on disk: files of one name, in folders or in WebDataset shards (tar archives).

`walk/dog.jpg`, `walk/dog.txt` and `walk/dog.wav` are one sample of three modalities. Shards are read by place instead
of streamed, so that a run that was stopped draws again what it would have drawn.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .. import media
from ..errors import MediaError
from ..modality import FACTS, Modality
from ..values import Media

SHARD = ".tar"
BLOCK = tarfile.BLOCKSIZE
MODALITY_OF_SUFFIX = {suffix: modality for modality, facts in FACTS.items() for suffix in facts.suffixes}


@dataclass(frozen=True)
class SampleFile:
    """A file, or a member of a shard. offset: where it begins in the shard; None for a file of its own."""

    path: Path
    name: str
    size: int
    offset: int | None = None

    def read(self, modality: Modality) -> Media:
        """Raises MediaError that names file and shard."""
        if self.offset is None:
            return media.read(self.path, modality)
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / f"member{PurePosixPath(self.name).suffix}"
            with self.path.open("rb") as shard:
                shard.seek(self.offset)
                copy.write_bytes(shard.read(self.size))
            try:
                return media.read(copy, modality)
            except MediaError as error:
                raise MediaError(str(error).replace(str(copy), f"{self.name} in {self.path}")) from error


Sample = Mapping[Modality, SampleFile]


def find_samples(paths: Sequence[Path]) -> list[Sample]:
    """All samples in folders and shards, in the order of their names; files of other kinds are passed over.

    A video without a sound file of its own is taken to hold its sound. Raises MediaError for a path that is neither, a
    damaged shard, or where there is nothing at all.
    """
    found: dict[tuple[Path, str], dict[Modality, SampleFile]] = {}
    for path in paths:
        for file in _shard_members(path) if path.suffix == SHARD else _folder_files(path):
            name = PurePosixPath(file.name)
            modality = MODALITY_OF_SUFFIX.get(name.suffix.lower())
            if modality is not None:
                # As WebDataset has it: what stands before the first dot is the sample's name.
                key = str(name.parent / name.name.split(".")[0])
                found.setdefault((path, key), {}).setdefault(modality, file)
    if not found:
        known = ", ".join(MODALITY_OF_SUFFIX)
        raise MediaError(
            f"wanted samples ({known}) in {', '.join(map(str, paths))}, got none; name folders or .tar shards of them"
        )
    return [_with_sound(found[key]) for key in sorted(found)]


def _with_sound(sample: dict[Modality, SampleFile]) -> Sample:
    if Modality.VIDEO in sample:
        sample.setdefault(Modality.AUDIO, sample[Modality.VIDEO])
    return sample


def _folder_files(folder: Path) -> Iterator[SampleFile]:
    if not folder.is_dir():
        raise MediaError(f"wanted a folder or a .tar shard, got {folder}; check its name, or unpack it")
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            yield SampleFile(path, path.relative_to(folder).as_posix(), path.stat().st_size)


def _shard_members(shard: Path) -> Iterator[SampleFile]:
    ends = BLOCK
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                # Behind the data, filled up to whole blocks, an archive ends with a block of zeros.
                ends = member.offset_data + (-(-member.size // BLOCK) + 1) * BLOCK
                if member.isfile() and not PurePosixPath(member.name).name.startswith("."):
                    yield SampleFile(shard, member.name, member.size, member.offset_data)
    except (OSError, tarfile.TarError) as error:
        raise MediaError(
            f"wanted an uncompressed tar archive, got {shard}, which cannot be read as one ({error}); pack or fetch it "
            "anew"
        ) from error
    if shard.stat().st_size < ends:
        raise MediaError(
            f"wanted at least {ends} bytes of {shard}, got {shard.stat().st_size}; it was cut off: fetch it anew"
        )
