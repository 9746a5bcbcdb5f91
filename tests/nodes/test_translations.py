"""The texts beside the schemas: locales and help pages say something about every node and input."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from comfyui_codi.nodes import NODES

ROOT = Path(__file__).parent.parent.parent
LANGUAGES = ("en", "zh")
SCHEMAS = {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in NODES}


def locale(language: str, name: str) -> dict:
    return json.loads((ROOT / f"locales/{language}/{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("node_id", SCHEMAS)
def test_locales_cover_every_input_and_output(language, node_id):
    texts, schema = locale(language, "nodeDefs")[node_id], SCHEMAS[node_id]
    assert texts["display_name"]
    assert texts["description"]
    assert list(texts["inputs"]) == [each.id for each in schema.inputs]
    assert list(texts["outputs"]) == [str(index) for index in range(len(schema.outputs))]
    for each in [*texts["inputs"].values(), *texts["outputs"].values()]:
        assert each["name"]
        assert each["tooltip"]


@pytest.mark.parametrize("node_id", SCHEMAS)
def test_english_says_what_the_schema_says(node_id):
    texts, schema = locale("en", "nodeDefs")[node_id], SCHEMAS[node_id]
    assert (texts["display_name"], texts["description"]) == (schema.display_name, schema.description)
    assert {name: each["tooltip"] for name, each in texts["inputs"].items()} == {
        each.id: each.tooltip for each in schema.inputs
    }
    assert [each["tooltip"] for each in texts["outputs"].values()] == [each.tooltip for each in schema.outputs]


@pytest.mark.parametrize("language", LANGUAGES)
def test_locales_name_our_types_and_no_forgotten_nodes(language):
    types = {each.io_type for schema in SCHEMAS.values() for each in [*schema.inputs, *schema.outputs]}
    assert set(locale(language, "main")["dataTypes"]) == {name for name in types if name.startswith("CODI_")}
    assert list(locale(language, "nodeDefs")) == list(SCHEMAS)


@pytest.mark.parametrize("node_id", SCHEMAS)
def test_help_explains_every_input_and_output(node_id):
    english = (ROOT / f"web/docs/{node_id}/en.md").read_text(encoding="utf-8")
    chinese = (ROOT / f"web/docs/{node_id}/zh.md").read_text(encoding="utf-8")
    texts, schema = locale("en", "nodeDefs")[node_id], SCHEMAS[node_id]
    assert english.startswith(f"# {schema.display_name}\n")
    assert chinese.startswith(f"# {locale('zh', 'nodeDefs')[node_id]['display_name']}\n")
    names = {each.id: texts["inputs"][each.id]["name"] for each in schema.inputs}
    # Four alike are written as first … last.
    middle = {"image_guidance", "video_guidance"}
    for name in names.keys() - middle:
        assert f"**{names[name]}**" in english, name
        assert f"`{name}`" in chinese, name
    for output in schema.outputs:
        assert f"**{output.id}**" in english


def test_help_pages_belong_to_nodes():
    assert {folder.name for folder in (ROOT / "web/docs").iterdir()} == set(SCHEMAS)


@pytest.mark.parametrize(
    "page", sorted((ROOT / "web/docs").glob("*/*.md")), ids=lambda page: f"{page.parent.name}-{page.stem}"
)
def test_pictures_of_help_pages_are_there(page):
    for picture in re.findall(r"!\[.+?\]\((.+?)\)", page.read_text(encoding="utf-8")):
        assert (ROOT / "web/docs" / picture).is_file(), picture
