"""Options and fixtures of the whole suite."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--goldens", help="folder of golden cases (default: the shipped copies)")
    parser.addoption("--full", action="store_true", help="also run the full-size cases")
    parser.addoption("--dtype", default="fp32", choices=["fp32", "bf16", "fp16"], help="of the weights in parity tests")


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.register_profile("codi", max_examples=30, deadline=None)
    hypothesis.settings.load_profile("codi")
    # A shell that starts the tests in the background lets them ignore Ctrl-C, which some of them are about.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not config.getoption("--full"):
        # The networks are so small that threads only wait for one another, on a busy machine for minutes.
        torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("COMFYUI_PATH"):
        return
    skip = pytest.mark.skip(reason="set COMFYUI_PATH to a ComfyUI checkout to run against the real host")
    for item in items:
        if {"comfyui", "browser"} & {mark.name for mark in item.iter_markers()}:
            item.add_marker(skip)


@dataclass(frozen=True)
class Server:
    """A running ComfyUI with this pack and an empty profile; everything it reads and writes lies below `folder`."""

    url: str
    folder: Path

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace")

    def fetch(self, path: str, content: Any = None) -> bytes:
        """GET, or POST where there is content. Raises HTTPError with the answer's text as note for a refusal."""
        data = None if content is None else json.dumps(content).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{self.url}{path}", data), timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            error.add_note(error.read().decode(errors="replace"))
            raise

    def ask(self, path: str, content: Any = None) -> Any:
        return json.loads(self.fetch(path, content))

    def run(self, prompt: dict[str, Any], limit_s: float = 300) -> dict[str, Any]:
        """What /history tells of a prompt in API format once it has ended, well or not."""
        name = self.ask("/prompt", {"prompt": prompt})["prompt_id"]
        return wait_for(lambda: self.ask(f"/history/{name}").get(name), limit_s, f"end of prompt {name}", self)


def wait_for(ready: Callable[[], Any], limit_s: float, what: str, server: Server) -> Any:
    """The first true result. Fails with the end of the server's log."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if result := ready():
            return result
        time.sleep(0.2)
    pytest.fail(f"no {what} within {limit_s} s\n{server.log[-3000:]}")


@pytest.fixture(scope="session")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The ComfyUI of COMFYUI_PATH, run by COMFYUI_PYTHON or by the Python of the tests, on the CPU.

    COMFYUI_FRONTEND: another frontend than the one that is installed beside it.
    """
    folder = tmp_path_factory.mktemp("comfyui")
    root = Path(__file__).parent.parent
    packs = folder / "custom_nodes"
    packs.mkdir()
    (packs / "ComfyUI-CoDi").symlink_to(root)
    (packs / "latents_probe.py").symlink_to(root / "tests/host/latents_probe.py")
    shutil.copytree(root / "workflows/inputs", folder / "input")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    server = Server(f"http://127.0.0.1:{port}", folder)
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    options = ["--cpu", "--listen", "127.0.0.1", "--port", port, "--base-directory", str(folder)]
    options += ["--database-url", "sqlite:///:memory:", "--disable-api-nodes"]
    if frontend := os.environ.get("COMFYUI_FRONTEND"):
        options += ["--front-end-root", frontend]

    def answers() -> bool:
        assert process.poll() is None, server.log
        try:
            return bool(server.ask("/system_stats"))
        except OSError:
            return False

    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [python, "main.py", *options],
            cwd=os.environ["COMFYUI_PATH"],
            env=os.environ | {"OMP_NUM_THREADS": "1"},  # as in the tests, and for equal sums
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(answers, 300, "answer of ComfyUI", server)
        yield server
    finally:
        process.terminate()
        process.wait(30)
