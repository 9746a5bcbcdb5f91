"""The pack in the real frontend: workflows, what nodes show, translations."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = pytest.mark.browser

WORKFLOWS = Path(__file__).parent.parent.parent / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
READY = "window.app?.graph && Object.keys(LiteGraph.registered_node_types).length > 100"
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
FEW_STEPS = """() => {
    const sampler = app.graph.nodes.find(node => node.type === "JointSampler");
    sampler.widgets.find(widget => widget.name === "steps").value = 2;
}"""
PLAYABLE = """([kind, count]) =>
    [...document.querySelectorAll(kind)].filter(player => player.duration > 1).length >= count"""
TEXT_IS_SHOWN = """() => {
    const node = app.graph.nodes.find(node => node.type === "DecodeText");
    return node.widgets[0].element.value === app.nodeOutputs[node.id].text.join("\\n");
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """No longer than this module: while it is open an event loop runs, beside which other tests could start none."""
    with playwright.sync_playwright() as driver:
        path = os.environ.get("CHROMIUM_PATH", "/usr/bin/chromium")
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Frontend:
    """A page with the editor open, and everything that it complained of."""

    def __init__(self, chromium: Any, url: str, **settings: Any) -> None:
        self.complaints: list[str] = []
        self.page = chromium.new_page(viewport={"width": 1920, "height": 1200})
        self.page.set_default_timeout(120_000)
        for name, value in ({"Comfy.TutorialCompleted": True} | settings).items():
            self.page.request.post(f"{url}/api/settings/{name}", data=json.dumps(value))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._hear)
        self.page.goto(url)
        self.page.wait_for_function(READY)

    def _hear(self, message: Any) -> None:
        # An empty profile lacks files that the editor asks for.
        if message.type == "error" and "404" not in message.text:
            self.complaints.append(message.text)

    def load(self, name: str) -> None:
        self.page.evaluate(LOAD, (WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))

    def alerts(self) -> list[str]:
        return self.page.locator(".p-toast-message, .p-dialog").all_inner_texts()


@pytest.fixture
def frontend(comfyui: Any, chromium: Any) -> Iterator[Frontend]:
    opened = Frontend(chromium, comfyui.url, **{"Comfy.Locale": "en", "Comfy.VueNodes.Enabled": False})
    yield opened
    opened.page.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_loads_without_complaint_and_says_what_the_api_file_says(frontend, name):
    frontend.load(name)
    assert frontend.alerts() == []
    assert frontend.complaints == []
    sent = frontend.page.evaluate("async () => (await app.graphToPrompt()).output")
    assert sent == json.loads((WORKFLOWS / f"api/{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("vue_nodes", [False, True], ids=["classic", "nodes-2"])
def test_every_result_is_shown_on_its_node(comfyui, chromium, vue_nodes):
    frontend = Frontend(chromium, comfyui.url, **{"Comfy.Locale": "en", "Comfy.VueNodes.Enabled": vue_nodes})
    page = frontend.page
    frontend.load("any_to_all")
    page.evaluate(FEW_STEPS)
    assert page.evaluate(RUN) == "success"
    page.wait_for_function(PLAYABLE, arg=["video", 2])
    page.wait_for_function(PLAYABLE, arg=["audio", 3])
    page.wait_for_function(TEXT_IS_SHOWN)
    assert frontend.complaints == []
    page.close()


def test_titles_and_inputs_speak_chinese(comfyui, chromium):
    frontend = Frontend(chromium, comfyui.url, **{"Comfy.Locale": "zh", "Comfy.VueNodes.Enabled": False})
    frontend.load("text_to_video_audio")
    told = frontend.page.evaluate("""() => {
        const node = app.graph.nodes.find(each => each.type === "JointSampler");
        const labels = node.inputs.map(each => [each.name, each.label ?? each.localized_name]);
        return [node.title, Object.fromEntries(labels)];
    }""")
    texts = json.loads((WORKFLOWS.parent / "locales/zh/nodeDefs.json").read_text(encoding="utf-8"))["JointSampler"]
    assert told == [texts["display_name"], {name: each["name"] for name, each in texts["inputs"].items()}]
    frontend.page.close()
