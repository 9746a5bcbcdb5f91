"""Turning a prompt of any modality into a condition."""

from __future__ import annotations

from typing import Any

from ..codi_core.host_values import from_host
from ..codi_core.pipeline import CoDiPipeline
from .host import CoDiCondition, CoDiModel, io, schema


def media_input(name: str, tooltip: str, **text: Any) -> io.MultiType.Input:
    """A text box that is also a socket for every other modality."""
    box = io.String.Input(name, multiline=True, default="", tooltip=tooltip, **text)
    return io.MultiType.Input(box, types=[io.Image, io.Audio, io.Video])


class EncodeModality(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="EncodeModality",
            display_name="Encode Modality",
            description="Turns a text, picture, sound or video into a condition. All of them share one "
            "space, so any of them can be mixed and can lead to any output.",
            inputs=[
                CoDiModel.Input("model", tooltip="The model from Load CoDi."),
                media_input(
                    "prompt",
                    "What to make: type a text, or connect an image, a sound or a video.",
                    placeholder="a text, or connect an image, a sound or a video",
                ),
                media_input(
                    "negative",
                    "What to stay away from: a text, image, sound or video. Empty is neutral.",
                    placeholder="what to stay away from (optional)",
                    optional=True,
                ),
            ],
            outputs=[CoDiCondition.Output("condition", tooltip="The prompt in the shared space.")],
        )

    @classmethod
    def execute(cls, model: CoDiPipeline, prompt: Any, negative: Any = "") -> io.NodeOutput:
        return io.NodeOutput(model.encode(from_host(prompt), negative=from_host(negative) or None))
