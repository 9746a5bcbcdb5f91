"""The stages end to end: every task reads the parts it builds on and writes those it trains."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from comfyui_codi.codi_core.config import mini, official, tiny
from comfyui_codi.codi_core.errors import CheckpointError, ConfigError
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.parts import build_part, load_part, save_part
from comfyui_codi.codi_core.pipeline import BUNDLED, CoDiPipeline
from comfyui_codi.codi_core.training.command import train_command
from comfyui_codi.codi_core.training.stages import CHOSEN, Stage, TaskSettings, run_stage, tasks
from comfyui_codi.codi_core.training.workshop import prepare

SHORT = {"steps": 1, "batch": 2, "rows": 4, "precision": "fp32"}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shipped model, on the disk of the temporary folders."""
    return shutil.copytree(BUNDLED["codi-mini"], tmp_path_factory.mktemp("shipped") / "codi-mini")


@pytest.fixture
def folder(shipped: Path, tmp_path: Path) -> Path:
    """The shipped model, to be trained on. Its files are links, since training moves new ones into their place."""
    return shutil.copytree(shipped, tmp_path / "codi-mini", copy_function=os.link)


@pytest.mark.parametrize(
    ("stage", "task"), [(stage, task) for stage, planned in tasks(mini()).items() for task in planned]
)
def test_a_task_writes_the_parts_it_trains_and_no_others_and_the_model_still_runs(
    folder: Path, stage: Stage, task: str
) -> None:
    files = {part: folder / part / "model.safetensors" for part in mini().parts}
    before = {part: (file.stat().st_mtime_ns, load_file(file)) for part, file in files.items()}
    # Of one step, what an average moves can be less than fp16 tells.
    run_stage(folder, stage, mini(), {task: SHORT | {"ema_decay": 0.0}}, only=task)
    written = {part for part, (moment, _) in before.items() if files[part].stat().st_mtime_ns != moment}
    changed = {
        part
        for part, (_, state) in before.items()
        if any(not torch.equal(value, state[name]) for name, value in load_file(files[part]).items())
    }
    trained = set(tasks(mini())[stage][task].parts)
    # What is measured of so few samples may well come out as it was.
    measured = {"prompt_factors"} if stage in {Stage.BRIDGE, Stage.DIFFUSE} else set()
    assert written == trained | measured
    assert trained <= changed <= written
    made = CoDiPipeline.from_pretrained(folder)(["a red circle"], list(Modality), steps=1)
    assert set(made) == set(Modality)


def test_videos_hear_and_are_heard_as_pictures_are_until_they_have_learned_it_themselves(tmp_path: Path) -> None:
    workshop = prepare(tmp_path, tiny())
    picture, video = workshop.diffuser(Modality.IMAGE), workshop.diffuser(Modality.VIDEO)
    contrast = tasks(tiny())[Stage.ALIGN]["video-audio-contrast"]

    def begin(value: float) -> dict[str, float]:
        """Of all weights that both have, the first number, when the video's alignment begins and the image's have
        this value."""
        for weight in picture.parameters():
            weight.data.fill_(value)
        contrast.build(workshop, replace(contrast.settings, batch=2, rows=4))
        return {name: float(video.get_parameter(name).data.flatten()[0]) for name, _ in picture.named_parameters()}

    for name, value in begin(0.5).items():
        assert (value == 0.5) == (".connector." in name or name.startswith("environment_encoder.")), name
    assert 0.75 not in begin(0.75).values()


@pytest.mark.parametrize("listener", list(Modality))
def test_listeners_are_prompted_by_captions_and_by_samples_of_their_own_kind(folder: Path, listener: Modality) -> None:
    (listening,) = (task for name, task in tasks(mini())[Stage.ALIGN].items() if name.endswith(f"heard-by-{listener}"))
    objective = listening.build(prepare(folder, mini()), replace(listening.settings, batch=2, rows=4))
    prompts = {name for name in objective.table if name.startswith("prompt_")}
    assert prompts == {"prompt_text", f"prompt_{listener}"}


def test_tables_tell_of_their_rows_before_the_steps_and_answers_after_them(folder: Path) -> None:
    told = []
    run_stage(folder, "diffuse", mini(), {"diffuser_image": SHORT}, "diffuser_image", told.append)
    *tables, step, answers = told
    assert tables[0].task.startswith("table image")
    assert all(each.task.startswith("table") and each.step == each.steps == 4 for each in tables)
    assert (step.task, step.step, step.steps) == ("diffuser_image", 1, 1)
    assert (answers.task, answers.step, answers.steps) == ("answers image", 4, 4)


def test_the_command_names_unknown_stages_tasks_and_settings(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown stage 'polish'.*autoencode, bridge, diffuse, align"):
        train_command("polish", folder, "mini", None, None)
    with pytest.raises(ConfigError, match=r"unknown task 'nose'.*clip, clip_video, clap"):
        train_command("bridge", folder, "mini", "nose", None)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"clip": {"stepz": 1}}))
    with pytest.raises(ConfigError, match=r"unknown setting of clip 'stepz'.*steps, batch"):
        train_command("bridge", folder, "mini", None, config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip": 5}, r"wanted settings by name for clip, .*got 5"),
        ({"clip": {"steps": "20000"}}, r"wanted a whole number above 0 as steps of clip, got '20000'"),
        ({"clip": {"batch": 0}}, r"above 0 as batch of clip, got 0"),
        ({"clip": {"save_every": 0}}, r"above 0 as save_every of clip, got 0"),
        ({"clip": {"rows": 2.5}}, r"above 1 as rows of clip, got 2\.5"),
        ({"clip": {"rows": 1}}, r"above 1 as rows of clip, got 1"),
        ({"clip": {"steps": True}}, r"above 0 as steps of clip, got True"),
        ({"clip": {"learning_rate": float("nan")}}, r"wanted a number above 0 as learning_rate of clip, got nan"),
        ({"clip": {"warmup": 5}}, r"wanted a number from 0 to 1 as warmup of clip, got 5"),
        ({"clip": {"precision": ["fp32"]}}, r"wanted one of fp32, bf16 as precision of clip, got \['fp32'\]"),
        ({"clip": {"seed": None}}, r"wanted a whole number as seed of clip, got None"),
    ],
)
def test_values_that_a_setting_cannot_have_are_refused_before_anything_is_made(
    settings: dict, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_stage(tmp_path / "new", "bridge", mini(), settings)
    assert not (tmp_path / "new").exists()


def test_every_setting_but_the_digest_of_the_data_is_chosen_by_users() -> None:
    assert {*CHOSEN, "data"} == {field.name for field in fields(TaskSettings)}
    for planned in tasks(mini()).values():
        for task in planned.values():
            chosen = {name: getattr(task.settings, name) for name in CHOSEN}
            assert all(CHOSEN[name][1](value) for name, value in chosen.items() if (name, value) != ("rows", 0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"wanted settings per task as JSON in .*settings\.json, got: .*No such file"),
        ("{", r"wanted settings per task as JSON in .*settings\.json, got: .*line 1"),
        ("[1]", r"wanted a JSON object of settings per task in .*settings\.json, got \[1\]"),
    ],
)
def test_a_settings_file_that_cannot_be_used_is_told_as_one(content: str | None, message: str, tmp_path: Path) -> None:
    config = tmp_path / "settings.json"
    if content is not None:
        config.write_text(content)
    with pytest.raises(ConfigError, match=message):
        train_command("bridge", tmp_path / "new", "mini", None, config)


def test_unknown_names_are_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    for stage, only in (("polish", None), ("bridge", "nose")):
        with pytest.raises(ConfigError, match="unknown"):
            train_command(stage, tmp_path / "new", "mini", only, None)
    assert not (tmp_path / "new").exists()


def test_modalities_that_share_a_diffuser_train_it_in_a_task_each() -> None:
    named = {f"diffuser_{modality}" for modality in Modality}
    assert named == set(tasks(mini())[Stage.DIFFUSE]) == set(tasks(official())[Stage.DIFFUSE])
    for name in ("diffuser_image", "diffuser_video"):
        assert tasks(official())[Stage.DIFFUSE][name].parts == ("diffuser_vision",)


def test_weights_without_environments_are_aligned_with_fresh_ones(shipped: Path, tmp_path: Path) -> None:
    model = shutil.copytree(shipped, tmp_path / "model")
    released = {}
    for name in ("diffuser_image", "diffuser_text"):
        arguments = {**mini().parts[name], "environment": None}
        part = build_part(name, arguments)
        save_part(model, name, part, arguments, torch.float32)
        released[name] = part.state_dict()
    run_stage(model, "align", mini(), {"image-text": SHORT}, "image-text")
    for name, before in released.items():
        after = load_part(model, name, mini().parts[name], torch.float32, "cpu").state_dict()
        assert all(torch.equal(value, after[key]) for key, value in before.items())
        added = after.keys() - before.keys()
        assert added
        assert all(".connector." in key or key.startswith("environment_encoder.") for key in added)


def test_diffusers_that_do_not_fit_are_told_before_a_table_is_made(shipped: Path, tmp_path: Path) -> None:
    model = shutil.copytree(shipped, tmp_path / "model")
    shutil.copy(model / "diffuser_audio/model.safetensors", model / "diffuser_text/model.safetensors")
    with pytest.raises(CheckpointError, match=r"diffuser_text.*do not fit"):
        run_stage(model, "align", mini(), {"image-text": SHORT}, "image-text")
    assert not (model / "tables").exists()


def test_the_official_size_goes_on_from_a_converted_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"wanted a model folder to go on from.*make one by `codi convert`"):
        train_command("align", tmp_path / "official", "official", None, None)
    assert not (tmp_path / "official").exists()


def test_a_run_that_was_killed_at_any_moment_ends_with_the_same_weights(shipped: Path, tmp_path: Path) -> None:
    """Killed as the system does it, without a chance to tidy up."""
    config = tmp_path / "config.json"
    settings = {"steps": 14, "batch": 2, "save_every": 3, "precision": "fp32"}
    config.write_text(json.dumps({"text_autoencoder": settings}))
    made = []
    for name, moments in {"whole": [], "parted": random.Random(0).sample(range(1, 14), 2)}.items():
        model = shutil.copytree(shipped, tmp_path / name)
        log = model / "runs" / "text_autoencoder" / "losses.csv"
        command = [sys.executable, "-m", "comfyui_codi.codi_core", "train", "autoencode", "--only", "text_autoencoder"]
        command += ["--folder", str(model), "--config", str(config)]
        for moment in sorted(moments):
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as running:
                while running.poll() is None and (not log.exists() or len(log.read_text().splitlines()) <= moment):
                    time.sleep(0.005)
                running.kill()
        subprocess.run(command, check=True, capture_output=True)
        made.append(load_file(model / "text_autoencoder" / "model.safetensors"))
        steps = [line.split(",")[0] for line in log.read_text().splitlines()]
        assert steps == ["step", *map(str, range(1, 15))]
    assert made[0].keys() == made[1].keys()
    assert all(torch.equal(made[0][key], made[1][key]) for key in made[0])


def test_the_command_trains_and_prints_the_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"clap": SHORT}))
    train_command("bridge", folder, "mini", "clap", config)
    assert capsys.readouterr().out.strip() == str(folder)


def test_a_tiny_model_is_made_from_nothing_by_all_stages(tmp_path: Path) -> None:
    for stage, planned in tasks(tiny()).items():
        run_stage(tmp_path, stage, tiny(), dict.fromkeys(planned, SHORT))
    made = CoDiPipeline.from_pretrained(tmp_path)(["a red circle"], list(Modality), steps=1)
    assert set(made) == set(Modality)
