"""Mixing conditions."""

from __future__ import annotations

from typing import Any

from ..codi_core.errors import PromptError
from ..codi_core.mixing import MixMode, fade, mix
from ..codi_core.values import Condition
from .host import CoDiCondition, io, schema

MOST_CONDITIONS = 16


def parse_weights(text: str) -> list[float] | None:
    """The numbers of a list such as "1, 0.5"; None (equal weights) for an empty one. Raises PromptError."""
    try:
        return [float(part) for part in text.split(",")] if text.strip() else None
    except ValueError:
        raise PromptError(
            f'weights must be numbers with commas between, such as "1, 0.5", got "{text}"; '
            "leave the field empty for equal weights"
        ) from None


def _mode_input() -> io.Combo.Input:
    return io.Combo.Input(
        "mode",
        options=list(map(str, MixMode)),
        default=str(MixMode.COMPLEMENTARY),
        tooltip="complementary: what prompts mean; each counts for what it tells, so that a picture doesn't slow what "
        "a text moves. linear: weighted mean, as in the paper. norm_preserving: the mean, scaled back to the length of "
        "the prompts. slerp: along the sphere on which prompts lie. composed: each guides by itself; slower.",
    )


class InterpolateConditions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="InterpolateConditions",
            display_name="Interpolate Conditions",
            description="Mixes any number of conditions into one, each with its own weight.",
            inputs=[
                io.String.Input(
                    "weights",
                    default="",
                    placeholder="1, 1",
                    tooltip="One number ≥ 0 per condition, with commas between; only their ratio counts. "
                    "Empty: all equal.",
                ),
                _mode_input(),
                # The last socket: older frontends append the spare slot after all others.
                io.Autogrow.Input(
                    "conditions",
                    template=io.Autogrow.TemplatePrefix(
                        CoDiCondition.Input("condition", tooltip="A condition from Encode Modality."),
                        prefix="condition_",
                        min=1,
                        max=MOST_CONDITIONS,
                    ),
                    tooltip=f"The conditions to mix, 1 to {MOST_CONDITIONS}. A new socket appears when one "
                    "is connected.",
                ),
            ],
            outputs=[CoDiCondition.Output("condition", tooltip="The mixture.")],
        )

    @classmethod
    def execute(cls, weights: str, mode: str, conditions: dict[str, Condition] | None = None) -> io.NodeOutput:
        # Older hosts do not enforce the least number of sockets and leave the argument out.
        given = list((conditions or {}).values())
        return io.NodeOutput(mix(given, weights=parse_weights(weights), mode=mode))


class FadeConditions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        share: dict[str, Any] = {"min": 0.0, "max": 1.0, "step": 0.01}
        return schema(
            node_id="FadeConditions",
            display_name="Fade Conditions",
            description="Turns one condition into another while outputs are made: the first decides on the whole, the "
            "second on details.",
            inputs=[
                CoDiCondition.Input("first", tooltip="What is asked for at the beginning of a run."),
                CoDiCondition.Input("second", tooltip="What is asked for at its end."),
                io.Float.Input(
                    "start", default=0.0, tooltip="Share of the steps after which the first begins to fade.", **share
                ),
                io.Float.Input(
                    "end",
                    default=1.0,
                    tooltip="Share of the steps after which the second is all that is left. The same as start: a "
                    "switch.",
                    **share,
                ),
                _mode_input(),
            ],
            outputs=[CoDiCondition.Output("condition", tooltip="The fade, for a Joint Sampler or further mixing.")],
        )

    @classmethod
    def execute(cls, first: Condition, second: Condition, start: float, end: float, mode: str) -> io.NodeOutput:
        return io.NodeOutput(fade(first, second, start=start, end=end, mode=mode))
