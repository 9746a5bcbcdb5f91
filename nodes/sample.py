"""Making several modalities at once."""

from __future__ import annotations

from typing import Any

from ..codi_core.modality import Modality
from ..codi_core.mutual import Coupling
from ..codi_core.pipeline import CoDiPipeline
from ..codi_core.sampling import SchedulerName, StepReport
from ..codi_core.values import Condition, Latents, OutputSize
from .host import (
    CoDiCondition,
    CoDiLatents,
    CoDiModel,
    ProgressBar,
    io,
    schema,
    throw_if_interrupted,
)
from .live import Live

MADE_BY_DEFAULT = (Modality.VIDEO, Modality.AUDIO)
UNSET = -1.0
"""Guidance that is left to the next in line: own of the modality, common, the model's."""
PIXELS: dict[str, Any] = {"default": 0, "min": 0, "max": 2048, "step": 8, "optional": True}
"""Of fields for a width or height."""


def _guidance_name(modality: Modality) -> str:
    return f"{modality}_guidance"


def seed_input(tooltip: str) -> io.Int.Input:
    """Where all chance comes from; the editor can draw a new one for every run."""
    return io.Int.Input("seed", default=0, min=0, max=2**64 - 1, control_after_generate=True, tooltip=tooltip)


def choice_inputs() -> list[io.Boolean.Input]:
    """One switch per modality, named like it."""
    return [
        io.Boolean.Input(
            str(modality),
            default=modality in MADE_BY_DEFAULT,
            tooltip=f"Make {modality}, together with everything else that is switched on.",
        )
        for modality in Modality
    ]


def size_inputs() -> list[io.Int.Input | io.Float.Input]:
    """Fields of OutputSize; 0 stands for the model's own default."""
    return [
        io.Int.Input("width", tooltip="Width of image and video in pixels. 0: as the model was trained.", **PIXELS),
        io.Int.Input("height", tooltip="Height of image and video in pixels. 0: as the model was trained.", **PIXELS),
        io.Int.Input(
            "frames",
            default=0,
            min=0,
            max=256,
            optional=True,
            tooltip="Length of the video in frames. 0: as the model was trained. Longer ones are made in overlapping "
            "pieces.",
        ),
        io.Float.Input(
            "seconds",
            default=0.0,
            min=0.0,
            max=60.0,
            step=0.01,
            optional=True,
            tooltip="Length of the sound in seconds. 0: as the model was trained.",
        ),
    ]


def output_size(width: int, height: int, frames: int, seconds: float) -> OutputSize:
    """What the user of `size_inputs` asked for."""
    return OutputSize(width=width or None, height=height or None, frames=frames or None, seconds=seconds or None)


def _guidance_inputs() -> list[io.Float.Input]:
    """One override of the common guidance per modality; newer frontends fold these away."""
    return [
        io.Float.Input(
            _guidance_name(modality),
            default=UNSET,
            min=UNSET,
            max=30.0,
            step=0.5,
            optional=True,
            extra_dict={"advanced": True},
            tooltip=f"Guidance of {modality} alone, as a factor. -1: the common guidance.",
        )
        for modality in Modality
    ]


def _coupling_inputs() -> list[io.Int.Input | io.Float.Input]:
    """Fields of Coupling, of use with some alignments only."""
    defaults = Coupling()
    folded = {"optional": True, "extra_dict": {"advanced": True}}
    share = {"min": 0.0, "max": 1.0, "step": 0.05}
    return [
        io.Float.Input(
            "coupling",
            default=defaults.weight,
            tooltip="With the alignments mutual and both: share of the other outputs in what each output is told, "
            "the rest is the condition's. 0: none.",
            **share,
            **folded,
        ),
        io.Float.Input(
            "coupling_start",
            default=defaults.start,
            tooltip="With the alignments mutual and both: share of its steps that an output takes before the others "
            "look at it. Too early, they agree on always the same.",
            **share,
            **folded,
        ),
        io.Int.Input(
            "coupling_interval",
            default=defaults.interval,
            min=1,
            max=100,
            tooltip="With the alignments mutual and both: steps from one look to the next. More are faster and agree "
            "less.",
            **folded,
        ),
    ]


class JointSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="JointSampler",
            display_name="Joint Sampler",
            description="Makes any set of modalities in one run, each aware of the others.",
            inputs=[
                CoDiModel.Input("model", tooltip="The model from Load CoDi."),
                CoDiCondition.Input("condition", tooltip="What to make, from Encode Modality or a mixture."),
                *choice_inputs(),
                io.Int.Input(
                    "steps",
                    default=25,
                    min=1,
                    max=500,
                    tooltip="Number of denoising steps. More are slower and usually cleaner.",
                ),
                io.Float.Input(
                    "guidance",
                    default=UNSET,
                    min=UNSET,
                    max=30.0,
                    step=0.5,
                    tooltip="How strongly the condition is followed, as a factor. 1: no guidance. -1: what "
                    "suits this model, for each modality.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=list(map(str, SchedulerName)),
                    default=str(SchedulerName.DDIM),
                    tooltip="How each step is taken. euler_ancestral adds fresh noise, the others do not.",
                ),
                seed_input(
                    "Start of the noise. Each modality has its own noise, so switching one on or off leaves the noise "
                    "of the others as it was."
                ),
                *size_inputs(),
                *_guidance_inputs(),
                *_coupling_inputs(),
                CoDiLatents.Input(
                    "known",
                    optional=True,
                    tooltip="Latents to start from, from Encode to Latents or another run. They are in the result, and "
                    "everything else is made to fit them.",
                ),
                io.Float.Input(
                    "strength",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="How much of what is known changes. 0: it is kept. 1: it is made anew. In between it is "
                    "changed the more the higher it is. Where anything has a mask, what has none is kept.",
                ),
                # Apart from its like: saved workflows rely on the order in which inputs came.
                io.Float.Input(
                    "coupling_lead",
                    default=Coupling.lead,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    extra_dict={"advanced": True},
                    tooltip="With the alignments mutual and both: share of the steps by which text is ahead of the "
                    "video, the video of the audio, the audio of the image. 0: all at once. 1: one after another.",
                ),
            ],
            outputs=[CoDiLatents.Output("latents", tooltip="The result, for the Decode nodes.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: CoDiPipeline,
        condition: Condition,
        steps: int,
        guidance: float,
        scheduler: str,
        seed: int,
        width: int = 0,
        height: int = 0,
        frames: int = 0,
        seconds: float = 0.0,
        coupling: float = Coupling.weight,
        coupling_start: float = Coupling.start,
        coupling_interval: int = Coupling.interval,
        known: Latents | None = None,
        strength: float = 0.0,
        coupling_lead: float = Coupling.lead,
        **per_modality: Any,
    ) -> io.NodeOutput:
        progress, live = ProgressBar(steps), Live(cls.hidden.unique_id, model)

        def on_step(report: StepReport) -> None:
            throw_if_interrupted()
            progress.update_absolute(report.step, report.steps)
            live(report)

        def scale(modality: Modality) -> float:
            own = per_modality.get(_guidance_name(modality), UNSET)
            in_line = (own, guidance, model.config.modalities[modality].guidance)
            return next(scale for scale in in_line if scale != UNSET)

        chosen = [modality for modality in Modality if per_modality[modality]]
        latents = model.sample(
            condition,
            to=chosen,
            size=output_size(width, height, frames, seconds),
            steps=steps,
            guidance={modality: scale(modality) for modality in model.config.modalities},
            scheduler=scheduler,
            coupling=Coupling(weight=coupling, start=coupling_start, interval=coupling_interval, lead=coupling_lead),
            known=known,
            strength=strength,
            seed=seed,
            on_step=on_step,
        )
        return io.NodeOutput(latents)
