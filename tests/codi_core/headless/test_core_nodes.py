from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from PIL import Image

from comfyui_codi.codi_core import media
from comfyui_codi.codi_core.headless.core_nodes import CORE_NODES
from comfyui_codi.codi_core.headless.runner import run_graph
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.values import Frames, Picture, Waveform


def ramp(*shape: int) -> torch.Tensor:
    return torch.linspace(-1, 1, torch.Size(shape).numel()).reshape(shape)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A picture, a sound, a video with sound and one without."""
    sound = Waveform(ramp(1, 1, 16_000), 16_000)
    frames = Frames(ramp(1, 8, 3, 16, 32), Fraction(8))
    media.write(Picture(ramp(1, 3, 4, 6)), tmp_path / "x.png")
    media.write(sound, tmp_path / "x.flac")
    media.write_video(tmp_path / "sound.mp4", frames, sound)
    media.write_video(tmp_path / "mute.mp4", frames)
    return tmp_path


def run(inputs: Path, *nodes: tuple[str, dict[str, Any]]) -> list[Any]:
    graph = {str(index): {"class_type": kind, "inputs": given} for index, (kind, given) in enumerate(nodes, 1)}
    return run_graph(graph, {}, output_dir=inputs / "out", input_dir=inputs)


def test_picture_passes_through_unchanged(inputs: Path) -> None:
    save = {"images": ["1", 0], "filename_prefix": "ComfyUI"}
    files = run(inputs, ("LoadImage", {"image": "x.png"}), ("SaveImage", save))
    assert files[0].path == inputs / "out/ComfyUI_00001_.png"
    assert torch.equal(media.read(files[0].path).pixels, media.read(inputs / "x.png").pixels)


def test_sound_passes_through_unchanged(inputs: Path) -> None:
    save = {"audio": ["1", 0], "filename_prefix": "audio/ComfyUI"}
    files = run(inputs, ("LoadAudio", {"audio": "x.flac"}), ("SaveAudio", save), ("PreviewAudio", {"audio": ["1", 0]}))
    assert [file.path.name for file in files] == ["ComfyUI_00001_.flac", "PreviewAudio_00001_.flac"]
    for file in files:
        assert torch.equal(media.read(file.path).samples, media.read(inputs / "x.flac").samples)
        assert file.description == "sound flac 16000 Hz mono, 1 s"


def test_batch_becomes_one_file_per_row(inputs: Path) -> None:
    parts = ("GetVideoComponents", {"video": ["1", 0]})
    save = ("SaveImage", {"images": ["2", 0], "filename_prefix": "x"})
    files = run(inputs, ("LoadVideo", {"file": "mute.mp4"}), parts, save)
    assert [file.path.name for file in files] == [f"x_{count:05}_.png" for count in range(1, 9)]


def test_video_is_taken_apart_and_put_together(inputs: Path) -> None:
    made = {"images": ["2", 0], "fps": ["2", 2], "audio": ["2", 1]}
    save = {"video": ["3", 0], "filename_prefix": "video/ComfyUI", "format": "auto", "codec": "auto"}
    files = run(
        inputs,
        ("LoadVideo", {"file": "sound.mp4"}),
        ("GetVideoComponents", {"video": ["1", 0]}),
        ("CreateVideo", made),
        ("SaveVideo", save),
    )
    assert [file.path for file in files] == [inputs / "out/video/ComfyUI_00001_.mp4"]
    assert files[0].modality is Modality.VIDEO
    assert files[0].description == "video h264 32x16, 8 frames at 8 fps, 1 s; sound aac 16000 Hz mono, 1 s"


def test_video_without_sound_has_none(inputs: Path) -> None:
    save = {"video": ["1", 0], "filename_prefix": "x", "format": "mp4", "codec": "h264"}
    files = run(inputs, ("LoadVideo", {"file": "mute.mp4"}), ("SaveVideo", save))
    assert files[0].description == "video h264 32x16, 8 frames at 8 fps, 1 s"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("PrimitiveString", "a"),
        ("PrimitiveStringMultiline", "a\nb"),
        ("PrimitiveInt", 3),
        ("PrimitiveFloat", 0.5),
        ("PrimitiveBoolean", True),
    ],
)
def test_primitives_hand_their_value_on(inputs: Path, kind: str, value: Any) -> None:
    files = run(inputs, (kind, {"value": value}), ("PreviewAny", {"source": ["1", 0]}))
    assert files[0].path.read_text(encoding="utf-8") == f"{value}\n"


def test_saved_files_carry_the_prompt(inputs: Path) -> None:
    image = {"images": ["1", 0], "filename_prefix": "x"}
    video = {"video": ["2", 0], "filename_prefix": "x", "format": "auto", "codec": "auto"}
    loaded = [("LoadImage", {"image": "x.png"}), ("LoadVideo", {"file": "mute.mp4"})]
    files = run(inputs, *loaded, ("SaveImage", image), ("SaveVideo", video))
    with Image.open(files[0].path) as opened:
        assert json.loads(opened.info["prompt"])["1"]["inputs"] == {"image": "x.png"}
    with av.open(str(files[1].path)) as container:
        assert json.loads(container.metadata["prompt"])["2"]["class_type"] == "LoadVideo"


def test_drawn_graph_is_carried_as_long_as_it_is_what_ran(inputs: Path) -> None:
    nodes = [
        {"id": 1, "type": "PrimitiveInt", "inputs": [], "widgets_values": [3, "fixed"]},
        {"id": 2, "type": "LoadImage", "inputs": [], "widgets_values": ["x.png", "image"]},
        {"id": 3, "type": "SaveImage", "inputs": [{"name": "images", "type": "IMAGE", "link": 1}]},
    ]
    drawn = {"nodes": nodes, "links": [[1, 2, 0, 3, 0, "IMAGE"]]}
    carried = []
    for settings in ([], ["1.value=4"]):
        (file,) = run_graph(drawn, {}, output_dir=inputs / "out", input_dir=inputs, settings=settings)
        with Image.open(file.path) as opened:
            carried.append("workflow" in opened.info and json.loads(opened.info["workflow"]))
    assert carried == [drawn, False]


def test_every_core_node_goes_by_its_own_id() -> None:
    assert all(node.__name__ == name for name, node in CORE_NODES.items())
