from __future__ import annotations

import pytest
import torch

from comfyui_codi.codi_core.decoders.latent import check_latent
from comfyui_codi.codi_core.errors import ShapeError
from comfyui_codi.codi_core.modality import Modality

AXES = ("batch", 4, "height", "width")


def test_any_size_of_a_named_axis_will_do():
    check_latent(torch.zeros(2, 4, 3, 5), Modality.IMAGE, AXES)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (4, 8, 8), (1, 4, 2, 8, 8), (1, 4, 0, 8)])
def test_wrong_shape_says_wanted_and_got(shape):
    with pytest.raises(ShapeError) as error:
        check_latent(torch.zeros(shape), Modality.IMAGE, AXES)
    assert "image latent of shape (batch, 4, height, width)" in str(error.value)
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_broken_numbers_are_counted(number):
    latent = torch.zeros(1, 4, 2, 2)
    latent[0, 0, 0] = number
    with pytest.raises(ShapeError, match="NaN or infinity at 2 of 16 places"):
        check_latent(latent, Modality.IMAGE, AXES)
