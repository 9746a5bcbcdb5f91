"""Small nodes against the stand-in, and prompts made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from comfyui_codi.codi_core.headless import io
from comfyui_codi.codi_core.headless.core_nodes import CORE_NODES
from comfyui_codi.codi_core.headless.graph import NodeClasses

Node = Callable[..., type[io.ComfyNode]]


@pytest.fixture
def node() -> Node:
    """Makes a node class of a function that gets the class and the inputs."""

    def make(
        node_id: str,
        inputs: list[io.Input],
        outputs: list[io.Output],
        execute: Callable[..., io.NodeOutput] = lambda cls, **inputs: io.NodeOutput(),
        **schema: Any,
    ) -> type[io.ComfyNode]:
        def define_schema(cls: type[io.ComfyNode]) -> io.Schema:
            return io.Schema(node_id, f"My {node_id}", inputs=inputs, outputs=outputs, **schema)

        members = {"define_schema": classmethod(define_schema), "execute": classmethod(execute)}
        return type(node_id, (io.ComfyNode,), members)

    return make


@pytest.fixture
def classes(node: Node) -> NodeClasses:
    """The core nodes and probes shaped like this pack's nodes, as in frontend_1.35.9.json."""
    model, condition, latents = map(io.Custom, ("CODI_MODEL", "CODI_CONDITION", "CODI_LATENTS"))
    text = io.String.Input("source", multiline=True, default="hi")
    row = io.Autogrow.TemplatePrefix(condition.Input("condition"), prefix="condition_", min=1, max=8)
    decoded = [model.Input("model"), latents.Input("latents")]
    probes = [
        node(
            "ProbeLoad",
            [
                io.Combo.Input("checkpoint", options=["codi-mini", "x"], default="codi-mini"),
                io.Combo.Input("dtype", options=["a", "b"]),
            ],
            [model.Output()],
        ),
        node(
            "ProbeEncode",
            [
                model.Input("model"),
                io.MultiType.Input(text, types=[io.Image, io.Audio, io.Video]),
                io.String.Input("negative", optional=True, default=""),
            ],
            [condition.Output("condition")],
        ),
        node(
            "ProbeMix",
            [
                io.String.Input("weights", default="1"),
                io.Combo.Input("mode", options=["linear", "slerp"]),
                io.Autogrow.Input("conditions", template=row),
            ],
            [condition.Output("condition")],
        ),
        node(
            "ProbeSample",
            [
                model.Input("model"),
                condition.Input("condition"),
                io.Boolean.Input("image", default=True),
                io.Int.Input("steps", default=25, min=1, max=1000),
                io.Float.Input("guidance", default=4.0, min=0, max=30, step=0.1),
                io.Int.Input("seed", default=0, min=0, max=2**64 - 1, control_after_generate=True),
                io.Int.Input("noise_seed", default=0),
                io.Combo.Input("scheduler", options=["ddim", "unipc"], control_after_generate=True),
                latents.Input("known", optional=True),
            ],
            [latents.Output("latents")],
        ),
        node("ProbeImage", decoded, [io.Image.Output("image")]),
        node(
            "ProbeVideo",
            [*decoded, io.Audio.Input("audio", optional=True)],
            [io.Video.Output("video"), io.Image.Output("frames")],
            is_output_node=True,
        ),
        node("ProbeAudio", decoded, [io.Audio.Output("audio")]),
        node("ProbeText", decoded, [io.String.Output("text")]),
    ]
    return {**CORE_NODES, **{probe.GET_SCHEMA().node_id: probe for probe in probes}}


@pytest.fixture
def sampling() -> dict[str, dict[str, Any]]:
    """A prompt of the probes in API format that can be run as it is."""
    return {
        "1": {"class_type": "ProbeLoad", "inputs": {"checkpoint": "codi-mini", "dtype": "a"}},
        "2": {
            "class_type": "ProbeEncode",
            "inputs": {"model": ["1", 0], "source": "a cat"},
            "_meta": {"title": "Words"},
        },
        "3": {
            "class_type": "ProbeSample",
            "inputs": {
                "model": ["1", 0],
                "condition": ["2", 0],
                "image": True,
                "steps": 25,
                "guidance": 4.0,
                "seed": 0,
                "noise_seed": 0,
                "scheduler": "ddim",
            },
        },
        "4": {"class_type": "ProbeVideo", "inputs": {"model": ["1", 0], "latents": ["3", 0]}},
    }
