"""Files of any kind: their names, damage, and writing that fails or is interrupted."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sample_media import SIXTEEN_FRAMES, TONE, sound_file, video_file

from comfyui_codi.codi_core import media
from comfyui_codi.codi_core.errors import MediaError
from comfyui_codi.codi_core.modality import FACTS, Modality
from comfyui_codi.codi_core.values import Frames, Picture, Waveform

OPEN_FILES = Path("/proc/self/fd")


def open_files() -> int:
    """How many this process holds open; 0 where the system does not tell."""
    return len(list(OPEN_FILES.iterdir())) if OPEN_FILES.exists() else 0


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


@pytest.mark.parametrize("name", [f"a{facts.suffixes[0]}" for facts in FACTS.values()])
def test_missing_folder_and_empty_file_are_told_apart(tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaError, match="where there is none"):
        media.read(tmp_path / name)
    (tmp_path / name).touch()
    with pytest.raises(MediaError, match="with 0 bytes"):
        media.probe(tmp_path / name)
    (tmp_path / "folder" / name).mkdir(parents=True)
    with pytest.raises(MediaError, match="got the folder"):
        media.read(tmp_path / "folder" / name)


def test_impossible_names_are_refused(tmp_path: Path) -> None:
    for name in ("a\0b.png", "a" * 300 + ".png"):
        with pytest.raises(MediaError, match="wanted a file"):
            media.read(tmp_path / name)
        with pytest.raises(MediaError, match="wanted to write"):
            media.write(Picture(torch.zeros(1, 3, 4, 4)), tmp_path / name)


@pytest.mark.parametrize("name", ["%03d.mp4", "file:a.mp4", "-a.mp4", "雨.mp4", "a b'.MP4"])
def test_odd_names_are_fine(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    media.write(SIXTEEN_FRAMES, name)
    assert media.read(name).pixels.shape == SIXTEEN_FRAMES.pixels.shape


def test_unknown_suffix_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(MediaError) as raised:
        media.read(tmp_path / "a.xyz")
    assert all(suffix in str(raised.value) for facts in FACTS.values() for suffix in facts.suffixes)


def test_named_modality_goes_before_the_suffix(tmp_path: Path) -> None:
    media.write(TONE, tmp_path / "a.wav")
    (tmp_path / "a.wav").rename(tmp_path / "recording")
    assert media.read(tmp_path / "recording", Modality.AUDIO).samples.shape == TONE.samples.shape


@pytest.mark.parametrize(
    ("value", "name", "known"),
    [("a", "a.md", ".txt"), (TONE, "a.mp3", ".flac or .wav"), (SIXTEEN_FRAMES, "a.gif", ".mp4")],
)
def test_suffix_that_is_not_written_says_which_is(tmp_path: Path, value: media.Media, name: str, known: str) -> None:
    with pytest.raises(MediaError, match=f"wanted a file name ending in {known}"):
        media.write(value, tmp_path / name)


@pytest.mark.parametrize("name", [f"a{suffix}" for facts in FACTS.values() for suffix in facts.suffixes][1:])
def test_text_under_another_name_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("no picture and no sound\n" * 50)
    for look in (media.read, media.probe):
        with pytest.raises(MediaError, match=r"cannot be read as that|without a single sample"):
            look(tmp_path / name)


def test_playlist_under_another_name_opens_no_other_file(tmp_path: Path) -> None:
    media.write(SIXTEEN_FRAMES, tmp_path / "a.mp4")
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile a.mp4\n")
    with pytest.raises(MediaError, match="cannot be read"):
        media.read(tmp_path / "list.mp4")


def test_file_without_the_wanted_track_says_what_it_has(tmp_path: Path) -> None:
    media.write(SIXTEEN_FRAMES, tmp_path / "silent.mp4")
    with pytest.raises(MediaError, match=r"wanted a file with audio, got .*silent.mp4 with video; choose"):
        media.read(tmp_path / "silent.mp4", Modality.AUDIO)
    sound_file(tmp_path / "blind.mp4", "aac", TONE.samples[0].numpy(), "fltp")
    with pytest.raises(MediaError, match=r"wanted a file with video, got .*blind.mp4 with audio; choose"):
        media.read(tmp_path / "blind.mp4")


def test_cover_of_a_song_is_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1, pix_fmt="yuvj420p", width=16, height=16)
        cover.disposition = av.stream.Disposition.attached_pic.value
        container.mux(cover.encode(av.VideoFrame(16, 16, "yuvj420p")))
        container.mux(cover.encode(None))
        frame = av.AudioFrame.from_ndarray(TONE.samples[0].numpy(), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    assert [stream.codec for stream in media.probe(path).streams] == ["aac"]
    with pytest.raises(MediaError, match="wanted a file with video"):
        media.read(path)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.85])
@pytest.mark.parametrize("name", ["a.png", "a.mp4", "a.flac", "a.wav"])
def test_cut_off_file_is_refused(tmp_path: Path, name: str, share: float) -> None:
    noise = torch.rand(1, 16, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    values = {".png": Picture(noise[:, 0]), ".mp4": Frames(noise, Fraction(8))}
    media.write(values.get(name[1:], TONE), tmp_path / name)
    with pytest.raises(MediaError, match=r"cut off"):
        media.read(cut(tmp_path / name, share))


def test_file_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "a.png").mkdir()
    for path in (tmp_path / "file" / "a.png", tmp_path / "a.png"):
        with pytest.raises(MediaError, match="wanted to write"):
            media.write(Picture(torch.zeros(1, 3, 4, 4)), path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "file"]


class Interrupting(Mapping[str, str]):
    """Metadata during whose writing the user presses Ctrl-C."""

    def __getitem__(self, name: str) -> str:
        raise KeyboardInterrupt

    def __iter__(self) -> Iterator[str]:
        yield "title"

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(("value", "name"), [(SIXTEEN_FRAMES, "a.mp4"), (TONE, "a.flac")])
def test_interrupted_writing_leaves_the_old_file(tmp_path: Path, value: media.Media, name: str) -> None:
    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        media.write(value, tmp_path / name, Interrupting())
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("name", ["a.png", "a.mp4", "a.flac"])
def test_failed_writing_leaves_the_old_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"old")
    value = {"a.png": Picture(torch.zeros(1, 3, 4, 4)), "a.mp4": SIXTEEN_FRAMES}.get(name, TONE)
    with pytest.raises(MediaError, match=r"wanted to write .*surrogates not allowed"):
        media.write(value, tmp_path / name, {"title": "half a letter: \ud800"})
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.fixture(scope="module")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("small")
    sound = Waveform(TONE.samples[..., :6000], 16_000)
    media.write(Picture(SIXTEEN_FRAMES.pixels[:, 0]), folder / "a.png")
    media.write(sound, folder / "a.flac")
    media.write(sound, folder / "a.wav")
    media.write_video(folder / "a.mp4", Frames(SIXTEEN_FRAMES.pixels[:, :3], Fraction(8)), sound)
    images = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    video_file(folder / "a.gif", "gif", "rgb8", images, Fraction(8))
    sound_file(folder / "a.m4a", "aac", sound.samples[0].numpy(), "fltp")
    with Image.open(folder / "a.png") as image:
        for suffix in (".jpg", ".webp", ".bmp"):
            image.save(folder / f"a{suffix}")
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damaged_file_is_read_or_refused_and_closed(small_files: dict[str, bytes], data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from(sorted(small_files)))
    content = bytearray(small_files[suffix])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[place] ^= data.draw(st.integers(1, 255))
    length = data.draw(st.just(len(content)) | st.integers(1, len(content)))
    open_before = open_files()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        path.write_bytes(content[:length])
        for modality in (None, Modality.AUDIO):
            try:
                media.read(path, modality)
            except MediaError as error:
                assert "wanted" in str(error) and "got" in str(error)
    assert open_files() == open_before
