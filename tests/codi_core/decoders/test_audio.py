from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from comfyui_codi.codi_core.decoders.audio import AudioCodec
from comfyui_codi.codi_core.errors import ConfigError, ShapeError
from comfyui_codi.codi_core.values import Waveform


def noise(seconds: float, channels: int = 1, rate_hz: int = 8000) -> Waveform:
    torch.manual_seed(1)
    return Waveform(torch.rand(2, channels, round(seconds * rate_hz)) - 0.5, rate_hz)


def test_sound_keeps_its_duration(audio_codec):
    sound = noise(0.5)
    latent = audio_codec.encode(sound)
    assert latent.shape == (2, 4, 13, 4)  # 50 mel frames in cells of 4
    decoded = audio_codec.decode(latent, seconds=sound.duration_s)
    assert decoded.samples.shape == (2, 1, 4000)
    assert decoded.sample_rate_hz == 8000
    assert audio_codec.decode(latent).samples.shape == (2, 1, 13 * 4 * 80)


def test_the_vocoder_may_make_more_samples_than_the_latent_holds(audio_codec):
    log_mel = audio_codec.decode_mel(torch.zeros(1, 4, 2, 4))
    assert log_mel.shape == (1, 1, 8, 16)
    assert audio_codec.vocode(log_mel).shape[-1] > 8 * 80


def test_loudness_and_offset_do_not_matter(audio_codec):
    sound = noise(0.5)
    louder = Waveform(1.7 * sound.samples + 0.1, 8000)
    torch.testing.assert_close(audio_codec.encode(louder), audio_codec.encode(sound), rtol=1e-3, atol=1e-3)


def test_stereo_is_mixed_and_other_rates_are_converted(audio_codec):
    mono = noise(0.5)
    stereo = Waveform(mono.samples.expand(-1, 2, -1), 8000)
    torch.testing.assert_close(audio_codec.encode(stereo), audio_codec.encode(mono))
    assert audio_codec.encode(noise(0.5, rate_hz=11025)).shape == audio_codec.encode(mono).shape


def test_one_outlier_clips_the_whole_batch(audio_codec):
    latent = 20 * torch.randn(2, 4, 4, 4)
    assert latent.abs().max() < 100
    outlier = latent.clone()
    outlier[0, 0, 0, 0] = 150
    expected = audio_codec.decode_mel(outlier.clamp(-10, 10))
    torch.testing.assert_close(audio_codec.decode_mel(outlier), expected)
    assert not torch.allclose(audio_codec.decode_mel(latent)[1], expected[1])


@pytest.mark.parametrize("seconds", [0.2, 0.0])
def test_more_than_the_latent_holds_is_refused(audio_codec, seconds):
    with pytest.raises(ShapeError, match=rf"0\.16 s that the latent holds, got {seconds:g} s"):
        audio_codec.decode(torch.zeros(1, 4, 4, 4), seconds=seconds)


def test_latent_of_another_model_is_refused(audio_codec):
    with pytest.raises(ShapeError, match=r"audio latent of shape \(batch, 4, time, 4\), got \(1, 4, 4, 8\)"):
        audio_codec.decode(torch.zeros(1, 4, 4, 8))
    with pytest.raises(ShapeError, match="NaN"):
        audio_codec.decode(torch.full((1, 4, 4, 4), float("inf")))


def test_vocoder_of_another_model_says_both_sizes(audio_codec):
    mel = replace(audio_codec.mel, bands=20)
    with pytest.raises(ConfigError, match="20 mel bands and a hop of 80 samples, got one for 16 bands and 80"):
        AudioCodec(audio_codec.autoencoder, audio_codec.vocoder, mel, latent_scale=1.0)
