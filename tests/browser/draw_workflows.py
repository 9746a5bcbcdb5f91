"""Draws the workflows in ComfyUI's own editor, and writes what it saves and what it sends.

    python tests/browser/draw_workflows.py --url http://127.0.0.1:8188 [NAME …]

Needs a running ComfyUI with this pack, and Chromium. What they hold stands in `templates.py`, so that all of them look
alike and follow the nodes when these grow.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from editor import launch_chromium, open_editor
from playwright.sync_api import sync_playwright
from templates import TEMPLATES, Node

WORKFLOWS = Path(__file__).parents[2] / "workflows"
COLUMN_GAP, ROW_GAP, TOP, MARGIN = 80, 60, 80, 20
COLOUR = "#3f789e"
FAR = 2
"""Columns from the model on, from which its wire would pass behind other nodes."""
SIZES = {
    "MarkdownNote": (300, 420),
    "LoadCoDi": (320, 106),
    "DownloadCoDi": (320, 160),
    "NativeModel": (300, 320),
    "KSampler": (300, 480),
    "LatentsFromNative": (300, 60),
    "LoadImage": (320, 320),
    "LoadAudio": (320, 136),
    "LoadVideo": (390, 370),
    "EncodeModality": (360, 240),
    "EncodeLatents": (360, 240),
    "MaskLatents": (300, 170),
    "InterpolateConditions": (300, 330),
    "FadeConditions": (300, 150),
    "JointSampler": (300, 860),
    "DecodeText": (280, 160),
    "DecodeImage": (280, 320),
    "DecodeAudio": (280, 170),
    "DecodeVideo": (280, 340),
    "GetVideoComponents": (280, 90),
    "CreateVideo": (280, 110),
    "PreviewAny": (320, 180),
    "CompareSimilarity": (320, 400),
    "Reroute": (75, 26),
    "SaveImage": (320, 320),
    "SaveAudio": (320, 112),
    "SaveVideo": (320, 400),
}
"""Width and height, with room for what a run shows."""

DRAW = """async ({nodes, groups}) => {
    app.graph.clear();
    await new Promise(done => setTimeout(done, 200));
    const made = {};
    for (const {key, type, title, position, widgets, mode, models} of nodes) {
        const node = LiteGraph.createNode(type);
        if (title) node.title = title;
        node.mode = mode;
        if (models.length) node.properties.models = models;
        app.graph.add(node);
        node.pos = position;
        made[key] = node;
        await new Promise(done => setTimeout(done, 50));
        for (const [name, value] of Object.entries(widgets)) {
            // The only field of a note has another name in every version.
            const widget = name ? node.widgets.find(widget => widget.name === name) : node.widgets[0];
            if (!widget) throw new Error(`${type} has no ${name}`);
            widget.value = value;
        }
    }
    for (const {key, wires} of nodes) {
        for (const [input, [source, output]] of Object.entries(wires)) {
            const slot = made[key].findInputSlot(input);
            if (slot < 0) throw new Error(`${key} has no ${input}`);
            made[source].connect(output, made[key], slot);
            await new Promise(done => setTimeout(done, 100));
        }
    }
    for (const group of groups) {
        const drawn = new LiteGraph.LGraphGroup(group.title);
        drawn.color = group.color;
        [drawn.pos, drawn.size] = [group.position, group.size];
        app.graph.add(drawn);
    }
    await new Promise(done => setTimeout(done, 1000));
    // At last, since nodes grow when their files have been loaded.
    for (const {key, size} of nodes) made[key].setSize(size);
    // As text, or what is undefined would come as null.
    const workflow = JSON.stringify((await app.graphToPrompt()).workflow);
    // What is sent is what the saved one sends, once it is loaded again.
    await app.loadGraphData(JSON.parse(workflow));
    await new Promise(done => setTimeout(done, 1000));
    return [workflow, JSON.stringify((await app.graphToPrompt()).output)];
}"""


def laid_out(name: str) -> dict[str, Any]:
    """A template's nodes with their places and the names of the files they write, and frames around the columns."""
    template = TEMPLATES[name]
    nodes = [_placed("note", Node("MarkdownNote", "Read me", {"": template.note}), 0, 0)]
    groups, x = [], SIZES["MarkdownNote"][0] + COLUMN_GAP
    bends: list[dict[str, Any]] = []
    heights = [sum(max(SIZES[n.type][1] for n in row.values()) + ROW_GAP for row in c.rows) for c in template.columns]
    source = "model"
    for number, column in enumerate(template.columns):
        y = width = 0
        if number >= FAR and any(_needs_model(node) for row in column.rows for node in row.values()):
            # Far from the model its wire runs above all nodes, and down beside those that need it.
            bend = Node("Reroute", "", {}, {"": (source, 0)})
            source = f"model for {column.title}"
            bends.append(_placed(source, bend, x - SIZES[bend.type][0] - MARGIN, -TOP - ROW_GAP))
        for row in column.rows:
            across = 0
            for key, node in row.items():
                wired = replace(node, wires=node.wires | {"model": (source, 0)}) if _needs_model(node) else node
                nodes.append(_placed(key, wired, x + across, y))
                across += SIZES[node.type][0] + COLUMN_GAP
            width = max(width, across - COLUMN_GAP)
            y += max(SIZES[node.type][1] for node in row.values()) + ROW_GAP
        place = {"position": [x - MARGIN, -TOP], "size": [width + 2 * MARGIN, max(heights) + TOP - ROW_GAP + MARGIN]}
        groups.append({"title": column.title, "color": COLOUR, **place})
        x += width + COLUMN_GAP
    nodes += bends
    for node in nodes:
        if node["type"].startswith("Save"):
            node["widgets"] = {"filename_prefix": f"codi/{name}"}
    return {"nodes": nodes, "groups": groups}


def _needs_model(node: Node) -> bool:
    return node.wires.get("model", ("",))[0] == "model"


def _placed(key: str, node: Node, x: int, y: int) -> dict[str, Any]:
    return {**vars(node), "key": key, "position": [x, y], "size": SIZES[node.type]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all of them where none is named")
    parser.add_argument("--url", required=True)
    chosen = parser.parse_args()
    with sync_playwright() as driver:
        page = launch_chromium(driver).new_page()
        open_editor(page, chosen.url)
        for name in chosen.names or TEMPLATES:
            workflow, prompt = map(json.loads, page.evaluate(DRAW, laid_out(name)))
            graph = workflow | {"id": str(uuid5(NAMESPACE_URL, name)), "revision": 0}
            graph["extra"] |= {"ds": {"scale": 0.7, "offset": [80, 180]}}
            for folder, content in ((WORKFLOWS, graph), (WORKFLOWS / "api", prompt)):
                text = json.dumps(content, indent=1, ensure_ascii=False)
                (folder / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
            print(name)


if __name__ == "__main__":
    main()
