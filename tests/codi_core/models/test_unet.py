from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from comfyui_codi.codi_core.errors import ConfigError, ShapeError
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.models.unet import UNet

TEXT, IMAGE, VIDEO, AUDIO = Modality
LATENTS = {TEXT: (2, 6), IMAGE: (2, 4, 8, 4), VIDEO: (2, 4, 3, 4, 4), AUDIO: (2, 4, 6, 8)}
STEP = torch.tensor([500, 20])
ARGUMENTS: dict[str, Any] = {
    "latent_channels": 4,
    "width": 64,
    "multipliers": [1, 1],
    "units": [1, 1],
    "transformer_levels": [True, False],
    "connector_levels": [True, False],
    "context_width": 20,
}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def noise(diffuser: UNet, latent: Tensor, environment: Tensor | None = None, context_seed: int = 1) -> Tensor:
    memories = diffuser.prepare_context(random(2, 1, 20, seed=context_seed))
    if environment is not None:
        memories |= diffuser.prepare_environment(environment)
    with torch.no_grad():
        return diffuser(latent, STEP, memories)


@pytest.mark.parametrize("modality", Modality)
def test_the_output_has_the_shape_of_the_latent(modality, tiny_diffusers):
    assert noise(tiny_diffusers[modality], random(*LATENTS[modality])).shape == LATENTS[modality]


@pytest.mark.parametrize("modality", Modality)
def test_prompt_and_environment_both_matter(modality, tiny_diffusers):
    diffuser, latent = tiny_diffusers[modality], random(*LATENTS[modality])
    alone = noise(diffuser, latent)
    assert not torch.allclose(alone, noise(diffuser, latent, context_seed=5), atol=1e-4)
    assert not torch.allclose(alone, noise(diffuser, latent, environment=random(2, 1, 24)), atol=1e-4)


@pytest.mark.parametrize("modality", Modality)
def test_the_environment_is_one_unit_token(modality, tiny_diffusers):
    with torch.no_grad():
        token = tiny_diffusers[modality].encode_environment(random(*LATENTS[modality]), STEP)
    assert token.shape == (2, 1, 24)
    torch.testing.assert_close(token.norm(dim=-1), torch.ones(2, 1))


def test_untrained_connectors_change_nothing():
    torch.manual_seed(0)
    diffuser = UNet(**ARGUMENTS, environment={"width": 24, "multipliers": [1, 1]})
    latent = random(*LATENTS[IMAGE])
    assert torch.equal(noise(diffuser, latent), noise(diffuser, latent, environment=random(2, 1, 24)))


def test_a_picture_does_not_pass_the_temporal_modules():
    torch.manual_seed(0)
    video = UNet(**ARGUMENTS, temporal="frames")
    image = UNet(**ARGUMENTS)
    image.load_state_dict({key: video.state_dict()[key] for key in image.state_dict()})
    for name, parameter in video.named_parameters():
        if ".temporal." in name:
            torch.nn.init.normal_(parameter)
    latent = random(*LATENTS[IMAGE])
    assert torch.equal(noise(video, latent), noise(image, latent))


def test_a_context_of_several_tokens_is_read():
    torch.manual_seed(0)
    diffuser, latent = UNet(**ARGUMENTS), random(*LATENTS[IMAGE])
    token, other = random(2, 1, 20), random(2, 1, 20, seed=3)

    def with_context(*tokens: Tensor) -> Tensor:
        return diffuser(latent, STEP, diffuser.prepare_context(torch.cat(tokens, dim=1)))

    torch.testing.assert_close(with_context(token), with_context(token, token), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(with_context(token), with_context(token, other))


def test_the_deepest_skip_is_either_the_way_down_or_the_middle():
    torch.manual_seed(0)
    plain = UNet(**ARGUMENTS)
    released = UNet(**ARGUMENTS, deepest_skip="middle")
    released.load_state_dict(plain.state_dict())
    latent = random(*LATENTS[IMAGE])
    assert not torch.allclose(noise(plain, latent), noise(released, latent))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("modality", Modality)
def test_half_precision_stays_half_precision(modality, dtype, tiny_diffusers):
    diffuser = UNet.from_config(tiny_diffusers[modality].config).to(dtype)
    made = diffuser(random(*LATENTS[modality]).to(dtype), STEP, diffuser.prepare_context(random(2, 1, 20).to(dtype)))
    assert made.dtype == dtype
    assert made.isfinite().all()


def test_too_many_frames_say_the_limit(tiny_diffusers):
    with pytest.raises(ShapeError, match="at most 30 frames at once, got 31; ask for fewer"):
        noise(tiny_diffusers[VIDEO], random(2, 4, 31, 2, 2))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"units": [1]}, "must name the same levels, got lengths 2, 1, 2, 2"),
        ({"deepest_skip": "none"}, "unknown deepest_skip 'none'; choose one of: input, middle"),
        ({"temporal": "time"}, "unknown temporal 'time'; choose one of: frames, channels"),
    ],
)
def test_contradictory_arguments_are_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        UNet(**ARGUMENTS | wrong)


def test_saved_and_loaded_by_diffusers_it_is_the_same(tmp_path, tiny_diffusers):
    tiny_diffusers[TEXT].save_pretrained(tmp_path)
    again = UNet.from_pretrained(tmp_path)
    latent = random(*LATENTS[TEXT])
    torch.testing.assert_close(noise(again, latent), noise(tiny_diffusers[TEXT], latent))
