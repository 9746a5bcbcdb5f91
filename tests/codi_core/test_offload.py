"""Where parts lie between uses: it must never change what is made."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from comfyui_codi.codi_core.errors import ConfigError
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.offload import LayerwiseParts, Offload, RestingParts
from comfyui_codi.codi_core.pipeline import CoDiPipeline
from comfyui_codi.codi_core.placement import device_of

PART = "diffuser_text"


class Luggage(nn.Module):
    """A part that keeps account of where it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.places = ["cpu"]

    def to(self, device, **options):
        self.places.append(str(device))
        return self


@pytest.mark.parametrize("offload", Offload)
def test_what_is_made_does_not_depend_on_where_parts_rest(offload, tiny_folder, tiny_pipeline):
    everything = {"prompts": ["a red ball bounces"], "to": list(Modality), "steps": 2}
    made = CoDiPipeline.from_pretrained(tiny_folder, offload=offload)(**everything)
    expected = tiny_pipeline(**everything)
    assert made["text"] == expected["text"]
    assert torch.equal(made["image"].pixels, expected["image"].pixels)
    assert torch.equal(made["video"].pixels, expected["video"].pixels)
    assert torch.equal(made["audio"].samples, expected["audio"].samples)


def test_prompts_of_every_kind_are_read_by_layers_that_are_offloaded(tiny_folder, tiny_pipeline):
    pipeline = CoDiPipeline.from_pretrained(tiny_folder, offload=Offload.LAYERS)
    for prompt in tiny_pipeline(["a red ball"], list(Modality), steps=1).values():
        prompt = prompt[0] if isinstance(prompt, list) else prompt
        read, expected = pipeline.encode(prompt), tiny_pipeline.encode(prompt)
        assert torch.equal(read.embedding, expected.embedding)
        assert torch.equal(read.meaning.evidence, expected.meaning.evidence)


def test_offloaded_layers_hold_no_weights_and_compute_where_they_should(tiny_folder, tiny_config):
    part = LayerwiseParts(tiny_config, tiny_folder, torch.float32, "cpu")[PART]
    assert all(parameter.is_meta for parameter in part.parameters())
    assert device_of(part) == torch.device("cpu")


def test_parts_of_one_stage_are_on_the_device_together_and_go_when_another_needs_theirs(tiny_config, monkeypatch):
    monkeypatch.setattr(RestingParts, "_loaded_on", lambda self, device, name: Luggage())
    parts = RestingParts(tiny_config, device="cuda")
    parts.begin_stage()
    places = {name: parts[name].places for name in ("clip", "clap")}
    assert places == {"clip": ["cpu", "cuda"], "clap": ["cpu", "cuda"]}
    parts.begin_stage()
    parts[PART]
    places = {name: parts.loaded[name].places[-1] for name in parts.loaded}
    assert places == {"clip": "cpu", "clap": "cpu", PART: "cuda"}


def test_an_unknown_place_lists_the_known_ones(tiny_folder):
    with pytest.raises(ConfigError, match="none, parts, layers"):
        CoDiPipeline.from_pretrained(tiny_folder, offload="disk")
