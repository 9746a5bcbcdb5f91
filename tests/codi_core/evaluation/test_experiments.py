"""The evaluations: what they ask, that they can be stopped and shared out, and what ends up in their reports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from comfyui_codi.codi_core.cli import app
from comfyui_codi.codi_core.errors import ConfigError
from comfyui_codi.codi_core.evaluation import coherence, matrix
from comfyui_codi.codi_core.evaluation.coherence import OUTPUTS as OUTPUT_SETS
from comfyui_codi.codi_core.evaluation.coherence import SPREAD, WAYS, Coherence
from comfyui_codi.codi_core.evaluation.combinations import Combinations
from comfyui_codi.codi_core.evaluation.command import EXPERIMENTS
from comfyui_codi.codi_core.evaluation.estimates import share_of_groups
from comfyui_codi.codi_core.evaluation.experiment import (
    INDEPENDENT,
    EvaluationSettings,
    digest_of_files,
    draw_facts,
    run_experiment,
)
from comfyui_codi.codi_core.evaluation.facts import read_text
from comfyui_codi.codi_core.evaluation.matrix import SETS, Matrix, prompts_of
from comfyui_codi.codi_core.evaluation.mixing_course import _moved_on
from comfyui_codi.codi_core.evaluation.retrieval import is_trained
from comfyui_codi.codi_core.evaluation.synchrony import COMPARED, OUTPUTS, Synchrony
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.models.joint import JointDenoiser
from comfyui_codi.codi_core.pipeline import CoDiPipeline
from comfyui_codi.codi_core.training.world import CARRIED, MAIN_FACTS, NONE, Fact, Motion

TEXT, IMAGE, VIDEO, AUDIO = Modality
SMALL = EvaluationSettings(count=3, rows=2, steps=1)


@pytest.fixture
def few_cells(monkeypatch):
    """Three sets instead of fifteen."""
    monkeypatch.setattr(matrix, "SETS", [[TEXT], [IMAGE, AUDIO], list(Modality)])
    monkeypatch.setattr(coherence, "OUTPUTS", [[TEXT, IMAGE], list(Modality)])


def test_every_set_of_inputs_meets_every_set_of_outputs():
    assert len({tuple(chosen) for chosen in SETS}) == 15
    units = Matrix().units(EvaluationSettings(count=64, rows=64))
    assert len({json.dumps(unit) for unit in units}) == 225


@pytest.mark.parametrize("inputs", SETS, ids="+".join)
def test_the_matrix_asks_for_what_the_inputs_tell(inputs):
    facts, generator = draw_facts(EvaluationSettings(count=32, rows=32), 0)
    prompts, told = prompts_of(facts, inputs, generator)
    assert list(prompts) == inputs
    for fact in Fact:
        shown = any(fact in CARRIED[modality] for modality in inputs if modality is not TEXT)
        if shown:
            assert told[fact][facts.categories[fact] != NONE].all()
        elif TEXT not in inputs:
            assert not told[fact].any()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_evaluation_reports_draws_and_goes_on_where_it_was(name, few_cells, tiny_pipeline, tmp_path, monkeypatch):
    experiment = EXPERIMENTS[name]()
    told = []
    report = run_experiment(name, experiment, tiny_pipeline, SMALL, tmp_path, lambda *at: told.append(at))
    units = len(experiment.units(SMALL))
    assert told == [(done, units) for done in range(units + 1)]
    json.dumps(report)
    experiment.draw(report).savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000

    (kept,) = tmp_path.glob(f".{name}-*.jsonl")
    lines = [line for line in kept.read_text().splitlines() if line]
    kept.write_text("\n".join([*lines[: units // 2], lines[-1][:5]]))
    measured = []
    original = type(experiment).measure
    monkeypatch.setattr(type(experiment), "measure", lambda *given: measured.append(given[2]) or original(*given))
    assert json.dumps(run_experiment(name, experiment, tiny_pipeline, SMALL, tmp_path)) == json.dumps(report)
    assert len(measured) == units - units // 2


def test_other_settings_begin_anew(few_cells, tiny_pipeline, tmp_path):
    for seed in (0, 1):
        settings = EvaluationSettings(count=1, rows=1, steps=1, seed=seed)
        run_experiment("coherence", Coherence(), tiny_pipeline, settings, tmp_path)
    assert len(list(tmp_path.glob(".coherence-*.jsonl"))) == 2


def test_two_processes_report_what_one_does(tiny_folder, tmp_path):
    arguments = ["evaluate", "sim", "--model", tiny_folder, "--count", 3, "--rows", 1, "--steps", 1]
    alone = CliRunner().invoke(app, list(map(str, [*arguments, "--output-dir", tmp_path / "one"])))
    assert alone.exit_code == 0, alone.output
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "--module"]
    command = [*launch, "comfyui_codi.codi_core", *arguments, "--output-dir", tmp_path / "two"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(list(map(str, command)), check=True, env=environment, capture_output=True, timeout=120)
    assert (tmp_path / "two/sim.json").read_text() == (tmp_path / "one/sim.json").read_text()
    assert len(list((tmp_path / "two").glob(".sim-*.jsonl"))) == 2


def test_with_v_pooled_outputs_hear_no_moments_of_one_another(monkeypatch):
    mini = CoDiPipeline.from_pretrained("codi-mini")
    moments: dict[str, set[int]] = {}
    original = JointDenoiser.environments

    def heard(self, *given):
        found = original(self, *given)
        moments[way] = {tokens.shape[1] for tokens in found.values()}
        return found

    monkeypatch.setattr(JointDenoiser, "environments", heard)
    condition = mini.encode("a red circle bounces")
    for way in [*COMPARED, *COMPARED]:
        COMPARED[way](mini, condition, OUTPUTS, EvaluationSettings(steps=1), 0)
        expected = {"joint": {16}, "joint, V pooled": {1}, "independent": set()}
        assert moments[way] == expected[way]


def test_every_clip_is_asked_to_bounce(tiny_pipeline, monkeypatch):
    asked = []
    original = CoDiPipeline.encode
    monkeypatch.setattr(CoDiPipeline, "encode", lambda self, texts: asked.extend(texts) or original(self, texts))
    Synchrony().measure(tiny_pipeline, {"way": "joint", "chunk": 0}, EvaluationSettings(count=20, rows=20, steps=1))
    assert (read_text(asked).categories[Fact.MOTION] == tuple(Motion).index(Motion.BOUNCE)).all()


def test_an_answer_of_the_matrix_counts_its_row_once():
    """Two cells whose rows are right or wrong together: as sure as two rows are, not four."""
    read = {"image": {"held out": [False, True], "facts": {"shape": ["right", "wrong"], "size": [None, "right"]}}}
    units = [{"inputs": ["text"], "outputs": outputs, "chunk": 0} for outputs in (["image"], ["image", "text"])]
    report = Matrix().report([(unit, read) for unit in units])
    assert report["cells"]["text → image"]["count"] == 3
    assert report["splits"]["held out"]["mean"] == 0.5
    assert (
        report["splits"]["image shape seen"]
        == report["splits"]["seen"]
        == vars(share_of_groups([2], [2])) | {"unsaid": 0.0}
    )


def test_what_is_held_out_is_held_against_what_was_seen():
    """A picture of a combination that is held out with one motion alone counts as seen."""
    shapes = {"train": ["right", "right"], "held_out": ["right", "wrong"]}
    held_out = {"train": [False, False], "held_out": [False, True]}
    results = [
        (
            {"input": given, "output": "image", "split": split, "chunk": 0},
            {"image": {"held out": held_out[split], "facts": {"shape": shapes[split]}}},
        )
        for given in ("text", "audio")
        for split in shapes
    ]
    report = Combinations().report(results)
    assert (report["splits"]["seen"]["count"], report["splits"]["held out"]["count"]) == (6, 2)
    assert report["drop"]["mean"] == 1
    assert report["pairs"]["text → image held out"]["mean"] == report["facts"]["image shape held out"]["mean"] == 0


def test_spread_is_held_against_independent_runs_whatever_else_is_made_with_them():
    """Of four rows, those alone show every shape; the others show two of them, and all of them one colour."""
    shown = {INDEPENDENT: [0, 1, 2, 3], "paper": [0, 1, 0, 1]}
    units = [
        (
            {"way": way, "outputs": list(map(str, outputs)), "chunk": 0},
            {
                f"{modality} {fact}": shown.get(way, [0] * 4) if fact is Fact.SHAPE else [0] * 4
                for modality in outputs
                for fact in CARRIED[modality]
            },
        )
        for way in WAYS
        for outputs in OUTPUT_SETS
    ]
    ways = Coherence().report(units)["ways"]
    assert ways[INDEPENDENT][SPREAD] | {"count": 0} == {"mean": 1.0, "low": 1.0, "high": 1.0, "count": 0}
    assert ways["paper"]["entropy"] == pytest.approx(ways[INDEPENDENT]["entropy"] / 2)
    assert ways["paper"][SPREAD]["mean"] == pytest.approx(0.5)
    assert ways["paper"][SPREAD]["low"] < 0.5 < ways["paper"][SPREAD]["high"]
    assert ways["mutual"][SPREAD]["mean"] == 0
    # Pictures show two facts, all else three; a set of outputs counts as much as another.
    assert ways[INDEPENDENT]["entropy"] == pytest.approx((3 * 2 / 5 + 3 * 2 / 6 + 4 / 11) / 7)


def test_only_pairs_with_text_were_trained():
    assert {(a, b) for a in Modality for b in Modality if a < b and is_trained(a, b)} == {
        (IMAGE, TEXT),
        (TEXT, VIDEO),
        (AUDIO, TEXT),
    }


def test_the_two_prompts_of_a_fade_differ_in_every_fact():
    facts, generator = draw_facts(EvaluationSettings(count=64, rows=64), 0)
    other = _moved_on(facts, generator)
    for fact in MAIN_FACTS:
        assert (facts.categories[fact] != other.categories[fact]).all()
    assert torch.equal(facts.size, other.size)


@pytest.mark.parametrize("name", ["count", "rows", "steps"])
def test_settings_out_of_range_are_named(name):
    with pytest.raises(ConfigError, match=f"at least 1 for {name}, got 0"):
        EvaluationSettings(**{name: 0})


def test_an_unknown_evaluation_lists_the_known(tiny_folder, tmp_path):
    result = CliRunner().invoke(app, ["evaluate", "taste", "--model", str(tiny_folder), "--output-dir", str(tmp_path)])
    assert isinstance(result.exception, ConfigError)
    assert "choose one of: survival, retrieval, matrix, combinations, coherence, keep, sync, sim, mix" in str(
        result.exception
    )


def test_files_are_listed(tiny_folder, tmp_path: Path):
    given = ["--model", str(tiny_folder), "--output-dir", str(tmp_path), "--count", "1", "--dtype", "bf16"]
    ways = ["--mode", "composed", "--alignment", "both"]
    result = CliRunner().invoke(app, ["evaluate", "retrieval", *given, *ways])
    assert result.stdout.splitlines() == [f"report\t{tmp_path}/retrieval.json", f"picture\t{tmp_path}/retrieval.png"]
    report = json.loads((tmp_path / "retrieval.json").read_text())
    sampled = {"count": 1, "rows": 16, "steps": 25, "seed": 0}
    assert report["settings"] == sampled | {"mode": "composed", "alignment": "both", "dtype": "torch.bfloat16"}
    assert report["sha256"] == digest_of_files(CoDiPipeline.from_pretrained(tiny_folder).parts)


@pytest.mark.parametrize(
    ("changed", "files"),
    [
        (None, 1),
        ("runs/diffuse/model.safetensors", 1),
        ("model_index.json", 2),
        ("diffuser_text/model.safetensors", 2),
        ("text_autoencoder/encoder_tokenizer/vocab.txt", 2),
    ],
)
def test_results_are_kept_for_what_a_model_holds_not_for_where_it_lies(
    changed, files, tiny_folder, tmp_path, few_cells
):
    copy = Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
    if changed:
        path = copy / changed
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b"of a stage of training"
        # The sign of the last weight; of text the last line break, which nothing hangs on.
        weights = path.suffix == ".safetensors"
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 0x80]) if weights else content.removesuffix(b"\n"))
    settings = EvaluationSettings(count=1, steps=1)
    for folder in (tiny_folder, copy):
        run_experiment("matrix", Matrix(), CoDiPipeline.from_pretrained(folder), settings, tmp_path)
    assert len(list(tmp_path.glob(".matrix-*.jsonl"))) == files


@pytest.mark.parametrize(("alignment", "mode"), [("both", "linear"), ("paper", "composed")])
def test_results_of_another_alignment_or_mode_are_kept_apart(alignment, mode, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(matrix, "SETS", [[TEXT, IMAGE]])
    for chosen, mixed in (("paper", "linear"), (alignment, mode)):
        pipeline = CoDiPipeline.from_pretrained(tiny_folder, alignment=chosen)
        run_experiment("matrix", Matrix(), pipeline, EvaluationSettings(count=1, steps=1, mode=mixed), tmp_path)
    assert len(list(tmp_path.glob(".matrix-*.jsonl"))) == 2
