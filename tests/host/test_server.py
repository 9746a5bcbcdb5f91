"""The pack inside a real ComfyUI: what the server learns of it, and whole runs through /prompt."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import wave
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode

import aiohttp
import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from comfyui_codi.codi_core import media
from comfyui_codi.codi_core.headless.runner import run_graph
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.values import Frames, Latents
from comfyui_codi.nodes import NODES
from comfyui_codi.nodes.host import CoDiLatents, io

pytestmark = pytest.mark.comfyui

WORKFLOWS = Path(__file__).parent.parent.parent / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
SCHEMAS = {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in NODES}


def prompt_of(name: str) -> dict[str, Any]:
    return json.loads((WORKFLOWS / f"api/{name}.json").read_text(encoding="utf-8"))


def find(prompt: dict[str, Any], class_type: str) -> str:
    """The id of the only node of a class."""
    (name,) = (name for name, node in prompt.items() if node["class_type"] == class_type)
    return name


def messages(entry: dict[str, Any]) -> dict[str, Any]:
    """What happened in a run, by the name of the event."""
    return dict(entry["status"]["messages"])


def test_the_pack_is_imported(comfyui):
    assert "IMPORT FAILED" not in comfyui.log


@pytest.mark.parametrize("node_id", SCHEMAS)
def test_the_server_knows_every_node_and_its_inputs_in_order(comfyui, node_id):
    told = comfyui.ask(f"/object_info/{node_id}")[node_id]
    schema = SCHEMAS[node_id]
    order = told["input_order"]
    assert order["required"] + order.get("optional", []) == [each.id for each in schema.inputs]
    assert told["output"] == [each.io_type for each in schema.outputs]
    assert told["category"] == "CoDi"


def test_a_model_in_the_models_folder_is_on_offer(comfyui):
    model = comfyui.folder / "models/codi/my-model"
    model.mkdir(parents=True)
    (model / "model_index.json").write_text("{}")
    told = comfyui.ask("/object_info/LoadCoDi")["LoadCoDi"]["input"]["required"]
    assert told["checkpoint"][1]["options"] == ["codi-mini", "my-model"]


def test_a_checkpoint_that_is_missing_says_where_it_belongs(comfyui):
    prompt = prompt_of("official_checkpoint")
    with pytest.raises(HTTPError) as refused:
        comfyui.run(prompt)
    (told,) = json.loads(refused.value.__notes__[0])["node_errors"][find(prompt, "LoadCoDi")]["errors"]
    assert f"wanted a model in {comfyui.folder / 'models/codi/official'}" in told["details"]
    assert "Download CoDi" in told["details"]


def test_the_workflows_are_templates(comfyui):
    assert set(comfyui.ask("/workflow_templates")["ComfyUI-CoDi"]) == set(NAMES)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("node_id", SCHEMAS)
def test_help_is_served_with_its_pictures(comfyui, node_id, language):
    page = comfyui.fetch(f"/extensions/ComfyUI-CoDi/docs/{node_id}/{language}.md").decode()
    assert page.startswith("# ")
    for picture in re.findall(r"!\[.+\]\((.+)\)", page):
        assert comfyui.fetch(f"/extensions/ComfyUI-CoDi/docs/{picture}").startswith(b"\xff\xd8"), picture


@pytest.mark.parametrize("name", NAMES)
def test_every_workflow_runs_and_its_files_come_back(comfyui, name, tmp_path):
    prompt = prompt_of(name)
    # The published weights are not here; the bundled ones take the same way.
    prompt[find(prompt, "LoadCoDi")]["inputs"]["checkpoint"] = "codi-mini"
    entry = comfyui.run(prompt)
    assert entry["status"]["status_str"] == "success", entry["status"]
    saved = {}
    for node, shown in entry["outputs"].items():
        for file in [*shown.get("images", ()), *shown.get("audio", ())]:
            copied = tmp_path / file["filename"]
            copied.write_bytes(comfyui.fetch(f"/view?{urlencode(file)}"))
            saved[prompt[node]["class_type"]] = [type(each).__name__ for each in media.probe(copied).streams]
    films = [node for node in prompt.values() if node["class_type"] in ("DecodeVideo", "CreateVideo")]
    sounds = ["SoundInfo"] if any("audio" in node["inputs"] for node in films) else []
    for each in {"DecodeVideo", "SaveVideo"} & set(saved):
        assert saved[each] == ["VideoInfo", *sounds]
    assert saved.get("SaveImage", ["PictureInfo"]) == ["PictureInfo"]
    assert saved.get("SaveAudio", ["SoundInfo"]) == ["SoundInfo"]
    classes = {node["class_type"] for node in prompt.values()}
    showing = ("Decode", "Save", "Compare")
    assert set(saved) == {each for each in classes if each.startswith(showing) and each != "DecodeText"}
    if "DecodeText" in classes:
        told = [entry["outputs"][find(prompt, each)]["text"] for each in ("PreviewAny", "DecodeText")]
        assert told[0] == [told[1][0]]


def latents_without_comfyui(prompt: dict[str, Any], folder: Path) -> Latents:
    """What SaveLatents gets in a run of the same prompt by the stand-in."""
    given = []

    class SaveLatents(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> io.Schema:
            return io.Schema("SaveLatents", inputs=[CoDiLatents.Input("latents")], is_output_node=True)

        @classmethod
        def execute(cls, latents: Latents) -> io.NodeOutput:
            given.append(latents)
            return io.NodeOutput()

    classes = {node.__name__: node for node in [*NODES, SaveLatents]}
    run_graph(prompt, classes, output_dir=folder, input_dir=WORKFLOWS / "inputs")
    return given[0]


def test_latents_equal_those_of_a_run_without_comfyui(comfyui, tmp_path):
    prompt = prompt_of("any_to_all")
    sampler = find(prompt, "JointSampler")
    prompt[find(prompt, "LoadCoDi")]["inputs"]["dtype"] = "fp32"
    prompt[sampler]["inputs"]["steps"] = 4
    prompt["probe"] = {"class_type": "SaveLatents", "inputs": {"latents": [sampler, 0]}}
    entry = comfyui.run(prompt)
    assert entry["status"]["status_str"] == "success", entry["status"]
    here = latents_without_comfyui(prompt, tmp_path)
    there = load_file(comfyui.folder / "output/latents.safetensors")
    assert set(there) == set(here.samples) == set(Modality)
    for modality, latent in here.samples.items():
        assert_close(there[modality], latent.cpu(), rtol=1e-4, atol=1e-4)


NATIVE = ("NativeModel", "KSamplerSelect", "BasicScheduler", "CFGGuider", "NativeNoise", "SamplerCustomAdvanced")


def native_prompt(outputs: list[Modality], sampler: str, steps: int, scale: float) -> dict[str, Any]:
    """A run by ComfyUI's own sampler, of which the probe keeps what came out."""
    switches = {str(modality): modality in outputs for modality in Modality}
    nodes: dict[str, dict[str, Any]] = {
        "LoadCoDi": {"checkpoint": "codi-mini", "dtype": "fp32", "alignment": "paper"},
        "EncodeModality": {"model": ["LoadCoDi", 0], "prompt": "a green star bounces", "negative": "a red circle"},
        "NativeModel": {"model": ["LoadCoDi", 0], "condition": ["EncodeModality", 0]} | switches,
        "KSamplerSelect": {"sampler_name": sampler},
        "BasicScheduler": {"model": ["NativeModel", 0], "scheduler": "simple", "steps": steps, "denoise": 1.0},
        "CFGGuider": {
            "model": ["NativeModel", 0],
            "positive": ["NativeModel", 1],
            "negative": ["NativeModel", 2],
            "cfg": scale,
        },
        "NativeNoise": {"seed": 7},
        "SamplerCustomAdvanced": {
            "noise": ["NativeNoise", 0],
            "guider": ["CFGGuider", 0],
            "sampler": ["KSamplerSelect", 0],
            "sigmas": ["BasicScheduler", 0],
            "latent_image": ["NativeModel", 3],
        },
        "LatentsFromNative": {"latent": ["SamplerCustomAdvanced", 0]},
        "SaveLatents": {"latents": ["LatentsFromNative", 0]},
    }
    return {name: {"class_type": name, "inputs": inputs} for name, inputs in nodes.items()}


def joint_prompt(outputs: list[Modality], scheduler: str, steps: int, scale: float) -> dict[str, Any]:
    """The same run by Joint Sampler."""
    prompt = {name: node for name, node in native_prompt(outputs, "euler", steps, scale).items() if name not in NATIVE}
    switches = {str(modality): modality in outputs for modality in Modality}
    settings = {"steps": steps, "guidance": scale, "scheduler": scheduler, "seed": 7}
    inputs = {"model": ["LoadCoDi", 0], "condition": ["EncodeModality", 0]} | switches | settings
    prompt["JointSampler"] = {"class_type": "JointSampler", "inputs": inputs}
    del prompt["LatentsFromNative"]
    prompt["SaveLatents"]["inputs"]["latents"] = ["JointSampler", 0]
    return prompt


def saved_latents(comfyui, prompt: dict[str, Any]) -> dict[str, Any]:
    entry = comfyui.run(prompt)
    assert entry["status"]["status_str"] == "success", entry["status"]
    return load_file(comfyui.folder / "output/latents.safetensors")


@pytest.mark.parametrize(
    ("sampler", "tolerance"),
    # DDIM ends at the noise level of the first timestep here, and at none there.
    [("euler", 1e-3), ("ddim", 0.05)],
)
@pytest.mark.parametrize("outputs", [list(Modality), [Modality.TEXT], [Modality.VIDEO]], ids="+".join)
def test_comfyuis_samplers_make_what_joint_sampler_makes(comfyui, sampler, tolerance, outputs):
    native = saved_latents(comfyui, native_prompt(outputs, sampler, 10, 2.0))
    joint = saved_latents(comfyui, joint_prompt(outputs, sampler, 10, 2.0))
    assert set(native) == set(joint) == set(outputs)
    for modality, latent in joint.items():
        assert (native[modality] - latent).norm() / latent.norm() < tolerance, modality


def test_comfyuis_sampler_keeps_what_a_mask_keeps(comfyui):
    """KSampler makes a span of a sound anew and a picture beside it, and keeps a text that has no mask."""
    prompt = native_prompt([Modality.AUDIO, Modality.IMAGE], "dpmpp_2m", 6, 2.0)
    for name in ("KSamplerSelect", "BasicScheduler", "CFGGuider", "NativeNoise", "SamplerCustomAdvanced"):
        del prompt[name]
    nodes: dict[str, dict[str, Any]] = {
        "LoadAudio": {"audio": "example_sound.flac"},
        "text": {"model": ["LoadCoDi", 0], "media": "a red circle"},
        "EncodeLatents": {"model": ["LoadCoDi", 0], "media": ["LoadAudio", 0], "others": ["text", 0]},
        "MaskLatents": {
            "model": ["LoadCoDi", 0],
            "latents": ["EncodeLatents", 0],
            "modality": "audio",
            "start": 0.8,
            "end": 1.6,
        },
        "KSampler": {
            "model": ["NativeModel", 0],
            "positive": ["NativeModel", 1],
            "negative": ["NativeModel", 2],
            "latent_image": ["NativeModel", 3],
            "seed": 1,
            "steps": 6,
            "cfg": 2.0,
            "sampler_name": "dpmpp_2m",
            "scheduler": "simple",
            "denoise": 1.0,
        },
    }
    prompt |= {name: {"class_type": name, "inputs": inputs} for name, inputs in nodes.items()}
    prompt["text"]["class_type"] = "EncodeLatents"
    prompt["NativeModel"]["inputs"]["known"] = ["MaskLatents", 0]
    prompt["LatentsFromNative"]["inputs"]["latent"] = ["KSampler", 0]
    made = saved_latents(comfyui, prompt)
    prompt["SaveLatents"]["inputs"]["latents"] = ["EncodeLatents", 0]
    before = saved_latents(comfyui, prompt)
    assert set(made) == {Modality.TEXT, Modality.IMAGE, Modality.AUDIO}
    assert_close(made["text"], before["text"])
    assert made["image"].std() > 0.1
    changed = (made["audio"] - before["audio"]).abs().amax(dim=(0, 1, 3)) > 1e-4
    middle_s = (torch.arange(len(changed)) + 0.5) * 0.08
    assert changed.tolist() == ((middle_s >= 0.8) & (middle_s < 1.6)).tolist()


def test_native_noise_for_a_latent_of_another_kind_says_what_to_connect(comfyui):
    prompt = native_prompt([Modality.IMAGE], "euler", 2, 2.0)
    empty = {"width": 64, "height": 64, "batch_size": 1}
    prompt["EmptyLatentImage"] = {"class_type": "EmptyLatentImage", "inputs": empty}
    prompt["SamplerCustomAdvanced"]["inputs"]["latent_image"] = ["EmptyLatentImage", 0]
    told = messages(comfyui.run(prompt))["execution_error"]
    assert told["node_type"] == "SamplerCustomAdvanced"
    assert "wanted a LATENT that began at Native Model" in told["exception_message"]


def test_a_mistake_reaches_the_user_in_our_words(comfyui):
    prompt = prompt_of("text_to_video_audio")
    prompt[find(prompt, "JointSampler")]["inputs"] |= dict.fromkeys(Modality, False)
    told = messages(comfyui.run(prompt))["execution_error"]
    assert told["node_type"] == "JointSampler"
    assert "wanted at least one output" in told["exception_message"]


def picture_of(kind: str, file: str, **widgets: Any) -> dict[str, Any]:
    """A run that makes a picture of a file in a single step. widgets: of Joint Sampler."""
    switches = {str(modality): modality is Modality.IMAGE for modality in Modality}
    settings = {"steps": 1, "guidance": 1.0, "scheduler": "ddim", "seed": 0}
    nodes: dict[str, dict[str, Any]] = {
        "LoadCoDi": {"checkpoint": "codi-mini", "dtype": "auto", "alignment": "paper"},
        kind: {"file" if kind == "LoadVideo" else "audio": file},
        "EncodeModality": {"model": ["LoadCoDi", 0], "prompt": [kind, 0]},
        "JointSampler": {"model": ["LoadCoDi", 0], "condition": ["EncodeModality", 0]} | switches | settings | widgets,
        "DecodeImage": {"model": ["LoadCoDi", 0], "latents": ["JointSampler", 0]},
    }
    return {name: {"class_type": name, "inputs": inputs} for name, inputs in nodes.items()}


def write_silence(path: Path, channels: int, samples: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, 16_000, samples, "NONE", ""))
        file.writeframes(bytes(2 * channels * samples))


def test_files_of_unusual_kinds_are_prompts_too(comfyui):
    """Of this video ComfyUI would keep 3.1 GiB of frames at once."""
    folder = comfyui.folder / "input"
    media.write_video(folder / "long.mp4", Frames(torch.zeros(1, 300, 3, 720, 1280), Fraction(25)))
    write_silence(folder / "many.wav", 10, 16_000)
    for kind, file in (("LoadVideo", "long.mp4"), ("LoadAudio", "many.wav")):
        entry = comfyui.run(picture_of(kind, file))
        assert entry["status"]["status_str"] == "success", entry["status"]


def test_what_cannot_be_used_is_told_and_the_queue_goes_on(comfyui):
    folder = comfyui.folder / "input"
    write_silence(folder / "none.wav", 1, 0)
    write_silence(folder / "second.wav", 1, 16_000)
    broken = comfyui.folder / "models/codi/broken"
    broken.mkdir(parents=True, exist_ok=True)
    (broken / "model_index.json").write_text("{")
    unreadable = picture_of("LoadAudio", "second.wav")
    unreadable["LoadCoDi"]["inputs"]["checkpoint"] = "broken"
    other_kind = picture_of("LoadAudio", "second.wav")
    other_kind["DecodeText"] = other_kind.pop("DecodeImage") | {"class_type": "DecodeText"}
    odd_size = picture_of("LoadAudio", "second.wav", width=72, height=64)
    for prompt, node, words in (
        # ComfyUI's own node refuses a sound of no length, in its own words.
        (picture_of("LoadAudio", "none.wav"), "LoadAudio", "No audio frames decoded"),
        (unreadable, "LoadCoDi", "broken/model_index.json"),
        (other_kind, "DecodeText", "wanted a latent of text, got latents of image; sample text too"),
        (odd_size, "JointSampler", "multiples of 16, got 72×64; the nearest is 64×64"),
    ):
        told = messages(comfyui.run(prompt))["execution_error"]
        assert told["node_type"] == node
        assert words in told["exception_message"]
    shutil.rmtree(broken)
    assert comfyui.run(picture_of("LoadAudio", "second.wav"))["status"]["status_str"] == "success"


async def interrupt_after(step: int, prompt: dict[str, Any], url: str) -> tuple[int, str]:
    """The last step that was reported, and how the run ended."""
    last = 0
    async with aiohttp.ClientSession(url) as session, session.ws_connect("/ws?clientId=tests") as events:
        await session.post("/prompt", json={"prompt": prompt, "client_id": "tests"})
        async for message in events:
            event = message.json() if message.type is aiohttp.WSMsgType.TEXT else {"type": "preview"}
            if event["type"] == "progress":
                last = event["data"]["value"]
                if last == step:
                    await session.post("/interrupt")
            if event["type"] in ("execution_interrupted", "execution_success", "execution_error"):
                return last, event["type"]
    raise AssertionError("the server closed the connection")


def test_an_interrupted_run_stops_between_steps_and_the_next_one_runs(comfyui):
    prompt = prompt_of("text_to_video_audio")
    sampler = prompt[find(prompt, "JointSampler")]["inputs"]
    sampler |= {"steps": 500, "seed": 7}
    last, end = asyncio.run(asyncio.wait_for(interrupt_after(2, prompt, comfyui.url), 300))
    assert end == "execution_interrupted"
    # The step that runs when the word comes is the last one; another may have ended before it came.
    assert 2 <= last <= 4
    sampler["steps"] = 2
    assert comfyui.run(prompt)["status"]["status_str"] == "success"
