"""Files to values and back. All files are made here, small and by the libraries or byte by byte."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from comfyui_codi.codi_core import media, media_files
from comfyui_codi.codi_core.errors import MediaError
from comfyui_codi.codi_core.modality import FACTS, Modality
from comfyui_codi.codi_core.training.pictures import render_videos
from comfyui_codi.codi_core.training.world import World
from comfyui_codi.codi_core.values import Frames, Picture, Waveform

SIXTEEN_FRAMES = Frames(torch.linspace(-1, 1, 16 * 3 * 32 * 48).reshape(1, 16, 3, 32, 48), Fraction(25, 4))
TONE = Waveform(0.5 * torch.sin(torch.arange(40_960) / 20)[None, None], 16_000)

OPEN_FILES = Path("/proc/self/fd")

WRITE_A_VIDEO = """
import sys
from fractions import Fraction
import torch
from comfyui_codi.codi_core.media import write_video
from comfyui_codi.codi_core.values import Frames, Waveform
clip = torch.load(sys.argv[1])
write_video(sys.argv[2], Frames(clip["pixels"], Fraction(25, 4)), Waveform(clip["samples"], 16_000))
"""


def sound_file(path: Path, codec: str, samples: np.ndarray, kind: str, rate_hz: int = 16_000) -> Path:
    """A sound file of any codec; samples: (channels, samples), interleaved for packed kinds."""
    layout = {1: "mono", 2: "stereo", 6: "5.1", 10: "5.1.4"}[len(samples)]
    packed = samples if kind.endswith("p") else samples.T.reshape(1, -1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(packed), format=kind, layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def video_file(path: Path, codec: str, kind: str, images: np.ndarray, rate: Fraction) -> Path:
    """A video file of any codec; images: bytes (frames, height, width, 3)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = kind
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=kind)))
        container.mux(stream.encode(None))
    return path


def open_files() -> int:
    """How many this process holds open; 0 where the system does not tell."""
    return len(list(OPEN_FILES.iterdir())) if OPEN_FILES.exists() else 0


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


# Text


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"])))
def test_text_comes_back_without_outer_white_space(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        media.write(text, f"{folder}/prompt.txt")
        assert media.read(f"{folder}/prompt.txt") == text.strip()


def test_byte_order_mark_is_not_part_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a red ball", encoding="utf-8-sig")
    assert media.read(tmp_path / "a.txt") == "a red ball"


@pytest.mark.parametrize("content", ["ünlesbar".encode("latin-1"), "text".encode("utf-16"), b"a\0b"])
def test_text_in_another_encoding_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(MediaError, match="wanted text in UTF-8"):
        media.read(tmp_path / "a.txt")


def test_overlong_text_says_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a" * (media_files.MOST_TEXT_BYTES + 1))
    with pytest.raises(MediaError, match="at most 1048576 bytes"):
        media.read(tmp_path / "a.txt")


# Pictures


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 20), width=st.integers(1, 20), seed=st.integers(0, 99))
def test_picture_comes_back_within_half_a_step(height: int, width: int, seed: int) -> None:
    pixels = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    with tempfile.TemporaryDirectory() as folder:
        media.write(Picture(pixels), f"{folder}/a.png")
        assert (media.read(f"{folder}/a.png").pixels - pixels).abs().max() < 1.01 / 255


def test_bytes_and_pixels_convert_back_exactly() -> None:
    every_byte = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    pixels = media_files.from_bytes(every_byte)
    assert pixels.min() == -1 and pixels.max() == 1
    assert np.array_equal(media_files.to_bytes(pixels), every_byte)
    assert media_files.to_bytes(torch.full((3, 1, 1), 7.0)).max() == 255


@pytest.mark.parametrize("suffix", FACTS[Modality.IMAGE].suffixes)
def test_every_picture_suffix_is_read(tmp_path: Path, suffix: str) -> None:
    Image.new("RGB", (6, 4), (255, 255, 255)).save(tmp_path / f"a{suffix}")
    picture = media.read(str(tmp_path / f"a{suffix}"))
    assert picture.pixels.shape == (1, 3, 4, 6)
    assert picture.pixels.min() > 0.98


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_picture_mode_keeps_its_brightness(tmp_path: Path, mode: str) -> None:
    white = Image.new("L", (4, 4), 255)
    picture = Image.new(mode, (4, 4), 65_535) if mode == "I;16" else white.convert(mode)
    picture.save(tmp_path / "a.png")
    assert media.read(tmp_path / "a.png").pixels.min() == 1


def test_printed_colours_are_read(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    red, green, blue = media.read(tmp_path / "a.jpg").pixels.mean((0, 2, 3))
    assert red > 0.9 and green < -0.7 and blue < -0.7


def test_sixteen_bit_grey_is_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 128 * 257, np.uint16)).save(tmp_path / "a.png")
    assert torch.allclose(media.read(tmp_path / "a.png").pixels, torch.tensor(128 / 127.5 - 1), atol=1e-6)


def test_transparent_picture_lies_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert (media.read(tmp_path / "a.png").pixels == 1).all()


def test_orientation_tag_is_respected(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert media.read(tmp_path / "a.jpg").pixels.shape == (1, 3, 8, 4)
    assert media.probe(tmp_path / "a.jpg").describe().endswith("a.jpg: picture jpeg 4x8")


@pytest.mark.parametrize("size", [(9000, 9000), (60_000, 60_000)])
def test_picture_of_absurd_size_is_refused_before_decoding(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("1", (1, 1)).save(tmp_path / "a.bmp")
    content = bytearray((tmp_path / "a.bmp").read_bytes())
    content[18:26] = struct.pack("<2i", *size)
    (tmp_path / "a.bmp").write_bytes(content)
    with pytest.raises(MediaError, match=r"at most 67108864 pixels|decompression bomb"):
        media.read(tmp_path / "a.bmp")


def test_picture_keeps_its_metadata(tmp_path: Path) -> None:
    media.write(Picture(torch.zeros(1, 3, 4, 4)), tmp_path / "a.png", {"workflow": '{"nodes": []}', "title": "雨"})
    with Image.open(tmp_path / "a.png") as image:
        assert image.text == {"workflow": '{"nodes": []}', "title": "雨"}


# Sound


@settings(max_examples=20, deadline=None)
@given(
    channels=st.sampled_from([1, 2]),
    samples=st.integers(1, 6000),
    sample_rate_hz=st.sampled_from([8_000, 16_000, 44_100, 48_000]),
    suffix=st.sampled_from(["flac", "wav"]),
)
def test_sound_comes_back_within_a_sixteen_bit_step(
    channels: int, samples: int, sample_rate_hz: int, suffix: str
) -> None:
    sound = Waveform(torch.rand(1, channels, samples) * 2 - 1, sample_rate_hz)
    with tempfile.TemporaryDirectory() as folder:
        media.write(sound, f"{folder}/a.{suffix}")
        back = media.read(f"{folder}/a.{suffix}")
    assert back.sample_rate_hz == sample_rate_hz
    assert back.samples.shape == sound.samples.shape
    assert (back.samples - sound.samples).abs().max() <= 1 / 32768


@pytest.mark.parametrize(
    ("codec", "kind", "loud"),
    [
        ("pcm_u8", "u8", np.uint8(192)),
        ("pcm_s16le", "s16", np.int16(2**14)),
        ("pcm_s24le", "s32", np.int32(2**30)),
        ("pcm_s32le", "s32", np.int32(2**30)),
        ("pcm_f32le", "flt", np.float32(0.5)),
        ("pcm_f64le", "dbl", np.float64(0.5)),
    ],
)
def test_every_sample_type_is_read_at_its_level(tmp_path: Path, codec: str, kind: str, loud: np.generic) -> None:
    samples = np.stack([np.full(100, loud), np.full(100, loud)])
    sound = media.read(sound_file(tmp_path / "a.wav", codec, samples, kind))
    assert sound.samples.shape == (1, 2, 100)
    assert (sound.samples == 0.5).all()


@pytest.mark.parametrize(
    ("name", "codec", "kind"),
    [
        ("a.mp3", "libmp3lame", "fltp"),
        ("a.ogg", "libopus", "flt"),
        ("a.m4a", "aac", "fltp"),
        ("a.flac", "flac", "s16"),
    ],
)
def test_compressed_sound_keeps_channels_and_level(tmp_path: Path, name: str, codec: str, kind: str) -> None:
    tone = 0.5 * np.sin(np.arange(48_000) / 20).astype(np.float32)
    samples = np.stack([tone, 0 * tone])
    samples = (samples * 32767).astype(np.int16) if kind == "s16" else samples
    sound = media.read(sound_file(tmp_path / name, codec, samples, kind, 48_000))
    assert sound.sample_rate_hz == 48_000
    assert sound.samples.shape[:2] == (1, 2)
    assert sound.duration_s == pytest.approx(1, abs=0.01)
    left, right = sound.samples[0, :, 10_000:40_000].std(dim=-1)
    assert left == pytest.approx(0.5 / 2**0.5, abs=0.02) and right < 0.02


@pytest.mark.parametrize("channels", [6, 10])
def test_sound_of_many_channels_is_read_but_not_written(tmp_path: Path, channels: int) -> None:
    samples = np.arange(channels, dtype=np.int16)[:, None].repeat(50, axis=1)
    sound = media.read(sound_file(tmp_path / "a.wav", "pcm_s16le", samples, "s16"))
    assert torch.equal(sound.samples[0, :, 7] * 32768, torch.arange(channels, dtype=torch.float32))
    assert media.probe(tmp_path / "a.wav").describe().endswith(f"16000 Hz {channels} channels, 0.003 s")
    with pytest.raises(MediaError, match=f"wanted a sound of 1 or 2 channels, got {channels}; mix"):
        media.write(sound, tmp_path / "b.flac")


def test_overdriven_samples_are_clamped(tmp_path: Path) -> None:
    samples = np.array([[3.0, -3.0, 0.25]], np.float32)
    sound = media.read(sound_file(tmp_path / "a.wav", "pcm_f32le", samples, "flt"))
    assert sound.samples.flatten().tolist() == [1, -1, 0.25]
    media.write(Waveform(torch.tensor(samples)[None], 16_000), tmp_path / "b.flac")
    assert media.read(tmp_path / "b.flac").samples.flatten().tolist() == [32767 / 32768, -1, 0.25]


def test_sound_with_nan_is_refused_both_ways(tmp_path: Path) -> None:
    samples = np.array([[0.0, np.nan]], np.float32)
    with pytest.raises(MediaError, match="NaN or infinity"):
        media.read(sound_file(tmp_path / "a.wav", "pcm_f32le", samples, "flt"))
    with pytest.raises(MediaError, match="NaN or infinity"):
        media.write(Waveform(torch.tensor(samples)[None], 16_000), tmp_path / "b.wav")


def test_sound_without_samples_is_refused_both_ways(tmp_path: Path) -> None:
    silent = sound_file(tmp_path / "a.wav", "pcm_s16le", np.zeros((1, 9), np.int16), "s16")
    silent.write_bytes(silent.read_bytes()[:-18].replace(struct.pack("<4sI", b"data", 18), b"data\0\0\0\0"))
    with pytest.raises(MediaError, match="without a single sample"):
        media.read(silent)
    with pytest.raises(MediaError, match=r"got the shape \(1, 1, 0\)"):
        media.write(Waveform(torch.zeros(1, 1, 0), 16_000), tmp_path / "b.wav")


@pytest.mark.parametrize("sample_rate_hz", [0, 999, 384_001, 2_000_000_000])
def test_absurd_sample_rate_is_refused_both_ways(tmp_path: Path, sample_rate_hz: int) -> None:
    path = sound_file(tmp_path / "a.wav", "pcm_s16le", np.zeros((1, 50), np.int16), "s16")
    content = bytearray(path.read_bytes())
    content[24:28] = struct.pack("<I", sample_rate_hz)
    path.write_bytes(content)
    with pytest.raises(MediaError, match=str(sample_rate_hz) if sample_rate_hz else "cannot be read"):
        media.read(path)
    with pytest.raises(MediaError, match=f"1000 to 384000 samples per second, got {sample_rate_hz}; resample"):
        media.write(Waveform(torch.zeros(1, 1, 50), sample_rate_hz), tmp_path / "b.wav")


def test_overlong_sound_says_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    media.write(TONE, tmp_path / "a.flac")
    monkeypatch.setattr("comfyui_codi.codi_core.media_decode.MOST_SAMPLES", 10_000)
    with pytest.raises(MediaError, match="at most 10000 samples"):
        media.read(tmp_path / "a.flac")


# Video


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


# Files


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
