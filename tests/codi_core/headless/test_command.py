from __future__ import annotations

import json
from pathlib import Path

import pytest

from comfyui_codi.codi_core.headless.command import run_command


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "graph.json"
    nodes = {
        "1": {"class_type": "PrimitiveString", "inputs": {"value": "hello"}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }
    path.write_text(json.dumps(nodes), encoding="utf-8")
    return path


def test_json_is_one_object_on_stdout(graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_command(graph, {}, output_dir=tmp_path, as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "files": [
            {
                "path": str(tmp_path / "PreviewAny_00001_.txt"),
                "node": "2",
                "class": "PreviewAny",
                "modality": "text",
                "description": "text, 5 characters",
                "text": "hello",
            }
        ]
    }


def test_list_names_each_file_on_a_line(graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_command(graph, {}, output_dir=tmp_path, settings=["1.value=a [b] c"])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split("\t") == [
        str(tmp_path / "PreviewAny_00001_.txt"),
        "2",
        "PreviewAny",
        "text",
        "text, 7 characters",
        "a [b] c",
    ]
