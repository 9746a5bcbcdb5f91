from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from comfyui_codi.codi_core.errors import OutOfMemoryError
from comfyui_codi.codi_core.memory import in_pieces, ran_out
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.models.joint import JointDenoiser

SHAPES = {Modality.TEXT: (3, 6), Modality.IMAGE: (3, 4, 4, 4), Modality.VIDEO: (3, 4, 3, 4, 4)}


@contextmanager
def one_row_fits(module: nn.Module, rows: int = 1) -> Iterator[None]:
    """A module's memory runs out where it gets more than one row, or another number of them."""

    def check(module, arguments):
        if len(arguments[0]) > rows:
            raise torch.OutOfMemoryError("out of memory. Tried to allocate 20 GiB")

    hook = module.register_forward_pre_hook(check)
    yield
    hook.remove()


def test_what_devices_say_of_a_shortage_is_understood():
    with pytest.raises(RuntimeError) as shortage:
        torch.empty(2**50)
    assert ran_out(shortage.value)
    assert ran_out(RuntimeError("MPS backend out of memory (MPS allocated: 9.1 GB)"))
    assert not ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not ran_out(ValueError("out of memory"))


@given(rows=st.integers(1, 9), fitting=st.integers(1, 9))
def test_work_is_done_at_once_where_it_fits_else_in_the_smallest_pieces(rows, fitting):
    tried = []

    def run(pieces):
        tried.append(pieces)
        chunks = torch.arange(rows).chunk(pieces)
        if max(map(len, chunks)) > fitting:
            torch.empty(2**50)
        return torch.cat(chunks)

    assert in_pieces(run, rows, "a test").tolist() == list(range(rows))
    assert tried == ([1] if rows <= fitting else [1, rows])


def test_what_does_not_fit_at_all_says_what_to_lower():
    def run(pieces):
        torch.empty(2**50)

    with pytest.raises(OutOfMemoryError, match=r"a step of the video does not fit .* \(width, height, frames, seconds"):
        in_pieces(run, 4, "a step of the video")


def test_other_mistakes_are_not_tried_again():
    tried = []

    def run(pieces):
        tried.append(pieces)
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        in_pieces(run, 4, "a test")
    assert tried == [1]


@pytest.mark.parametrize("modality", SHAPES)
@pytest.mark.parametrize("guidance", [1, 2])
def test_a_step_in_pieces_is_the_same_step(tiny_diffusers, modality, guidance):
    random = torch.Generator().manual_seed(0)
    latents = {other: torch.randn(shape, generator=random) for other, shape in SHAPES.items()}
    denoiser = JointDenoiser({other: tiny_diffusers[other] for other in SHAPES})
    contexts = {modality: torch.randn(3 * guidance, 1, 20, generator=random)}
    step = torch.tensor([400, 500, 600])
    encoder = denoiser.diffusers[modality].environment_encoder
    with torch.no_grad():
        whole = denoiser(latents, dict.fromkeys(latents, step), contexts)[modality]
        # V reads the frames of a video as rows.
        with one_row_fits(denoiser.diffusers[modality]), one_row_fits(encoder, SHAPES[Modality.VIDEO][2]):
            pieces = denoiser(latents, dict.fromkeys(latents, step), contexts)[modality]
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("modality", [Modality.IMAGE, Modality.VIDEO])
def test_decoding_in_pieces_gives_the_same_pixels(tiny_pipeline, modality):
    condition = tiny_pipeline.encode("a red ball bounces").repeated(3)
    latents = tiny_pipeline.sample(condition, to=[modality], steps=1)
    whole = tiny_pipeline.decode(latents, modality).pixels
    autoencoder = tiny_pipeline.parts["image_autoencoder"]
    with one_row_fits(autoencoder.decoder):
        pieces = tiny_pipeline.decode(latents, modality).pixels
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=1e-5)
