"""Trains two objectives whose losses compare the rows of a batch; started alone or by a launcher, see test_loop.py."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from test_objectives import NULLS, diffuser, table

from comfyui_codi.codi_core.pipeline import CoDiPipeline
from comfyui_codi.codi_core.processes import processes
from comfyui_codi.codi_core.sampling import make_scheduler
from comfyui_codi.codi_core.training.align import ALIGN_STEPS, AlignObjective
from comfyui_codi.codi_core.training.bridge import image_objective
from comfyui_codi.codi_core.training.loop import Settings, train
from comfyui_codi.codi_core.training.world_source import WorldSource

model, folder, batch = sys.argv[1:]
settings = Settings(steps=20, batch=int(batch), learning_rate=1e-3, precision="fp32")
clip = copy.deepcopy(CoDiPipeline.from_pretrained(model).parts["clip"]).train()
step = ALIGN_STEPS[0]
diffusers = {modality: diffuser(modality) for modality in step.pair}
objectives = {
    "bridge": image_objective(clip, WorldSource()),
    "align": AlignObjective(step, diffusers, make_scheduler("ddim"), table(*step.pair, rows=32), NULLS),
}
for name, objective in objectives.items():
    train(name, objective, settings, Path(folder) / name)
    if processes().is_main_process:
        trained = {key: value.detach() for key, value in objective.named_parameters() if value.requires_grad}
        save_file(trained, Path(folder) / f"{name}.safetensors")
together: Any = torch.distributed.group.WORLD
told = {"processes": processes().num_processes, "threads": torch.get_num_threads()}
told["longest_wait"] = str(together._get_backend(torch.device("cpu")).options._timeout)
print(json.dumps(told))
