"""Saved workflows: ComfyUI's UI format (what the editor draws) and API format (what the server runs).

Everything here works on a prompt, the API format: {node id: {"class_type": …, "inputs": {name: constant or
[node id, output number]}, "_meta": {"title": …}}}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import GraphError
from .io import ComboInput, ComfyNode, NumberInput, WidgetInput

NodeClasses = Mapping[str, type[ComfyNode]]
Prompt = dict[str, dict[str, Any]]

NOTES = {"Note", "MarkdownNote"}
REROUTE = "Reroute"
PRIMITIVE = "PrimitiveNode"
MUTED, BYPASSED = 2, 4


def read_graph(path: Path) -> dict[str, Any]:
    """The JSON object in a file, not yet looked into. Raises GraphError if there is none."""
    try:
        graph = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GraphError(
            f"wanted a workflow, got {path}, which cannot be read ({error.strerror}); check the name"
        ) from error
    except (ValueError, RecursionError) as error:
        raise GraphError(
            f"wanted a workflow, got {path}, which is not JSON ({error}); save it from ComfyUI again"
        ) from error
    if not isinstance(graph, dict):
        raise GraphError(
            f"wanted a workflow, got {path} with a JSON {type(graph).__name__}; save it from ComfyUI again"
        )
    return graph


def to_prompt(graph: dict[str, Any], classes: NodeClasses) -> Prompt:
    """The prompt of a graph in either format."""
    if isinstance(graph.get("nodes"), list):
        return to_api(graph, classes)
    if graph and all(map(_is_api_node, graph.values())):
        return graph
    found = ", ".join(list(graph)[:5]) or "nothing"
    raise GraphError(
        "wanted a workflow in ComfyUI's UI format (nodes and links) or API format (class_type and inputs for "
        f"each node), got JSON with {found} in it; save it from ComfyUI again"
    )


def _is_api_node(node: Any) -> bool:
    if not isinstance(node, dict):
        return False
    parts = node.get("class_type"), node.get("inputs"), node.get("_meta", {})
    return tuple(map(type, parts)) == (str, dict, dict)


def label(prompt: Prompt, name: str) -> str:
    """How messages call a node."""
    return f"node {name} ({title_of(prompt[name])})"


def title_of(node: dict[str, Any]) -> str:
    """What the user reads on a node."""
    return str(node.get("_meta", {}).get("title") or node["class_type"])


def node_class(classes: NodeClasses, class_type: str, name: str) -> type[ComfyNode]:
    """The class of a node. Raises GraphError that lists all known ones."""
    try:
        return classes[class_type]
    except KeyError:
        known = ", ".join(sorted(classes))
        raise GraphError(
            f"node {name}: wanted a node that runs without ComfyUI, got {class_type!r}; replace it or run "
            f"the graph in ComfyUI. Known: {known}"
        ) from None


def to_api(graph: dict[str, Any], classes: NodeClasses) -> Prompt:
    """What ComfyUI's editor sends to the server for a graph in UI format.

    Left out are fields that only the editor has, such as the player of SaveAudio. Raises GraphError.
    """
    try:
        return _Editor(graph, classes).prompt()
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise GraphError(
            f"wanted nodes and links as ComfyUI saves them, got a damaged part ({error!r}); save it again"
        ) from error


class _Editor:
    """A graph in UI format, with the wires followed through everything that only the editor knows."""

    def __init__(self, graph: dict[str, Any], classes: NodeClasses) -> None:
        self.classes = classes
        self.nodes = {str(node["id"]): node for node in graph["nodes"]}
        self.links = dict(map(_link_ends, graph.get("links", [])))
        subgraphs = graph.get("definitions", {}).get("subgraphs", [])
        self.subgraphs = {subgraph["id"]: subgraph.get("name", "unnamed") for subgraph in subgraphs}

    def prompt(self) -> Prompt:
        drawn_only = {*NOTES, REROUTE, PRIMITIVE}
        prompt = {
            name: self._api_node(name, node)
            for name, node in self.nodes.items()
            if node["type"] not in drawn_only and node.get("mode", 0) not in (MUTED, BYPASSED)
        }
        for node in prompt.values():
            # A wire from a muted node takes the input away, even where a widget would have a value.
            node["inputs"] = {
                name: value
                for name, value in node["inputs"].items()
                if not isinstance(value, list) or value[0] in prompt
            }
        return prompt

    def _api_node(self, name: str, node: dict[str, Any]) -> dict[str, Any]:
        if node["type"] in self.subgraphs:
            raise GraphError(
                f"node {name}: wanted a graph without subgraphs, got {self.subgraphs[node['type']]!r}; "
                "unpack it in ComfyUI and save again, or export the graph in API format"
            )
        schema = node_class(self.classes, node["type"], name).GET_SCHEMA()
        inputs = _widget_values(node, [socket.widget for socket in schema.sockets().values() if socket.widget])
        for socket in node.get("inputs", []):
            if (value := self._source(socket.get("link"), socket["type"])) is not None:
                inputs[socket["name"]] = value
        title = node.get("title") or schema.display_name or node["type"]
        return {"class_type": node["type"], "inputs": inputs, "_meta": {"title": title}}

    def _source(self, link: Any, wanted: str) -> Any:
        """[node id, output] at the far end of a wire, the value of a primitive there, or None if open."""
        passed = []
        while link is not None:
            if link in passed:
                raise GraphError(f"wanted a graph without cycles, got links {passed} in a circle; remove one of them")
            passed.append(link)
            if link not in self.links:
                raise GraphError(f"wanted link {link}, got none of that number; connect the socket anew and save again")
            name, output = self.links[link]
            if name not in self.nodes:
                raise GraphError(f"link {link}: wanted node {name}, got none of that id; connect the socket anew")
            node = self.nodes[name]
            if node["type"] == PRIMITIVE:
                return node["widgets_values"][0]
            if node["type"] == REROUTE:
                link = next((socket.get("link") for socket in node.get("inputs", [])), None)
            elif node.get("mode", 0) == BYPASSED:
                link = _bypass(node, output, wanted)
            else:
                return [name, output]
        return None


def _link_ends(link: Any) -> tuple[Any, tuple[str, int]]:
    """Link number → node and output it starts from. Links are rows, or objects in newer files."""
    if isinstance(link, dict):
        return link["id"], (str(link["origin_id"]), link["origin_slot"])
    return link[0], (str(link[1]), link[2])


def _bypass(node: dict[str, Any], output: int, wanted: str) -> Any:
    """The link that replaces an output of a bypassed node: that of the first input which fits, if any."""
    inputs = node.get("inputs", [])
    made = node["outputs"][output]["type"]
    opposite = inputs[output : output + 1]
    if wanted in ("*", ""):
        fitting = opposite or inputs
    else:
        fitting = [
            *(socket for socket in opposite if types_meet(socket["type"], made) and types_meet(socket["type"], wanted)),
            *(socket for socket in inputs if socket["type"] == wanted),
            *(socket for socket in inputs if types_meet(socket["type"], made) and types_meet(socket["type"], wanted)),
        ]
    return fitting[0].get("link") if fitting else None


def types_meet(one: str, other: str) -> bool:
    """Whether a link between sockets of these types can carry anything."""
    return "*" in (one, other) or not set(one.split(",")).isdisjoint(other.split(","))


def _widget_values(node: dict[str, Any], widgets: list[WidgetInput]) -> dict[str, Any]:
    """The positional values of a node by name; fields that a newer schema added have their defaults."""
    saved = node.get("widgets_values") or []
    if isinstance(saved, dict):
        return {widget.id: saved.get(widget.id, widget.default) for widget in widgets}
    values = iter(saved)
    named = {}
    for widget in widgets:
        value = next(values, None)
        named[widget.id] = widget.default if value is None else value
        for _ in range(_control_fields(widget)):
            next(values, None)
    return named


def _control_fields(widget: WidgetInput) -> int:
    """How many fields the editor adds behind a widget to change it after each run."""
    if isinstance(widget, ComboInput):
        return 2 if widget.control_after_generate else 0
    if isinstance(widget, NumberInput) and widget.io_type == "INT":
        asked = widget.control_after_generate
        return 1 if (widget.id in ("seed", "noise_seed") if asked is None else asked) else 0
    return 0
