"""Picture files to values and back. All are made here, small and by the libraries."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from comfyui_codi.codi_core import media, media_files
from comfyui_codi.codi_core.errors import MediaError
from comfyui_codi.codi_core.modality import FACTS, Modality
from comfyui_codi.codi_core.values import Picture


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
