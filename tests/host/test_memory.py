"""Parts that do not fit on the device whole, with ComfyUI's real model management."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.comfyui

ROOT = Path(__file__).parents[2]
PARTS = 11
"""Of codi-mini, all of which a run with every kind of prompt and output uses; one, the factors, has no layers."""


@pytest.mark.parametrize("budget", [1, 2_000_000], ids=["nothing fits", "some of each part fits"])
def test_parts_that_are_loaded_partly_give_the_same_results(budget):
    answer = subprocess.run(
        [os.environ.get("COMFYUI_PYTHON", sys.executable), ROOT / "tests/host/partial_loading.py", ROOT, str(budget)],
        cwd=os.environ["COMFYUI_PATH"],
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    told = json.loads(answer.stdout.splitlines()[-1])
    assert told["parts"] == PARTS
    assert told["loaded partly"] >= PARTS - 2
    assert told["fetched layers"] > 100
    assert max(told["errors"].values()) < 1e-5, told["errors"]
