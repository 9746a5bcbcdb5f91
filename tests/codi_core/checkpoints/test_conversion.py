"""Official files to a model folder. The files are made of a tiny model's weights, under the official names."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from comfyui_codi.codi_core.checkpoints import files
from comfyui_codi.codi_core.checkpoints.conversion import SCRATCH_NAME, convert
from comfyui_codi.codi_core.checkpoints.convert import counterparts, to_official
from comfyui_codi.codi_core.checkpoints.official import ALIGNMENT_PREFIXES, OFFICIAL_PARTS
from comfyui_codi.codi_core.checkpoints.tokenizers import PUBLIC_TOKENIZERS
from comfyui_codi.codi_core.config import INDEX_NAME, CoDiConfig
from comfyui_codi.codi_core.errors import CheckpointError
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.parts import Parts
from comfyui_codi.codi_core.pipeline import CoDiPipeline
from comfyui_codi.codi_core.values import Picture

FILES = {
    "encoders.pth": ("clip", "clap", "image_autoencoder", "audio_autoencoder", "vocoder", "text_autoencoder"),
    "text.pth": ("diffuser_text",),
    "audio.pth": ("diffuser_audio",),
    "video.pth": ("diffuser_vision",),
}
KILLS = 50
NOWHERE = Path("nowhere")
"""Keeps a conversion from asking the hub for vocabularies."""


def official_state(pipeline: CoDiPipeline, names: Sequence[str]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for name in names:
        part, arguments = pipeline.parts[name], pipeline.config.parts[name]
        state |= to_official(part.state_dict(), counterparts(part, OFFICIAL_PARTS[name], arguments))
    return state


@pytest.fixture(scope="module")
def vocabularies(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's tokenizers, under the names of the public ones."""
    folder = tmp_path_factory.mktemp("vocabularies")
    for part, tokenizers in PUBLIC_TOKENIZERS.items():
        for place, public in tokenizers.items():
            shutil.copytree(tiny_folder / part / place, folder / public.hub_name.split("/")[1])
    return folder


@pytest.fixture(scope="module")
def official_files(tiny_pipeline, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("official")
    for file, names in FILES.items():
        # A mask that the released files hold too, and which nothing needs.
        more = {"clip.model.text_model.embeddings.position_ids": torch.arange(12)[None]} if "clip" in names else {}
        torch.save(official_state(tiny_pipeline, names) | more, folder / file)
    return [folder / file for file in FILES]


def assert_same_weights(folder: Path, config: CoDiConfig, pipeline: CoDiPipeline) -> None:
    made = Parts(config, folder)
    for name in config.parts:
        ours, theirs = made[name].state_dict(), pipeline.parts[name].state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_the_folder_has_every_weight_and_loads(tiny_pipeline, official_files, tmp_path: Path) -> None:
    told: dict[str, tuple[int, int]] = {}
    convert(
        official_files,
        tmp_path / "model",
        config=tiny_pipeline.config,
        tokenizers=NOWHERE,
        on_progress=lambda part, written, total: told.update({part: (written, total)}),
    )
    config = CoDiConfig.from_folder(tmp_path / "model")
    assert config == tiny_pipeline.config
    assert_same_weights(tmp_path / "model", config, tiny_pipeline)
    assert told.keys() == OFFICIAL_PARTS.keys()
    assert all(written == total for written, total in told.values())
    assert not (tmp_path / "model" / SCRATCH_NAME).exists()


def test_the_converted_model_generates_what_its_original_does(
    tiny_pipeline, official_files, vocabularies: Path, tmp_path: Path
) -> None:
    found = convert(official_files, tmp_path, config=tiny_pipeline.config, tokenizers=vocabularies)
    assert not any(part.tokenizers_missing for part in found)
    run = {"prompts": ["a red ball bounces"], "to": list(Modality), "steps": 2, "seed": 3}
    made, wanted = CoDiPipeline.from_pretrained(tmp_path)(**run), tiny_pipeline(**run)
    assert made[Modality.TEXT] == wanted[Modality.TEXT]
    # Equal weights, but at other places in memory, which decides how some libraries add up.
    torch.testing.assert_close(made[Modality.IMAGE].pixels, wanted[Modality.IMAGE].pixels, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(made[Modality.AUDIO].samples, wanted[Modality.AUDIO].samples, atol=1e-4, rtol=1e-4)


def test_without_vocabularies_all_but_text_works_and_they_are_named(
    tiny_pipeline, official_files, tmp_path: Path
) -> None:
    found = convert(official_files, tmp_path, config=tiny_pipeline.config, tokenizers=tmp_path / "none")
    missing = {part.name: part.tokenizers_missing for part in found if part.tokenizers_missing}
    assert missing == {
        "clip": ("openai/clip-vit-large-patch14",),
        "text_autoencoder": ("google-bert/bert-base-cased", "openai-community/gpt2"),
    }
    pipeline = CoDiPipeline.from_pretrained(tmp_path)
    picture = Picture(torch.zeros(1, 3, 16, 16))
    assert pipeline([picture], [Modality.AUDIO], steps=1).keys() == {Modality.AUDIO}
    with pytest.raises(CheckpointError, match="wanted CLIP's tokenizer to read a text, got none"):
        pipeline.encode("a red ball")


def test_vocabularies_can_be_added_later(tiny_pipeline, official_files, vocabularies: Path, tmp_path: Path) -> None:
    convert(official_files, tmp_path, config=tiny_pipeline.config, tokenizers=NOWHERE)
    with pytest.raises(CheckpointError, match="add these with `codi convert FOLDER`"):
        CoDiPipeline.from_pretrained(tmp_path).parts["text_autoencoder"].tokenizer_decoder  # noqa: B018
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.safetensors")}
    completed = convert([], tmp_path, config=tiny_pipeline.config, tokenizers=vocabularies)
    assert [(part.name, part.source, part.tokenizers_missing) for part in completed] == [
        ("clip", tmp_path / "clip", ()),
        ("text_autoencoder", tmp_path / "text_autoencoder", ()),
    ]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.safetensors")} == files
    assert not list(tmp_path.rglob(".*"))
    run = {"prompts": ["a red ball bounces"], "to": [Modality.TEXT], "steps": 2, "seed": 3}
    assert CoDiPipeline.from_pretrained(tmp_path)(**run) == tiny_pipeline(**run)
    assert convert([], tmp_path, config=tiny_pipeline.config, tokenizers=NOWHERE) == []


def test_with_one_vocabulary_of_two_a_model_loads(
    tiny_pipeline, official_files, vocabularies: Path, tmp_path: Path
) -> None:
    shutil.copytree(vocabularies / "bert-base-cased", tmp_path / "given/bert-base-cased")
    model = tmp_path / "model"
    found = convert(official_files[:1], model, config=tiny_pipeline.config, tokenizers=tmp_path / "given")
    missing = {part.name: part.tokenizers_missing for part in found}
    assert missing["text_autoencoder"] == ("openai-community/gpt2",)
    assert_same_weights(model, CoDiConfig.from_folder(model), tiny_pipeline)


def test_without_files_and_without_a_model_there_is_nothing_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"got only .*model; name the folder last"):
        convert([], tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_parts_can_be_added_to_a_folder_one_by_one(tiny_pipeline, official_files, tmp_path: Path) -> None:
    for file in official_files:
        convert([file], tmp_path, config=tiny_pipeline.config, tokenizers=NOWHERE)
    assert set(CoDiConfig.from_folder(tmp_path).parts) == set(tiny_pipeline.config.parts)
    assert_same_weights(tmp_path, CoDiConfig.from_folder(tmp_path), tiny_pipeline)


def test_a_model_makes_what_it_has_diffusers_for(tiny_pipeline, official_files, tmp_path: Path) -> None:
    convert(official_files[2:3], tmp_path, config=tiny_pipeline.config, tokenizers=NOWHERE)
    assert list(CoDiConfig.from_folder(tmp_path).modalities) == [Modality.AUDIO]


def test_half_precision_is_written_where_asked_for(tiny_pipeline, official_files, tmp_path: Path) -> None:
    convert(official_files[2:3], tmp_path, config=tiny_pipeline.config, tokenizers=NOWHERE, dtype=torch.float16)
    part = Parts(CoDiConfig.from_folder(tmp_path), tmp_path)["diffuser_audio"].state_dict()
    wanted = tiny_pipeline.parts["diffuser_audio"].state_dict()
    assert all(torch.equal(part[name], wanted[name].half().float()) for name in wanted)


def test_a_diffuser_without_environment_encoder_and_connectors_converts(tiny_pipeline, tmp_path: Path) -> None:
    prefix = OFFICIAL_PARTS["diffuser_audio"].prefix
    alone = {
        name: tensor
        for name, tensor in official_state(tiny_pipeline, ["diffuser_audio"]).items()
        if not name.startswith(tuple(prefix + group for group in ALIGNMENT_PREFIXES))
    }
    torch.save(alone, tmp_path / "alone.pth")
    (found,) = convert([tmp_path / "alone.pth"], tmp_path / "model", config=tiny_pipeline.config, tokenizers=NOWHERE)
    assert found.aligned is False
    config = CoDiConfig.from_folder(tmp_path / "model")
    assert config.parts["diffuser_audio"]["environment"] is None
    assert Parts(config, tmp_path / "model")["diffuser_audio"].environment_encoder is None


def half_a_download(path: Path, whole: Path, state: dict[str, Tensor]) -> None:
    path.write_bytes(whole.read_bytes()[:-1000])


def no_checkpoint(path: Path, whole: Path, state: dict[str, Tensor]) -> None:
    path.write_text("<html>404</html>")


def of_something_else(path: Path, whole: Path, state: dict[str, Tensor]) -> None:
    torch.save({"layer.weight": torch.zeros(2)}, path)


def no_tensors(path: Path, whole: Path, state: dict[str, Tensor]) -> None:
    torch.save([1, 2], path)


def half_the_alignment(path: Path, whole: Path, state: dict[str, Tensor]) -> None:
    dropped = next(name for name in state if "connecters_out" in name)
    torch.save({name: tensor for name, tensor in state.items() if name != dropped}, path)


def not_finite(path: Path, whole: Path, state: dict[str, Tensor]) -> None:
    torch.save({name: tensor.clone().fill_(1e6) for name, tensor in state.items()}, path)


class Program:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("ran",)


def a_program(path: Path, whole: Path, state: dict[str, Tensor]) -> None:
    torch.save({"weights": Program()}, path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (half_a_download, "cut short, download it again"),
        (no_checkpoint, "cannot read .* as a checkpoint of PyTorch"),
        (of_something_else, r"not a CoDi checkpoint: wanted names that begin with clip\.model\..*got layer\.weight"),
        (no_tensors, "wanted tensors by name"),
        (half_the_alignment, r"missing: model\.diffusion_model\.unet_audio\.connecters_out"),
        (not_finite, "is not finite as F16; convert to bf16 or fp32"),
        (a_program, "could run a program"),
    ],
)
def test_a_bad_file_is_refused_and_leaves_nothing(
    spoil, message: str, tiny_pipeline, official_files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil(tmp_path / "bad.pth", official_files[2], official_state(tiny_pipeline, ["diffuser_audio"]))
    with pytest.raises(CheckpointError, match=message):
        convert(
            [tmp_path / "bad.pth"],
            tmp_path / "model",
            config=tiny_pipeline.config,
            tokenizers=NOWHERE,
            dtype=torch.float16,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pth"]


def test_two_files_with_one_part_are_refused(tiny_pipeline, official_files, tmp_path: Path) -> None:
    again = tmp_path / "again.pth"
    again.write_bytes(official_files[2].read_bytes())
    with pytest.raises(CheckpointError, match=r"both .*audio\.pth and .*again\.pth hold the part 'diffuser_audio'"):
        convert([*official_files, again], tmp_path / "model", config=tiny_pipeline.config, tokenizers=NOWHERE)


def test_a_part_that_is_there_already_is_not_replaced(tiny_pipeline, official_files, tmp_path: Path) -> None:
    convert(official_files[2:3], tmp_path, config=tiny_pipeline.config, tokenizers=NOWHERE)
    with pytest.raises(CheckpointError, match="has the part diffuser_audio already"):
        convert(official_files[2:3], tmp_path, config=tiny_pipeline.config, tokenizers=NOWHERE)
    assert_same_weights(tmp_path, CoDiConfig.from_folder(tmp_path), tiny_pipeline)


def test_files_of_others_are_never_removed(tiny_pipeline, official_files, tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip/clip_l.safetensors").write_bytes(b"of the user")
    with pytest.raises(CheckpointError, match=r"wanted room for the part clip in .*clip, got files .* move them away"):
        convert(official_files, tmp_path, config=tiny_pipeline.config, tokenizers=NOWHERE)
    assert [path.name for path in tmp_path.rglob("*")] == ["clip", "clip_l.safetensors"]
    assert (tmp_path / "clip/clip_l.safetensors").read_bytes() == b"of the user"


def test_parts_of_an_unfinished_conversion_make_room(
    tiny_pipeline, official_files, vocabularies: Path, tmp_path: Path
) -> None:
    convert(official_files, tmp_path, config=tiny_pipeline.config, tokenizers=vocabularies)
    (tmp_path / INDEX_NAME).unlink()
    (tmp_path / "clip/model.safetensors").write_bytes(b"damaged")
    convert(official_files, tmp_path, config=tiny_pipeline.config, tokenizers=vocabularies)
    assert_same_weights(tmp_path, CoDiConfig.from_folder(tmp_path), tiny_pipeline)


def test_a_folder_of_another_model_is_refused_by_both_names(tiny_pipeline, official_files, tmp_path: Path) -> None:
    convert(official_files[:1], tmp_path, config=replace(tiny_pipeline.config, name="other"), tokenizers=NOWHERE)
    name = tiny_pipeline.config.name
    with pytest.raises(CheckpointError, match=f"folder of the model '{name}', got {tmp_path} with 'other'; choose"):
        convert(official_files[1:], tmp_path, config=tiny_pipeline.config, tokenizers=NOWHERE)


def test_what_the_index_says_otherwise_outlives_an_added_part(tiny_pipeline, official_files, tmp_path: Path) -> None:
    config = tiny_pipeline.config
    audio = {Modality.AUDIO: replace(config.modalities[Modality.AUDIO], guidance=1.5)}
    changed = replace(config, frames_per_second=Fraction(9), modalities={**config.modalities, **audio})
    convert(official_files[2:3], tmp_path, config=changed, tokenizers=NOWHERE)
    convert(official_files[1:2], tmp_path, config=config, tokenizers=NOWHERE)
    made = CoDiConfig.from_folder(tmp_path)
    assert list(made.parts) == ["diffuser_audio", "diffuser_text"]
    assert made.modalities == audio | {Modality.TEXT: config.modalities[Modality.TEXT]}
    assert made.frames_per_second == 9


def test_a_full_disk_leaves_nothing(
    tiny_pipeline, official_files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.json, "dumps", full)
    with pytest.raises(CheckpointError, match="No space left on device; make room"):
        convert(official_files, tmp_path / "model", config=tiny_pipeline.config, tokenizers=NOWHERE)
    assert not (tmp_path / "model").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
def test_killed_at_any_moment_there_is_no_model_or_a_whole_one(tiny_pipeline, official_files, tmp_path: Path) -> None:
    # Two files, so that a kill can fall between them, and no more, so that fifty do not take long.
    sources, model, whole = official_files[1:3], tmp_path / "model", 0

    def started() -> int:
        child = os.fork()
        if child == 0:
            try:
                convert(sources, model, config=tiny_pipeline.config, tokenizers=NOWHERE)
            finally:
                os._exit(0)
        return child

    before = time.monotonic()
    os.waitpid(started(), 0)
    takes_s = time.monotonic() - before
    (model / INDEX_NAME).unlink()
    chance = random.Random(0)
    for _ in range(KILLS):
        child = started()
        time.sleep(chance.uniform(0, 2 * takes_s))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if (model / INDEX_NAME).exists():
            whole += 1
            assert_same_weights(model, CoDiConfig.from_folder(model), tiny_pipeline)
            (model / INDEX_NAME).unlink()
    assert 0 < whole < KILLS
    convert(sources, model, config=tiny_pipeline.config, tokenizers=NOWHERE)
    assert_same_weights(model, CoDiConfig.from_folder(model), tiny_pipeline)
