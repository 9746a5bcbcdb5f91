from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from comfyui_codi.codi_core.encoders import CLAPEncoder
from comfyui_codi.codi_core.errors import ConfigError, MediaError
from comfyui_codi.codi_core.values import Waveform

RATE_HZ = 16_000


def noise(samples: int, channels: int = 1, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, channels, samples, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_every_embedding_is_one_token_of_unit_length(clap: CLAPEncoder) -> None:
    token = clap.encode_audio(Waveform(noise(5000, channels=2, batch=3), RATE_HZ))
    assert token.shape == (3, 1, 20)
    assert_close(token.norm(dim=-1), torch.ones(3, 1))


def test_log_mel_is_that_of_the_feature_extractor(clap: CLAPEncoder) -> None:
    sound = noise(10_240)[0] * torch.linspace(-0.5, 1, 10_240).clamp(min=0)
    theirs = clap.extractor(sound[0].numpy(), truncation="rand_trunc", sampling_rate=RATE_HZ)
    expected = torch.from_numpy(np.asarray(theirs["input_features"], dtype=np.float32))
    assert expected.shape == (1, 1, 65, 16)
    assert_close(clap.log_mel(sound), expected[:, :, :64], atol=1e-3, rtol=0)


def test_silence_is_the_quietest_level(clap: CLAPEncoder) -> None:
    assert_close(clap.log_mel(torch.zeros(1, 10_240)), torch.full((1, 1, 64, 16), -100.0))


def test_short_sound_is_repeated_whole_then_silent(clap: CLAPEncoder) -> None:
    sound = noise(4000)
    repeated = torch.cat([sound, sound, torch.zeros(1, 1, 2240)], dim=-1)
    assert_close(clap.fit(sound[0]), repeated[0])
    assert_close(clap.encode_audio(Waveform(sound, RATE_HZ)), clap.encode_audio(Waveform(repeated, RATE_HZ)))


def test_middle_of_a_long_sound_is_heard(clap: CLAPEncoder) -> None:
    long = noise(30_000)
    middle = long[..., 9880:20_120]
    assert_close(clap.encode_audio(Waveform(long, RATE_HZ)), clap.encode_audio(Waveform(middle, RATE_HZ)))


def test_channels_are_mixed_to_one(clap: CLAPEncoder) -> None:
    left, right = noise(6000, channels=2).split(1, dim=1)
    stereo = clap.encode_audio(Waveform(torch.cat([left, right], dim=1), RATE_HZ))
    assert_close(stereo, clap.encode_audio(Waveform((left + right) / 2, RATE_HZ)))


def test_sample_rate_does_not_matter(clap: CLAPEncoder) -> None:
    def tone(rate_hz: int) -> Waveform:
        return Waveform(torch.sin(torch.arange(rate_hz // 2) * (2 * torch.pi * 440 / rate_hz))[None, None], rate_hz)

    embeddings = [clap.encode_audio(tone(rate_hz)) for rate_hz in (16_000, 44_100, 48_000)]
    for embedding in embeddings[1:]:
        assert (embedding - embeddings[0]).norm() < 0.02


def test_tones_above_those_of_training_are_not_heard(clap: CLAPEncoder) -> None:
    clap.register_to_config(heard_sample_rate_hz=8000)
    high = torch.sin(torch.arange(10_240) * (2 * torch.pi * 6000 / RATE_HZ))[None]
    heard = clap.encode_audio(Waveform(high[None], RATE_HZ))
    silence = clap.encode_audio(Waveform(torch.zeros(1, 1, 10_240), RATE_HZ))
    loud = clap.embed_mel(clap.log_mel(high))
    assert (heard - silence).norm() < (loud - silence).norm()


def test_gradients_reach_every_part(clap: CLAPEncoder) -> None:
    clap.embed_mel(clap.log_mel(noise(10_240, batch=2)[:, 0])).sum().backward()
    assert all(weight.grad is not None for weight in clap.parameters())


def test_unusable_sounds_say_why(clap: CLAPEncoder) -> None:
    with pytest.raises(MediaError, match=r"a sound to encode, got an empty one of shape \(1, 1, 0\)"):
        clap.encode_audio(Waveform(torch.zeros(1, 1, 0), RATE_HZ))
    with pytest.raises(MediaError, match=r"a sound with values in \[-1, 1\], got 5 that are NaN or infinite"):
        clap.encode_audio(Waveform(torch.full((1, 1, 5), float("nan")), RATE_HZ))
    with pytest.raises(MediaError, match="a sample rate above 0 Hz, got 0"):
        clap.encode_audio(Waveform(noise(5), 0))


def test_single_sample_is_a_sound(clap: CLAPEncoder) -> None:
    assert clap.encode_audio(Waveform(noise(1), 44_100)).isfinite().all()


def test_features_that_do_not_fit_the_network_say_both_sizes(clap: CLAPEncoder) -> None:
    longer = {**clap.config["features"], "max_length_s": 1.28}
    with pytest.raises(ConfigError, match="16 bands and at most 64 frames for this CLAP, got 16 and 128"):
        CLAPEncoder(audio=clap.config["audio"], features=longer)


def test_saved_and_loaded_encodes_the_same(clap: CLAPEncoder, tmp_path: Path) -> None:
    clap.save_pretrained(tmp_path)
    sound = Waveform(noise(3000), RATE_HZ)
    assert_close(CLAPEncoder.from_pretrained(tmp_path).encode_audio(sound), clap.encode_audio(sound))


def test_half_precision_stays_close(clap: CLAPEncoder) -> None:
    sound = Waveform(noise(9000), RATE_HZ)
    expected = clap.encode_audio(sound)
    half = clap.half().encode_audio(sound)
    assert half.dtype == torch.float16
    assert_close(half.float(), expected, atol=1e-2, rtol=0)
