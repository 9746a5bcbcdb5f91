"""Our names and the official ones, as sets: weights can only go astray if a name or shape differs."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from comfyui_codi.codi_core.checkpoints.convert import Counterpart, counterparts, from_official, has_alignment
from comfyui_codi.codi_core.checkpoints.names import Rename, diffuser_renames, official_name
from comfyui_codi.codi_core.config import official
from comfyui_codi.codi_core.models.unet import UNet

ROOT = "model.diffusion_model."
MANIFESTS = os.environ.get("CODI_MANIFESTS")
OFFICIAL_PARTS = {"diffuser_vision": "unet_image", "diffuser_audio": "unet_audio", "diffuser_text": "unet_text"}
TINY = {
    "latent_channels": 6,
    "width": 64,
    "multipliers": [1, 2, 2],
    "units": [2, 1, 1],
    "transformer_levels": [True, False, True],
    "connector_levels": [True, True, False],
    "context_width": 20,
    "environment": {"width": 24, "multipliers": [1, 2]},
}
VARIANTS = {"picture": {}, "video": {"temporal": "frames"}, "text": {"slots": 2}}


def on_meta(arguments: Mapping[str, Any]) -> UNet:
    with torch.device("meta"):
        return UNet(**arguments)


def shapes_of(places: Mapping[str, Counterpart]) -> dict[str, tuple[int, ...]]:
    return {place.official: place.official_shape for place in places.values()}


@pytest.mark.parametrize("part", OFFICIAL_PARTS)
def test_every_official_parameter_has_one_name_of_its_own(part):
    arguments = official().parts[part]
    diffuser = on_meta(arguments)
    names = shapes_of(counterparts(diffuser, diffuser_renames(arguments), ""))
    assert len(names) == len(diffuser.state_dict())
    assert sum(map(math.prod, names.values())) == sum(each.numel() for each in diffuser.state_dict().values())


@pytest.mark.parametrize("part", OFFICIAL_PARTS)
@pytest.mark.skipif(not MANIFESTS, reason="set CODI_MANIFESTS to the folder with the lists of the official names")
def test_names_and_shapes_are_those_of_the_full_size_checkpoints(part):
    arguments, prefix = official().parts[part], f"{ROOT}{OFFICIAL_PARTS[part]}."
    manifest = json.loads((Path(str(MANIFESTS)) / f"{OFFICIAL_PARTS[part]}.json").read_text())["tensors"]
    made = shapes_of(counterparts(on_meta(arguments), diffuser_renames(arguments), prefix))
    assert made == {name: tuple(entry["shape"]) for name, entry in manifest.items()}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("aligned", [True, False])
def test_ours_to_official_to_ours_gives_every_weight_back(variant, aligned):
    torch.manual_seed(0)
    arguments = TINY | VARIANTS[variant] | ({} if aligned else {"environment": None})
    diffuser = UNet(**arguments)
    places = counterparts(diffuser, diffuser_renames(arguments), ROOT)
    ours = diffuser.state_dict()
    theirs = {place.official: ours[name].reshape(place.official_shape) for name, place in places.items()}
    assert len(theirs) == len(ours)
    assert has_alignment(theirs, ROOT) is aligned
    back = from_official(theirs, places, ROOT)
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], ours[name]) for name in ours)


def test_the_longest_entry_wins_and_biases_keep_their_shape():
    table = {entry.ours: entry for entry in (Rename("a", "x"), Rename("a.b", "y.0", 2))}
    assert official_name("a.c.weight", table) == ("x.c.weight", 0)
    assert official_name("a.b.weight", table) == ("y.0.weight", 2)
    assert official_name("a.b.bias", table) == ("y.0.bias", 0)


def test_a_name_that_no_entry_covers_is_an_error():
    with pytest.raises(KeyError, match=r"c\.weight"):
        official_name("c.weight", {"a": Rename("a", "x")})
