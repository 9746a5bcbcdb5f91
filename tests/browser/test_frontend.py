"""The pack in the real frontend: workflows, what nodes show, translations."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from editor import READY, launch_chromium, open_editor
from sent_prompts import what_is_run

from comfyui_codi.codi_core.checkpoints.download import OFFICIAL_REPOSITORY

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = pytest.mark.browser

WORKFLOWS = Path(__file__).parent.parent.parent / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
WITHOUT_WEIGHTS = {"official_checkpoint"}
"""Those of a model that doesn't come with the pack: the editor says which one, on loading or else when they are run."""
OF_THE_EDITOR = ("404", "/api/jobs", "[Jobs API]", "https://huggingface.co/Comfy-Org", "never set up")
"""An empty profile lacks files that the editor asks for; one newer than its host asks for jobs that the host doesn't
know, and looks for the models of the graph that it opens by itself. Leaving a subgraph, it cleans up what isn't there.
"""
LOAD = """async graph => {
    await app.loadGraphData(JSON.parse(graph));
    await new Promise(done => setTimeout(done, 1000));
}"""
RUN = """async () => {
    const end = new Promise(done => {
        app.api.addEventListener("execution_success", () => done("success"));
        app.api.addEventListener("execution_error", event => done(event.detail.exception_message));
    });
    await app.queuePrompt(0, 1);
    return await end;
}"""
REFUSED = """async () => {
    await app.queuePrompt(0, 1).catch(() => {});  // whether the editor raises the refusal or only shows it
    return Object.values(app.lastNodeErrors);
}"""
SET_STEPS = """steps => {
    const sampler = app.graph.nodes.find(node => node.type === "JointSampler");
    sampler.widgets.find(widget => widget.name === "steps").value = steps;
}"""
START = """() => {
    window.end = new Promise(done => {
        for (const name of ["success", "error", "interrupted"])
            app.api.addEventListener(`execution_${name}`, () => done(name));
    });
    app.queuePrompt(0, 1);
}"""
DRAFTS = """count => {
    const drawn = output => output.querySelector("img")?.naturalWidth > 0 || output.querySelector("p").textContent;
    return [...document.querySelectorAll(".codi-output")].filter(drawn).length >= count;
}"""
LOOK_AT = """type => {
    const node = app.graph.nodes.find(node => node.type === type);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [300 - node.pos[0], 200 - node.pos[1]];
    app.canvas.setDirty(true, true);
}"""
WEIGHTS = """async () => {
    const prompt = Object.values((await app.graphToPrompt()).output);
    return prompt.find(node => node.class_type === "InterpolateConditions").inputs.weights;
}"""
PLAYABLE = """([kind, count]) =>
    [...document.querySelectorAll(kind)].filter(player => player.duration > 1).length >= count"""
IMAGE_IS_SHOWN = """() => {
    const node = app.graph.nodes.find(node => node.type === "DecodeImage");
    return node.imgs?.length || document.querySelector(`[data-node-id="${node.id}"] img`)?.naturalWidth > 0;
}"""
WAVEFORM_IS_DRAWN = """() => {
    const canvas = document.querySelector(".codi-waveform");
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const drawn = pixels.filter((value, index) => index % 4 === 3 && value > 0).length;
    return drawn > 2 * canvas.width && canvas.ariaLabel === "2.6 s";
}"""
DROP = """([name, type, content]) => {
    const dataTransfer = new DataTransfer();
    const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
    dataTransfer.items.add(new File([bytes], name, { type }));
    const event = { bubbles: true, cancelable: true, dataTransfer, clientX: 600, clientY: 500 };
    for (const kind of ["dragenter", "dragover", "drop"])
        document.getElementById("graph-canvas").dispatchEvent(new DragEvent(kind, event));
}"""
TYPES = "() => app.graph.nodes.map(node => node.type).sort()"
TEXT_IS_SHOWN = """() => {
    const node = app.graph.nodes.find(node => node.type === "DecodeText");
    return node.widgets[0].element.value === app.nodeOutputs[node.id].text.join("\\n");
}"""

TEXT_FIELDS = """() => {
    const nodes = graph => graph.nodes.flatMap(node => [node, ...node.subgraph ? nodes(node.subgraph) : []]);
    return nodes(app.rootGraph).filter(node => node.type === "DecodeText").map(node => node.widgets[0].element.value);
}"""
ENCLOSE = """types => {
    const { node, subgraph } = app.graph.convertToSubgraph(new Set(app.graph.nodes.filter(
        node => types.includes(node.type))));
    app.canvas.openSubgraph?.(subgraph, node) ?? app.canvas.setGraph(subgraph);
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """No longer than this module: while it is open an event loop runs, beside which other tests could start none."""
    with playwright.sync_playwright() as driver:
        browser = launch_chromium(driver)
        yield browser
        browser.close()


class Frontend:
    """A page with the editor open, and everything that it complained of."""

    def __init__(self, chromium: Any, url: str, **settings: Any) -> None:
        self.complaints: list[str] = []
        self.page = chromium.new_page(viewport={"width": 1920, "height": 1200})
        self.page.set_default_timeout(120_000)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._hear)
        open_editor(self.page, url, **settings)

    def _hear(self, message: Any) -> None:
        text = f"{message.text} ({message.location.get('url')})"
        ours = "ComfyUI-CoDi" in text
        if message.type == "error" and (ours or not any(words in text for words in OF_THE_EDITOR)):
            self.complaints.append(text)

    def load(self, name: str) -> None:
        self.page.evaluate(LOAD, (WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))

    def alerts(self) -> list[str]:
        return self.page.locator(".p-toast-message, .p-dialog").all_inner_texts()


@pytest.fixture
def frontend(comfyui: Any, chromium: Any) -> Iterator[Frontend]:
    opened = Frontend(chromium, comfyui.url)
    yield opened
    opened.page.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_loads_without_complaint_and_says_what_the_api_file_says(frontend, name):
    frontend.load(name)
    if name in WITHOUT_WEIGHTS:
        if "COMFYUI_FRONTEND" not in os.environ:  # newer ones look for files alone, not for folders
            (alert,) = frontend.alerts()
            assert "Missing Models" in alert
            assert "codi / official" in alert
        # The editor asks the hub how large they are, which it cannot do without a network.
        asking = (OFFICIAL_REPOSITORY, "Error fetching file size")
        frontend.complaints = [each for each in frontend.complaints if not any(words in each for words in asking)]
    else:
        assert frontend.alerts() == []
    assert frontend.complaints == []
    sent = frontend.page.evaluate("async () => (await app.graphToPrompt()).output")
    assert what_is_run(sent) == what_is_run(json.loads((WORKFLOWS / f"api/{name}.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", sorted(WITHOUT_WEIGHTS))
def test_a_run_without_the_model_says_where_it_belongs_and_how_to_get_it(comfyui, frontend, name):
    frontend.load(name)
    (refused,) = frontend.page.evaluate(REFUSED)
    assert refused["class_type"] == "LoadCoDi"
    (error,) = refused["errors"]
    assert f"wanted a model in {comfyui.folder / 'models/codi/official'}" in error["details"]
    assert "fetch it with Download CoDi" in error["details"]


BOTH_MODES = pytest.mark.parametrize("vue_nodes", [False, True], ids=["classic", "nodes-2"])


@BOTH_MODES
def test_every_result_is_shown_on_its_node(comfyui, chromium, vue_nodes):
    frontend = Frontend(chromium, comfyui.url, **{"Comfy.VueNodes.Enabled": vue_nodes})
    page = frontend.page
    frontend.load("any_to_all")
    page.evaluate(SET_STEPS, 2)
    assert page.evaluate(RUN) == "success"
    page.wait_for_function(PLAYABLE, arg=["video", 2])
    page.wait_for_function(PLAYABLE, arg=["audio", 3])
    page.wait_for_function(TEXT_IS_SHOWN)
    page.wait_for_function(WAVEFORM_IS_DRAWN)
    page.wait_for_function(IMAGE_IS_SHOWN)
    page.reload()
    page.wait_for_function(READY)
    page.wait_for_function(PLAYABLE, arg=["video", 1])
    page.wait_for_function(PLAYABLE, arg=["audio", 2])
    page.wait_for_function(TEXT_IS_SHOWN)
    page.wait_for_function(WAVEFORM_IS_DRAWN)
    page.wait_for_function(IMAGE_IS_SHOWN)
    assert frontend.complaints == []
    page.close()


def test_a_saved_file_that_is_dropped_restores_the_graph(comfyui, frontend):
    page = frontend.page
    frontend.load("any_to_all")
    page.evaluate(SET_STEPS, 3)
    assert page.evaluate(RUN) == "success"
    drawn = page.evaluate(TYPES)
    kinds = {".png": "image/png", ".flac": "audio/flac", ".mp4": "video/mp4"}
    newest = {file.suffix: file for file in sorted((comfyui.folder / "output/codi").iterdir(), key=os.path.getmtime)}
    assert set(newest) >= set(kinds)
    for suffix, kind in kinds.items():
        page.evaluate("() => app.graph.clear()")
        assert page.evaluate(TYPES) == []
        content = b64encode(newest[suffix].read_bytes()).decode()
        page.evaluate(DROP, [newest[suffix].name, kind, content])
        page.wait_for_function("count => app.graph.nodes.length === count", arg=len(drawn))
        assert page.evaluate(TYPES) == drawn
        # The editor lies under a mask while it loads, and trips over it when the next file comes before it is gone.
        page.locator(".p-blockui-mask").wait_for(state="detached")
    assert frontend.complaints == []


@BOTH_MODES
@pytest.mark.parametrize("end", ["success", "interrupted"])
def test_drafts_are_shown_while_outputs_are_made_and_none_stays(comfyui, chromium, vue_nodes, end):
    frontend = Frontend(chromium, comfyui.url, **{"Comfy.VueNodes.Enabled": vue_nodes})
    page = frontend.page
    frontend.load("any_to_all")
    # Numbers of steps that no other run had: results that are known already are not made again. A run that is cancelled
    # has so many that fast machines don't end before, and one draft of it is enough for slow ones.
    steps, drafts = (12, 4) if end == "success" else (100, 1)
    page.evaluate(SET_STEPS, steps + vue_nodes)
    page.evaluate(START)
    page.wait_for_function(DRAFTS, arg=drafts)
    if end == "interrupted":
        page.request.post(f"{comfyui.url}/interrupt")
    assert page.evaluate("() => window.end") == end
    page.wait_for_function("() => !document.querySelector('.codi-output')")
    assert frontend.complaints == []
    page.close()


def test_a_run_shows_nothing_in_another_workflow_and_everything_when_its_own_is_opened_again(frontend):
    page = frontend.page
    frontend.load("any_to_all")
    page.evaluate(SET_STEPS, 14)
    own = page.evaluate("() => JSON.stringify(app.graph.serialize())")
    page.evaluate(START)
    page.wait_for_function(DRAFTS, arg=1)
    page.evaluate(LOAD, json.dumps(json.loads(own) | {"id": str(uuid4())}))
    assert page.locator(".codi-output").count() == 0
    drafts = page.evaluate("""() => new Promise(done => {
        app.api.addEventListener("codi.progress", () => setTimeout(
            () => done(document.querySelectorAll(".codi-output").length)), { once: true });
    })""")
    assert drafts == 0
    assert page.evaluate("() => window.end") == "success"
    page.wait_for_timeout(500)
    assert page.evaluate(TEXT_FIELDS) == [""]
    page.evaluate(LOAD, own)
    page.wait_for_function(TEXT_IS_SHOWN)
    page.wait_for_function(WAVEFORM_IS_DRAWN)
    assert page.evaluate(TEXT_FIELDS) != [""]
    assert frontend.complaints == []


def test_in_a_subgraph_drafts_go_away_and_results_are_shown_again(frontend):
    page = frontend.page
    frontend.load("any_to_all")
    page.evaluate(SET_STEPS, 15)
    page.evaluate(ENCLOSE, ["JointSampler", "DecodeText"])
    page.evaluate(START)
    page.wait_for_function(DRAFTS, arg=1)
    assert page.evaluate("() => window.end") == "success"
    page.wait_for_function("() => !document.querySelector('.codi-output')")
    (told,) = page.evaluate(TEXT_FIELDS)
    assert told
    page.evaluate(LOAD, page.evaluate("() => JSON.stringify(app.rootGraph.serialize())"))
    assert page.evaluate(TEXT_FIELDS) == [told]
    assert frontend.complaints == []


def test_what_a_download_says_at_its_end_is_shown(frontend):
    told = frontend.page.evaluate("""() => {
        const node = LiteGraph.createNode("DownloadCoDi");
        app.graph.add(node);
        const output = { text: ["Press R, then choose official in Load CoDi."] };
        app.api.dispatchCustomEvent("executed", { node: node.id, display_node: node.id, output });
        return node.widgets.find(widget => widget.name === "codi_text").element.value;
    }""")
    assert told == "Press R, then choose official in Load CoDi."
    assert frontend.complaints == []


@BOTH_MODES
def test_weights_are_mixed_by_keys_and_by_hand(comfyui, chromium, vue_nodes):
    frontend = Frontend(chromium, comfyui.url, **{"Comfy.VueNodes.Enabled": vue_nodes})
    page = frontend.page
    frontend.load("any_to_all")
    page.evaluate(LOOK_AT, "InterpolateConditions")
    page.wait_for_timeout(500)
    sliders, triangle = page.locator(".codi-slider"), page.locator(".codi-triangle")
    named = [sliders.nth(index).get_attribute("aria-label") for index in range(3)]
    assert named == ["What to make", "Picture prompt", "Sound prompt"]
    sliders.nth(0).press("ArrowRight")
    assert page.evaluate(WEIGHTS) == "0.38, 0.31, 0.31"
    place = sliders.nth(1).bounding_box()
    page.mouse.move(place["x"] + 2, place["y"] + place["height"] / 2)
    page.mouse.down()
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2, steps=4)
    page.mouse.up()
    weights = [float(part) for part in page.evaluate(WEIGHTS).split(",")]
    assert weights[1] == pytest.approx(0.5, abs=0.03)
    assert sum(weights) == pytest.approx(1)
    place = triangle.bounding_box()
    page.mouse.click(place["x"] + place["width"] / 2, place["y"] + 6)
    assert page.evaluate(WEIGHTS) == "1, 0, 0"
    triangle.press("ArrowDown")
    weights = [float(part) for part in page.evaluate(WEIGHTS).split(",")]
    assert weights[0] < 1
    assert weights[1] == pytest.approx(weights[2], abs=0.011)
    assert sliders.nth(0).get_attribute("aria-valuenow") == str(round(100 * weights[0]))
    saved = page.evaluate("() => JSON.stringify(app.graph.serialize())")
    page.evaluate(LOAD, saved)
    assert [float(part) for part in page.evaluate(WEIGHTS).split(",")] == weights
    assert frontend.complaints == []
    page.close()


def test_titles_and_inputs_speak_chinese(comfyui, chromium):
    frontend = Frontend(chromium, comfyui.url, **{"Comfy.Locale": "zh"})
    frontend.load("text_to_video_audio")
    told = frontend.page.evaluate("""() => {
        const node = app.graph.nodes.find(each => each.type === "JointSampler");
        const labels = node.inputs.map(each => [each.name, each.label ?? each.localized_name]);
        return [node.title, Object.fromEntries(labels)];
    }""")
    texts = json.loads((WORKFLOWS.parent / "locales/zh/nodeDefs.json").read_text(encoding="utf-8"))["JointSampler"]
    assert told == [texts["display_name"], {name: each["name"] for name, each in texts["inputs"].items()}]
    frontend.page.close()
