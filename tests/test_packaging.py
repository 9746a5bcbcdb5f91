"""What a reader, an installer and the checks rely on: lists that say the same, and imports that need nothing more."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
from PIL import Image

from comfyui_codi.codi_core.cli import app
from comfyui_codi.nodes import NODES

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]
IMPORT_EVERYTHING = """
import pkgutil, socket, sys

def refuse(*_):
    raise AssertionError("importing must not touch the network")

socket.socket.connect = refuse
for absent in ("comfy", "comfy_api", "folder_paths", "server", "nodes", "torchaudio"):
    sys.modules[absent] = None
import comfyui_codi.codi_core as core
from comfyui_codi.codi_core import CoDiPipeline
names = [each.name for each in pkgutil.walk_packages(core.__path__, core.__name__ + ".")]
for name in names:
    if not name.endswith("__main__"):
        __import__(name)
import comfyui_codi.nodes
print(len(names), CoDiPipeline.__name__)
"""


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def test_every_folder_with_modules_is_a_listed_package():
    """An unlisted one works in an editable installation and is missing from the wheel."""
    folders = {path.parent for top in ("codi_core", "nodes") for path in (ROOT / top).rglob("*.py")}
    tree = {"comfyui_codi"} | {".".join(("comfyui_codi", *folder.relative_to(ROOT).parts)) for folder in folders}
    assert sorted(PACKAGES) == sorted(tree)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_what_it_is(package):
    folder = ROOT.joinpath(*package.split(".")[1:])
    assert (folder / "__init__.py").read_text(encoding="utf-8").startswith('"""')


def test_core_and_nodes_import_without_comfyui_torchaudio_and_network(tmp_path):
    answer = subprocess.run([sys.executable, "-c", IMPORT_EVERYTHING], cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    count, name = answer.stdout.split()
    assert int(count) >= len(list((ROOT / "codi_core").rglob("*.py"))) - 1
    assert name == "CoDiPipeline"


def test_help_comes_without_waiting_for_torch(tmp_path):
    code = "import sys; from comfyui_codi.codi_core import cli; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert answer.stdout == "False\n", answer.stderr


def test_requirements_are_the_dependencies():
    assert read("requirements.txt").split() == PROJECT["project"]["dependencies"]


def test_torch_is_pinned_for_use_without_comfyui_alone():
    extras = PROJECT["project"]["optional-dependencies"]
    assert any(name.startswith("torch==") for name in extras["standalone"])
    assert not any(name.startswith("torch") for name in PROJECT["project"]["dependencies"])


def test_the_checks_run_the_command_of_the_readme():
    (command,) = re.findall(r"^ *(pip install -e '\.\[test\]' && pytest -n 2)$", read("README.md"), re.MULTILINE)
    assert f"\n{command}\n" in read(".ci/run")


def test_the_checks_run_every_hook():
    hooks = re.findall(r"^ +entry: (.+)$", read(".pre-commit-config.yaml"), re.MULTILINE)
    assert len(hooks) == 3
    for hook in hooks:
        assert f"\n{hook}\n" in read(".ci/run")


def test_pictures_of_the_readme_are_there():
    pictures = re.findall(r"!\[[^]]+\]\((.+?)\)", read("README.md"))
    assert len(pictures) >= 3
    assert all((ROOT / picture).is_file() for picture in pictures)


def test_the_readme_starts_a_workflow_that_is_there():
    (command,) = re.findall(r"^ *pip install -e '\.\[standalone\]' && codi run (\S+)$", read("README.md"), re.MULTILINE)
    assert (ROOT / command).is_file()


def test_the_readme_names_every_command_option_and_node():
    group = typer.main.get_group(app)
    rows = dict(re.findall(r"^\| `codi (\w+)(.*)$", read("README.md"), re.MULTILINE))
    assert rows.keys() == group.commands.keys()
    for name, command in group.commands.items():
        options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        missing = {option for option in options - {"--json", "--help"} if option not in rows[name]}
        assert not missing, f"codi {name}"
    assert all(node.GET_SCHEMA().display_name in read("README.md") for node in NODES)


def test_the_registry_finds_icon_and_banner_of_the_sizes_it_asks_for():
    sizes = {}
    for name in ("Icon", "Banner"):
        base, _, path = PROJECT["tool"]["comfy"][name].partition("/main/")
        assert base == PROJECT["project"]["urls"]["Repository"].replace("github.com", "raw.githubusercontent.com")
        with Image.open(ROOT / path) as picture:
            sizes[name] = picture.size
    assert max(sizes["Icon"]) <= 400
    assert sizes["Banner"][0] * 9 == sizes["Banner"][1] * 21
