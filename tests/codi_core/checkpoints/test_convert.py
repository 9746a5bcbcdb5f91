from __future__ import annotations

import pytest
import torch

from comfyui_codi.codi_core.checkpoints.convert import Counterpart, from_official
from comfyui_codi.codi_core.errors import CheckpointError

PLACES = {
    "a.weight": Counterpart("root.x.weight", (2, 3, 1), (2, 3)),
    "a.bias": Counterpart("root.x.bias", (2,), (2,)),
}
GOOD = {"root.x.weight": torch.ones(2, 3, 1), "root.x.bias": torch.zeros(2)}


def test_axes_of_size_one_are_dropped():
    assert from_official(GOOD, PLACES, "root.")["a.weight"].shape == (2, 3)


def test_tensors_of_other_parts_are_left_alone():
    assert from_official(GOOD | {"other.z": torch.ones(1)}, PLACES, "root.").keys() == PLACES.keys()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"root.x.bias": GOOD["root.x.bias"]}, "below 'root.' are not those of this model: missing: root.x.weight$"),
        (GOOD | {"root.y": torch.ones(1)}, "unexpected: root.y$"),
        (GOOD | {"root.x.bias": torch.ones(3)}, r"of another shape: root.x.bias \(3,\) instead of \(2,\)$"),
        (GOOD | {f"root.{n:02}": torch.ones(1) for n in range(13)}, "root.00, .*, root.09 and 3 more$"),
    ],
    ids=["missing", "unexpected", "shape", "many"],
)
def test_what_does_not_fit_is_listed_by_its_official_name(state, message):
    with pytest.raises(CheckpointError, match=message):
        from_official(state, PLACES, "root.")
