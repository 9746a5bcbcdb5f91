"""Runs a saved workflow without ComfyUI: the nodes that its outputs need, each once, parents first."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from .. import media
from ..errors import CoDiError
from ..media_files import replacing
from ..modality import Modality
from . import folders, host
from .checks import checked_inputs, execution_order
from .core_nodes import CORE_NODES
from .folders import next_output
from .graph import NodeClasses, Prompt, label, read_graph, to_prompt
from .io import FolderType, HiddenHolder, NodeOutput
from .overrides import set_files, set_seed, set_values
from .ui import path_of


@dataclass(frozen=True)
class Progress:
    """Where a run is: the node, its place among all that run, and the steps within it, if it counts any."""

    node: str
    place: int
    nodes: int
    step: int = 0
    steps: int = 0


@dataclass(frozen=True)
class WrittenFile:
    """One result of a run. text: all of what a text file holds."""

    path: Path
    node_id: str
    node_class: str
    modality: Modality
    description: str
    text: str | None = None


def run_graph(
    graph: Path | dict[str, Any],
    node_classes: NodeClasses,
    *,
    output_dir: Path,
    input_dir: Path | None = None,
    settings: Iterable[str] = (),
    files: Iterable[str] = (),
    seed: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> list[WrittenFile]:
    """Run a workflow in UI or API format; `node_classes` come on top of ComfyUI's core nodes in `core_nodes`.

    Files are looked for in input_dir, then beside the graph's file, in `inputs` beside it and beside its folder.
    Previews are kept as files too, unless a Save or Preview node shows the same. settings, files: see
    `overrides`. An exception from on_progress cancels. Raises GraphError before anything runs if the graph
    cannot be run.
    """
    classes = {**CORE_NODES, **node_classes}
    saved = read_graph(graph) if isinstance(graph, Path) else graph
    beside = graph.parent if isinstance(graph, Path) else Path()
    inputs = (*([input_dir] if input_dir else []), beside, beside / "inputs", beside.parent / "inputs")
    original = to_prompt(saved, classes)
    prompt = deepcopy(original)
    if seed is not None:
        set_seed(prompt, seed, classes)
    set_values(prompt, settings, classes)
    set_files(prompt, files, classes)
    # A drawn graph is only noted in the results as long as it says what was run.
    workflow = {"workflow": saved} if "nodes" in saved and prompt == original else {}
    with tempfile.TemporaryDirectory() as temp:

        def run() -> list[WrittenFile]:
            folders.current.set(folders.Folders(inputs, output_dir, Path(temp)))
            return list(_Run(prompt, classes, workflow, on_progress).results())

        return copy_context().run(run)


class _Run:
    """One run of a prompt. Making it checks everything that can be checked before."""

    def __init__(
        self,
        prompt: Prompt,
        classes: NodeClasses,
        workflow: dict[str, Any],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.prompt = prompt
        self.workflow = workflow
        self.on_progress = on_progress
        self.order = execution_order(prompt, classes)
        self.classes = {name: classes[prompt[name]["class_type"]] for name in self.order}
        self.schemas = {name: cls.GET_SCHEMA() for name, cls in self.classes.items()}
        self.inputs = {name: checked_inputs(prompt, name, classes) for name in self.order}
        self.shown_elsewhere = {
            value[0]
            for name in self.order
            if not self.schemas[name].outputs
            for value in self.inputs[name].values()
            if isinstance(value, list)
        }
        # Per node and output a list, since a node may give several values where others give one.
        self.values: dict[str, list[list[Any]]] = {}

    def results(self) -> Iterator[WrittenFile]:
        """Runs node by node."""
        for place, name in enumerate(self.order, 1):
            at = Progress(label(self.prompt, name), place, len(self.order))
            self.on_progress(at)
            host.on_step.set(partial(self._on_step, at))
            try:
                yield from self._execute(name)
            except CoDiError as error:
                raise type(error)(f"{at.node}: {error}") from error
            except Exception as error:
                error.add_note(f"while running {at.node}")
                raise

    def _on_step(self, at: Progress, step: int, steps: int) -> None:
        self.on_progress(replace(at, step=step, steps=steps))

    def _execute(self, name: str) -> list[WrittenFile]:
        node = self._with_hidden(name)
        with torch.inference_mode():
            made: list[NodeOutput] = [node.execute(**_nested(inputs)) for inputs in self._calls(name)]
        self.values[name] = [
            [value for each in made for value in (each[index] if output.is_output_list else [each[index]])]
            for index, output in enumerate(self.schemas[name].outputs)
        ]
        shown = [each.ui.as_dict() if hasattr(each.ui, "as_dict") else each.ui or {} for each in made]
        return [file for kinds in shown for entry in chain(*kinds.values()) for file in self._kept(name, entry)]

    def _with_hidden(self, name: str) -> Any:
        """The node's class with what its schema asks to know about this run."""
        known = HiddenHolder(unique_id=name, prompt=self.prompt, extra_pnginfo=self.workflow)
        asked = {hidden.name: getattr(known, hidden.name) for hidden in self.schemas[name].hidden}
        cls = self.classes[name]
        return type(cls.__name__, (cls,), {"hidden": HiddenHolder(**asked)})

    def _calls(self, name: str) -> Iterator[dict[str, Any]]:
        """The inputs of each call: one per entry of the longest list; shorter ones repeat their last."""
        given = {
            key: self.values[value[0]][value[1]] if isinstance(value, list) else [value]
            for key, value in self.inputs[name].items()
        }
        for index in range(max(map(len, given.values()), default=1)):
            yield {key: values[min(index, len(values) - 1)] for key, values in given.items()}

    def _kept(self, name: str, entry: Any) -> Iterator[WrittenFile]:
        """The file of one shown result, unless it need not stay."""
        path = self._settled(name, entry)
        if path is not None:
            class_type, modality = self.prompt[name]["class_type"], media.modality_by_name(path)
            about = "; ".join(track.describe() for track in media.probe(path).streams)
            yield WrittenFile(path, name, class_type, modality, about, entry if isinstance(entry, str) else None)

    def _settled(self, name: str, entry: Any) -> Path | None:
        """Saved files stay where they are; previews become files if no other node shows the same."""
        class_type = self.prompt[name]["class_type"]
        if isinstance(entry, dict) and entry["type"] == FolderType.output:
            return path_of(entry)
        if name in self.shown_elsewhere:
            return None
        if isinstance(entry, str):
            path = next_output(class_type, ".txt")
            media.write(entry, path)
            return path
        path = next_output(class_type, path_of(entry).suffix)
        with replacing(path, media.modality_by_name(path)) as partial_path:
            shutil.copyfile(path_of(entry), partial_path)
        return path


def _nested(inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs with dots in their names as dicts: {"a.b": 1} becomes {"a": {"b": 1}}."""
    nested: dict[str, Any] = {}
    for key, value in inputs.items():
        group, dot, part = key.partition(".")
        if dot:
            nested.setdefault(group, {})[part] = value
        else:
            nested[key] = value
    return nested
