"""Takes the pictures of the README's tour and of the help pages, in ComfyUI's own editor.

    python tests/browser/take_pictures.py --url http://127.0.0.1:8188

Needs a running ComfyUI with this pack and the files of `workflows/inputs` in its input folder, and Chromium.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

from editor import launch_chromium, open_editor
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[2]
TOUR, HELP = ROOT / "web/tour", ROOT / "web/docs"
WIDTH, HEIGHT = 1800, 1125
QUALITY = 85
LOAD = """async graph => {
    await app.loadGraphData(JSON.parse(graph));
    for (const node of app.graph.nodes)
        for (const widget of node.widgets ?? []) if (widget.name === "control_after_generate") widget.value = "fixed";
    await new Promise(done => setTimeout(done, 1500));
}"""
RUN = """() => {
    window.end = new Promise(done => {
        for (const name of ["success", "error"]) app.api.addEventListener(`execution_${name}`, () => done(name));
    });
    app.queuePrompt(0, 1);
}"""
DRAWN = """() => {
    const shown = [...document.querySelectorAll(".codi-output")];
    return shown.length > 0 && shown.every(output => output.querySelector("progress").value > 0.6);
}"""
SHOW_ALL = """margin => {
    const boxes = app.graph.nodes.map(node => [...node.pos, node.pos[0] + node.size[0], node.pos[1] + node.size[1]]);
    const [left, top] = [0, 1].map(axis => Math.min(...boxes.map(box => box[axis])) - 60);
    const [right, bottom] = [2, 3].map(axis => Math.max(...boxes.map(box => box[axis])) + 40);
    const scale = Math.min((innerWidth - 2 * margin) / (right - left), (innerHeight - 2 * margin) / (bottom - top));
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset = [margin / scale - left, margin / scale - top];
    app.canvas.setDirty(true, true);
}"""
SHOW_NODE = """([type, largest]) => {
    const node = app.graph.nodes.find(node => node.type === type);
    const scale = Math.min(largest, (innerHeight - 200) / node.size[1]);
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset = [200 / scale - node.pos[0], 160 / scale - node.pos[1]];
    app.canvas.deselectAll();
    app.canvas.setDirty(true, true);
    return [node.size[0] * scale, (node.size[1] + LiteGraph.NODE_TITLE_HEIGHT) * scale];
}"""
SETTINGS = {"Comfy.Minimap.Visible": False, "LiteGraph.Canvas.MinFontSizeForLOD": 0}
"""Whatever the scale, texts are drawn."""
MARGIN = 70
SCALE = 1.2
OF_NODES = {
    "DecodeAudio": "text_to_audio",
    "DecodeVideo": "any_to_all",
    "InterpolateConditions": "any_to_all",
    "CompareSimilarity": "compare_similarity",
}
"""Nodes, and the workflow in which they are shown after a run."""


class Editor:
    """A page with the editor open."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        open_editor(page, url, **SETTINGS)

    def load(self, workflow: str) -> None:
        self.page.evaluate(LOAD, (ROOT / f"workflows/{workflow}.json").read_text(encoding="utf-8"))

    def run(self) -> None:
        self.page.evaluate(RUN)

    def wait_for_the_end(self) -> None:
        end = self.page.evaluate("() => window.end")
        assert end == "success", f"the run ended with {end}"
        self.page.wait_for_timeout(3000)

    def take(self, path: Path, clip: tuple[float, float] | None = None) -> None:
        """clip: width and height of what `SHOW_NODE` placed."""
        self.page.wait_for_timeout(800)
        area = None if clip is None else {"x": 188, "y": 110, "width": clip[0] + 24, "height": clip[1] + 24}
        picture = Image.open(io.BytesIO(self.page.screenshot(**({"clip": area} if area else {})))).convert("RGB")
        path.parent.mkdir(exist_ok=True)
        picture.save(path, quality=QUALITY, optimize=True)
        print(path.relative_to(ROOT))

    def take_node(self, kind: str, path: Path) -> None:
        self.take(path, tuple(self.page.evaluate(SHOW_NODE, [kind, SCALE])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    url = parser.parse_args().url
    with sync_playwright() as driver:
        editor = Editor(launch_chromium(driver).new_page(viewport={"width": WIDTH, "height": HEIGHT}), url)
        editor.load("any_to_all")
        editor.page.evaluate(SHOW_ALL, MARGIN)
        editor.run()
        editor.page.wait_for_function(DRAWN, timeout=600_000)
        editor.take(TOUR / "making.jpg")
        editor.take_node("JointSampler", HELP / "JointSampler/making.jpg")
        editor.wait_for_the_end()
        editor.page.evaluate(SHOW_ALL, MARGIN)
        editor.take(TOUR / "made.jpg")
        for kind, workflow in OF_NODES.items():
            editor.load(workflow)
            editor.run()
            editor.wait_for_the_end()
            editor.take_node(kind, HELP / f"{kind}/shown.jpg")


if __name__ == "__main__":
    main()
