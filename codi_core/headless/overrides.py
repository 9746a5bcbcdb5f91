"""What the command line changes in a prompt before it runs.

Values stay text: the check reads them as the schema asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import GraphError
from .graph import NodeClasses, Prompt, label, node_class, title_of
from .io import ComboInput, Input


def set_seed(prompt: Prompt, seed: int, classes: NodeClasses) -> None:
    """Give every input called `seed` this value."""
    names = [name for name in prompt if "seed" in _sockets(prompt, name, classes)]
    if not names:
        raise GraphError(f"wanted a node with a seed to set to {seed}, got none; leave --seed out")
    for name in names:
        prompt[name]["inputs"]["seed"] = seed


def set_values(prompt: Prompt, settings: Iterable[str], classes: NodeClasses) -> None:
    """Fill inputs, as in `NODE.INPUT=VALUE` with a node's id, title or class; a link there is replaced."""
    for setting in settings:
        target, equals, value = setting.partition("=")
        found = _inputs_called(prompt, target, classes) if equals else []
        if not found:
            known = ", ".join(
                f"{name}.{key}"
                for name in prompt
                for key, socket in _sockets(prompt, name, classes).items()
                if socket.widget is not None
            )
            raise GraphError(f"wanted --set NODE.INPUT=VALUE, got {setting!r}; NODE.INPUT may be {known or 'nothing'}")
        if len(found) > 1:
            ids = " or ".join(f"{name}.{key}" for name, key in found)
            raise GraphError(f"wanted --set for one node, got {target!r}, which fits several; write {ids}")
        name, key = found[0]
        prompt[name]["inputs"][key] = value


def set_files(prompt: Prompt, files: Iterable[str], classes: NodeClasses) -> None:
    """Load other files, as in `NAME=FILE` with the id or title of a node or the file that it names."""
    loaders = {
        name: key
        for name in prompt
        for key, socket in _sockets(prompt, name, classes).items()
        if isinstance(socket, ComboInput) and socket.upload is not None
    }
    for mapping in files:
        wanted, equals, file = mapping.partition("=")
        if equals and not Path(file).is_file():
            raise GraphError(f"wanted --input NAME=FILE with a file, got {file!r}, which is none; check the path")
        by_file = [name for name, key in loaders.items() if prompt[name]["inputs"].get(key) == wanted]
        found = by_file or [name for name in loaders if wanted in (name, title_of(prompt[name]))]
        if not equals or not found:
            known = ", ".join(
                f"{label(prompt, name)} {prompt[name]['inputs'].get(key)}" for name, key in loaders.items()
            )
            raise GraphError(f"wanted --input NAME=FILE, got {mapping!r}; files are read by {known or 'no node'}")
        if len(found) > 1 and not by_file:
            raise GraphError(
                f"wanted --input for one node, got {wanted!r}, which fits several; write {' or '.join(found)}"
            )
        for name in found:
            prompt[name]["inputs"][loaders[name]] = str(Path(file).resolve())


def _sockets(prompt: Prompt, name: str, classes: NodeClasses) -> dict[str, Input]:
    return node_class(classes, prompt[name]["class_type"], name).GET_SCHEMA().sockets()


def _inputs_called(prompt: Prompt, target: str, classes: NodeClasses) -> list[tuple[str, str]]:
    """Node ids and inputs that `NODE.INPUT` can mean: by id, else by title, else by class."""
    inputs = [(name, key) for name in prompt for key in _sockets(prompt, name, classes)]
    for called in (
        lambda name: name,
        lambda name: title_of(prompt[name]),
        lambda name: prompt[name]["class_type"],
    ):
        if found := [(name, key) for name, key in inputs if f"{called(name)}.{key}" == target]:
            return found
    return []
