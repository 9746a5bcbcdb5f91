from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from comfyui_codi.codi_core.decoders import image as image_module
from comfyui_codi.codi_core.decoders import latent as latent_module
from comfyui_codi.codi_core.decoders.image import ImageCodec, VideoCodec, build_image_autoencoder
from comfyui_codi.codi_core.errors import ShapeError
from comfyui_codi.codi_core.values import Frames, Picture

RATE = Fraction(25, 4)


@pytest.fixture
def pictures(image_autoencoder):
    return ImageCodec(image_autoencoder, latent_scale=0.5)


@pytest.fixture
def videos(image_autoencoder):
    return VideoCodec(image_autoencoder, latent_scale=0.5, frames_per_second=RATE)


def test_picture_keeps_its_size(pictures):
    latent = pictures.encode(Picture(torch.rand(2, 3, 16, 24)))
    assert latent.shape == (2, 4, 4, 6)
    assert pictures.decode(latent).pixels.shape == (2, 3, 16, 24)


def test_encoding_is_the_scaled_mean_every_time(pictures, image_autoencoder):
    picture = Picture(torch.rand(1, 3, 8, 8))
    mean = image_autoencoder.encode(picture.pixels).latent_dist.mean
    torch.testing.assert_close(pictures.encode(picture), 0.5 * mean)
    assert torch.equal(pictures.encode(picture), pictures.encode(picture))


def test_pixels_stay_in_range(pictures):
    pixels = pictures.decode(1e3 * torch.randn(1, 4, 2, 2)).pixels
    assert pixels.min() >= -1
    assert pixels.max() <= 1


def test_decoding_undoes_the_scale(image_autoencoder):
    latent = torch.randn(1, 4, 2, 2)
    one, ten = (ImageCodec(image_autoencoder, latent_scale=scale) for scale in (1.0, 10.0))
    torch.testing.assert_close(ten.decode(10 * latent).pixels, one.decode(latent).pixels)


def test_a_video_is_its_frames_as_pictures(pictures, videos):
    frames = Frames(torch.rand(2, 3, 3, 8, 16), RATE)
    latent = videos.encode(frames)
    assert latent.shape == (2, 4, 3, 2, 4)
    decoded = videos.decode(latent)
    assert decoded.pixels.shape == frames.pixels.shape
    assert decoded.frames_per_second == RATE
    for i in range(3):
        torch.testing.assert_close(latent[:, :, i], pictures.encode(Picture(frames.pixels[:, i])))
        torch.testing.assert_close(decoded.pixels[:, i], pictures.decode(latent[:, :, i]).pixels)


def test_small_chunks_give_the_same_video(videos, monkeypatch):
    frames = Frames(torch.rand(1, 5, 3, 8, 8), RATE)
    whole = videos.decode(videos.encode(frames)).pixels
    monkeypatch.setattr(latent_module, "PIXELS_AT_ONCE", 2 * 8 * 8)
    torch.testing.assert_close(videos.decode(videos.encode(frames)).pixels, whole)


def test_a_large_picture_goes_through_in_tiles(image_autoencoder, monkeypatch):
    monkeypatch.setattr(image_module, "TILE", 16)
    tiled = build_image_autoencoder(image_autoencoder.config).eval()
    tiled.load_state_dict(image_autoencoder.state_dict())
    seen = []
    for module in (tiled.encoder, tiled.decoder):
        module.register_forward_pre_hook(lambda module, given: seen.append(max(given[0].shape[-2:])))
    codec = ImageCodec(tiled, latent_scale=0.5)
    picture = Picture(torch.rand(1, 3, 40, 24))
    latent = codec.encode(picture)
    assert max(seen) == 16
    seen.clear()
    assert codec.decode(latent).pixels.shape == picture.pixels.shape
    assert max(seen) == 4


@pytest.mark.parametrize(("width", "height", "nearest"), [(17, 8, "16x8"), (3, 31, "4x32")])
def test_odd_size_says_both_sizes_and_the_nearest(pictures, videos, width, height, nearest):
    message = f"multiples of 4, got {width}x{height}; resize to {nearest}"
    with pytest.raises(ShapeError, match=message):
        pictures.encode(Picture(torch.zeros(1, 3, height, width)))
    with pytest.raises(ShapeError, match=message):
        videos.encode(Frames(torch.zeros(1, 2, 3, height, width), RATE))


def test_latent_of_another_model_is_refused(pictures, videos):
    with pytest.raises(ShapeError, match=r"image latent of shape \(batch, 4, height, width\), got \(1, 8, 2, 2\)"):
        pictures.decode(torch.zeros(1, 8, 2, 2))
    with pytest.raises(ShapeError, match="video latent"):
        videos.decode(torch.full((1, 4, 2, 2, 2), float("nan")))
