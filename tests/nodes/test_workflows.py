"""The workflows that come with the pack: UI and API format say the same, and only core nodes and ours are used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sent_prompts import what_is_run

from comfyui_codi.codi_core.errors import GraphError
from comfyui_codi.codi_core.headless.core_nodes import CORE_NODES
from comfyui_codi.codi_core.headless.graph import to_api
from comfyui_codi.codi_core.headless.runner import run_graph
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.nodes import NODES

FOLDER = Path(__file__).parent.parent.parent / "workflows"
CLASSES = {**CORE_NODES, **{node.GET_SCHEMA().node_id: node for node in NODES}}
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
PAPER = {
    "text_to_image",
    "image_to_text",
    "text_to_audio",
    "audio_to_text",
    "image_to_audio",
    "audio_to_image",
    "text_to_video",
    "video_to_text",
    "text_image_audio_to_image",
    "text_to_image_text",
    "text_to_video_audio",
}
"""The directions that the paper measures."""
WITH_COMFYUIS_SAMPLER = {"native_sampler"}
WRITES = {
    "DecodeText": Modality.TEXT,
    "SaveImage": Modality.IMAGE,
    "SaveAudio": Modality.AUDIO,
    "SaveVideo": Modality.VIDEO,
}


def read(path: str) -> dict:
    return json.loads((FOLDER / path).read_text(encoding="utf-8"))


def test_every_workflow_has_both_formats():
    assert {path.stem for path in FOLDER.glob("api/*.json")} == set(NAMES)


def test_every_workflow_has_a_thumbnail():
    assert {path.stem for path in FOLDER.glob("*.jpg")} == set(NAMES)


def test_every_direction_of_the_paper_has_a_workflow():
    assert set(NAMES) >= PAPER


@pytest.mark.parametrize("name", sorted({*NAMES} - WITH_COMFYUIS_SAMPLER))
def test_every_workflow_runs(name, tmp_path):
    graph = FOLDER / f"{name}.json"
    nodes = {node["class_type"]: key for key, node in read(f"api/{name}.json").items()}
    # The published weights are not here; the bundled ones take the same way.
    settings = [f"{nodes['JointSampler']}.steps=2", f"{nodes['LoadCoDi']}.checkpoint=codi-mini"]
    made = run_graph(graph, CLASSES, output_dir=tmp_path, settings=settings)
    classes = {node["class_type"] for node in read(f"api/{name}.json").values()}
    assert {WRITES[each] for each in classes & set(WRITES)} <= {file.modality for file in made}
    assert all(file.path.is_file() for file in made)


@pytest.mark.parametrize("name", WITH_COMFYUIS_SAMPLER)
def test_what_only_comfyui_can_run_says_so(name, tmp_path):
    with pytest.raises(GraphError, match="wanted a node that runs without ComfyUI, got 'KSampler'"):
        run_graph(FOLDER / f"{name}.json", CLASSES, output_dir=tmp_path)


@pytest.mark.parametrize("name", sorted({*NAMES} - WITH_COMFYUIS_SAMPLER))
def test_the_api_format_is_what_the_drawn_graph_says(name):
    assert to_api(read(f"{name}.json"), CLASSES) == what_is_run(read(f"api/{name}.json"))


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_explains_itself(name):
    types = [node["type"] for node in read(f"{name}.json")["nodes"]]
    assert types.count("MarkdownNote") == 1
    assert read(f"{name}.json")["groups"]


@pytest.mark.parametrize("name", NAMES)
def test_files_that_a_workflow_loads_come_with_the_pack(name):
    loads = {"LoadImage": "image", "LoadAudio": "audio", "LoadVideo": "file"}
    for node in read(f"api/{name}.json").values():
        if node["class_type"] in loads:
            assert (FOLDER / "inputs" / node["inputs"][loads[node["class_type"]]]).is_file()


@pytest.mark.parametrize("name", NAMES)
def test_nodes_do_not_overlap(name):
    boxes = [(*node["pos"], *node["size"]) for node in read(f"{name}.json")["nodes"]]
    for index, (x, y, width, height) in enumerate(boxes):
        for other_x, other_y, other_width, other_height in boxes[index + 1 :]:
            beside = x + width <= other_x or other_x + other_width <= x
            assert beside or y + height <= other_y or other_y + other_height <= y
