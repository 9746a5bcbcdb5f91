from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from comfyui_codi.codi_core.models.layers import (
    Attention,
    SpatialLayers,
    TimeEmbedding,
    Transformer,
    VectorLayers,
    zeroed,
)

CLOSE = {"atol": 1e-5, "rtol": 1e-4}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def attention() -> Attention:
    torch.manual_seed(0)
    return Attention(64, 20, heads=4).requires_grad_(False)


@given(rows=st.integers(1, 3), positions=st.integers(1, 9))
def test_attention_over_one_token_equals_general_attention(attention, rows, positions):
    """With the token twice, general attention runs, and gives each copy half the weight."""
    hidden, token = random(rows, positions, 64), random(rows, 1, 20, seed=1)
    quick, general = attention.prepare(token), attention.prepare(token.repeat(1, 2, 1))
    assert quick.keys is None
    assert general.keys is not None
    torch.testing.assert_close(attention(hidden, quick).expand_as(hidden), attention(hidden, general), **CLOSE)


def test_attention_over_several_tokens_depends_on_the_query(attention):
    memory = attention.prepare(random(1, 3, 20, seed=1))
    one, other = attention(random(1, 4, 64), memory), attention(random(1, 4, 64, seed=2), memory)
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("tokens", [1, 3])
def test_a_memory_serves_all_frames_of_its_row(attention, tokens):
    hidden, context = random(2 * 5, 4, 64), random(2, tokens, 20, seed=1)
    folded = attention(hidden, attention.prepare(context)).expand_as(hidden)
    repeated = attention(hidden, attention.prepare(context.repeat_interleave(5, dim=0))).expand_as(hidden)
    torch.testing.assert_close(folded, repeated, **CLOSE)


def test_cosines_come_first_in_the_time_embedding():
    seen = []
    embedding = TimeEmbedding(64, 256)
    embedding.linear_1.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    embedding(torch.tensor([0, 999]), random(2, 1))
    waves = torch.tensor([0.0, 999.0])[:, None] * torch.exp(-torch.log(torch.tensor(10_000.0)) * torch.arange(32) / 32)
    torch.testing.assert_close(seen[0], torch.cat([waves.cos(), waves.sin()], dim=1), atol=1e-3, rtol=0)


def test_the_time_embedding_is_of_the_precision_asked_for():
    assert TimeEmbedding(64, 128).half()(torch.tensor([3]), random(1, 1).half()).dtype == torch.float16


def test_a_transformer_that_ends_in_zeros_changes_nothing():
    transformer = Transformer(64, 20, heads=4)
    zeroed(transformer.proj_out)
    hidden = random(2, 64, 3, 5)
    assert torch.equal(transformer(hidden, transformer.prepare(random(2, 1, 20))), hidden)


@pytest.mark.parametrize("after", [64, 128])
def test_a_residual_block_has_a_shortcut_only_where_channels_change(after):
    block = SpatialLayers().residual(64, after, 32)
    assert isinstance(block.shortcut, nn.Identity) == (after == 64)
    assert block(random(2, 64, 4, 4), random(2, 32)).shape == (2, after, 4, 4)


def test_resampling_halves_and_doubles():
    layers = SpatialLayers()
    assert layers.downsample(64)(random(1, 64, 8, 6)).shape == (1, 64, 4, 3)
    assert layers.upsample(64)(random(1, 64, 4, 3)).shape == (1, 64, 8, 6)


def test_vectors_keep_their_slots():
    layers = VectorLayers(slots=4)
    hidden = layers.stem(6, 64)(random(2, 6))
    assert hidden.shape == (2, 64, 4, 1)
    for layer in (layers.downsample(64), layers.upsample(64)):
        assert layer(hidden).shape == hidden.shape
    assert layers.residual(64, 128, 32)(hidden, random(2, 32)).shape == (2, 128, 4, 1)
    assert layers.head(64, 6)(hidden).shape == (2, 6)
