"""Model files from the Hugging Face hub: only when asked for, resumed where they were, checked before they count."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, cast

from huggingface_hub import HfApi, HfFileSystem
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

from ..config import INDEX_NAME
from ..errors import CheckpointError
from .files import first_line, writing_to

SCRATCH_NAME = ".downloading"
READ_BYTES = 2**23
OFFICIAL_REPOSITORY = "ZinengTang/CoDi"
"""Where the authors of CoDi published their weights."""

NETWORK_ERRORS: tuple[type[Exception], ...] = (OSError, *HfHubHTTPError.__bases__)
"""Among the bases is that of all errors of the network library, which is not the same in all versions of the hub's."""

OnBytes = Callable[[str, int, int], None]
"""Called with the file's name, the bytes of all files that are here and the bytes in all. What it raises ends it."""


@dataclass(frozen=True)
class RemoteFile:
    """path: in the repository. digest: of its content, as the hub states it: SHA-256, or that of a git blob."""

    path: str
    size_bytes: int
    digest: str

    def matches(self, file: Path) -> bool:
        """Whether a file has this content."""
        if file.stat().st_size != self.size_bytes:
            return False
        if len(self.digest) == 2 * hashlib.sha256().digest_size:
            found = hashlib.sha256()
        else:
            found = hashlib.sha1(f"blob {self.size_bytes}\0".encode(), usedforsecurity=False)
        with file.open("rb") as content:
            while piece := content.read(READ_BYTES):
                found.update(piece)
        return found.hexdigest() == self.digest


def download(
    repository: str,
    destination: Path,
    *,
    files: str = "*",
    endpoint: str | None = None,
    on_bytes: OnBytes = lambda name, here, total: None,
) -> list[Path]:
    """Fetch a model folder, or official .pth files, from the hub into a folder; what lies there already stays.

    repository: "owner/name". files: a pattern of the paths to take, such as "checkpoints_fp16/*". endpoint: of
    another hub.
    Files come to their places when all of them are there with the content that the hub states. A download that was
    cut short goes on where it was at the next call.
    Raises CheckpointError for a repository, pattern or place that cannot be used, for content that is wrong, and where
    another file lies already.
    """
    try:
        api = HfApi(endpoint=endpoint)
        about = api.model_info(repository, files_metadata=True)
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise CheckpointError(
            f"wanted a model repository of the Hugging Face hub, got {repository!r}, which it does not know or does "
            "not show you; write it as owner/name"
        ) from error
    except NETWORK_ERRORS as error:
        raise CheckpointError(f"cannot reach the Hugging Face hub ({first_line(error)}); try again later") from error
    chosen = dict(_places(repository, about.siblings or [], files))
    scratch = destination / SCRATCH_NAME
    with writing_to(destination):
        missing = {place: file for place, file in chosen.items() if not _is_here(destination / place, file)}
        total = sum(file.size_bytes for file in chosen.values())
        here = total - sum(file.size_bytes for file in missing.values())
        _check_room(destination, total - here, scratch)
        hub, fetched = HfFileSystem(endpoint=endpoint), {}
        for place, file in missing.items():
            # By content, so that another version does not go on where this one stopped; by place, as two may be equal.
            fetched[place] = scratch / file.digest / place
            remote = f"{repository}@{about.sha}/{file.path}"
            _fetch(hub, remote, file, fetched[place], partial(_tell, on_bytes, place, here, total))
            here += file.size_bytes
        # The index last: with it the folder becomes a model.
        for place in sorted(fetched, key=lambda place: place == INDEX_NAME):
            (destination / place).parent.mkdir(parents=True, exist_ok=True)
            fetched[place].replace(destination / place)
    shutil.rmtree(scratch, ignore_errors=True)
    return [destination / place for place in chosen]


def _tell(on_bytes: OnBytes, name: str, before: int, total: int, count: int) -> None:
    on_bytes(name, before + count, total)


def _places(repository: str, siblings: list[Any], pattern: str) -> Iterator[tuple[str, RemoteFile]]:
    """Where in the folder each of a model's files belongs.

    Official files lie side by side, wherever they come from. Of those of one name the one nearest the root is taken:
    the authors' repository holds all of them again in checkpoints_fp16/.
    """
    paths = [sibling.rfilename for sibling in siblings]
    whole = INDEX_NAME in paths
    wanted = (INDEX_NAME, "*/*.json", "*/*.txt", "*/*.safetensors") if whole else ("*.pth",)
    taken: dict[str, str] = {}
    for sibling in sorted(siblings, key=lambda sibling: sibling.rfilename.count("/")):
        path = sibling.rfilename
        if not (fnmatch(path, pattern) and any(fnmatch(path, each) for each in wanted)):
            continue
        if ".." in PurePosixPath(path).parts or path.startswith("/"):
            raise CheckpointError(f"{repository} names a file {path!r}, which would lie outside the folder")
        place = path if whole else PurePosixPath(path).name
        if place in taken:
            if path.count("/") > taken[place].count("/"):
                continue
            raise CheckpointError(
                f"{repository} has {place} twice, as {taken[place]} and {path}; say which one, as "
                f"{PurePosixPath(path).parent}/*"
            )
        taken[place] = path
        digest = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
        yield place, RemoteFile(path, sibling.size, digest)
    if not taken:
        raise CheckpointError(
            f"{repository} has no file like {pattern!r} that belongs to a CoDi model ({' or '.join(wanted)}); it has "
            f"{', '.join(paths[:5]) or 'none at all'}"
        )


def _is_here(place: Path, file: RemoteFile) -> bool:
    """Whether the hub's file lies in its place. Raises CheckpointError if another one does."""
    if not place.exists():
        return False
    if not file.matches(place):
        raise CheckpointError(
            f"wanted the hub's {file.path} of {file.size_bytes} bytes, got another file of "
            f"{place.stat().st_size} bytes in {place}; remove it, or choose another folder"
        )
    return True


def _check_room(destination: Path, needed: int, scratch: Path) -> None:
    """needed: bytes in all, of which some may lie in the scratch folder already."""
    needed -= sum(file.stat().st_size for file in scratch.rglob("*") if file.is_file())
    there = next(folder for folder in (destination, *destination.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise CheckpointError(
            f"wanted {needed / 1e9:.1f} GB of room in {destination}, got {free / 1e9:.1f}; make room or choose "
            "another folder"
        )


def _fetch(hub: HfFileSystem, remote: str, file: RemoteFile, place: Path, tell: Callable[[int], None]) -> None:
    """Bring a file to a place and check its content. What an earlier call fetched of it is kept."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("ab") as local:
        for piece in _pieces(hub, remote, file, local.tell()):
            local.write(piece)
            tell(local.tell())
    if not file.matches(place):
        place.unlink()
        raise CheckpointError(f"{file.path} came with wrong content, and was thrown away; start the download again")


def _pieces(hub: HfFileSystem, remote: str, file: RemoteFile, start: int) -> Iterator[bytes]:
    """The file's content from a byte on. The hub's own download begins anew with every call, so it is read so."""
    try:
        with hub.open(remote, block_size=READ_BYTES) as source:
            source.seek(start)
            while piece := cast(bytes, source.read(READ_BYTES)):
                yield piece
    except NETWORK_ERRORS as error:
        raise CheckpointError(
            f"the download of {file.path} was cut short ({first_line(error)}); start it again, and it goes on"
        ) from error
