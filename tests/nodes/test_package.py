"""How the pack is entered, with and without ComfyUI."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

AS_COMFYUI_DOES = """
import asyncio, importlib.util, sys
root = sys.argv[1]
name = root.replace(".", "_x_")
spec = importlib.util.spec_from_file_location(name, root + "/__init__.py")
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
assert not any("codi_core" in loaded for loaded in sys.modules), "importing the pack must load nothing else"
assert not hasattr(module, "NODE_CLASS_MAPPINGS"), "the host would ignore the entry point"
extension = asyncio.run(module.comfy_entrypoint())
nodes = asyncio.run(extension.get_node_list())
assert type(nodes) is list
print(module.WEB_DIRECTORY, *(node.__name__ for node in nodes))
"""


def test_the_pack_loads_by_path_from_anywhere(tmp_path):
    link = tmp_path / "ComfyUI-CoDi v1.0"
    link.symlink_to(ROOT)
    answer = subprocess.run(
        [sys.executable, "-c", AS_COMFYUI_DOES, str(link)], cwd=tmp_path, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == [
        "./web",
        "LoadCoDi",
        "EncodeModality",
        "InterpolateConditions",
        "FadeConditions",
        "EncodeLatents",
        "MaskLatents",
        "JointSampler",
        "DecodeImage",
        "DecodeVideo",
        "DecodeAudio",
        "DecodeText",
        "CompareSimilarity",
        "SplitLatents",
        "JoinLatents",
        "NativeModel",
        "NativeNoise",
        "LatentsFromNative",
        "DownloadCoDi",
    ]
