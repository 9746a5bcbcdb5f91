from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyui_codi.codi_core.errors import GraphError
from comfyui_codi.codi_core.headless import io
from comfyui_codi.codi_core.headless.checks import checked_inputs, execution_order
from comfyui_codi.codi_core.headless.graph import NodeClasses, Prompt


class Joint(io.ComfyNode):
    """Any number of parents."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        row = io.Autogrow.TemplatePrefix(io.AnyType.Input("parent"), prefix="p", min=0, max=50)
        return io.Schema("Joint", inputs=[io.Autogrow.Input("parents", template=row)], outputs=[io.AnyType.Output()])


class Sink(Joint):
    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = super().define_schema()
        schema.is_output_node = True
        return schema


KINDS: NodeClasses = {"Joint": Joint, "Sink": Sink}


def as_prompt(parents: dict[int, set[int]], sinks: set[int]) -> Prompt:
    return {
        str(name): {
            "class_type": "Sink" if name in sinks else "Joint",
            "inputs": {f"parents.p{index}": [str(parent), 0] for index, parent in enumerate(sorted(above))},
        }
        for name, above in parents.items()
    }


@st.composite
def acyclic(draw: st.DrawFn) -> dict[int, set[int]]:
    """Parents per node; the numbers are shuffled, so that they tell nothing of the order."""
    count = draw(st.integers(1, 12))
    names = draw(st.permutations(range(count)))
    return {
        names[index]: draw(st.sets(st.sampled_from(names[:index]), max_size=4)) if index else set()
        for index in range(count)
    }


def ancestors(parents: dict[int, set[int]], names: set[int]) -> set[int]:
    found = set(names)
    while more := {above for name in found for above in parents[name]} - found:
        found |= more
    return found


@given(acyclic(), st.data())
def test_exactly_the_needed_nodes_run_once_and_after_their_parents(
    parents: dict[int, set[int]], data: st.DataObject
) -> None:
    sinks = data.draw(st.sets(st.sampled_from(sorted(parents)), min_size=1))
    order = [int(name) for name in execution_order(as_prompt(parents, sinks), KINDS)]
    assert sorted(order) == sorted(ancestors(parents, sinks))
    assert all(order.index(above) < order.index(name) for name in order for above in parents[name])


@given(acyclic(), st.data())
def test_every_cycle_is_found_and_named(parents: dict[int, set[int]], data: st.DataObject) -> None:
    top = data.draw(st.sampled_from(sorted(parents)))
    below = [name for name in parents if top in ancestors(parents, {name})]
    bottom = data.draw(st.sampled_from(below))
    parents[top] = parents[top] | {bottom}
    with pytest.raises(GraphError, match=r"without cycles, got node .* → node .*; remove one of these links") as error:
        execution_order(as_prompt(parents, {bottom}), KINDS)
    circle = [int(part.split()[1]) for part in str(error.value).partition("got ")[2].split(" → ")]
    assert circle[0] == circle[-1]
    assert all(above in parents[name] for above, name in pairwise(circle))


def test_order_does_not_depend_on_chance(classes: NodeClasses, sampling: Prompt) -> None:
    assert execution_order(sampling, classes) == ["1", "2", "3", "4"]


def test_graph_without_output_is_refused(classes: NodeClasses, sampling: Prompt) -> None:
    del sampling["4"]
    with pytest.raises(GraphError, match="wanted a graph with an output, got none; add a node"):
        execution_order(sampling, classes)


def test_constants_take_the_types_of_the_schema(classes: NodeClasses, sampling: Prompt) -> None:
    sampling["3"]["inputs"].update(steps="7", guidance=2, image="false", seed=2**64 - 1, noise_seed=3.0)
    inputs = checked_inputs(sampling, "3", classes)
    assert inputs["steps"] == 7
    assert isinstance(inputs["guidance"], float)
    assert inputs["image"] is False
    assert inputs["seed"] == 2**64 - 1
    assert isinstance(inputs["noise_seed"], int)


def test_fields_of_the_frontend_are_dropped(classes: NodeClasses, sampling: Prompt) -> None:
    sampling["4"]["inputs"]["audioUI"] = ""
    assert set(checked_inputs(sampling, "4", classes)) == {"model", "latents"}


def test_growing_inputs_come_in_the_order_of_their_numbers(classes: NodeClasses, sampling: Prompt) -> None:
    links = {f"conditions.condition_{index}": ["2", 0] for index in (2, 0)}
    sampling["5"] = {"class_type": "ProbeMix", "inputs": {"weights": "1", "mode": "slerp", **links}}
    inputs = checked_inputs(sampling, "5", classes)
    assert list(inputs)[-2:] == ["conditions.condition_0", "conditions.condition_2"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("steps", 0, "wanted a whole number from 1 to 1000, got 0; change the value"),
        ("steps", 1001, "wanted a whole number from 1 to 1000, got 1001"),
        ("steps", 1.5, "wanted a whole number, got 1.5"),
        ("steps", "many", "wanted a whole number, got 'many'"),
        ("steps", True, "wanted a whole number, got True"),
        ("steps", None, "wanted a whole number, got None"),
        ("steps", float("inf"), "wanted a whole number, got inf"),
        ("guidance", 31, "wanted a number from 0 to 30, got 31"),
        ("guidance", "nan", "wanted a number, got 'nan'"),
        ("guidance", {}, "wanted a number, got {}"),
        ("image", "maybe", "wanted true or false, got 'maybe'"),
        ("scheduler", "dimm", "wanted one of ddim, unipc, got 'dimm'; choose one of these"),
        ("model", "codi", "wanted a link that carries CODI_MODEL, got 'codi'; connect a node"),
        ("model", ["1"], r"wanted a link \[node id, output number\], got \['1'\]"),
        ("model", ["1", "0"], "wanted a link"),
        ("model", ["9", 0], "wanted a link to a node of this graph, got node 9; connect it anew"),
        ("model", ["1", 1], r"wanted an output that node 1 .* has .* \(0 CODI_MODEL\), got number 1; connect"),
        ("model", ["1", -1], "wanted an output that .* got number -1"),
        ("model", ["4", 2], r"wanted an output that .* \(0 VIDEO, 1 IMAGE\), got number 2"),
        ("model", ["2", 0], r"wanted CODI_MODEL, got CODI_CONDITION from node 2 \(Words\); connect"),
        ("known.x", ["1", 0], "wanted a link to model, condition, image, .*; the node has changed since"),
    ],
)
def test_wrong_input_names_node_input_and_both_values(
    classes: NodeClasses, sampling: Prompt, key: str, value: Any, message: str
) -> None:
    sampling["3"]["inputs"][key] = value
    with pytest.raises(GraphError, match=rf"node 3 \(ProbeSample\), input '{key}': {message}"):
        checked_inputs(sampling, "3", classes)


def test_all_missing_inputs_are_named(classes: NodeClasses, sampling: Prompt) -> None:
    del sampling["3"]["inputs"]["condition"], sampling["3"]["inputs"]["steps"]
    with pytest.raises(GraphError, match=r"wanted the input condition, steps, got nothing; connect it or fill it in"):
        checked_inputs(sampling, "3", classes)


def test_growing_inputs_need_their_first(classes: NodeClasses, sampling: Prompt) -> None:
    sampling["5"] = {"class_type": "ProbeMix", "inputs": {"weights": "1", "mode": "slerp"}}
    with pytest.raises(GraphError, match=r"wanted the input conditions.condition_0, got nothing"):
        checked_inputs(sampling, "5", classes)


def test_absent_file_names_the_folders_searched(classes: NodeClasses) -> None:
    prompt = {"1": {"class_type": "LoadImage", "inputs": {"image": "none.png"}}}
    with pytest.raises(GraphError, match=r"input 'image': wanted a file, got 'none.png', which is not in /.*--input"):
        checked_inputs(prompt, "1", classes)
