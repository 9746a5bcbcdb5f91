"""The four training stages of a small CoDi, in the paper's order, each a list of tasks that can be run one by one.

A model folder grows part by part: every task reads the parts it builds on and writes those it trained, so the folder
can be used (and a stage resumed) at any time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from ..config import CoDiConfig
from ..decoders import build_codec
from ..decoders.audio import AudioCodec
from ..errors import ConfigError, choose
from ..modality import Modality
from ..models.unet import UNet
from ..parts import DIFFUSER
from ..processes import processes
from .align import ALIGN_STEPS, AlignObjective, AlignStep, ContrastObjective, ListeningObjective
from .autoencode import (
    AudioAutoencoderObjective,
    AutoencoderObjective,
    DecoderObjective,
    TextAutoencoderObjective,
    VocoderObjective,
    start_vocoder,
)
from .bridge import audio_objective, image_objective, video_objective
from .diffuse import PROMPTED_BY, Cones, DiffusionObjective
from .emphasis import measure_emphasis
from .factors import measure_factors
from .loop import PRECISIONS, Objective, OnProgress, Settings, train
from .pairs import Columns, null_embeddings
from .source import Source
from .workshop import Workshop, measure_scale, prepare

TEXTS_PER_ROW = 8
"""As many times larger are tables of texts alone, which cost next to nothing."""


class Stage(StrEnum):
    AUTOENCODE = "autoencode"
    BRIDGE = "bridge"
    DIFFUSE = "diffuse"
    ALIGN = "align"


@dataclass(frozen=True)
class Task:
    """build: from workshop and settings to the objective. parts: what it trains. finish: what follows."""

    parts: tuple[str, ...]
    build: Callable[[Workshop, TaskSettings], Objective]
    settings: TaskSettings
    finish: Callable[[Workshop, TaskSettings], None] = lambda workshop, settings: None


@dataclass(frozen=True, kw_only=True)
class TaskSettings(Settings):
    """rows: samples of the table that the task is trained on, where it uses one, or that factors are fitted to.

    data: digest of the samples' source; filled in at the start, so that no run goes on with others than it began with.
    """

    rows: int = 0
    data: str = ""


FACTOR_ROWS = 1024
CONE_ROWS = 256
"""Samples from which the mean of a kind of prompts is taken, at most."""
EMPHASIS_ROWS = 512
"""Answers of a diffuser from which it is found how to tell it things, at most."""


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_share(value: Any) -> bool:
    return type(value) in {int, float} and 0 <= value <= 1


CHOSEN: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("steps", "batch", "save_every"), ("a whole number above 0", _is_count)),
    # A single row has no variance.
    "rows": ("a whole number above 1", lambda value: _is_count(value) and value > 1),
    **dict.fromkeys(("warmup", "ema_decay"), ("a number from 0 to 1", _is_share)),
    "learning_rate": ("a number above 0", lambda value: type(value) in {int, float} and 0 < value < math.inf),
    "precision": (f"one of {', '.join(PRECISIONS)}", lambda value: value in list(PRECISIONS)),
    "seed": ("a whole number", lambda value: type(value) is int),
}
"""Settings that users choose: what is wanted of each, in words and as a test."""


DIFFUSION: dict[Modality, TaskSettings] = {
    Modality.IMAGE: TaskSettings(steps=7000, batch=64, rows=16_000),
    Modality.AUDIO: TaskSettings(steps=4500, batch=32, rows=8000),
    Modality.TEXT: TaskSettings(steps=20_000, batch=128, rows=4000),
    Modality.VIDEO: TaskSettings(steps=3500, batch=12, learning_rate=4e-4, rows=4000),
}
"""Of each modality's diffuser; the video's goes on from the picture's."""
CONTRAST: dict[tuple[Modality, Modality], TaskSettings] = {
    (Modality.IMAGE, Modality.TEXT): TaskSettings(steps=13_000, batch=128, learning_rate=2e-3, rows=12_000),
    (Modality.AUDIO, Modality.TEXT): TaskSettings(steps=5500, batch=96, learning_rate=2e-3, rows=6000),
    (Modality.VIDEO, Modality.AUDIO): TaskSettings(steps=250, batch=48, learning_rate=5e-4, rows=1500),
}
"""Of the environments of each pair; the video's goes on from the picture's."""
LISTENING: dict[Modality, TaskSettings] = {
    Modality.TEXT: TaskSettings(steps=18_000, batch=128, learning_rate=1e-3),
    Modality.IMAGE: TaskSettings(steps=6000, batch=48, learning_rate=1e-3),
    Modality.AUDIO: TaskSettings(steps=4000, batch=32, learning_rate=1e-3),
    Modality.VIDEO: TaskSettings(steps=1000, batch=12, learning_rate=8e-4, save_every=50),
}
"""Of each modality's connectors. Texts are decided last, when the others' environments already tell what they are."""


def _factors(workshop: Workshop, settings: TaskSettings) -> None:
    """Prompts vary otherwise after every change of an encoder."""
    measure_factors(workshop, settings.rows)


def _emphasis(modality: Modality) -> Callable[[Workshop, TaskSettings], None]:
    """A diffuser heeds things otherwise after every change."""
    return lambda workshop, settings: measure_emphasis(workshop, modality, min(EMPHASIS_ROWS, settings.rows))


def _vocoding(workshop: Workshop, settings: TaskSettings) -> Objective:
    vocoder = workshop.trainable("vocoder")
    if not workshop.has("vocoder"):
        start_vocoder(vocoder)
    return VocoderObjective(vocoder, workshop.source, workshop.mel())


def _hearing(workshop: Workshop, settings: TaskSettings) -> Objective:
    """Sounds of the model's own, too, once it makes any."""
    makes = workshop.has("audio_autoencoder") and workshop.has("vocoder")
    codec = cast(AudioCodec, build_codec(Modality.AUDIO, workshop, workshop.config)) if makes else None
    return audio_objective(workshop.trainable("clip"), workshop.trainable("clap"), workshop.source, codec)


def _diffusion(modality: Modality) -> Callable[[Workshop, TaskSettings], Objective]:
    def build(workshop: Workshop, settings: TaskSettings) -> Objective:
        if modality in GROWN_FROM and not workshop.has(workshop.config.modalities[modality].diffuser):
            _inherit(workshop, modality, alignment_alone=False)
        text, holds = Modality.TEXT, workshop.source.holds
        if modality is text:
            others = [other for other in PROMPTED_BY[text] if other != text and holds({text, other})]
            combinations = [((text,), text), *(((text, other), other) for other in others)]
        else:
            prompts = tuple(prompt for prompt in PROMPTED_BY[modality] if holds({modality, prompt}))
            combinations = [(prompts, modality)]
        tables = []
        for seed, (prompts, sayable) in enumerate(combinations, start=1):
            cheap = {modality, *prompts} == {text}
            rows = settings.rows * TEXTS_PER_ROW if cheap else settings.rows
            kinds = tuple(dict.fromkeys(prompts))
            tables.append((prompts, workshop.table((modality,), kinds, sayable, rows, seed)))
        diffuser = workshop.diffuser(modality)
        return DiffusionObjective(modality, diffuser, workshop.scheduler(), tables, _cones(workshop, settings))

    return build


def _cones(workshop: Workshop, settings: TaskSettings) -> Cones:
    """Of all kinds of prompts that there are samples of; each from a table of its own, since they need not match."""
    rows = min(CONE_ROWS, settings.rows)
    nulls = null_embeddings(workshop)
    means = {}
    for modality in Modality:
        if workshop.source.holds({modality}):
            table = workshop.table((), (modality,), modality, rows, seed=1)
            means[modality] = table[f"prompt_{modality}"].float().mean(dim=(0, 1))
    return Cones(means, {modality: nulls[modality] for modality in means})


GROWN_FROM: dict[Modality, Modality] = {Modality.VIDEO: Modality.IMAGE}
"""Whose diffuser begins with what another's has learned: before diffusion its trunk, before alignment the rest."""


def _inherit(workshop: Workshop, modality: Modality, alignment_alone: bool) -> None:
    """What a diffuser begins with; alignment_alone: V and connectors, as its parent has learned them meanwhile."""
    parent, grown = workshop.diffuser(GROWN_FROM[modality]), workshop.diffuser(modality)
    inherited = {
        name: weight
        for name, weight in parent.state_dict().items()
        if not alignment_alone or name.startswith("environment_encoder.") or ".connector." in name
    }
    assert not grown.load_state_dict(inherited, strict=False).unexpected_keys


def _has_learned_to_listen(diffuser: UNet) -> bool:
    """New connectors change nothing."""
    return any(bool(connector.proj_out.weight.any()) for connector in diffuser.connectors())


def _contrast(step: AlignStep) -> Callable[[Workshop, TaskSettings], Objective]:
    def build(workshop: Workshop, settings: TaskSettings) -> Objective:
        for modality in step.trained:
            if modality in GROWN_FROM and not _has_learned_to_listen(workshop.diffuser(modality)):
                _inherit(workshop, modality, alignment_alone=True)
        return ContrastObjective(step, *_pair(workshop, step, settings, ()))

    return build


def _listening(step: AlignStep, listener: Modality) -> Callable[[Workshop, TaskSettings], Objective]:
    def build(workshop: Workshop, settings: TaskSettings) -> Objective:
        nulls = null_embeddings(workshop)
        return ListeningObjective((listener,), step.pair, *_pair(workshop, step, settings, (listener,)), nulls)

    return build


def _alignment(step: AlignStep) -> Callable[[Workshop, TaskSettings], Objective]:
    def build(workshop: Workshop, settings: TaskSettings) -> Objective:
        nulls = null_embeddings(workshop)
        return AlignObjective(step, *_pair(workshop, step, settings, step.trained), nulls)

    return build


def _pair(
    workshop: Workshop, step: AlignStep, settings: TaskSettings, listeners: tuple[Modality, ...]
) -> tuple[Mapping[Modality, Any], Any, Columns]:
    """Diffusers, scheduler and table of an alignment. listeners: who is prompted by samples of its own kind as well."""
    # Before the table, which takes hours for large models, in case that they cannot be read.
    diffusers = {modality: workshop.diffuser(modality) for modality in step.pair}
    # Pairs without a text prompt themselves.
    captioned = workshop.source.holds({*step.pair, Modality.TEXT})
    prompts = tuple(dict.fromkeys((Modality.TEXT, *listeners))) if captioned else step.pair
    # Texts speak of motion beside pictures too, or those made in joint runs never would.
    sayable = Modality.TEXT if Modality.TEXT in step.pair else step.pair[0]
    table = workshop.table(step.pair, prompts, sayable, settings.rows, seed=10)
    return diffusers, workshop.scheduler(), table


def tasks(config: CoDiConfig) -> dict[Stage, dict[str, Task]]:
    """Every stage's tasks in order, with the settings that suit codi-mini."""
    diffuser = {modality: entry.diffuser for modality, entry in config.modalities.items()}

    def aligned(step: AlignStep) -> dict[str, Task]:
        name, parts = "-".join(step.pair), tuple(diffuser[modality] for modality in step.trained)
        contrast = CONTRAST[step.pair]
        heard = {modality: replace(LISTENING[modality], rows=contrast.rows) for modality in step.trained}
        together = TaskSettings(steps=1500, batch=16, learning_rate=6e-4, rows=contrast.rows)
        return {
            f"{name}-contrast": Task(parts, _contrast(step), contrast),
            **{
                f"{name}-heard-by-{modality}": Task((diffuser[modality],), _listening(step, modality), settings)
                for modality, settings in heard.items()
            },
            name: Task(parts, _alignment(step), together),
        }

    return {
        Stage.AUTOENCODE: {
            "image_autoencoder": Task(
                ("image_autoencoder",),
                lambda workshop, _: AutoencoderObjective(workshop.trainable("image_autoencoder"), workshop.source),
                TaskSettings(steps=7000, batch=64, learning_rate=1.5e-3),
                lambda workshop, _: measure_scale(workshop, Modality.IMAGE, Modality.VIDEO),
            ),
            "image_decoder": Task(
                ("image_autoencoder",),
                lambda workshop, _: DecoderObjective(workshop.trainable("image_autoencoder"), workshop.source),
                TaskSettings(steps=3000, batch=48, learning_rate=1e-3),
            ),
            "audio_autoencoder": Task(
                ("audio_autoencoder",),
                lambda workshop, _: AudioAutoencoderObjective(
                    workshop.trainable("audio_autoencoder"), workshop.source, workshop.mel()
                ),
                TaskSettings(steps=1500, batch=8, learning_rate=1e-3),
                lambda workshop, _: measure_scale(workshop, Modality.AUDIO),
            ),
            "vocoder": Task(
                ("vocoder",),
                _vocoding,
                TaskSettings(steps=2500, batch=8, learning_rate=2e-3),
            ),
            "text_autoencoder": Task(
                ("text_autoencoder",),
                lambda workshop, _: TextAutoencoderObjective(workshop.trainable("text_autoencoder"), workshop.source),
                TaskSettings(steps=9000, batch=64, learning_rate=1e-3),
                lambda workshop, _: measure_scale(workshop, Modality.TEXT),
            ),
        },
        Stage.BRIDGE: {
            "clip": Task(
                ("clip",),
                lambda workshop, _: image_objective(workshop.trainable("clip"), workshop.source),
                TaskSettings(steps=5000, batch=64, learning_rate=1e-3, precision="fp32", rows=FACTOR_ROWS),
                _factors,
            ),
            "clip_video": Task(
                ("clip",),
                lambda workshop, _: video_objective(workshop.trainable("clip"), workshop.source),
                TaskSettings(steps=1200, batch=16, learning_rate=5e-4, rows=FACTOR_ROWS),
                _factors,
            ),
            "clap": Task(
                ("clap",),
                _hearing,
                TaskSettings(steps=1300, batch=64, learning_rate=1e-3, rows=FACTOR_ROWS),
                _factors,
            ),
        },
        Stage.DIFFUSE: {
            # By modality, since two may share a diffuser.
            f"{DIFFUSER}{modality}": Task((diffuser[modality],), _diffusion(modality), settings, _emphasis(modality))
            for modality, settings in DIFFUSION.items()
        },
        Stage.ALIGN: {name: task for step in ALIGN_STEPS for name, task in aligned(step).items()},
    }


def run_task(workshop: Workshop, task: Task, name: str, settings: TaskSettings) -> None:
    """Train one task to its end and write its parts."""
    objective = task.build(workshop, settings)
    train(name, objective, settings, workshop.home / "runs" / name, workshop.on_progress)
    for part in task.parts:
        workshop[part].eval().requires_grad_(False)
    place = processes()
    if place.is_main_process:
        workshop.write(*task.parts)
        task.finish(workshop, settings)
    place.wait_for_everyone()
    workshop.reread_index()


def run_stage(
    folder: Path,
    stage: str,
    config: CoDiConfig,
    settings: Mapping[str, Any],
    only: str | None = None,
    on_progress: OnProgress | None = None,
    source: Source | None = None,
) -> None:
    """Train a stage's tasks in order. settings: per task what differs from its own; only: one task's name. source:
    what it learns from, by default the procedural world.

    Raises ConfigError for unknown stages, tasks and settings, for values that settings cannot have, and for a folder of
    another model.
    """
    planned = tasks(config)[choose("stage", stage, Stage)]
    _check_settings(settings, planned)
    names = [choose("task", only, planned)] if only is not None else list(planned)
    workshop = prepare(folder, config, source, on_progress)
    for name in names:
        chosen = replace(planned[name].settings, **settings.get(name, {}), data=workshop.source.digest)
        run_task(workshop, planned[name], name, chosen)


def _check_settings(settings: Mapping[str, Any], planned: Mapping[str, Task]) -> None:
    for name, changed in settings.items():
        choose("task", name, planned)
        if not isinstance(changed, Mapping):
            raise ConfigError(
                f'wanted settings by name for {name}, such as {{"steps": 100}}, got {changed!r}; name them'
            )
        for setting, value in changed.items():
            wanted, fits = CHOSEN[choose(f"setting of {name}", setting, CHOSEN)]
            if not fits(value):
                raise ConfigError(f"wanted {wanted} as {setting} of {name}, got {value!r}; change it in the settings")
