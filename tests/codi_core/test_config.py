from __future__ import annotations

import json
import shutil

import pytest
import torch

from comfyui_codi.codi_core.config import INDEX_NAME, PRESETS, CoDiConfig, preset, read_json
from comfyui_codi.codi_core.errors import CheckpointError, ConfigError
from comfyui_codi.codi_core.modality import FACTS, Modality
from comfyui_codi.codi_core.parts import build_part

PUBLISHED = {
    "diffuser_vision": 1_772_784_247,
    "diffuser_text": 2_048_385_408,
    "diffuser_audio": 431_309_032,
    "image_autoencoder": 83_653_863,
    "text_autoencoder": 241_599_744,
    # Without position and frame rate tables that no layer uses: 24 layers, twice 30 rows of 1024.
    "clip": 737_647_217 - 24 * 2 * 30 * 1024,
    # Without the classifier heads and the unused projection (tscam_conv, head, audio_transform).
    "clap": 280_951_959 - 6_476_303 - 278_256 - 1_181_184,
}


def parameters(name: str, part: str) -> int:
    with torch.device("meta"):
        return sum(each.numel() for each in build_part(part, PRESETS[name]().parts[part]).parameters())


@pytest.mark.parametrize("part", PUBLISHED)
def test_the_official_preset_has_the_published_number_of_parameters(part):
    assert parameters("official", part) == PUBLISHED[part]


def test_the_official_audio_parts_have_the_published_number_of_parameters():
    assert parameters("official", "audio_autoencoder") + parameters("official", "vocoder") == 110_641_770


def test_codi_mini_stays_small():
    assert sum(parameters("mini", part) for part in PRESETS["mini"]().parts) < 31_000_000


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_describes_every_modality_with_parts_it_has(name):
    config = preset(name)
    assert set(config.modalities) == set(Modality)
    for modality, entry in config.modalities.items():
        assert entry.diffuser in config.parts
        for extent in FACTS[modality].extent:
            assert getattr(entry.size, extent) is not None


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_not_shared(name):
    assert preset(name) == preset(name)
    assert preset(name).parts is not preset(name).parts


def test_an_unknown_preset_lists_those_there_are():
    with pytest.raises(ConfigError, match="unknown preset 'huge'; choose one of: official, mini, tiny"):
        preset("huge")


@pytest.mark.parametrize("name", PRESETS)
def test_config_to_json_and_back(name, tmp_path):
    config = preset(name)
    (tmp_path / INDEX_NAME).write_text(json.dumps(config.to_index()), encoding="utf-8")
    for part, arguments in config.parts.items():
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps(arguments), encoding="utf-8")
    assert CoDiConfig.from_folder(tmp_path) == config


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """The tiny model without its weights, to be spoilt."""
    return shutil.copytree(tiny_folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))


@pytest.mark.parametrize("key", ["name", "parts", "modalities", "frames_per_second", "mel", "noise_schedule"])
def test_an_index_that_lacks_something_says_what(folder, key):
    index = read_json(folder / INDEX_NAME)
    del index[key]
    (folder / INDEX_NAME).write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"does not describe a CoDi model .*{key}.*convert or download it anew"):
        CoDiConfig.from_folder(folder)


def test_an_index_that_says_nothing_of_guided_alignment_means_none(folder):
    index = read_json(folder / INDEX_NAME)
    del index["guided_alignment"]
    (folder / INDEX_NAME).write_text(json.dumps(index), encoding="utf-8")
    assert not CoDiConfig.from_folder(folder).guided_alignment


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("modalities", {"smell": {}}),
        ("modalities", {"text": {"size": {}, "colour": 1}}),
        ("frames_per_second", "fast"),
        ("modalities", 3),
        ("parts", 3),
        ("frames_per_second", "1/0"),
    ],
)
def test_an_index_with_something_odd_is_refused(folder, key, value):
    index = read_json(folder / INDEX_NAME) | {key: value}
    (folder / INDEX_NAME).write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(CheckpointError, match="does not describe a CoDi model"):
        CoDiConfig.from_folder(folder)


def test_a_part_without_config_is_named(folder):
    (folder / "clap/config.json").unlink()
    with pytest.raises(CheckpointError, match=r"wanted config.json in .*clap, found none; .*complete\?"):
        CoDiConfig.from_folder(folder)


@pytest.mark.parametrize("content", ["{", "\udcff", ""], ids=["cut off", "not UTF-8", "empty"])
def test_a_damaged_file_says_so(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=r"cannot read .*config.json: .*; convert or download the model anew"):
        read_json(path)


def test_something_else_than_an_object_is_named(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("[1, 2]")
    with pytest.raises(CheckpointError, match=r"wanted a JSON object in .*config.json, got list"):
        read_json(path)
