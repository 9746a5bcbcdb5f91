from __future__ import annotations

import pytest
import torch

from comfyui_codi.codi_core.checkpoints.convert import Counterpart, from_official, to_official
from comfyui_codi.codi_core.checkpoints.official import OfficialPart
from comfyui_codi.codi_core.errors import CheckpointError

PART = OfficialPart("root.", lambda arguments: [], unused=(r"mask\..*",))
PLACES = {
    "a.weight": Counterpart("root.x.weight", (2, 3, 1), (2, 3), (0, 1)),
    "a.bias": Counterpart("root.x.bias", (2,), (2,), (0, 1)),
    "first": Counterpart("root.both", (4, 2), (2, 2), (0, 2)),
    "second": Counterpart("root.both", (4, 2), (2, 2), (1, 2)),
}
GOOD = {
    "root.x.weight": torch.ones(2, 3, 1),
    "root.x.bias": torch.zeros(2),
    "root.both": torch.arange(8.0).reshape(4, 2),
}


def test_axes_of_size_one_are_dropped() -> None:
    assert from_official(GOOD, PLACES, PART)["a.weight"].shape == (2, 3)


def test_pieces_are_cut_along_the_first_axis_and_joined_again() -> None:
    ours = from_official(GOOD, PLACES, PART)
    assert torch.equal(ours["second"], GOOD["root.both"][2:])
    back = to_official(ours, PLACES)
    assert back.keys() == GOOD.keys()
    assert all(torch.equal(back[name], GOOD[name]) for name in GOOD)


def test_tensors_of_other_parts_and_unused_ones_are_left_alone() -> None:
    more = {"other.z": torch.ones(1), "root.mask.0": torch.ones(1)}
    assert from_official(GOOD | more, PLACES, PART).keys() == PLACES.keys()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {name: GOOD[name] for name in ("root.x.bias", "root.both")},
            "below 'root.' are not those of this model: missing: root.x.weight$",
        ),
        (GOOD | {"root.y": torch.ones(1)}, "unexpected: root.y$"),
        (GOOD | {"root.x.bias": torch.ones(3)}, r"of another shape: root.x.bias \(3,\) instead of \(2,\)$"),
        (GOOD | {f"root.{n:02}": torch.ones(1) for n in range(13)}, "root.00, .*, root.09 and 3 more$"),
    ],
    ids=["missing", "unexpected", "shape", "many"],
)
def test_what_does_not_fit_is_listed_by_its_official_name(state: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        from_official(state, PLACES, PART)
