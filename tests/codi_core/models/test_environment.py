from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from comfyui_codi.codi_core.models.environment import TimeAxis, at_moments, pool_environment, whole


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@given(batch=st.integers(1, 3), frames=st.integers(1, 5))
def test_a_video_is_pooled_over_places_and_frames_to_one_unit_token(batch, frames):
    features = random(batch * frames, 8, 2, 3)
    token = pool_environment(features, frames)
    mean = features.unflatten(0, (batch, frames)).mean(dim=(1, 3, 4))
    torch.testing.assert_close(token[:, 0], mean / mean.norm(dim=-1, keepdim=True))


def test_a_vector_is_only_scaled():
    token = pool_environment(random(2, 8), None)
    torch.testing.assert_close(token[:, 0], random(2, 8) / random(2, 8).norm(dim=-1, keepdim=True))


@given(batch=st.integers(1, 3), frames=st.integers(1, 5))
def test_with_a_time_axis_every_frame_keeps_its_token(batch, frames):
    features = random(batch * frames, 8, 2, 3)
    tokens = pool_environment(features, frames, TimeAxis.FRAMES)
    mean = features.unflatten(0, (batch, frames)).mean(dim=(3, 4))
    torch.testing.assert_close(tokens, mean / mean.norm(dim=-1, keepdim=True))


def test_with_a_time_axis_every_row_of_a_spectrogram_keeps_its_token():
    features = random(2, 8, 5, 3)
    tokens = pool_environment(features, None, TimeAxis.HEIGHT)
    mean = features.mean(dim=3).transpose(1, 2)
    torch.testing.assert_close(tokens, mean / mean.norm(dim=-1, keepdim=True))


def test_a_picture_has_one_token_whatever_the_axis():
    features = random(2, 8, 5, 3)
    torch.testing.assert_close(pool_environment(features, None, TimeAxis.FRAMES), pool_environment(features, None))


@given(moments=st.integers(1, 9), count=st.integers(1, 9))
def test_what_stays_the_same_is_the_same_at_any_moments(moments, count):
    token = random(2, 1, 8)
    torch.testing.assert_close(at_moments(token.expand(-1, moments, -1), count), token.expand(-1, count, -1))


@given(moments=st.integers(1, 9))
def test_moments_as_a_whole_have_unit_length(moments):
    norm = whole(torch.nn.functional.normalize(random(2, moments, 8), dim=-1)).norm(dim=-1)
    torch.testing.assert_close(norm, torch.ones(2, 1))
