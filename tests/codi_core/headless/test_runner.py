from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from comfyui_codi.codi_core import media
from comfyui_codi.codi_core.errors import GraphError, PromptError
from comfyui_codi.codi_core.headless import host, io, ui
from comfyui_codi.codi_core.headless.graph import Prompt
from comfyui_codi.codi_core.headless.runner import Progress, WrittenFile, run_graph
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.values import Picture

Kinds = dict[str, type[io.ComfyNode]]
GREY = torch.full((1, 4, 6, 3), 0.5)


def prompt_of(*nodes: tuple[str, dict[str, Any]]) -> Prompt:
    """Nodes numbered from 1."""
    return {str(index): {"class_type": kind, "inputs": given} for index, (kind, given) in enumerate(nodes, 1)}


@pytest.fixture
def seen() -> list[Any]:
    """What the probe `Look` got, in order."""
    return []


@pytest.fixture
def kinds(node: Any, seen: list[Any]) -> Kinds:
    any_input, any_output = io.AnyType.Input("value"), io.AnyType.Output()
    row = io.Autogrow.TemplatePrefix(io.AnyType.Input("item"), prefix="item_", min=1, max=5)
    either = io.MultiType.Input(io.String.Input("value", default="box"), types=[io.Image, io.Audio])

    def look(cls: Any, value: Any) -> io.NodeOutput:
        seen.append(value)
        return io.NodeOutput(value)

    made = [
        node("Look", [any_input], [any_output], look, is_output_node=True),
        node("Either", [either], [any_output], look, is_output_node=True),
        node(
            "Gather",
            [io.Autogrow.Input("items", template=row)],
            [any_output],
            lambda cls, items: io.NodeOutput(items),
        ),
        node(
            "Spread",
            [],
            [io.String.Output(is_output_list=True), io.Int.Output()],
            lambda cls: io.NodeOutput(["a", "b"], 7),
        ),
        node("Grey", [], [io.Image.Output()], lambda cls: io.NodeOutput(GREY, ui=ui.PreviewImage(GREY, cls=cls))),
        node(
            "Say",
            [io.String.Input("value", default="")],
            [io.String.Output()],
            lambda cls, value: io.NodeOutput(value, ui=ui.PreviewText(value)),
            is_output_node=True,
        ),
    ]
    return {each.GET_SCHEMA().node_id: each for each in made}


def run(prompt: Prompt, kinds: Kinds, folder: Path, **more: Any) -> list[WrittenFile]:
    return run_graph(prompt, kinds, output_dir=folder, **more)


def test_nodes_without_an_output_below_do_not_run(kinds: Kinds, seen: list[Any], tmp_path: Path, node: Any) -> None:
    kinds["Fail"] = node("Fail", [], [io.AnyType.Output()], lambda cls: pytest.fail("was run"))
    run(prompt_of(("Fail", {}), ("Look", {"value": "x"})), kinds, tmp_path)
    assert seen == ["x"]


def test_shared_node_runs_once(kinds: Kinds, seen: list[Any], tmp_path: Path) -> None:
    shared = {"value": ["1", 0]}
    run(prompt_of(("Look", {"value": "x"}), ("Look", shared), ("Look", shared)), kinds, tmp_path)
    assert seen == ["x", "x", "x"]


def test_growing_inputs_arrive_as_a_dict_without_gaps(kinds: Kinds, seen: list[Any], tmp_path: Path) -> None:
    gathered = {"items.item_2": ["1", 0], "items.item_0": ["1", 0]}
    run(prompt_of(("Look", {"value": "x"}), ("Gather", gathered), ("Look", {"value": ["2", 0]})), kinds, tmp_path)
    assert list(seen[-1].items()) == [("item_0", "x"), ("item_2", "x")]


def test_socket_of_several_types_takes_text_or_a_link(kinds: Kinds, seen: list[Any], tmp_path: Path) -> None:
    run(prompt_of(("Either", {"value": "words"}), ("Grey", {}), ("Either", {"value": ["2", 0]})), kinds, tmp_path)
    assert seen[0] == "words"
    assert torch.equal(seen[1], GREY)


def test_list_of_values_runs_the_next_node_once_for_each(kinds: Kinds, seen: list[Any], tmp_path: Path) -> None:
    gathered = {"items.item_0": ["1", 0], "items.item_1": ["1", 1]}
    run(prompt_of(("Spread", {}), ("Gather", gathered), ("Look", {"value": ["2", 0]})), kinds, tmp_path)
    assert seen == [{"item_0": "a", "item_1": 7}, {"item_0": "b", "item_1": 7}]


def test_node_knows_of_the_run_what_its_schema_asks_for(tmp_path: Path, node: Any) -> None:
    told = []
    asks = node(
        "Asks",
        [],
        [io.AnyType.Output()],
        lambda cls: io.NodeOutput(told.append(cls.hidden)),
        hidden=[io.Hidden.unique_id],
    )
    prompt = prompt_of(("Asks", {}), ("PreviewAny", {"source": ["1", 0]}))
    run(prompt, {"Asks": asks}, tmp_path)
    assert told == [io.HiddenHolder(unique_id="1")]
    assert asks.hidden == io.HiddenHolder()


def test_progress_tells_node_place_and_steps(tmp_path: Path, node: Any) -> None:
    def work(cls: Any) -> io.NodeOutput:
        bar = host.ProgressBar(2)
        bar.update(1)
        bar.update_absolute(2, 2, ("JPEG", None, 512))
        return io.NodeOutput("done")

    told: list[Progress] = []
    kinds = {"Work": node("Work", [], [io.String.Output()], work)}
    prompt = prompt_of(("Work", {}), ("PreviewAny", {"source": ["1", 0]}))
    run(prompt, kinds, tmp_path, on_progress=told.append)
    assert told == [
        Progress("node 1 (Work)", 1, 2),
        Progress("node 1 (Work)", 1, 2, step=1, steps=2),
        Progress("node 1 (Work)", 1, 2, step=2, steps=2),
        Progress("node 2 (PreviewAny)", 2, 2),
    ]


def test_exception_from_progress_cancels_within_the_step(tmp_path: Path, node: Any) -> None:
    steps = []

    def work(cls: Any) -> io.NodeOutput:
        for step in range(100):
            steps.append(step)
            host.ProgressBar(100).update_absolute(step)
        return io.NodeOutput("done")

    def cancel(progress: Progress) -> None:
        if progress.step == 3:
            raise TimeoutError

    prompt = prompt_of(("Work", {}), ("PreviewAny", {"source": ["1", 0]}))
    with pytest.raises(TimeoutError):
        run(prompt, {"Work": node("Work", [], [io.String.Output()], work)}, tmp_path, on_progress=cancel)
    assert steps == [0, 1, 2, 3]


def test_interrupt_leaves_whole_files_and_no_others(
    kinds: Kinds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: Any
) -> None:
    def work(cls: Any, image: Any) -> io.NodeOutput:
        signal.raise_signal(signal.SIGINT)
        return io.NodeOutput()

    temp, out = tmp_path / "temp", tmp_path / "out"
    temp.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temp))
    kinds["Work"] = node("Work", [io.Image.Input("image")], [], work, is_output_node=True)
    save = ("SaveImage", {"images": ["1", 0], "filename_prefix": "x"})
    with pytest.raises(KeyboardInterrupt):
        run(prompt_of(("Grey", {}), save, ("Work", {"image": ["1", 0]})), kinds, out)
    assert [media.probe(path).describe() for path in out.iterdir()] == [f"{out}/x_00001_.png: picture png 6x4"]
    assert list(temp.iterdir()) == []


def test_user_error_names_the_node_and_keeps_its_kind(tmp_path: Path, node: Any) -> None:
    def refuse(cls: Any) -> io.NodeOutput:
        raise PromptError("wanted words, got none; type some")

    kinds = {"Refuse": node("Refuse", [], [], refuse, is_output_node=True)}
    with pytest.raises(PromptError, match=r"node 1 \(Refuse\): wanted words, got none; type some"):
        run(prompt_of(("Refuse", {})), kinds, tmp_path)


def test_other_error_carries_the_node_as_a_note(tmp_path: Path, node: Any) -> None:
    kinds = {"Break": node("Break", [], [], lambda cls: io.NodeOutput(1 // 0), is_output_node=True)}
    with pytest.raises(ZeroDivisionError) as error:
        run(prompt_of(("Break", {})), kinds, tmp_path)
    assert error.value.__notes__ == ["while running node 1 (Break)"]


def test_nothing_runs_if_a_later_node_is_wrong(kinds: Kinds, seen: list[Any], tmp_path: Path) -> None:
    prompt = prompt_of(("Look", {"value": "x"}), ("SaveImage", {"filename_prefix": "x"}))
    with pytest.raises(GraphError, match="wanted the input images"):
        run(prompt, kinds, tmp_path)
    assert seen == []


def test_preview_is_kept_if_no_node_shows_the_same(kinds: Kinds, tmp_path: Path) -> None:
    files = run(prompt_of(("Say", {"value": "a  cat"}), ("Look", {"value": ["1", 0]})), kinds, tmp_path)
    assert [(file.path.name, file.node_id, file.node_class, file.modality) for file in files] == [
        ("Say_00001_.txt", "1", "Say", Modality.TEXT)
    ]
    assert files[0].path.read_text(encoding="utf-8") == "a  cat\n"
    assert (files[0].description, files[0].text) == ("text, 6 characters", "a  cat")


def test_preview_that_another_node_saves_is_not_kept(kinds: Kinds, tmp_path: Path) -> None:
    files = run(
        prompt_of(("Grey", {}), ("SaveImage", {"images": ["1", 0], "filename_prefix": "sub/x"})), kinds, tmp_path
    )
    assert [file.path for file in files] == [tmp_path / "sub/x_00001_.png"]
    assert files[0].description == "picture png 6x4"
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["x_00001_.png"]


def test_preview_nodes_leave_files_in_the_output_folder(kinds: Kinds, tmp_path: Path) -> None:
    files = run(prompt_of(("Grey", {}), ("PreviewImage", {"images": ["1", 0]})), kinds, tmp_path)
    assert [(file.path, file.node_id) for file in files] == [(tmp_path / "PreviewImage_00001_.png", "2")]


def test_runs_never_overwrite(kinds: Kinds, tmp_path: Path) -> None:
    prompt = prompt_of(("Grey", {}), ("SaveImage", {"images": ["1", 0], "filename_prefix": "x"}))
    (tmp_path / "x_00041_.png").touch()
    (tmp_path / "xx_00099_.png").touch()
    names = [file.path.name for _ in range(2) for file in run(prompt, kinds, tmp_path)]
    assert names == ["x_00042_.png", "x_00043_.png"]


@pytest.mark.parametrize("prefix", ["../x", "/x", "", ".", "%date%"])
def test_prefix_outside_the_output_folder_is_refused(kinds: Kinds, tmp_path: Path, prefix: str) -> None:
    prompt = prompt_of(("Grey", {}), ("SaveImage", {"images": ["1", 0], "filename_prefix": prefix}))
    with pytest.raises(GraphError, match=r"node 2 \(SaveImage\): wanted a filename_prefix below the output folder"):
        run(prompt, kinds, tmp_path / "out")


@pytest.mark.parametrize("place", ["given", "graphs", "graphs/inputs", "inputs"])
def test_input_files_are_found(tmp_path: Path, place: str) -> None:
    media.write(Picture(torch.zeros(1, 3, 2, 2)), tmp_path / place / "x.png")
    graph = tmp_path / "graphs/g.json"
    graph.parent.mkdir(exist_ok=True)
    nodes = prompt_of(("LoadImage", {"image": "x.png"}), ("PreviewImage", {"images": ["1", 0]}))
    graph.write_text(json.dumps(nodes), encoding="utf-8")
    files = run_graph(graph, {}, output_dir=tmp_path / "out", input_dir=tmp_path / "given")
    assert [file.description for file in files] == ["picture png 2x2"]


def test_settings_files_and_seed_reach_the_nodes(tmp_path: Path, node: Any) -> None:
    given = []
    inputs = [io.Int.Input("seed", default=0), io.Float.Input("scale", default=1.0), io.Image.Input("image")]
    kinds = {
        "Take": node(
            "Take", inputs, [], lambda cls, **values: given.append(values) or io.NodeOutput(), is_output_node=True
        )
    }
    media.write(Picture(torch.zeros(1, 3, 2, 2)), tmp_path / "x.png")
    prompt = prompt_of(("LoadImage", {"image": "y.png"}), ("Take", {"seed": 1, "scale": 2, "image": ["1", 0]}))
    run(prompt, kinds, tmp_path, settings=["Take.scale=0.5"], files=[f"y.png={tmp_path / 'x.png'}"], seed=9)
    assert (given[0]["seed"], given[0]["scale"], given[0]["image"].shape) == (9, 0.5, (1, 2, 2, 3))
    assert prompt["2"]["inputs"]["seed"] == 1
    assert prompt["1"]["inputs"]["image"] == "y.png"
