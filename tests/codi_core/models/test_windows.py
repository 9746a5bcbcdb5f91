from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.models.joint import JointDenoiser
from comfyui_codi.codi_core.models.windows import blended, window_starts
from comfyui_codi.codi_core.values import OutputSize

STEP = torch.tensor([400])
LENGTHS = st.integers(2, 16)


@given(frames=st.integers(1, 90), length=LENGTHS)
def test_windows_cover_every_frame_and_overlap_by_half_at_least(frames: int, length: int) -> None:
    starts = window_starts(frames, length)
    assert (starts[0], starts[-1]) == (0, max(0, frames - length))
    assert all(0 < later - earlier <= max(1, length // 2) for earlier, later in pairwise(starts))


@given(frames=st.integers(1, 60), length=LENGTHS)
def test_what_treats_frames_alone_is_not_changed_by_windows(frames: int, length: int) -> None:
    video = torch.randn(1, 2, frames, 1, 1, generator=torch.Generator().manual_seed(frames))
    torch.testing.assert_close(blended(lambda window: 3 * window, video, length), 3 * video)


@given(frames=st.integers(1, 60), length=LENGTHS)
def test_no_window_is_longer_than_allowed(frames: int, length: int) -> None:
    seen: list[int] = []

    def note(window: torch.Tensor) -> torch.Tensor:
        seen.append(window.shape[2])
        return window

    blended(note, torch.zeros(1, 1, frames, 1, 1), length)
    assert seen == ([frames] if frames <= length else [length] * len(window_starts(frames, length)))


def test_the_middle_of_a_window_counts_more_than_its_ends() -> None:
    calls = iter([0.0, 1.0])
    made = blended(lambda window: torch.full_like(window, next(calls)), torch.zeros(1, 1, 6, 1, 1), 4)
    assert made.flatten().tolist() == pytest.approx([0, 0, 1 / 3, 2 / 3, 1, 1])


def test_videos_within_the_window_are_made_as_without_one(tiny_diffusers) -> None:
    video = Modality.VIDEO
    latent = torch.randn(1, 4, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    context = {video: torch.ones(1, 1, 20)}
    with torch.no_grad():
        made = [
            JointDenoiser(tiny_diffusers, window_frames=n)({video: latent}, {video: STEP}, context) for n in (None, 4)
        ]
    assert torch.equal(made[0][video], made[1][video])


def test_a_video_longer_than_the_diffuser_can_take_is_made_with_its_sound(tiny_pipeline) -> None:
    size = OutputSize(frames=40)
    made = tiny_pipeline(["a red ball bounces"], [Modality.VIDEO, Modality.AUDIO], size=size, steps=2)
    assert made[Modality.VIDEO].pixels.shape[1] == 40
    assert made[Modality.VIDEO].pixels.isfinite().all()
