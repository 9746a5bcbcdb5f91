from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from comfyui_codi.codi_core.models.environment import pool_environment


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
