"""What must hold before a prompt runs. Every violation is a GraphError that names the node and the input."""

from __future__ import annotations

import math
from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter
from typing import Any

from ..errors import GraphError
from .folders import find_input
from .graph import NodeClasses, Prompt, label, node_class, types_meet
from .io import ComboInput, Input, NumberInput


def execution_order(prompt: Prompt, classes: NodeClasses) -> list[str]:
    """The nodes that the output nodes need, each after those it depends on."""
    schemas = {name: node_class(classes, node["class_type"], name).GET_SCHEMA() for name, node in prompt.items()}
    parents = {name: _parents(prompt, node) for name, node in prompt.items()}
    try:
        order = list(TopologicalSorter(parents).static_order())
    except CycleError as error:
        circle = " → ".join(label(prompt, name) for name in error.args[1])
        raise GraphError(f"wanted a graph without cycles, got {circle}; remove one of these links") from None
    needed = {name for name, schema in schemas.items() if schema.is_output_node}
    if not needed:
        raise GraphError("wanted a graph with an output, got none; add a node that saves or shows something")
    for name in reversed(order):
        if name in needed:
            needed.update(parents[name])
    return [name for name in order if name in needed]


def _parents(prompt: Prompt, node: dict[str, Any]) -> list[str]:
    links = [value for value in node["inputs"].values() if isinstance(value, list) and value]
    return [str(link[0]) for link in links if str(link[0]) in prompt]


def checked_inputs(prompt: Prompt, name: str, classes: NodeClasses) -> dict[str, Any]:
    """The inputs of one node in the order of its schema, with constants in its types and no unknown ones.

    Inputs that were not given stay away: the host fills in no defaults either.
    """
    cls = node_class(classes, prompt[name]["class_type"], name)
    sockets = cls.GET_SCHEMA().sockets()
    inputs = {}
    for key, value in prompt[name]["inputs"].items():
        where = f"{label(prompt, name)}, input {key!r}"
        if key not in sockets and isinstance(value, list):
            known = ", ".join(sockets) or "no input at all"
            raise GraphError(f"{where}: wanted a link to {known}; the node has changed since: connect it anew")
        if key not in sockets:
            continue
        if isinstance(value, list):
            inputs[key] = _checked_link(prompt, value, sockets[key], where, classes)
        else:
            inputs[key] = _constant(value, sockets[key], where)
    missing = [key for key, socket in sockets.items() if not socket.optional and key not in inputs]
    if missing:
        wanted = ", ".join(missing)
        raise GraphError(f"{label(prompt, name)}: wanted the input {wanted}, got nothing; connect it or fill it in")
    return {key: inputs[key] for key in sockets if key in inputs}


def _checked_link(prompt: Prompt, link: list[Any], socket: Input, where: str, classes: NodeClasses) -> list[Any]:
    if len(link) != 2 or not isinstance(link[1], int):
        raise GraphError(f"{where}: wanted a link [node id, output number], got {link}; connect it anew")
    origin, output = str(link[0]), link[1]
    if origin not in prompt:
        raise GraphError(f"{where}: wanted a link to a node of this graph, got node {origin}; connect it anew")
    outputs = node_class(classes, prompt[origin]["class_type"], origin).GET_SCHEMA().outputs
    if not 0 <= output < len(outputs):
        there = ", ".join(f"{number} {each.io_type}" for number, each in enumerate(outputs)) or "none"
        raise GraphError(
            f"{where}: wanted an output that {label(prompt, origin)} has without ComfyUI ({there}), got number "
            f"{output}; connect another one"
        )
    if not types_meet(outputs[output].io_type, socket.io_type):
        raise GraphError(
            f"{where}: wanted {socket.io_type}, got {outputs[output].io_type} from {label(prompt, origin)}; "
            "connect an output of the right type"
        )
    return [origin, output]


def _constant(value: Any, socket: Input, where: str) -> Any:
    """A constant, or the text of one, in the type of its widget."""
    widget = socket.widget
    if widget is None and socket.io_type == "*":
        return value
    if widget is None:
        raise GraphError(f"{where}: wanted a link that carries {socket.io_type}, got {value!r}; connect a node")
    if isinstance(widget, ComboInput):
        return _choice(value, widget, where)
    wanted, convert = _CONVERSIONS[widget.io_type]
    try:
        converted = convert(value)
    except (ValueError, TypeError, OverflowError, KeyError):
        raise GraphError(f"{where}: wanted {wanted}, got {value!r}; change the value") from None
    if isinstance(widget, NumberInput):
        lowest = -math.inf if widget.min is None else widget.min
        highest = math.inf if widget.max is None else widget.max
        if not lowest <= converted <= highest:
            raise GraphError(f"{where}: wanted {wanted} from {lowest} to {highest}, got {value}; change the value")
    return converted


def _choice(value: Any, widget: ComboInput, where: str) -> Any:
    if widget.upload is not None:
        return str(find_input(str(value), where))
    options = {str(option): option for option in widget.options}
    if str(value) not in options:
        raise GraphError(f"{where}: wanted one of {', '.join(options)}, got {value!r}; choose one of these")
    return options[str(value)]


def _whole(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError
    return int(value)


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(float(value)):
        raise ValueError
    return float(value)


def _truth(value: Any) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[str(value).lower()]


_CONVERSIONS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "INT": ("a whole number", _whole),
    "FLOAT": ("a number", _finite),
    "STRING": ("a text", str),
    "BOOLEAN": ("true or false", _truth),
}
