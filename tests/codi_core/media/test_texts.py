"""Texts to values and back."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfyui_codi.codi_core import media, media_files
from comfyui_codi.codi_core.errors import MediaError


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
