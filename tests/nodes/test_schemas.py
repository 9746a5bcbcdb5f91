"""What saved workflows rely on (ids, names, order, types), and what the user reads on each input."""

from __future__ import annotations

import pytest

from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.nodes import NODES

SCHEMAS = {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in NODES}

SAVED = {
    "LoadCoDi": ("checkpoint dtype alignment", "CODI_MODEL"),
    "EncodeModality": ("model prompt negative", "CODI_CONDITION"),
    "InterpolateConditions": ("weights mode conditions", "CODI_CONDITION"),
    "FadeConditions": ("first second start end mode", "CODI_CONDITION"),
    "EncodeLatents": ("model media others width height", "CODI_LATENTS"),
    "MaskLatents": ("model latents modality start end", "CODI_LATENTS"),
    "JointSampler": (
        "model condition text image video audio steps guidance scheduler seed width height frames seconds "
        "text_guidance image_guidance video_guidance audio_guidance "
        "coupling coupling_start coupling_interval known strength coupling_lead",
        "CODI_LATENTS",
    ),
    "DecodeImage": ("model latents", "IMAGE"),
    "DecodeVideo": ("model latents audio", "VIDEO IMAGE"),
    "DecodeAudio": ("model latents", "AUDIO"),
    "DecodeText": ("model latents", "STRING"),
    "CompareSimilarity": ("model things", "IMAGE FLOAT"),
    "SplitLatents": ("latents modality", "CODI_LATENTS CODI_LATENTS"),
    "JoinLatents": ("first second", "CODI_LATENTS"),
    "NativeModel": (
        "model condition text image video audio width height frames seconds known",
        "MODEL CONDITIONING CONDITIONING LATENT",
    ),
    "NativeNoise": ("seed", "NOISE"),
    "LatentsFromNative": ("latent", "CODI_LATENTS"),
    "DownloadCoDi": ("repository files name", ""),
}
"""Inputs in order, then the types of the outputs. Change a saved one never; new inputs come last."""


@pytest.mark.parametrize("node_id", SAVED)
def test_inputs_and_outputs_are_those_of_saved_workflows(node_id):
    schema = SCHEMAS[node_id]
    inputs, outputs = SAVED[node_id]
    assert [each.id for each in schema.inputs] == inputs.split()
    assert [each.io_type for each in schema.outputs] == outputs.split()


def test_ids_are_those_of_saved_workflows_and_class_names():
    assert list(SCHEMAS) == list(SAVED) == [node.__name__ for node in NODES]


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_everything_is_explained(schema):
    assert schema.description.endswith(".")
    assert schema.category == "CoDi"
    for each in [*schema.inputs, *schema.outputs]:
        assert each.tooltip, f"{each.id} has no tooltip"
        assert each.tooltip.endswith("."), each.tooltip


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_every_field_starts_with_a_value_in_its_range(schema):
    for widget in (each.widget for each in schema.inputs if each.widget):
        assert widget.default is not None, widget.id
        if widget.io_type in ("INT", "FLOAT"):
            assert widget.min <= widget.default <= widget.max, widget.id


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_required_inputs_come_first_as_the_frontend_arranges_them(schema):
    optional = [each.optional for each in schema.inputs]
    assert optional == sorted(optional)


def test_the_growing_sockets_come_last():
    # Older frontends append the spare socket after all others when a workflow is loaded.
    assert SCHEMAS["InterpolateConditions"].inputs[-1].id == "conditions"


@pytest.mark.parametrize("modality", Modality)
def test_every_modality_can_be_made_and_decoded(modality):
    assert modality in [each.id for each in SCHEMAS["JointSampler"].inputs]
    assert f"Decode{modality.capitalize()}" in SCHEMAS
