from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from comfyui_codi.codi_core.headless import host


def test_everything_named_is_there() -> None:
    assert all(hasattr(host, name) for name in host.__all__)


def test_extension_without_nodes_says_so() -> None:
    class Pack(host.ComfyExtension):
        pass

    with pytest.raises(NotImplementedError, match="Pack needs a get_node_list"):
        asyncio.run(Pack().get_node_list())


def test_progress_and_interruption_are_quiet_outside_a_run() -> None:
    bar = host.ProgressBar(3)
    bar.update(2)
    assert (bar.current, bar.total) == (2, 3)
    host.throw_if_interrupted()


def test_precision_suits_the_device() -> None:
    assert host.default_dtype() in {"cpu": [torch.float32], "cuda": [torch.float16]}[host.device().type]


def test_temporary_folder_exists_outside_a_run() -> None:
    assert host.temp_folder().is_dir()


def test_models_lie_below_the_current_folder() -> None:
    assert host.model_folders() == [Path("models/codi")]
