"""Draws the icon and the banner of the pack, from what codi-mini makes of one sentence, after every training.

python tests/benchmarks/banner.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from comfyui_codi.codi_core import CoDiPipeline
from comfyui_codi.codi_core.drafts import Drafts
from comfyui_codi.codi_core.modality import Modality

FOLDER = Path(__file__).parents[2] / "web"
SENTENCE, SEED, STEPS = "a large green star bounces", 3, 50
DARK, LIGHT, ACCENT = "#1c1f26", "#f2f2f2", "#7bd88f"
ICON, BANNER = (400, 400), (1260, 540)
GAP, CORNER = 16, 18


def tile(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture at this size, with round corners on the dark ground."""
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), CORNER, fill=255)
    return Image.composite(picture.resize(size, Image.Resampling.BICUBIC), Image.new("RGB", size, DARK), mask)


def letter(text: str, size: tuple[int, int]) -> Image.Image:
    made = Image.new("RGB", size, ACCENT)
    font = ImageFont.load_default(int(size[1] * 0.7))
    ImageDraw.Draw(made).text((size[0] / 2, size[1] / 2), text, DARK, font, anchor="mm")
    return made


def film(frames: list[Image.Image], size: tuple[int, int]) -> Image.Image:
    """Four frames, two by two."""
    made, half = Image.new("RGB", size), (size[0] // 2, size[1] // 2)
    for index, frame in enumerate(frames[1::2]):
        made.paste(frame.resize(half), (index % 2 * half[0], index // 2 * half[1]))
    return made


def main() -> None:
    pipeline = CoDiPipeline.from_pretrained("codi-mini")
    latents = pipeline.sample(pipeline.encode(SENTENCE), to=list(Modality), steps=STEPS, seed=SEED)
    drafts = Drafts(pipeline)
    drawn = {modality: drafts.draw(modality, sample) for modality, sample in latents.samples.items()}
    side = (ICON[0] - 3 * GAP) // 2
    tiles = [
        tile(made, (side, side))
        for made in (
            letter("T", (side, side)),
            drawn[Modality.IMAGE][0],
            film(drawn[Modality.VIDEO], (side, side)),
            drawn[Modality.AUDIO][0],
        )
    ]
    icon = Image.new("RGB", ICON, DARK)
    for index, each in enumerate(tiles):
        icon.paste(each, (GAP + index % 2 * (side + GAP), GAP + index // 2 * (side + GAP)))
    icon.save(FOLDER / "icon.png", optimize=True)
    banner = Image.new("RGB", BANNER, DARK)
    draw = ImageDraw.Draw(banner)
    draw.text((60, 70), "CoDi", LIGHT, ImageFont.load_default(110))
    draw.text((64, 210), "any combination of text, image, video and sound", LIGHT, ImageFont.load_default(30))
    draw.text((64, 250), "from any combination of them", LIGHT, ImageFont.load_default(30))
    for index, each in enumerate(tiles):
        banner.paste(each, (64 + index * (side + 112), 320))
    banner.save(FOLDER / "banner.png", optimize=True)
    print(drawn[Modality.TEXT])


if __name__ == "__main__":
    main()
