from __future__ import annotations

import json
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfyui_codi.codi_core.errors import GraphError
from comfyui_codi.codi_core.headless.checks import checked_inputs, execution_order
from comfyui_codi.codi_core.headless.graph import NodeClasses, read_graph, to_api, to_prompt, types_meet

# What frontend 1.35.9 saved and sent for the same canvas: `app.graph.serialize()` and `app.graphToPrompt()`.
PAIRS = json.loads(Path(__file__).with_name("frontend_1.35.9.json").read_text(encoding="utf-8"))


@pytest.fixture
def drawn() -> dict[str, Any]:
    return deepcopy(PAIRS["prompts, mixture, sampler, decoders"]["ui"])


def node_of(graph: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(node for node in graph["nodes"] if node["type"] == kind)


@pytest.mark.parametrize("case", PAIRS)
def test_conversion_equals_that_of_the_frontend(case: str, classes: NodeClasses) -> None:
    # The frontend also sends fields of its own, such as the player of SaveAudio, which the server drops.
    expected = {
        name: {
            **node,
            "inputs": {
                key: value
                for key, value in node["inputs"].items()
                if key in classes[node["class_type"]].GET_SCHEMA().sockets()
            },
        }
        for name, node in PAIRS[case]["api"].items()
    }
    assert to_api(PAIRS[case]["ui"], classes) == expected


def test_newer_files_with_link_objects_convert_alike(drawn: dict[str, Any], classes: NodeClasses) -> None:
    expected = to_api(drawn, classes)
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    drawn["links"] = [dict(zip(names, link, strict=True)) for link in drawn["links"]]
    assert to_api(drawn, classes) == expected


def test_bypassed_node_passes_its_first_input_to_a_socket_for_anything(classes: NodeClasses) -> None:
    graph = deepcopy(PAIRS["bypassed nodes"]["ui"])
    graph["nodes"].append(
        {"id": 99, "type": "PreviewAny", "inputs": [{"name": "source", "type": "*", "link": 98}], "outputs": []}
    )
    graph["links"].append([98, node_of(graph, "ImageInvert")["id"], 0, 99, 0, "IMAGE"])
    assert to_api(graph, classes)["99"]["inputs"] == {"source": [str(node_of(graph, "LoadImage")["id"]), 0]}


def test_fields_that_a_newer_schema_added_have_their_defaults(drawn: dict[str, Any], classes: NodeClasses) -> None:
    node_of(drawn, "ProbeSample")["widgets_values"] = [False, 7]
    inputs = to_api(drawn, classes)["6"]["inputs"]
    assert (inputs["image"], inputs["steps"], inputs["guidance"], inputs["scheduler"]) == (False, 7, 4.0, "ddim")


def test_widget_values_may_be_saved_by_name(drawn: dict[str, Any], classes: NodeClasses) -> None:
    node_of(drawn, "ProbeSample")["widgets_values"] = {"steps": 7}
    inputs = to_api(drawn, classes)["6"]["inputs"]
    assert (inputs["steps"], inputs["guidance"]) == (7, 4.0)


def test_api_format_stays_as_it_is(classes: NodeClasses, sampling: dict[str, Any]) -> None:
    assert to_prompt(sampling, classes) == sampling


def test_unknown_node_lists_the_known_ones(drawn: dict[str, Any], classes: NodeClasses) -> None:
    node_of(drawn, "ProbeMix")["type"] = "KSampler"
    with pytest.raises(GraphError, match=r"node 5: wanted .* got 'KSampler'; .* Known: CreateVideo, .*ProbeLoad"):
        to_prompt(drawn, classes)


def test_unknown_node_that_is_muted_does_not_matter(drawn: dict[str, Any], classes: NodeClasses) -> None:
    node_of(drawn, "ProbeMix").update(type="KSampler", mode=2)
    assert "5" not in to_prompt(drawn, classes)


def test_subgraph_is_refused_by_name(drawn: dict[str, Any], classes: NodeClasses) -> None:
    node_of(drawn, "ProbeMix")["type"] = "0f-uuid"
    drawn["definitions"] = {"subgraphs": [{"id": "0f-uuid", "name": "My mixer"}]}
    with pytest.raises(GraphError, match=r"node 5: wanted a graph without subgraphs, got 'My mixer'; unpack it"):
        to_prompt(drawn, classes)


def test_missing_link_is_named(drawn: dict[str, Any], classes: NodeClasses) -> None:
    drawn["links"] = [link for link in drawn["links"] if link[0] != 4]
    with pytest.raises(GraphError, match="wanted link 4, got none of that number; connect"):
        to_prompt(drawn, classes)


def test_link_to_a_missing_node_names_both(drawn: dict[str, Any], classes: NodeClasses) -> None:
    drawn["nodes"].remove(node_of(drawn, "ProbeMix"))
    with pytest.raises(GraphError, match="link 7: wanted node 5, got none of that id; connect"):
        to_prompt(drawn, classes)


def test_reroutes_in_a_circle_are_refused(classes: NodeClasses) -> None:
    graph = deepcopy(PAIRS["reroutes"]["ui"])
    first, second = [node for node in graph["nodes"] if node["type"] == "Reroute"][:2]
    graph["links"].append([99, second["id"], 0, first["id"], 0, "*"])
    first["inputs"][0]["link"] = 99
    with pytest.raises(GraphError, match=r"without cycles, got links \[.*99.*\] in a circle; remove one"):
        to_prompt(graph, classes)


@pytest.mark.parametrize("damage", [{"type": None}, {"inputs": [None]}, {"inputs": 3}, {"widgets_values": 3}])
def test_damaged_node_is_refused(drawn: dict[str, Any], classes: NodeClasses, damage: dict[str, Any]) -> None:
    node_of(drawn, "ProbeMix").update(damage)
    with pytest.raises(GraphError):
        to_prompt(drawn, classes)


@pytest.mark.parametrize("damage", [{"nodes": [3]}, {"nodes": [{}]}, {"links": [[1]]}, {"links": 3}])
def test_damaged_graph_is_refused(drawn: dict[str, Any], classes: NodeClasses, damage: dict[str, Any]) -> None:
    with pytest.raises(GraphError, match="got a damaged part"):
        to_prompt({**drawn, **damage}, classes)


@pytest.mark.parametrize(
    "other", [{}, {"a": 1}, {"a": {"class_type": "X"}}, {"a": {"class_type": "X", "inputs": {}, "_meta": 1}}]
)
def test_other_json_is_refused_with_both_formats(classes: NodeClasses, other: dict[str, Any]) -> None:
    with pytest.raises(GraphError, match=r"UI format .* or API format .*, got JSON with (a|nothing) in it"):
        to_prompt(other, classes)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 9) | st.sampled_from(["", "1", "LoadImage", "SaveImage", "Reroute"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "type", "link"]), inner),
    max_leaves=5,
)


@given(st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_is_either_harmless_or_refused(classes: NodeClasses, data: st.DataObject) -> None:
    case = deepcopy(PAIRS[data.draw(st.sampled_from(["prompts, mixture, sampler, decoders", "bypassed nodes"]))])
    graph = data.draw(st.sampled_from([case["ui"], case["api"]]))
    spot = graph
    while isinstance(spot, dict | list) and spot:
        key = data.draw(st.sampled_from(sorted(spot) if isinstance(spot, dict) else range(len(spot))))
        if data.draw(st.booleans()):
            spot[key] = data.draw(JSON)
            break
        spot = spot[key]
    with suppress(GraphError):
        prompt = to_prompt(graph, classes)
        for name in execution_order(prompt, classes):
            checked_inputs(prompt, name, classes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "which is not JSON .*Expecting"),
        (b"\xff\xfe\x00", "which is not JSON"),
        (b"[" * 100_000, "which is not JSON"),
        (b"[1]", "with a JSON list"),
    ],
)
def test_unreadable_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "graph.json"
    path.write_bytes(content)
    with pytest.raises(GraphError, match=rf"wanted a workflow, got .*graph\.json,? {message}"):
        read_graph(path)


def test_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"none\.json, which cannot be read \(No such file.*; check the name"):
        read_graph(tmp_path / "none.json")


def test_types_meet_where_any_is_common() -> None:
    assert types_meet("STRING,IMAGE", "AUDIO,IMAGE")
    assert types_meet("*", "LATENT")
    assert not types_meet("IMAGE", "IMAGES")
