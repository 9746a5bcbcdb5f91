"""Looking at how near prompts and outputs lie to one another."""

from __future__ import annotations

from typing import Any

import numpy
import torch

from ..codi_core.host_values import from_host
from ..codi_core.pipeline import CoDiPipeline
from ..codi_core.similarity import LEAST, heat_map, mean_similarity, similarities
from ..codi_core.values import Condition, modality_of
from .host import CoDiCondition, CoDiModel, io, schema, ui

MOST_THINGS = 12


class CompareSimilarity(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CompareSimilarity",
            display_name="Compare Similarity",
            description="Shows how near prompts and outputs of any kinds lie in the space that they share.",
            inputs=[
                CoDiModel.Input("model", tooltip="The model from Load CoDi."),
                # The last socket: older frontends append the spare slot after all others.
                io.Autogrow.Input(
                    "things",
                    template=io.Autogrow.TemplatePrefix(
                        io.MultiType.Input(
                            "thing",
                            types=[CoDiCondition, io.String, io.Image, io.Audio, io.Video],
                            tooltip="A condition, text, image, sound or video.",
                        ),
                        prefix="thing_",
                        min=1,
                        max=MOST_THINGS,
                    ),
                    tooltip=f"What to compare, {LEAST} to {MOST_THINGS}: conditions, texts, images, sounds and videos. "
                    "A new socket appears when one is connected.",
                ),
            ],
            outputs=[
                io.Image.Output("image", tooltip="The cosine of every two of them as a picture: 1 is the same."),
                io.Float.Output("similarity", tooltip="The mean over all pairs, from -1 to 1."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, model: CoDiPipeline, things: dict[str, Any] | None = None) -> io.NodeOutput:
        given = [each if isinstance(each, Condition) else from_host(each) for each in (things or {}).values()]
        cosines = similarities(model, given)
        kinds = ["condition" if isinstance(each, Condition) else modality_of(each) for each in given]
        picture = heat_map(cosines, [f"{number} {kind}" for number, kind in enumerate(kinds, start=1)])
        image = torch.from_numpy(numpy.asarray(picture).copy())[None] / 255
        return io.NodeOutput(image, mean_similarity(cosines), ui=ui.PreviewImage(image, cls=cls))
