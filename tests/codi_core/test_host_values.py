"""ComfyUI's values to ours and back, by their form alone."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from comfyui_codi.codi_core import host_values, media
from comfyui_codi.codi_core.errors import MediaError
from comfyui_codi.codi_core.values import Frames, Picture, Waveform


def host_video(images: torch.Tensor, frame_rate: float | Fraction = Fraction(25, 4)) -> Any:
    components = SimpleNamespace(images=images, frame_rate=frame_rate, audio=None)
    return SimpleNamespace(get_components=lambda: components)


def test_text_passes_unchanged() -> None:
    assert host_values.from_host(" a red ball ") == " a red ball "


@settings(max_examples=30, deadline=None)
@given(batch=st.integers(1, 3), height=st.integers(1, 9), width=st.integers(1, 9))
def test_image_comes_back(batch: int, height: int, width: int) -> None:
    images = torch.rand(batch, height, width, 3)
    before = images.clone()
    picture = host_values.from_host(images)
    assert picture.pixels.shape == (batch, 3, height, width)
    assert picture.pixels.min() >= -1 and picture.pixels.max() <= 1
    assert torch.allclose(host_values.to_host_image(picture), images, atol=1e-6)
    assert torch.equal(images, before)


def test_grey_image_becomes_three_equal_channels() -> None:
    picture = host_values.from_host(torch.full((1, 4, 4, 1), 0.75))
    assert picture.pixels.shape == (1, 3, 4, 4)
    assert (picture.pixels == 0.5).all()


def test_transparent_image_lies_on_white() -> None:
    image = torch.zeros(1, 1, 3, 4)
    image[0, 0, :, 3] = torch.tensor([0, 0.5, 1])
    assert host_values.from_host(image).pixels[0, 0, 0].tolist() == [1, 0, -1]


def test_values_beyond_the_range_are_clamped_both_ways() -> None:
    assert host_values.from_host(torch.full((1, 2, 2, 3), 1.5)).pixels.max() == 1
    assert host_values.to_host_image(Picture(torch.full((1, 3, 2, 2), -1.5))).min() == 0
    sound = {"waveform": torch.full((1, 1, 4), -3.0), "sample_rate": 16_000}
    assert host_values.from_host(sound).samples.min() == -1


def test_video_comes_back() -> None:
    images = torch.rand(5, 4, 6, 3)
    frames = host_values.from_host(host_video(images))
    assert frames.pixels.shape == (1, 5, 3, 4, 6)
    assert frames.frames_per_second == Fraction(25, 4)
    assert torch.allclose(host_values.to_host_frames(frames), images, atol=1e-6)


class VideoFromFile:
    """As ComfyUI's: it knows its figures without decoding, and may be a part of its file."""

    def __init__(self, path: str, count: int = 300) -> None:
        self.path, self.count = path, count

    def get_stream_source(self) -> str:
        return self.path

    def get_dimensions(self) -> tuple[int, int]:
        return 1024, 1024

    def get_frame_count(self) -> int:
        return self.count

    def get_components(self) -> Any:
        raise AssertionError("all frames of a large video were decoded at once")


def test_a_large_file_is_read_thinned_instead_of_all_at_once(tmp_path: Path) -> None:
    media.write_video(tmp_path / "a.mp4", Frames(torch.zeros(1, 300, 3, 16, 16), Fraction(25)))
    frames = host_values.from_host(VideoFromFile(str(tmp_path / "a.mp4")))
    assert frames.pixels.shape[1] == 150
    assert frames.frames_per_second == Fraction(25, 2)


def test_a_large_part_of_a_file_says_how_many_frames_there_may_be() -> None:
    with pytest.raises(MediaError, match="at most 256 frames of 1024x1024, got a part of 299; take a shorter part"):
        host_values.from_host(VideoFromFile("a.mp4", 299))


def test_float_frame_rate_becomes_a_fraction() -> None:
    frames = host_values.from_host(host_video(torch.zeros(2, 4, 4, 3), 29.97))
    assert frames.frames_per_second == Fraction(2997, 100)


def test_audio_comes_back() -> None:
    audio = {"waveform": torch.rand(2, 2, 100), "sample_rate": 44_100}
    before = audio["waveform"].clone()
    sound = host_values.from_host(audio)
    assert sound.sample_rate_hz == 44_100
    back = host_values.to_host_audio(sound)
    assert torch.equal(back["waveform"], before) and back["sample_rate"] == 44_100
    assert torch.equal(audio["waveform"], before)


def test_half_precision_becomes_float32() -> None:
    assert host_values.from_host(torch.zeros(1, 4, 4, 3, dtype=torch.bfloat16)).pixels.dtype == torch.float32
    half = Waveform(torch.zeros(1, 1, 8, dtype=torch.float16), 16_000)
    assert host_values.to_host_audio(half)["waveform"].dtype == torch.float32


def test_only_one_video_fits_a_host_video() -> None:
    with pytest.raises(MediaError, match="wanted one video, got a batch of 2"):
        host_values.to_host_frames(Frames(torch.zeros(2, 3, 3, 4, 4), Fraction(8)))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, "wanted STRING, IMAGE, AUDIO or VIDEO, got int"),
        (None, "got NoneType"),
        (torch.zeros(4, 4, 3), r"wanted an IMAGE: .*got torch.float32 \(4, 4, 3\)"),
        (torch.zeros(1, 4, 4, 2), r"1, 3 or 4 channels, got torch.float32 \(1, 4, 4, 2\)"),
        (torch.zeros(1, 4, 4, 3, dtype=torch.uint8), "got torch.uint8"),
        (torch.zeros(0, 4, 4, 3), "an IMAGE with content"),
        (torch.full((1, 4, 4, 3), torch.nan), "an IMAGE of finite numbers"),
        ({"samples": torch.zeros(1, 4, 8, 8)}, "wanted an AUDIO: .*got NoneType as waveform"),
        (
            {"waveform": torch.zeros(2, 100), "sample_rate": 16_000},
            r"got torch.float32 \(2, 100\) as waveform",
        ),
        ({"waveform": torch.zeros(1, 1, 0), "sample_rate": 16_000}, r"an AUDIO with content"),
        ({"waveform": torch.full((1, 1, 9), torch.inf), "sample_rate": 8_000}, "an AUDIO of finite numbers"),
        ({"waveform": torch.zeros(1, 1, 9)}, "an AUDIO of 1000 to 384000 samples per second, got 0"),
        ({"waveform": torch.zeros(1, 1, 9), "sample_rate": 1}, "samples per second, got 1;"),
        (host_video(torch.zeros(0, 3, 0, 0)), "wanted an IMAGE"),
        (host_video(torch.zeros(2, 4, 4, 3), 0.0), "a VIDEO of 1/100 to 1000 frames per second, got 0.0"),
    ],
)
def test_foreign_value_says_what_was_wanted(value: Any, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        host_values.from_host(value)
