"""Files to values and back. Every file that CoDi reads or writes passes here.

          in a file                                   as a value
text      UTF-8                                       str without white space around it
picture   0…255, oriented by a tag, perhaps with      Picture, [-1, 1], RGB, upright, on white where it was
          transparency                                transparent
video     H.264 and others, any size and length       Frames, [-1, 1], RGB, upright; at most MOST_FRAMES of
                                                      LONGEST_FRAME_SIDE
sound     16-bit and others                           Waveform, [-1, 1], its own sample rate and channels

`media_files` states the limits, `media_decode` and `media_encode` handle video and sound, `host_values` does
the same for ComfyUI's values.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from .errors import MediaError
from .media_decode import probe_tracks, read_frames, read_waveform
from .media_encode import write_video, write_waveform
from .media_files import (
    MOST_PIXELS,
    MOST_TEXT_BYTES,
    MediaInfo,
    PictureInfo,
    StreamInfo,
    TextInfo,
    decoding,
    existing,
    from_bytes,
    only_row,
    replacing,
    to_bytes,
)
from .modality import FACTS, Modality
from .values import Media, Picture, modality_of, rows_of

_PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")


def read(path: str | Path, modality: Modality | None = None) -> Media:
    """The content of a file: of the modality that its suffix stands for, or of the one that is named.

    `read("clip.mp4", Modality.AUDIO)` gives the sound of a video. Raises MediaError for what cannot be read.
    """
    path = Path(path)
    return _HANDLERS[modality or modality_by_name(path)].read(path)


def write(media: Media, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """One text (.txt), picture (.png), video (.mp4) or sound (.flac, .wav) as a file; batches hold one row.

    The file appears whole or not at all, and missing folders are made. metadata: names and texts kept in it,
    such as a title or a workflow; a text file has no place for them. Raises MediaError.
    """
    _HANDLERS[modality_of(media)].write(Path(path), media, metadata or {})


def probe(path: str | Path) -> MediaInfo:
    """What a file holds, by its suffix; counted from its content rather than taken from its header.

    Raises MediaError for what cannot be read.
    """
    path = Path(path)
    return MediaInfo(path=path, streams=_HANDLERS[modality_by_name(path)].probe(path))


def modality_by_name(path: str | Path) -> Modality:
    """The modality that a file's suffix stands for; an unknown one raises MediaError that lists them all."""
    suffix = Path(path).suffix.lower()
    for modality, facts in FACTS.items():
        if suffix in facts.suffixes:
            return modality
    known = "; ".join(f"{modality} {' '.join(facts.suffixes)}" for modality, facts in FACTS.items())
    raise MediaError(f"wanted a file of a known kind ({known}), got {path}; convert it or name its modality")


def _read_text(path: Path) -> str:
    if existing(path).stat().st_size > MOST_TEXT_BYTES:
        raise MediaError(f"wanted a text of at most {MOST_TEXT_BYTES} bytes, got {path} with more; shorten it")
    with decoding(path, "text in UTF-8"):
        text = path.read_text(encoding="utf-8-sig")
    if "\0" in text:
        raise MediaError(f"wanted text in UTF-8, got {path} with zero bytes in it; save it as plain text")
    return text.strip()


def _write_text(path: Path, text: str | list[str], metadata: Mapping[str, str]) -> None:
    rows = rows_of(text)
    if len(rows) != 1:
        raise MediaError(f"wanted one text per file, got a batch of {len(rows)}; write row by row")
    with replacing(path, Modality.TEXT) as partial:
        partial.write_text(f"{rows[0]}\n", encoding="utf-8", newline="\n")


def _probe_text(path: Path) -> tuple[StreamInfo, ...]:
    return (TextInfo(characters=len(_read_text(path))),)


def _read_picture(path: Path) -> Picture:
    _, pixels = _decoded_picture(path)
    return Picture(from_bytes(pixels[None]))


def _write_picture(path: Path, picture: Picture, metadata: Mapping[str, str]) -> None:
    image = Image.fromarray(to_bytes(only_row(picture.pixels, "picture")))
    notes = PngInfo()
    with replacing(path, Modality.IMAGE) as partial:
        for name, text in metadata.items():
            notes.add_text(name, text)
        image.save(partial, "PNG", pnginfo=notes)


def _probe_picture(path: Path) -> tuple[StreamInfo, ...]:
    codec, pixels = _decoded_picture(path)
    return (PictureInfo(codec=codec, height=pixels.shape[0], width=pixels.shape[1]),)


def _decoded_picture(path: Path) -> tuple[str, UInt8[np.ndarray, "height width 3"]]:
    with warnings.catch_warnings(), decoding(existing(path), f"a picture ({', '.join(_PICTURE_FORMATS)})"):
        # Pillow warns of oddities that do no harm, and of sizes, which are checked here.
        warnings.simplefilter("ignore")
        with Image.open(path, formats=_PICTURE_FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                size = f"{image.width}x{image.height}"
                raise MediaError(
                    f"wanted a picture of at most {MOST_PIXELS} pixels, got {path} with {size}; scale it down"
                )
            return str(image.format).lower(), _upright_rgb(image)


def _upright_rgb(image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion would clip to white
        upright = Image.fromarray((np.asarray(upright) / 257).round().clip(0, 255).astype(np.uint8))
    opaque = upright.convert("RGBA")
    return np.array(Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque).convert("RGB"))


@dataclass(frozen=True)
class _Handler:
    """What can be done with the files of one modality."""

    read: Callable[[Path], Media]
    write: Callable[..., None]
    probe: Callable[[Path], tuple[StreamInfo, ...]]


_HANDLERS = {
    Modality.TEXT: _Handler(_read_text, _write_text, _probe_text),
    Modality.IMAGE: _Handler(_read_picture, _write_picture, _probe_picture),
    Modality.VIDEO: _Handler(
        read_frames,
        lambda path, frames, metadata: write_video(path, frames, metadata=metadata),
        probe_tracks,
    ),
    Modality.AUDIO: _Handler(read_waveform, write_waveform, probe_tracks),
}
