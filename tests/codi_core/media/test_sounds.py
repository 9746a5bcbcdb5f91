"""Sound files to values and back. All are made here, small and by the libraries or byte by byte."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_media import TONE, sound_file

from comfyui_codi.codi_core import media
from comfyui_codi.codi_core.errors import MediaError
from comfyui_codi.codi_core.values import Waveform


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
