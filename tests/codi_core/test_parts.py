from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from comfyui_codi.codi_core.config import INDEX_NAME, CoDiConfig
from comfyui_codi.codi_core.errors import CheckpointError, ConfigError
from comfyui_codi.codi_core.parts import WEIGHTS_NAME, Parts, save_part
from comfyui_codi.codi_core.pipeline import CoDiPipeline

PART = "diffuser_text"


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of the tiny model, to be spoilt."""
    return shutil.copytree(tiny_folder, tmp_path / "model")


@pytest.fixture
def weights(folder):
    return folder / PART / WEIGHTS_NAME


def load(folder: Path) -> Parts:
    return Parts(CoDiConfig.from_folder(folder), folder)


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_parts_are_loaded_when_first_looked_up_and_kept(tiny_folder):
    parts = load(tiny_folder)
    assert not parts.loaded
    assert parts[PART] is parts[PART]
    assert list(parts.loaded) == [PART]


def test_loaded_parts_neither_train_nor_want_gradients(tiny_folder):
    for part in load(tiny_folder).values():
        assert not part.training
        assert not any(parameter.requires_grad for parameter in part.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_come_in_the_precision_asked_for(tiny_folder, dtype):
    for name, part in Parts(CoDiConfig.from_folder(tiny_folder), tiny_folder, dtype).items():
        assert {parameter.dtype for parameter in part.parameters()} == {dtype}, name


def test_saving_what_was_loaded_gives_the_same_files(tiny_folder, tmp_path):
    load(tiny_folder).save(tmp_path / "copy", torch.float32)
    assert files(tmp_path / "copy") == files(tiny_folder)


def test_a_model_may_be_saved_to_its_own_folder_however_that_is_written(tiny_folder, tmp_path, monkeypatch):
    shutil.copytree(tiny_folder, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    load(Path("model")).save(tmp_path / "model", torch.float32)
    assert files(tmp_path / "model") == files(tiny_folder)


def test_what_rests_layer_by_layer_is_not_saved(tiny_folder, tmp_path):
    pipeline = CoDiPipeline.from_pretrained(tiny_folder, offload="layers")
    with pytest.raises(ConfigError, match="rests layer by layer and cannot be saved; load the model without offload"):
        pipeline.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_half_precision_files_are_half_as_large_and_still_load(tiny_folder, tmp_path):
    load(tiny_folder).save(tmp_path / "half", torch.float16)
    for name, part in load(tmp_path / "half").items():
        assert (tmp_path / "half" / name / WEIGHTS_NAME).stat().st_size < 0.6 * sum(
            4 * value.numel() for value in part.state_dict().values()
        ) + 20_000
        assert next(part.parameters()).dtype == torch.float32


def test_the_index_comes_last(tiny_folder, tmp_path):
    """A folder in which something went wrong has none, and is then no model."""
    parts = load(tiny_folder)
    assert parts["vocoder"]
    parts.config = replace(parts.config, parts={**parts.config.parts, "vocoder": {"not JSON": object()}})
    with pytest.raises(TypeError):
        parts.save(tmp_path, torch.float32)
    assert not (tmp_path / INDEX_NAME).exists()
    with pytest.raises(CheckpointError, match=f"a folder with {INDEX_NAME}"):
        CoDiPipeline.from_pretrained(tmp_path)


def test_a_failed_save_leaves_the_old_part_as_it_was(folder):
    before = files(folder)
    with pytest.raises(TypeError):
        save_part(folder, PART, load(folder)[PART], {"not JSON": object()}, torch.float16)
    assert files(folder) == before


def test_a_missing_part_is_named(folder, weights):
    weights.unlink()
    with pytest.raises(
        CheckpointError, match=rf"lacks its part '{PART}': wanted .*{WEIGHTS_NAME}; convert or download"
    ):
        load(folder)[PART]


def test_a_part_that_the_model_never_had_lists_those_it_has(tiny_folder):
    with pytest.raises(CheckpointError, match=r"model 'tiny' lacks its part 'diffuser_smell'; it has .*clap, clip"):
        load(tiny_folder)["diffuser_smell"]


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_off_anywhere_is_refused(tiny_folder, tmp_path_factory, share):
    folder = tmp_path_factory.mktemp("cut")
    (folder / PART).mkdir()
    whole = (tiny_folder / PART / WEIGHTS_NAME).read_bytes()
    (folder / PART / WEIGHTS_NAME).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match=r"is damaged or no safetensors file .*; download it anew"):
        Parts(CoDiConfig.from_folder(tiny_folder), folder)[PART]


@pytest.mark.parametrize("write", [pickle.dump, torch.save], ids=["pickle", "torch"])
def test_a_pickle_in_disguise_is_refused_and_never_runs(folder, weights, tmp_path, write):
    trace = tmp_path / "ran"
    with weights.open("wb") as file:
        write({"stem.linear.weight": Trap(trace)}, file)
    with pytest.raises(CheckpointError, match="no safetensors file"):
        load(folder)[PART]
    assert not trace.exists()


@pytest.mark.parametrize("name", ["CoDi_encoders.pth", "pytorch_model.bin", "model.ckpt", "model.safetensors"])
def test_a_single_file_is_no_model_and_never_runs(tmp_path, name):
    trace = tmp_path / "ran"
    (tmp_path / name).write_bytes(pickle.dumps(Trap(trace)))
    with pytest.raises(
        CheckpointError, match=rf"wanted a model: codi-mini or a folder with {INDEX_NAME}, got '.*{name}'"
    ):
        CoDiPipeline.from_pretrained(tmp_path / name)
    assert not trace.exists()


def test_weights_of_another_shape_name_the_tensor(folder, weights):
    state = load_file(weights)
    state["head.last.1.weight"] = torch.zeros(3, 5)
    save_file(state, weights)
    with pytest.raises(CheckpointError, match=r"do not fit its config.json(.|\n)*head.last.1.weight"):
        load(folder)[PART]


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_weights_that_lack_or_add_a_tensor_name_it(folder, weights, change):
    state = load_file(weights)
    state["of_another_model"] = state.pop("stem.linear.weight") if change == "missing" else torch.zeros(1)
    save_file(state, weights)
    with pytest.raises(CheckpointError, match=r"do not fit its config.json(.|\n)*of_another_model"):
        load(folder)[PART]


@pytest.mark.parametrize("arguments", [{"colour": 1}, {"width": "wide"}, {"multipliers": None}])
def test_a_config_of_another_version_is_refused(folder, arguments):
    path = folder / PART / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | arguments))
    with pytest.raises(CheckpointError, match=rf"does not describe a part '{PART}'"):
        load(folder)[PART]


def test_an_unknown_part_is_refused(folder):
    shutil.copytree(folder / "vocoder", folder / "smeller")
    index = json.loads((folder / INDEX_NAME).read_text())
    index["parts"].append("smeller")
    (folder / INDEX_NAME).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="does not describe a part 'smeller'"):
        load(folder)["smeller"]


@pytest.mark.parametrize("place", ["encoder_tokenizer", "decoder_tokenizer"])
def test_a_text_autoencoder_with_one_tokenizer_of_two_still_loads(folder, place):
    shutil.rmtree(folder / "text_autoencoder" / place)
    assert load(folder)["text_autoencoder"]


def test_a_missing_tokenizer_is_named_when_text_is_to_be_read(folder):
    shutil.rmtree(folder / "clip/tokenizer")
    clip = load(folder)["clip"]
    with pytest.raises(CheckpointError, match="wanted CLIP's tokenizer to read a text, got none"):
        clip.encode_text(["a"])
