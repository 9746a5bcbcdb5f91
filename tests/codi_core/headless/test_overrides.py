from __future__ import annotations

from pathlib import Path

import pytest

from comfyui_codi.codi_core.errors import GraphError
from comfyui_codi.codi_core.headless.graph import NodeClasses, Prompt
from comfyui_codi.codi_core.headless.overrides import set_files, set_seed, set_values


@pytest.fixture
def loading() -> Prompt:
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "cat.jpg"}, "_meta": {"title": "Cat"}},
        "2": {"class_type": "LoadImage", "inputs": {"image": "cat.jpg"}, "_meta": {"title": "Load Image"}},
        "3": {"class_type": "LoadAudio", "inputs": {"audio": "sea.wav"}, "_meta": {"title": "Load Image"}},
    }


@pytest.mark.parametrize("target", ["2", "Words", "ProbeEncode"])
def test_node_may_be_named_by_id_title_or_class(classes: NodeClasses, sampling: Prompt, target: str) -> None:
    set_values(sampling, [f"{target}.source=a dog = a friend"], classes)
    assert sampling["2"]["inputs"]["source"] == "a dog = a friend"


def test_later_settings_win(classes: NodeClasses, sampling: Prompt) -> None:
    set_values(sampling, ["3.steps=5", "3.steps=6"], classes)
    assert sampling["3"]["inputs"]["steps"] == "6"


def test_setting_replaces_a_link(classes: NodeClasses, sampling: Prompt) -> None:
    sampling["2"]["inputs"]["source"] = ["9", 0]
    set_values(sampling, ["2.source=x"], classes)
    assert sampling["2"]["inputs"]["source"] == "x"


def test_titles_may_have_dots(classes: NodeClasses, sampling: Prompt) -> None:
    sampling["3"]["_meta"] = {"title": "v1.5. final"}
    set_values(sampling, ["v1.5. final.steps=5"], classes)
    assert sampling["3"]["inputs"]["steps"] == "5"


def test_id_goes_before_the_title_of_another(classes: NodeClasses, sampling: Prompt) -> None:
    sampling["5"] = {"class_type": "ProbeEncode", "inputs": {}, "_meta": {"title": "2"}}
    set_values(sampling, ["2.source=x"], classes)
    assert "source" not in sampling["5"]["inputs"]


@pytest.mark.parametrize("setting", ["3.step=1", "9.steps=1", "steps=1", "3.steps", "", "=1"])
def test_unknown_target_lists_what_can_be_set(classes: NodeClasses, sampling: Prompt, setting: str) -> None:
    with pytest.raises(GraphError, match=rf"wanted --set NODE.INPUT=VALUE, got '{setting}'; .*1.dtype, .*3.steps"):
        set_values(sampling, [setting], classes)


def test_ambiguous_target_lists_the_ids(classes: NodeClasses, sampling: Prompt) -> None:
    sampling["5"] = sampling["2"]
    with pytest.raises(GraphError, match=r"got 'Words.source', which fits several; write 2.source or 5.source"):
        set_values(sampling, ["Words.source=x"], classes)


def test_seed_reaches_every_seed(classes: NodeClasses, sampling: Prompt) -> None:
    sampling["5"] = {"class_type": "ProbeSample", "inputs": {}}
    set_seed(sampling, 7, classes)
    assert [sampling[name]["inputs"]["seed"] for name in ("3", "5")] == [7, 7]


def test_seed_without_a_place_is_refused(classes: NodeClasses, loading: Prompt) -> None:
    with pytest.raises(GraphError, match="wanted a node with a seed to set to 7, got none; leave --seed out"):
        set_seed(loading, 7, classes)


@pytest.mark.parametrize(
    ("name", "changed"), [("cat.jpg", {"1", "2"}), ("Cat", {"1"}), ("3", {"3"}), ("sea.wav", {"3"})]
)
def test_file_goes_to_nodes_by_file_title_or_id(
    classes: NodeClasses, loading: Prompt, tmp_path: Path, name: str, changed: set[str]
) -> None:
    file = tmp_path / "x=1.bin"
    file.touch()
    set_files(loading, [f"{name}={file}"], classes)
    assert {each for each, node in loading.items() if str(file) in node["inputs"].values()} == changed


@pytest.mark.parametrize("mapping", ["dog.jpg={}", "cat.jpg", "={}"])
def test_unknown_name_lists_the_loading_nodes(
    classes: NodeClasses, loading: Prompt, tmp_path: Path, mapping: str
) -> None:
    file = tmp_path / "x"
    file.touch()
    with pytest.raises(GraphError, match=r"wanted --input NAME=FILE, got .*; files are read by node 1 \(Cat\) cat.jpg"):
        set_files(loading, [mapping.format(file)], classes)


def test_file_for_several_nodes_of_one_title_is_refused(classes: NodeClasses, loading: Prompt, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="got 'Load Image', which fits several; write 2 or 3"):
        set_files(loading, [f"Load Image={__file__}"], classes)


def test_absent_file_is_refused(classes: NodeClasses, loading: Prompt, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"wanted --input NAME=FILE with a file, got '.*none', which is none"):
        set_files(loading, [f"Cat={tmp_path / 'none'}"], classes)
