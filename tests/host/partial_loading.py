"""Run by Python in ComfyUI's folder: the pack's nodes beside ComfyUI's real model management, first with all the memory
that parts want, then with as little as asked for. Prints what was loaded and how far the results lie apart.

    python partial_loading.py PACK BYTES
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

pack, budget = Path(sys.argv[1]), int(sys.argv[2])
sys.argv = ["main.py", "--cpu"]
sys.path.insert(0, str(Path.cwd()))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import torch  # noqa: E402
import utils.extra_config  # noqa: E402, F401 (before the folder comfy is searched for modules, which has other utils)
from comfy import model_management  # noqa: E402

torch.set_num_threads(1)
name = str(pack).replace(".", "_x_")
spec = importlib.util.spec_from_file_location(name, pack / "__init__.py")
assert spec is not None
assert spec.loader is not None
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
nodes = {node.__name__: node for node in asyncio.run(asyncio.run(module.comfy_entrypoint()).get_node_list())}
load_models_gpu = model_management.load_models_gpu
patchers: dict[int, Any] = {}


def load_little(models: list[Any], **options: Any) -> None:
    """As ComfyUI does where a device has `budget` bytes left for each model."""
    for patcher in models:
        patchers[id(patcher)] = patcher
        if id(patcher.model) not in loaded:
            patcher.patch_model(device_to=patcher.load_device, lowvram_model_memory=budget)
            loaded.add(id(patcher.model))


loaded: set[int] = set()


def results() -> dict[str, torch.Tensor]:
    """Every kind of prompt, a joint run, and every output."""
    with torch.inference_mode():
        model = nodes["LoadCoDi"].execute("codi-mini", "fp32", "paper")[0]
        random = torch.Generator().manual_seed(0)
        picture = torch.rand(1, 64, 64, 3, generator=random)
        sound = {"waveform": torch.rand(1, 1, 16000, generator=random) - 0.5, "sample_rate": 16000}
        prompts = {"text": "a red circle bounces", "image": picture, "audio": sound}
        conditions = {kind: nodes["EncodeModality"].execute(model, prompt)[0] for kind, prompt in prompts.items()}
        mixed = nodes["InterpolateConditions"].execute("", "complementary", dict(enumerate(conditions.values())))[0]
        latents = model.sample(mixed, to=["text", "image", "video", "audio"], steps=2, seed=1)
        made = {f"prompt {kind}": condition.embedding for kind, condition in conditions.items()}
        made |= {f"latent {modality}": latent for modality, latent in latents.samples.items()}
        made["picture"] = model.decode(latents, "image").pixels
        made["frames"] = model.decode(latents, "video").pixels
        made["sound"] = model.decode(latents, "audio").samples
        made["text"] = torch.tensor([ord(letter) for letter in model.decode(latents, "text")[0]])
        return made


whole = results()
model_management.load_models_gpu = load_little
partly = results()
print(
    json.dumps(
        {
            "parts": len(patchers),
            "loaded partly": sum(patcher.model.model_lowvram for patcher in patchers.values()),
            "fetched layers": sum(
                hasattr(layer, "prev_comfy_cast_weights")
                for patcher in patchers.values()
                for layer in patcher.model.modules()
            ),
            "errors": {
                key: float((value - partly[key]).float().norm() / value.float().norm()) for key, value in whole.items()
            },
        }
    )
)
