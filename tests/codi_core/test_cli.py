from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
import sys
import threading
from _thread import interrupt_main
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import REPOSITORY, Hub, serving
from typer.testing import CliRunner

from comfyui_codi.codi_core import cli, media
from comfyui_codi.codi_core.checkpoints import command, conversion
from comfyui_codi.codi_core.checkpoints.convert import counterparts, to_official
from comfyui_codi.codi_core.checkpoints.download import download
from comfyui_codi.codi_core.checkpoints.official import OFFICIAL_PARTS
from comfyui_codi.codi_core.cli import app, main
from comfyui_codi.codi_core.config import CoDiConfig
from comfyui_codi.codi_core.media_files import SoundInfo, VideoInfo
from comfyui_codi.codi_core.mixing import MixMode
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.models.joint import Alignment
from comfyui_codi.codi_core.mutual import Coupling
from comfyui_codi.codi_core.parts import Parts
from comfyui_codi.codi_core.sampling import SchedulerName
from comfyui_codi.codi_core.values import Frames, Picture, Waveform

WORKFLOWS = Path(__file__).parent.parent.parent / "workflows"
GRAPHS = sorted(str(path.relative_to(WORKFLOWS)) for path in WORKFLOWS.rglob("*.json"))


@pytest.fixture
def generate(tiny_folder, tmp_path):
    """`codi generate` with the tiny model; gives the files that --json lists."""

    def call(*options: Any, folder: str = "out") -> list[dict[str, str]]:
        place = ["--model", tiny_folder, "--output-dir", tmp_path / folder]
        arguments = ["generate", *place, "--steps", 2, "--json", *options]
        result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)["files"]

    return call


@pytest.fixture
def prompt(tmp_path) -> dict[str, Path]:
    """A file of each kind but text."""
    paths = {"image": tmp_path / "prompt.png", "video": tmp_path / "prompt.mp4", "audio": tmp_path / "prompt.wav"}
    media.write(Picture(torch.linspace(-1, 1, 3 * 20 * 24).reshape(1, 3, 20, 24)), paths["image"])
    media.write(Frames(torch.zeros(1, 5, 3, 16, 16), Fraction(8)), paths["video"])
    media.write(Waveform(torch.sin(torch.arange(8000.0) / 9).reshape(1, 1, -1), 16_000), paths["audio"])
    return paths


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_output_becomes_a_file_of_its_kind(generate, tmp_path):
    files = generate("--to", "text,image,video,audio", "--text", "a red ball")
    names = ["codi_00001_text.txt", "codi_00001_image.png", "codi_00001_video.mp4", "codi_00001_audio.flac"]
    assert [Path(file["path"]) for file in files] == [tmp_path / "out" / name for name in names]
    for file in files:
        assert media.modality_by_name(file["path"]) == file["modality"]
        described = "; ".join(track.describe() for track in media.probe(file["path"]).streams)
        assert file["description"] == described
    assert media.read(files[0]["path"]) == files[0]["text"]


def test_a_video_carries_the_sound_that_was_made_with_it(generate):
    video, sound = generate("--to", "video,audio", "--text", "a red ball")
    assert [type(track) for track in media.probe(video["path"]).streams] == [VideoInfo, SoundInfo]
    assert [type(track) for track in media.probe(sound["path"]).streams] == [SoundInfo]
    (silent,) = generate("--to", "video", "--text", "a red ball")
    assert [type(track) for track in media.probe(silent["path"]).streams] == [VideoInfo]


def test_the_same_seed_gives_the_same_bytes(generate, tmp_path):
    everything = ("--to", "text,image,video,audio", "--text", "a red ball", "--count", 2)
    generate(*everything, "--seed", 3, folder="one")
    generate(*everything, "--seed", 3, folder="two")
    generate(*everything, "--seed", 4, folder="three")
    one, two, three = (content(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two
    assert all(one[name] != three[name] for name in one if not name.endswith(".txt"))


def test_nothing_is_ever_overwritten(generate, tmp_path):
    first = generate("--to", "image", "--text", "a red ball", "--count", 2)
    second = generate("--to", "audio,image", "--text", "a red ball")
    names = [Path(file["path"]).name for file in first + second]
    assert names == ["codi_00001_image.png", "codi_00002_image.png", "codi_00003_audio.flac", "codi_00003_image.png"]
    assert sorted(content(tmp_path / "out")) == sorted(names)


def test_every_modality_serves_as_prompt_and_may_be_repeated(generate, prompt):
    options = [option for kind, path in prompt.items() for option in (f"--{kind}", path)]
    assert generate("--to", "image", *options, *options, "--text", "a red ball", "--text", "a low tone")


def test_the_sound_of_a_video_serves_as_prompt(generate, prompt, tmp_path):
    loud = tmp_path / "loud.mp4"
    frames, sound = (media.read(prompt[kind]) for kind in ("video", "audio"))
    assert isinstance(frames, Frames)
    assert isinstance(sound, Waveform)
    media.write_video(loud, frames, sound)
    assert generate("--to", "image", "--audio", loud)


@pytest.mark.parametrize(
    ("left_out", "mode"), [("text", "complementary"), ("text", "linear"), ("audio", "linear"), ("audio", "composed")]
)
def test_weights_belong_to_prompts_in_the_order_of_the_command(left_out, mode, generate, prompt, tmp_path):
    prompts = {"audio": prompt["audio"], "text": "a red ball"}
    options = [option for kind in prompts for option in ("--weight", 0 if kind == left_out else 3)] + ["--mode", mode]
    generate("--to", "image", "--audio", prompts["audio"], "--text", prompts["text"], *options, folder="mixed")
    (kept,) = set(prompts) - {left_out}
    generate("--to", "image", f"--{kept}", prompts[kept], "--mode", mode, folder="alone")
    mixed, alone = (media.read(tmp_path / name / "codi_00001_image.png") for name in ("mixed", "alone"))
    assert isinstance(mixed, Picture)
    assert isinstance(alone, Picture)
    torch.testing.assert_close(mixed.pixels, alone.pixels, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    "options",
    [("--guidance", 1), ("--scheduler", "unipc"), ("--alignment", "released"), ("--negative", "a low tone")],
    ids=lambda options: options[0],
)
def test_every_choice_changes_the_result(options, generate, tmp_path):
    generate("--to", "image,audio", "--text", "a red ball", folder="default")
    generate("--to", "image,audio", "--text", "a red ball", *options, folder="changed")
    assert content(tmp_path / "default") != content(tmp_path / "changed")


def test_without_json_every_file_is_a_line(tiny_folder, tmp_path):
    options = ["--model", str(tiny_folder), "--steps", "1", "--output-dir", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["generate", "--to", "image,text", "--text", "a red ball", *options])
    image, text = (line.split("\t") for line in result.stdout.splitlines())
    assert image == [str(tmp_path / "out/codi_00001_image.png"), "image", "picture png 16x16"]
    assert text[:2] == [str(tmp_path / "out/codi_00001_text.txt"), "text"]
    assert text[3] == media.read(text[0])


def test_ctrl_c_leaves_nothing_behind(tiny_folder, tmp_path):
    place = ["--model", str(tiny_folder), "--output-dir", str(tmp_path / "out")]
    timer = threading.Timer(1.5, interrupt_main)
    timer.start()
    result = CliRunner().invoke(app, ["generate", "--to", "video", "--text", "x", "--steps", "500", *place])
    timer.cancel()
    assert result.exit_code == 130
    assert not (tmp_path / "out").exists()


def test_help_names_every_choice():
    result = CliRunner().invoke(app, ["generate", "--help"], env={"COLUMNS": "300"})
    for choice in (*Modality, *SchedulerName, *Alignment, *MixMode):
        assert choice in result.stdout


def test_the_coupling_is_by_default_what_it_is_everywhere():
    defaults = inspect.signature(cli.generate).parameters
    for name, value in vars(Coupling()).items():
        option = "coupling" if name == "weight" else f"coupling_{name}"
        assert defaults[option].default == value


def failure(arguments: list[Any], monkeypatch: pytest.MonkeyPatch) -> str:
    """What the console script says before it ends with exit code 1."""
    monkeypatch.setattr(sys, "argv", ["codi", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    # Python prints a text on stderr and exits with 1.
    assert isinstance(caught.value.code, str)
    return caught.value.code


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--to smell --text x", "codi: unknown modality 'smell'; choose one of: text, image, video, audio"),
        ("--to image", "codi: wanted at least one prompt, got none"),
        ("--to image --text x --weight 1 --weight 2", "codi: wanted one weight for each of the 1 prompts, got 2"),
        ("--to image --image nowhere.png", "codi: wanted a file, got nowhere.png, where there is none"),
        ("--to image --text x --scheduler heun", "codi: unknown scheduler 'heun'"),
        ("--to image --text x --coupling 1.5", "codi: the coupling's weight must lie between 0 and 1, got 1.5"),
        ("--to image --text x --coupling-interval 0", "codi: the coupling's interval must be at least 1 step, got 0"),
        ("--to image --text x --alignment loose", "codi: unknown alignment 'loose'"),
        ("--to image --text x --steps 0", "codi: steps must lie between 1 and 500, got 0"),
        ("--to image --text x --guidance -1", "codi: guidance for image must be a number from 0 on, got -1.0"),
        ("--to image --text x --dtype fp16", "codi: wanted fp32 or bf16, got fp16, which CPUs"),
        ("--to image --text x --dtype int8", "codi: unknown dtype 'int8'; choose one of: fp32, bf16, fp16"),
        ("--to image --text x --offload disk", "codi: unknown offload 'disk'; choose one of: none, parts, layers"),
        ("--to image --text x --model nowhere", "codi: wanted a model: codi-mini or a folder with model_index.json"),
    ],
)
def test_mistakes_end_with_a_message(options, message, tiny_folder, tmp_path, monkeypatch):
    place = ["--model", tiny_folder, "--output-dir", tmp_path / "out"]
    assert failure(["generate", *place, *options.split()], monkeypatch).startswith(message)
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_is_a_file_is_named(tiny_folder, tmp_path, monkeypatch):
    (tmp_path / "out").touch()
    options = ["--model", tiny_folder, "--output-dir", tmp_path / "out", "--steps", 1, "--to", "text", "--text", "x"]
    assert "choose another folder or name" in failure(["generate", *options], monkeypatch)


def test_a_graph_that_cannot_run_is_named(tmp_path, monkeypatch):
    graph = tmp_path / "graph.json"
    graph.write_text("{}")
    assert failure(["run", graph], monkeypatch).startswith("codi: wanted a workflow in ComfyUI's UI format")


@pytest.mark.parametrize("arguments", [["generate"], ["generate", "--to"], ["run"], ["paint"], ["run", "a", "b"]])
def test_a_wrong_command_line_is_refused(arguments):
    assert CliRunner().invoke(app, arguments).exit_code == 2


def text_of(graph: str) -> str:
    return (WORKFLOWS / graph).read_text(encoding="utf-8")


@pytest.mark.parametrize("graph", [graph for graph in GRAPHS if "KSampler" not in text_of(graph)])
def test_every_workflow_runs_without_comfyui(graph, tiny_folder, tmp_path, monkeypatch):
    shutil.copytree(tiny_folder, tmp_path / "models/codi/tiny")
    monkeypatch.chdir(tmp_path)
    options = ["--set", "LoadCoDi.checkpoint=tiny", "--set", "JointSampler.steps=1", "--seed", "7", "--json"]
    if graph.startswith("api/"):
        options += [
            f"--input={path.name}={path}" for path in (WORKFLOWS / "inputs").iterdir() if path.name in text_of(graph)
        ]
    result = CliRunner().invoke(app, ["run", str(WORKFLOWS / graph), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    files = json.loads(result.stdout)["files"]
    assert files
    assert {Path(file["path"]) for file in files} == {
        path for path in (tmp_path / "output").rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        (["run", "graph.json"], "torch", "standalone"),
        (["generate", "--to", "image", "--text", "x"], "torch", "standalone"),
        (["train", "bridge", "--folder", "out"], "torch", "standalone"),
        (["evaluate", "sim"], "torch", "standalone"),
        (["evaluate", "sim"], "matplotlib", "evaluate"),
        (["convert", "a.pth", "out"], "torch", "standalone"),
        (["download", "out"], "torch", "standalone"),
    ],
)
def test_a_missing_package_says_how_to_get_it(arguments, package, extra, tmp_path):
    program = f"""if True:
        import sys
        sys.modules["{package}"] = None
        sys.argv = ["codi", *{arguments}]
        from comfyui_codi.codi_core.cli import main
        main()
    """
    answer = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 1
    message = rf"codi: wanted the package {package}[.\w]*, found none; pip install 'comfyui-codi\[{extra}\]'\n"
    assert re.fullmatch(message, answer.stderr)


def test_convert_lists_parts_and_what_they_lack(tiny_folder, tmp_path, monkeypatch):
    config = CoDiConfig.from_folder(tiny_folder)
    parts = Parts(config, tiny_folder)
    for name in ("clip", "diffuser_audio"):
        places = counterparts(parts[name], OFFICIAL_PARTS[name], config.parts[name])
        torch.save(to_official(parts[name].state_dict(), places), tmp_path / f"{name}.pth")
    monkeypatch.setattr(conversion, "official", lambda: config)
    sources = [str(tmp_path / "clip.pth"), str(tmp_path / "diffuser_audio.pth")]
    options = ["--tokenizers", str(tmp_path / "none"), "--dtype", "fp16"]
    result = CliRunner().invoke(app, ["convert", *sources, str(tmp_path / "out"), *options], catch_exceptions=False)
    clip, lacking, audio = result.stdout.splitlines()
    assert clip == f"{tmp_path / 'out/clip'}  from {sources[0]}"
    assert "without the vocabulary of openai/clip-vit-large-patch14, which could not be had: run `codi conv" in lacking
    assert audio == f"{tmp_path / 'out/diffuser_audio'}  from {sources[1]}"

    again = ["convert", str(tmp_path / "out"), "--tokenizers", str(tmp_path / "none"), "--json"]
    told = json.loads(CliRunner().invoke(app, again, catch_exceptions=False).stdout)
    row = {"part": "clip", "source": str(tmp_path / "out/clip"), "joint": None}
    assert told == {
        "folder": str(tmp_path / "out"),
        "parts": [row | {"tokenizers_missing": ["openai/clip-vit-large-patch14"]}],
    }


def test_convert_without_files_says_what_it_wants(tmp_path, monkeypatch):
    assert "got only a.pth; name the folder last" in failure(["convert", "a.pth"], monkeypatch)
    message = "codi: unknown dtype 'int8'; choose one of: fp32, bf16, fp16"
    assert failure(["convert", "a.pth", tmp_path, "--dtype", "int8"], monkeypatch) == message


def test_download_fetches_what_the_pattern_names(tmp_path, monkeypatch):
    files = {"CoDi_encoders.pth": b"whole", "checkpoints_fp16/CoDi_encoders.pth": b"half"}
    with serving(Hub(files)) as hub:
        monkeypatch.setattr(command, "download", partial(download, endpoint=hub.url))
        options = ["--repository", REPOSITORY, "--files", "checkpoints_fp16/*", "--json"]
        result = CliRunner().invoke(app, ["download", str(tmp_path / "out"), *options], catch_exceptions=False)
    file = tmp_path / "out/CoDi_encoders.pth"
    assert json.loads(result.stdout) == {"folder": str(tmp_path / "out"), "files": [str(file)]}
    assert file.read_bytes() == b"half"


def test_as_a_module_it_ends_with_message_and_exit_code(tmp_path):
    command = [sys.executable, "-m", "comfyui_codi.codi_core", "generate", "--to", "smell", "--text", "x"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert answer.stderr == "codi: unknown modality 'smell'; choose one of: text, image, video, audio\n"
