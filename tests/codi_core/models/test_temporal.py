from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from comfyui_codi.codi_core.models.temporal import (
    AxisNorm,
    FrameShift,
    RelativePositionBias,
    TemporalAttention,
    TemporalModule,
    TemporalNormalization,
    delay,
)

FRAMES, CHANNELS = TemporalNormalization


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def awake(module: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return module


@given(frames=st.integers(1, 9), steps=st.integers(0, 12))
def test_delay_shifts_and_fills_with_zeros(frames, steps):
    made = delay(random(2, frames, 3), steps)
    for frame in range(frames):
        wanted = random(2, frames, 3)[:, frame - steps] if frame >= steps else torch.zeros(2, 3)
        assert torch.equal(made[:, frame], wanted)


@pytest.mark.parametrize("normalization", TemporalNormalization)
def test_a_new_module_changes_nothing(normalization):
    hidden = random(2 * 4, 64, 3, 5)
    assert torch.equal(TemporalModule(64, normalization)(hidden, 4), hidden)


@pytest.mark.parametrize("normalization", TemporalNormalization)
def test_clips_do_not_influence_one_another(normalization):
    module, hidden = awake(TemporalModule(64, normalization)), random(2 * 4, 64, 3, 5)
    torch.testing.assert_close(module(hidden, 4)[:4], module(hidden[:4], 4), atol=1e-4, rtol=1e-4)


def test_later_frames_matter_to_earlier_ones_through_attention_alone():
    attention = awake(TemporalAttention(64, CHANNELS))
    bias = torch.zeros(8, 4, 4)
    rows, changed = random(2, 4, 64), random(2, 4, 64)
    changed[:, 3] += 1
    assert not torch.allclose(attention(rows, bias)[:, 0], attention(changed, bias)[:, 0])
    shift = awake(FrameShift(64))
    maps, changed_maps = random(4, 64, 3, 3), random(4, 64, 3, 3)
    changed_maps[3] += 1
    assert torch.equal(shift(maps, 4)[:3], shift(changed_maps, 4)[:3])


def test_normalised_over_frames_a_single_frame_attends_to_nothing():
    assert torch.equal(
        awake(TemporalAttention(64, FRAMES))(random(2, 1, 64), torch.zeros(8, 1, 1)), torch.zeros(2, 1, 64)
    )


@pytest.mark.parametrize("normalization", TemporalNormalization)
def test_the_norm_gives_unit_variance_along_its_axis(normalization):
    normed = AxisNorm(64, normalization.axis)(3 + 5 * random(2, 30, 64))
    torch.testing.assert_close(normed.mean(dim=normalization.axis), torch.zeros_like(normed.mean(normalization.axis)))
    variance = normed.square().mean(dim=normalization.axis)
    torch.testing.assert_close(variance, torch.ones_like(variance))


@pytest.mark.parametrize(("dtype", "floor"), [(torch.float32, 1e-5), (torch.float16, 1e-3)])
def test_the_variance_is_bounded_from_below_and_not_raised(dtype, floor):
    rows = torch.tensor([[[0.002], [-0.002]]], dtype=dtype)
    normed = AxisNorm(1, FRAMES.axis).to(dtype)(rows)
    torch.testing.assert_close(normed, rows / floor**0.5, rtol=1e-2, atol=0)


def test_the_position_bias_knows_distance_and_direction_only():
    bias = awake(RelativePositionBias(16, 8))(5, torch.zeros(1))
    assert bias.shape == (8, 5, 5)
    torch.testing.assert_close(bias[:, 1:, 1:], bias[:, :-1, :-1])
    assert not torch.allclose(bias, bias.transpose(1, 2))


def test_rows_of_a_single_clip_lie_together_too():
    # Else linear layers copy their weights for every row, which takes a hundred times longer in half precision.
    module = TemporalModule(64, CHANNELS)
    seen = []
    for layer in module.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_pre_hook(lambda layer, given: seen.append(given[0].is_contiguous()))
    module(random(4, 64, 3, 3), 4)
    assert seen
    assert all(seen)
