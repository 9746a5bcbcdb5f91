from __future__ import annotations

import dataclasses

import pytest

from comfyui_codi.codi_core.headless import io


def test_custom_types_know_their_name_on_both_sides() -> None:
    kind = io.Custom("CODI_MODEL")
    assert (kind.Input("model").io_type, kind.Output().io_type, io.Image.Output().io_type) == (
        "CODI_MODEL",
        "CODI_MODEL",
        "IMAGE",
    )


def test_types_do_not_rename_one_another() -> None:
    assert [kind.Input("x").io_type for kind in (io.Int, io.Float, io.AnyType)] == ["INT", "FLOAT", "*"]


def test_socket_of_several_types_keeps_the_widget_it_is_given() -> None:
    box = io.String.Input("prompt", default="hi", optional=True, tooltip="words")
    socket = io.MultiType.Input(box, types=[io.Image, io.Audio, io.Image])
    assert (socket.id, socket.io_type, socket.optional, socket.tooltip) == (
        "prompt",
        "STRING,IMAGE,AUDIO",
        True,
        "words",
    )
    assert socket.widget is box


def test_socket_of_several_types_without_a_widget_has_none() -> None:
    socket = io.MultiType.Input("any", types=[io.Image, io.Video], optional=True)
    assert (socket.io_type, socket.widget, socket.optional) == ("IMAGE,VIDEO", None, True)


def test_growing_row_requires_its_first_sockets_only() -> None:
    row = io.Autogrow.TemplatePrefix(io.Float.Input("weight", default=1.0), prefix="w", min=1, max=3)
    sockets = io.Autogrow.Input("weights", template=row).sockets()
    assert [(socket.id, socket.io_type, socket.optional, socket.widget) for socket in sockets] == [
        ("weights.w0", "FLOAT", False, None),
        ("weights.w1", "FLOAT", True, None),
        ("weights.w2", "FLOAT", True, None),
    ]


def test_required_inputs_come_before_optional_ones_as_in_the_frontend() -> None:
    schema = io.Schema("X", inputs=[io.Int.Input("a", optional=True), io.Int.Input("b"), io.Int.Input("c")])
    assert list(schema.sockets()) == ["b", "c", "a"]


def test_choice_starts_with_its_first_option() -> None:
    assert io.Combo.Input("mode", options=["linear", "slerp"]).default == "linear"


def test_output_nodes_are_told_about_the_run() -> None:
    class Saver(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> io.Schema:
            return io.Schema("Saver", hidden=[io.Hidden.unique_id], is_output_node=True)

    assert set(Saver.GET_SCHEMA().hidden) == set(io.Hidden)


def test_schema_fields_can_be_asked_for() -> None:
    assert {"node_id", "inputs", "outputs", "is_output_node"} <= {field.name for field in dataclasses.fields(io.Schema)}


def test_node_without_a_schema_says_so() -> None:
    class Empty(io.ComfyNode):
        pass

    with pytest.raises(NotImplementedError, match="Empty needs a define_schema"):
        Empty.GET_SCHEMA()


def test_node_output_gives_its_values() -> None:
    output = io.NodeOutput(1, 2, ui={"text": ("a",)})
    assert (output.args, output.result, output[1], output.ui) == ((1, 2), (1, 2), 2, {"text": ("a",)})
    assert io.NodeOutput().result is None
