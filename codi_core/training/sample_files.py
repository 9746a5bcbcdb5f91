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

import av
from av.error import FFmpegError

from .. import media
from ..errors import MediaError
from ..media_decode import CONTAINERS
from ..modality import FACTS, Modality
from ..values import Media

SHARD = ".tar"
BLOCK = tarfile.BLOCKSIZE
READ_AT_ONCE = 2**20
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

    def has_sound(self) -> bool:
        """Whether there is a sound track, by the header of a video alone; no where that cannot be read."""
        # FFmpeg's name for a part of a file.
        part = "" if self.offset is None else f"subfile,,start,{self.offset},end,{self.offset + self.size},,:"
        options = {"format_whitelist": CONTAINERS}
        try:
            with av.open(f"{part}{self.path.absolute()}", options=options, metadata_errors="replace") as container:
                return bool(container.streams.audio)
        except FFmpegError:
            return False


Sample = Mapping[Modality, SampleFile]


def find_samples(paths: Sequence[Path]) -> list[Sample]:
    """All samples in folders and shards, in the order of their names; files of other kinds are passed over.

    The sound of a video counts where there is no sound file beside it. Raises MediaError for a path that is neither, a
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
    if Modality.VIDEO in sample and Modality.AUDIO not in sample and sample[Modality.VIDEO].has_sound():
        return {**sample, Modality.AUDIO: sample[Modality.VIDEO]}
    return sample


def _folder_files(folder: Path) -> Iterator[SampleFile]:
    if not folder.is_dir():
        raise MediaError(f"wanted a folder or a .tar shard, got {folder}; check its name, or unpack it")
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            yield SampleFile(path, path.relative_to(folder).as_posix(), path.stat().st_size)


def _shard_members(shard: Path) -> Iterator[SampleFile]:
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                if member.isfile() and not PurePosixPath(member.name).name.startswith("."):
                    yield SampleFile(shard, member.name, member.size, member.offset_data)
    except (OSError, tarfile.TarError) as error:
        raise MediaError(
            f"wanted an uncompressed tar archive, got {shard}, which cannot be read as one ({error}); pack or fetch it "
            "anew"
        ) from error
    # Also before a damaged header, and where it was cut off, tarfile takes the archive for ended.
    if not _ends_at(shard, archive.offset):
        raise MediaError(
            f"wanted only zeros behind the last readable member of {shard}, from byte {archive.offset} on, got others "
            "or none; it is damaged or was cut off: pack it or fetch it anew"
        )


def _ends_at(shard: Path, offset: int) -> bool:
    """Whether the rest is zeros, one block of them at least."""
    zeros = 0
    with shard.open("rb") as file:
        file.seek(offset)
        while rest := file.read(READ_AT_ONCE):
            if rest.strip(b"\0"):
                return False
            zeros += len(rest)
    return zeros >= BLOCK
