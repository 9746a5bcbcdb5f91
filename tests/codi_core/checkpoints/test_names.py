"""Our names and the official ones, as sets: weights can only go astray if a name or shape differs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from accelerate import init_empty_weights
from torch import nn

from comfyui_codi.codi_core.checkpoints.convert import Counterpart, counterparts, from_official, to_official
from comfyui_codi.codi_core.checkpoints.names import Rename, entry_of
from comfyui_codi.codi_core.checkpoints.official import OFFICIAL_PARTS, has_alignment
from comfyui_codi.codi_core.config import official
from comfyui_codi.codi_core.models.unet import UNet
from comfyui_codi.codi_core.parts import build_part

MANIFESTS = os.environ.get("CODI_MANIFESTS")
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
VARIANTS = {
    "diffuser_audio": {},
    "diffuser_vision": {"temporal": "frames"},
    "diffuser_text": {"slots": 2},
}


def on_meta(part: str) -> nn.Module:
    with init_empty_weights(include_buffers=False):
        return build_part(part, official().parts[part])


def official_places(part: str) -> dict[str, Counterpart]:
    return counterparts(on_meta(part), OFFICIAL_PARTS[part], official().parts[part])


def shapes_of(places: Mapping[str, Counterpart]) -> dict[str, tuple[int, ...]]:
    return {place.official: place.official_shape for place in places.values()}


@pytest.mark.parametrize("part", OFFICIAL_PARTS)
def test_every_parameter_has_an_official_place_of_its_own(part: str) -> None:
    places = official_places(part)
    assert len({(place.official, place.piece) for place in places.values()}) == len(places)
    trained = dict(on_meta(part).named_parameters())
    assert trained.keys() <= places.keys()


@pytest.mark.skipif(not MANIFESTS, reason="set CODI_MANIFESTS to the folder with the lists of the official names")
def test_every_name_of_the_full_size_checkpoints_has_exactly_one_place() -> None:
    shapes = {}
    for path in Path(str(MANIFESTS)).glob("*.json"):
        entries = json.loads(path.read_text()).get("tensors", {})
        shapes |= {name: tuple(entry["shape"]) for name, entry in entries.items()}
    of_parts = {name: shape for name, shape in shapes.items() if "." in name}
    wanted = {part: {name for name in of_parts if spec.wants(name)} for part, spec in OFFICIAL_PARTS.items()}
    made = {part: shapes_of(official_places(part)) for part in OFFICIAL_PARTS}
    for part in OFFICIAL_PARTS:
        assert made[part] == {name: shapes[name] for name in wanted[part]}
    assert sum(map(len, wanted.values())) == len(set().union(*wanted.values()))
    left = of_parts.keys() - set().union(*wanted.values())
    unused = {
        name
        for name in left
        for spec in OFFICIAL_PARTS.values()
        if name.startswith(spec.prefix) and not spec.wants(name)
    }
    assert left == unused
    print(f"{len(of_parts)} names: {len(of_parts) - len(left)} mapped, {len(left)} known to be of no use")


@pytest.mark.parametrize("part", VARIANTS)
@pytest.mark.parametrize("aligned", [True, False])
def test_ours_to_official_to_ours_gives_every_weight_of_a_diffuser_back(part: str, aligned: bool) -> None:
    torch.manual_seed(0)
    arguments = TINY | VARIANTS[part] | ({} if aligned else {"environment": None})
    diffuser = UNet(**arguments)
    spec, ours = OFFICIAL_PARTS[part], diffuser.state_dict()
    places = counterparts(diffuser, spec, arguments)
    theirs = to_official(ours, places)
    assert len(theirs) == len(ours)
    assert has_alignment(theirs, spec.prefix) is aligned
    back = from_official(theirs, places, spec)
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], ours[name]) for name in ours)


@pytest.mark.parametrize("part", OFFICIAL_PARTS)
def test_ours_to_official_to_ours_gives_every_weight_back(part: str, tiny_pipeline) -> None:
    module, arguments = tiny_pipeline.parts[part], tiny_pipeline.config.parts[part]
    places = counterparts(module, OFFICIAL_PARTS[part], arguments)
    ours = module.state_dict()
    back = from_official(to_official(ours, places), places, OFFICIAL_PARTS[part])
    assert all(torch.equal(back[name], ours[name]) for name in back)
    assert dict(module.named_parameters()).keys() <= back.keys()


def test_the_longest_entry_wins() -> None:
    table = {entry.ours: entry for entry in (Rename("a", "x"), Rename("a.b", "y.0", 2), Rename("", ""))}
    assert entry_of("a.c.weight", table) == (table["a"], ["c", "weight"])
    assert entry_of("a.b.weight", table) == (table["a.b"], ["weight"])
    assert entry_of("d.weight", table) == (table[""], ["d", "weight"])


def test_a_name_that_no_entry_covers_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"c\.weight"):
        entry_of("c.weight", {"a": Rename("a", "x")})
