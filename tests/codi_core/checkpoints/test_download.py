"""Downloads by the hub's own library, from a server that speaks as the hub does."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from hub_server import REPOSITORY, Hub, serving

from comfyui_codi.codi_core.checkpoints import command
from comfyui_codi.codi_core.checkpoints import download as download_module
from comfyui_codi.codi_core.checkpoints.download import SCRATCH_NAME, download
from comfyui_codi.codi_core.config import INDEX_NAME
from comfyui_codi.codi_core.errors import CheckpointError

LONG = bytes(range(256)) * 2**10
MODEL = {INDEX_NAME: b"{}", "clip/config.json": b"[]", "clip/model.safetensors": LONG, "README.md": b"about"}
OFFICIAL = {"CoDi_encoders.pth": LONG, "CoDi_text_diffuser.pth": LONG[1:]}
AUTHORS = {
    "checkpoints_fp16/CoDi_encoders.pth": LONG[2:],
    "checkpoints_fp16/CoDi_text_diffuser.pth": LONG[3:],
    **OFFICIAL,
    "assets/teaser.png": b"",
}
"""The authors' repository: every file at the root, and again in half precision."""


class StoppedError(Exception):
    pass


def stop_halfway(name: str, here: int, total: int) -> None:
    if here > total / 8:
        raise StoppedError


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "READ_BYTES", len(LONG) // 16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models" / "one"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_model_folder_comes_as_it_is_without_what_belongs_to_no_model(folder: Path):
    told = []
    with serving(Hub(MODEL)) as hub:
        download(REPOSITORY, folder, endpoint=hub.url, on_bytes=lambda *each: told.append(each))
    assert contents(folder) == {name: content for name, content in MODEL.items() if name != "README.md"}
    heres = [here for _, here, _ in told]
    assert heres == sorted(heres)
    assert heres[-1] == told[-1][2] == len(LONG) + 4


@pytest.mark.parametrize(
    ("pattern", "precision"), [("*", ""), ("*.pth", ""), ("checkpoints_fp16/*", "checkpoints_fp16/")]
)
def test_official_files_lie_side_by_side_those_nearest_the_root_first(folder: Path, pattern: str, precision: str):
    with serving(Hub(AUTHORS)) as hub:
        files = download(REPOSITORY, folder, files=pattern, endpoint=hub.url)
    assert [file.name for file in files] == ["CoDi_encoders.pth", "CoDi_text_diffuser.pth"]
    assert contents(folder) == {name: AUTHORS[precision + name] for name in OFFICIAL}


def test_a_stopped_download_goes_on_where_it_was_and_shows_nothing_before_all_is_there(folder: Path):
    with serving(Hub(OFFICIAL)) as hub:
        with pytest.raises(StoppedError):
            download(REPOSITORY, folder, endpoint=hub.url, on_bytes=stop_halfway)
        assert not list(folder.glob("*.pth"))
        hub.ranges.clear()
        download(REPOSITORY, folder, endpoint=hub.url)
        assert not hub.ranges[0].startswith("bytes=0-")
    assert set(contents(folder).values()) == set(OFFICIAL.values())
    assert not (folder / SCRATCH_NAME).exists()


def test_what_is_there_is_not_fetched_again(folder: Path):
    with serving(Hub(dict(OFFICIAL))) as hub:
        download(REPOSITORY, folder, endpoint=hub.url)
        stamps = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
        download(REPOSITORY, folder, endpoint=hub.url)
        assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == stamps


@pytest.mark.parametrize("other", [b"another", LONG[::-1]], ids=["another size", "the same size"])
def test_another_file_in_its_place_is_neither_kept_silently_nor_lost(folder: Path, other: bytes):
    folder.mkdir(parents=True)
    (folder / "CoDi_encoders.pth").write_bytes(other)
    message = rf"of 262144 bytes, got another file of {len(other)} bytes in .*CoDi_encoders\.pth; remove it"
    with serving(Hub(OFFICIAL)) as hub, pytest.raises(CheckpointError, match=message):
        download(REPOSITORY, folder, endpoint=hub.url)
    assert contents(folder) == {"CoDi_encoders.pth": other}


def test_files_of_equal_content_come_to_their_places(folder: Path):
    files = MODEL | {"clap/model.safetensors": LONG, "clap/config.json": b"[]"}
    with serving(Hub(files)) as hub:
        download(REPOSITORY, folder, endpoint=hub.url)
    assert contents(folder) == {name: content for name, content in files.items() if name != "README.md"}


@pytest.mark.parametrize("below", ["", "one"])
def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path, below: str):
    (tmp_path / "README.md").write_text("about")
    place = tmp_path / "README.md" / below
    with serving(Hub(OFFICIAL)) as hub, pytest.raises(CheckpointError, match=f"cannot write {place}: .*another folder"):
        download(REPOSITORY, place, endpoint=hub.url)


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_lists_what_it_fetched(folder: Path, as_json: bool, monkeypatch, capsys):
    with serving(Hub(OFFICIAL)) as hub:
        monkeypatch.setattr(command, "download", partial(download, endpoint=hub.url))
        command.download_command(REPOSITORY, folder, "*", as_json=as_json)
    files = [str(folder / name) for name in ("CoDi_encoders.pth", "CoDi_text_diffuser.pth")]
    printed = capsys.readouterr().out
    if as_json:
        assert json.loads(printed) == {"folder": str(folder), "files": files}
    else:
        assert printed.split() == files


@pytest.mark.parametrize("name", ["clip/model.safetensors", "clip/config.json"])
def test_wrong_content_is_thrown_away(folder: Path, name: str):
    with serving(Hub(dict(MODEL))) as hub:
        hub.stated[name] = hub.digest(name)[::-1]
        with pytest.raises(CheckpointError, match=f"{name} came with wrong content, and was thrown away"):
            download(REPOSITORY, folder, endpoint=hub.url)
        assert name not in contents(folder)
        assert not (folder / INDEX_NAME).exists()
        del hub.stated[name]
        download(REPOSITORY, folder, endpoint=hub.url)
    assert contents(folder)[name] == MODEL[name]


@pytest.mark.parametrize("files", [{}, {"README.md": b"about", "weights.bin": b"others"}])
def test_a_repository_without_a_model_says_what_it_has(folder: Path, files: dict[str, bytes]):
    with serving(Hub(files)) as hub, pytest.raises(CheckpointError, match="no file like '\\*' that belongs to a CoDi"):
        download(REPOSITORY, folder, endpoint=hub.url)
    assert not folder.exists()


def test_files_of_one_name_are_chosen_by_a_pattern(folder: Path):
    files = {"fp16/CoDi_encoders.pth": LONG, "fp32/CoDi_encoders.pth": LONG[:-1]}
    with serving(Hub(files)) as hub:
        with pytest.raises(CheckpointError, match=r"CoDi_encoders.pth twice, as .*; say which one, as fp32/\*"):
            download(REPOSITORY, folder, endpoint=hub.url)
        download(REPOSITORY, folder, files="fp32/*", endpoint=hub.url)
    assert list(contents(folder).values()) == [LONG[:-1]]


@pytest.mark.parametrize("name", ["../outside.pth", "clip/../../outside.pth"])
def test_no_file_leaves_the_folder(folder: Path, name: str):
    with serving(Hub({name: LONG})) as hub, pytest.raises(CheckpointError, match="would lie outside the folder"):
        download(REPOSITORY, folder, endpoint=hub.url)


@pytest.mark.parametrize("repository", ["nobody/nothing", "no name at all", ""])
def test_an_unknown_repository_says_how_to_write_it(folder: Path, repository: str):
    with serving(Hub(MODEL)) as hub, pytest.raises(CheckpointError, match="write it as owner/name"):
        download(repository, folder, endpoint=hub.url)


def test_a_hub_out_of_reach_says_so(folder: Path):
    with pytest.raises(CheckpointError, match="cannot reach the Hugging Face hub"):
        download(REPOSITORY, folder, endpoint="http://127.0.0.1:9")


def test_too_little_room_is_noticed_beforehand(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        Hub,
        "sibling",
        lambda hub, path: {
            "rfilename": path,
            "size": 10**18,
            "lfs": {"sha256": "0" * 64, "size": 10**18, "pointerSize": 100},
        },
    )
    with serving(Hub(MODEL)) as hub, pytest.raises(CheckpointError, match=r"wanted 3000000000.0 GB of room"):
        download(REPOSITORY, folder, endpoint=hub.url)
    assert not folder.exists()
