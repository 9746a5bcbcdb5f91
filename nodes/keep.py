"""Starting a run from what there is: kept as it is, or made anew in part."""

from __future__ import annotations

from typing import Any

from ..codi_core.fitting import TIMED, masked_in_time
from ..codi_core.host_values import from_host
from ..codi_core.modality import Modality
from ..codi_core.pipeline import CoDiPipeline
from ..codi_core.values import Latents, OutputSize
from .encode import media_input
from .host import CoDiLatents, CoDiModel, io, schema
from .sample import PIXELS


class EncodeLatents(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="EncodeLatents",
            display_name="Encode to Latents",
            description="Turns a text, picture, sound or video into latents from which a Joint Sampler starts, to keep "
            "it and make others that fit, or to change it.",
            inputs=[
                CoDiModel.Input("model", tooltip="The model from Load CoDi."),
                media_input(
                    "media",
                    "What to start from: type a text, or connect an image, a sound or a video.",
                    placeholder="a text, or connect an image, a sound or a video",
                ),
                CoDiLatents.Input(
                    "others",
                    optional=True,
                    tooltip="Latents to add this to, so that a run starts from several things.",
                ),
                io.Int.Input(
                    "width",
                    tooltip="Width of image and video in pixels; what sticks out is cut. 0: as the model was trained.",
                    **PIXELS,
                ),
                io.Int.Input(
                    "height",
                    tooltip="Height of image and video in pixels; what sticks out is cut. 0: as the model was trained.",
                    **PIXELS,
                ),
            ],
            outputs=[CoDiLatents.Output("latents", tooltip="For the input known of a Joint Sampler.")],
        )

    @classmethod
    def execute(
        cls, model: CoDiPipeline, media: Any, others: Latents | None = None, width: int = 0, height: int = 0
    ) -> io.NodeOutput:
        latents = model.encode_latent(from_host(media), OutputSize(width=width or None, height=height or None))
        return io.NodeOutput(latents if others is None else others.joined(latents))


class MaskLatents(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        seconds: dict[str, Any] = {"default": 0.0, "min": 0.0, "max": 600.0, "step": 0.01}
        return schema(
            node_id="MaskLatents",
            display_name="Mask in Time",
            description="Chooses a span of a video or sound that a Joint Sampler makes anew. The rest is kept, and so "
            "is whatever else is known and has no mask.",
            inputs=[
                CoDiModel.Input("model", tooltip="The model that made the latents."),
                CoDiLatents.Input("latents", tooltip="From Encode to Latents, or from another Joint Sampler."),
                io.Combo.Input("modality", options=list(map(str, TIMED)), tooltip="What to mask."),
                io.Float.Input("start", tooltip="Where the span begins, in seconds.", **seconds),
                io.Float.Input("end", tooltip="Where the span ends, in seconds. 0: at the end.", **seconds),
            ],
            outputs=[CoDiLatents.Output("latents", tooltip="The same, with the mask.")],
        )

    @classmethod
    def execute(cls, model: CoDiPipeline, latents: Latents, modality: str, start: float, end: float) -> io.NodeOutput:
        return io.NodeOutput(masked_in_time(model.config, latents, Modality(modality), start, end or None))
