"""Video files to values and back. All are made here, small and by the libraries or byte by byte."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from sample_media import SIXTEEN_FRAMES, TONE, video_file

from comfyui_codi.codi_core import media
from comfyui_codi.codi_core.errors import MediaError
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.training.pictures import render_videos
from comfyui_codi.codi_core.training.world import World
from comfyui_codi.codi_core.values import Frames, Picture, Waveform

WRITE_A_VIDEO = """
import sys
from fractions import Fraction
import torch
from comfyui_codi.codi_core.media import write_video
from comfyui_codi.codi_core.values import Frames, Waveform
clip = torch.load(sys.argv[1])
write_video(sys.argv[2], Frames(clip["pixels"], Fraction(25, 4)), Waveform(clip["samples"], 16_000))
"""


def test_video_with_sound_has_exact_counts_and_durations(tmp_path: Path) -> None:
    media.write_video(tmp_path / "a.mp4", SIXTEEN_FRAMES, TONE)
    video, sound = media.probe(tmp_path / "a.mp4").streams
    assert (video.codec, video.width, video.height, video.frames) == ("h264", 48, 32, 16)
    assert (video.frames_per_second, video.duration_s) == (Fraction(25, 4), 2.56)
    assert (sound.codec, sound.sample_rate_hz, sound.channels, sound.samples) == ("aac", 16_000, 1, 40_960)
    assert sound.duration_s == 2.56
    assert media.probe(tmp_path / "a.mp4").describe() == (
        f"{tmp_path / 'a.mp4'}: video h264 48x32, 16 frames at 6.25 fps, 2.56 s; sound aac 16000 Hz mono, 2.56 s"
    )


def test_video_and_its_sound_come_back(tmp_path: Path) -> None:
    media.write_video(tmp_path / "a.mp4", SIXTEEN_FRAMES, TONE)
    frames, sound = media.read(tmp_path / "a.mp4"), media.read(tmp_path / "a.mp4", Modality.AUDIO)
    assert frames.frames_per_second == SIXTEEN_FRAMES.frames_per_second
    assert (frames.pixels - SIXTEEN_FRAMES.pixels).abs().mean() < 0.02
    assert sound.samples.shape == TONE.samples.shape
    assert (sound.samples - TONE.samples).abs().mean() < 0.01


@settings(max_examples=15, deadline=None)
@given(
    frames=st.integers(1, 12),
    rate=st.fractions(Fraction(1, 2), 120, max_denominator=1001),
    samples=st.integers(1, 30_000),
    channels=st.sampled_from([1, 2]),
    sample_rate_hz=st.sampled_from([8_000, 16_000, 44_100, 48_000]),
)
@example(frames=16, rate=Fraction(30_000, 1_001), samples=5, channels=2, sample_rate_hz=44_100)
def test_sound_is_fitted_to_the_video_at_any_rate(
    frames: int, rate: Fraction, samples: int, channels: int, sample_rate_hz: int
) -> None:
    noise = Waveform(torch.rand(1, channels, samples) - 0.5, sample_rate_hz)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mp4"
        media.write_video(path, Frames(torch.zeros(1, frames, 3, 16, 16), rate), noise)
        video, sound = media.probe(path).streams
    assert (video.frames, video.frames_per_second) == (frames, rate)
    assert (sound.channels, sound.samples) == (channels, round(frames / rate * sample_rate_hz))


def test_sample_rate_that_aac_lacks_is_resampled(tmp_path: Path) -> None:
    media.write_video(tmp_path / "a.mp4", SIXTEEN_FRAMES, Waveform(TONE.samples, 20_000))
    sound = media.read(tmp_path / "a.mp4", Modality.AUDIO)
    assert (sound.sample_rate_hz, sound.samples.shape[-1]) == (22_050, 56_448)
    assert sound.samples[0, 0, :40_000].std() == pytest.approx(0.5 / 2**0.5, abs=0.02)


@pytest.mark.parametrize("name", ["a.txt", "a.png", "a.flac", "a.wav", "a.mp4"])
def test_equal_values_give_equal_bytes(tmp_path: Path, name: str) -> None:
    value = {".txt": "a", ".png": Picture(torch.zeros(1, 3, 4, 4)), ".mp4": SIXTEEN_FRAMES}.get(name[1:], TONE)
    contents = set()
    for folder in ("first", "second"):
        media.write(value, tmp_path / folder / name, {"title": "same"})
        contents.add((tmp_path / folder / name).read_bytes())
    assert len(contents) == 1


def test_what_memory_held_before_does_not_show_in_a_video(tmp_path: Path) -> None:
    """glibc fills fresh memory with the pattern it is told to; an encoder that reads such memory betrays itself."""
    generator = torch.Generator().manual_seed(0)
    pixels = render_videos(World().draw(1, generator), generator).pixels
    torch.save({"pixels": pixels, "samples": TONE.samples}, tmp_path / "clip.pt")
    contents = set()
    for pattern in ("1", "170"):
        path = tmp_path / f"{pattern}.mp4"
        program = [sys.executable, "-c", WRITE_A_VIDEO, str(tmp_path / "clip.pt"), str(path)]
        subprocess.run(program, check=True, env=os.environ | {"MALLOC_PERTURB_": pattern})
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_video_with_sound_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        media.write_video(tmp_path / name, SIXTEEN_FRAMES, TONE, {"workflow": "{}"})
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize("name", ["a.mp4", "a.flac"])
def test_metadata_is_kept(tmp_path: Path, name: str) -> None:
    value = SIXTEEN_FRAMES if name == "a.mp4" else TONE
    media.write(value, tmp_path / name, {"title": "雨", "workflow": '{"nodes": []}'})
    with av.open(str(tmp_path / name)) as container:
        assert container.metadata["title"] == "雨"
        assert container.metadata["workflow"] == '{"nodes": []}'
        assert "creation_time" not in container.metadata


@pytest.mark.parametrize(("height", "width"), [(33, 48), (32, 49), (33, 49)])
def test_odd_sides_lose_their_last_line(tmp_path: Path, height: int, width: int) -> None:
    pixels = torch.full((1, 3, 3, height, width), -1.0)
    pixels[..., 32:, :] = pixels[..., :, 48:] = 1
    media.write(Frames(pixels, Fraction(8)), tmp_path / "a.mp4")
    back = media.read(tmp_path / "a.mp4").pixels
    assert back.shape == (1, 3, 3, 32, 48)
    assert back.max() < -0.9


def test_colours_survive_the_video_codec(tmp_path: Path) -> None:
    colours = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, -1], [0, 0, 0]])
    pixels = colours[None, :, :, None, None].expand(-1, -1, -1, 32, 32)
    media.write(Frames(pixels, Fraction(5)), tmp_path / "a.mp4")
    assert (media.read(tmp_path / "a.mp4").pixels - pixels).abs().max() < 0.06


@pytest.mark.parametrize(
    ("name", "codec", "kind"),
    [
        ("a.mov", "libx264", "yuv420p"),
        ("a.mkv", "libx264", "yuv444p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.gif", "gif", "rgb8"),
    ],
)
def test_every_video_suffix_is_read(tmp_path: Path, name: str, codec: str, kind: str) -> None:
    images = np.full((5, 32, 48, 3), 255, np.uint8)
    images[2:] = 0
    frames = media.read(video_file(tmp_path / name, codec, kind, images, Fraction(10)))
    assert frames.pixels.shape == (1, 5, 3, 32, 48)
    assert frames.frames_per_second == 10
    assert frames.pixels[:, :2].min() > 0.9 and frames.pixels[:, 2:].max() < -0.9


def test_long_video_is_thinned_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("comfyui_codi.codi_core.media_decode.MOST_FRAMES", 8)
    brightness = torch.linspace(-1, 1, 27)
    pixels = brightness[None, :, None, None, None].expand(-1, -1, 3, 16, 16)
    media.write(Frames(pixels, Fraction(24)), tmp_path / "a.mp4")
    frames = media.read(tmp_path / "a.mp4")
    assert frames.frames_per_second == 6
    assert torch.allclose(frames.pixels.mean((0, 2, 3, 4)), brightness[::4], atol=0.03)


def grey(levels: list[int], size: int = 16) -> np.ndarray:
    """Frames of one grey each."""
    return np.repeat(np.array(levels, np.uint8), size * size * 3).reshape(-1, size, size, 3)


def timed_video(path: Path, starts_ms: list[int], stated: Fraction, levels: list[int]) -> Path:
    """A VP9 video whose frames begin at these times, whatever rate its header states."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=stated, width=16, height=16, pix_fmt="yuv420p")
        stream.codec_context.time_base = Fraction(1, 1000)
        for start, image in zip(starts_ms, grey(levels), strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = start, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def levels_of(frames: Frames) -> list[int]:
    return frames.pixels.mean((0, 2, 3, 4)).add(1).mul(127.5).round().int().tolist()


def test_a_frame_that_lasts_longer_is_repeated(tmp_path: Path) -> None:
    levels, delays_ms = [0, 50, 100, 150, 200], [2000, 100, 100, 100, 100]
    pictures = [Image.fromarray(image) for image in grey(levels)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=delays_ms)
    frames = media.read(tmp_path / "a.gif")
    # Four spans between five frames take 2.3 s; frames of 0.575 s see the first one until 2 s have passed.
    assert frames.frames_per_second == Fraction(40, 23)
    assert levels_of(frames) == [0, 0, 0, 50, 200]
    assert media.probe(tmp_path / "a.gif").streams[0].duration_s == pytest.approx(5 * 0.575)


@settings(max_examples=15)
@given(
    rate=st.sampled_from([Fraction(10), Fraction(25), Fraction(30_000, 1001), Fraction(60)]),
    stated=st.sampled_from([Fraction(10), Fraction(30), Fraction(1000)]),
    count=st.integers(2, 12),
)
@example(rate=Fraction(60), stated=Fraction(30), count=2)
def test_an_even_pace_is_read_whatever_the_header_states(rate: Fraction, stated: Fraction, count: int) -> None:
    levels = [20 * place for place in range(count)]
    starts_ms = [round(1000 * place / rate) for place in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        frames = media.read(timed_video(Path(folder) / "a.webm", starts_ms, stated, levels))
    assert levels_of(frames) == pytest.approx(levels, abs=3)
    assert frames.duration_s == pytest.approx(float(count / rate), abs=float(1 / rate))


def test_a_long_video_of_uneven_pace_is_thinned_and_keeps_its_duration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfyui_codi.codi_core.media_decode.MOST_FRAMES", 8)
    levels = [10 * place for place in range(20)]
    starts_ms = [100 * place for place in range(10)] + [1000 + 300 * place for place in range(10)]
    frames = media.read(timed_video(tmp_path / "a.webm", starts_ms, Fraction(10), levels))
    assert frames.duration_s == pytest.approx(3.7 / 19 * 20, abs=0.01)
    # The slow half takes more than two thirds of the time.
    assert levels_of(frames) == pytest.approx([0, 40, 80, 120, 160], abs=45)
    assert sum(level >= 100 for level in levels_of(frames)) >= 3


def test_overlong_video_says_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    media.write(SIXTEEN_FRAMES, tmp_path / "a.mp4")
    monkeypatch.setattr("comfyui_codi.codi_core.media_decode.MOST_DECODED_FRAMES", 15)
    with pytest.raises(MediaError, match="at most 15 frames"):
        media.read(tmp_path / "a.mp4")


def test_large_frames_are_scaled_down(tmp_path: Path) -> None:
    media.write(Frames(torch.ones(1, 2, 3, 540, 1280), Fraction(8)), tmp_path / "a.mp4")
    assert media.read(tmp_path / "a.mp4").pixels.shape == (1, 2, 3, 216, 512)
    assert media.probe(tmp_path / "a.mp4").streams[0].width == 1280


def test_video_of_absurd_size_is_refused_before_decoding(tmp_path: Path) -> None:
    screen = b"GIF89a" + struct.pack("<HH", 16_000, 16_000) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    (tmp_path / "a.gif").write_bytes(screen + b"\x2c" + struct.pack("<4H", 0, 0, 1, 1) + b"\0\2\2\x44\1\0\x3b")
    with pytest.raises(MediaError, match="cannot be read"):
        media.read(tmp_path / "a.gif")


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((1, 0, 0, 1), lambda image: image),
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, -1, 1, 0), lambda image: np.rot90(image)),
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
        ((1, 0, 0, -1), lambda image: image[::-1]),
        ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda image: np.rot90(image.swapaxes(0, 1), 2)),
    ],
)
def test_sideways_and_mirrored_video_is_turned_upright(tmp_path: Path, matrix: tuple[int, ...], turned) -> None:
    image = np.zeros((32, 64))
    image[:16, :32] = 1
    pixels = torch.from_numpy(image * 2 - 1).float().expand(1, 2, 3, -1, -1)
    media.write(Frames(pixels, Fraction(8)), tmp_path / "a.mp4")
    content = (tmp_path / "a.mp4").read_bytes()
    level = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    a, b, c, d = (number << 16 for number in matrix)
    movie, _, track = content.rpartition(level)
    (tmp_path / "a.mp4").write_bytes(movie + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + track)
    frames, wanted = media.read(tmp_path / "a.mp4"), turned(image)
    assert frames.pixels.shape == (1, 2, 3, *wanted.shape)
    assert np.array_equal(frames.pixels[0, 0, 0] > 0, wanted > 0.5)
    (video,) = media.probe(tmp_path / "a.mp4").streams
    assert (video.height, video.width) == wanted.shape


@pytest.mark.parametrize(
    ("shape", "size", "read"), [((64, 45), (1024, 576), (512, 288)), ((8, 9), (640, 576), (512, 461))]
)
def test_pixels_that_are_not_square_are_read_as_they_are_shown(
    tmp_path: Path, shape: tuple[int, int], size: tuple[int, int], read: tuple[int, int]
) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, width=720, height=576, pix_fmt="yuv420p")
        stream.codec_context.sample_aspect_ratio = Fraction(*shape)
        container.mux(stream.encode(av.VideoFrame(720, 576, "yuv420p")))
        container.mux(stream.encode(None))
    (video,) = media.probe(tmp_path / "a.mp4").streams
    assert (video.width, video.height) == size
    assert tuple(media.read(tmp_path / "a.mp4").pixels.shape[:2:-1]) == read


@pytest.mark.parametrize(("kind", "full"), [("yuv420p", False), ("yuvj420p", True)])
@pytest.mark.parametrize("matrix", ["ITU709", "ITU601"])
def test_a_video_is_decoded_by_its_own_colour_matrix_and_range(
    tmp_path: Path, kind: str, full: bool, matrix: str
) -> None:
    colour = np.array([200, 40, 90], np.uint8)
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, width=32, height=32, pix_fmt=kind)
        space = {"ITU709": 1, "ITU601": 6}[matrix]
        stream.codec_context.colorspace, stream.codec_context.color_range = space, 2 if full else 1
        frame = av.VideoFrame(32, 32, kind)
        frame.colorspace, frame.color_range = space, 2 if full else 1
        for plane, level in zip(frame.planes, yuv(colour, matrix, full), strict=True):
            plane.update(bytes([level]) * plane.buffer_size)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    shown = media.read(tmp_path / "a.mp4").pixels.mean((0, 1, 3, 4)).add(1).mul(127.5)
    assert (shown - torch.from_numpy(colour)).abs().max() < 3


def yuv(colour: np.ndarray, matrix: str, full: bool) -> list[int]:
    """One colour as 8 bits of luma and chroma."""
    red, blue = {"ITU709": (0.2126, 0.0722), "ITU601": (0.299, 0.114)}[matrix]
    r, g, b = colour / 255
    y = red * r + (1 - red - blue) * g + blue * b
    u, v = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
    low, luma, chroma = (0, 255, 255) if full else (16, 219, 224)
    return [round(low + luma * y), round(128 + chroma * u), round(128 + chroma * v)]


@pytest.mark.parametrize("rate", [Fraction(0), Fraction(-5), Fraction(1, 101), Fraction(1001)])
def test_absurd_frame_rate_is_refused(tmp_path: Path, rate: Fraction) -> None:
    with pytest.raises(MediaError, match=rf"1/100 to 1000 frames per second, got {rate}; convert"):
        media.write(Frames(torch.zeros(1, 2, 3, 16, 16), rate), tmp_path / "a.mp4")


def test_frame_rate_from_a_float_is_written(tmp_path: Path) -> None:
    media.write(Frames(torch.zeros(1, 2, 3, 16, 16), Fraction(29.97)), tmp_path / "a.mp4")
    assert media.read(tmp_path / "a.mp4").frames_per_second == Fraction(2997, 100)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Picture(torch.zeros(2, 3, 4, 4)), "wanted one picture per file, got a batch of 2"),
        (Picture(torch.full((1, 3, 4, 4), torch.nan)), "wanted picture of finite numbers"),
        (Frames(torch.zeros(3, 2, 3, 4, 4), Fraction(8)), "wanted one video per file, got a batch of 3"),
        (
            Frames(torch.zeros(1, 0, 3, 4, 4), Fraction(8)),
            r"wanted video with content, got the shape \(1, 0, 3",
        ),
        (Frames(torch.zeros(1, 2, 3, 1, 9), Fraction(8)), "at least 2x2 pixels, got 9x1"),
        (Frames(torch.full((1, 1, 3, 4, 4), torch.inf), Fraction(8)), "wanted video of finite numbers"),
        (Waveform(torch.zeros(2, 1, 9), 16_000), "wanted one sound per file, got a batch of 2"),
    ],
)
def test_what_cannot_be_written_says_why(tmp_path: Path, value: media.Media, message: str) -> None:
    name = {Picture: "a.png", Frames: "a.mp4", Waveform: "a.flac"}[type(value)]
    with pytest.raises(MediaError, match=message):
        media.write(value, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_written(tmp_path: Path, dtype: torch.dtype) -> None:
    media.write(Picture(torch.ones(1, 3, 4, 4, dtype=dtype)), tmp_path / "a.png")
    media.write_video(
        tmp_path / "a.mp4",
        Frames(torch.ones(1, 2, 3, 16, 16, dtype=dtype), Fraction(8)),
        Waveform(torch.zeros(1, 1, 100, dtype=dtype), 16_000),
    )
    assert media.read(tmp_path / "a.png").pixels.min() == 1
    assert media.read(tmp_path / "a.mp4").pixels.min() > 0.98
