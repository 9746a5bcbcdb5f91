"""What is run and compared for goldens of autoencoders, vocoder, prompt encoders, preparation and whole runs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import Case, Pairs
from torch import Tensor
from transformers import AutoTokenizer

from comfyui_codi.codi_core.audio_ops import resample
from comfyui_codi.codi_core.checkpoints.tokenizers import PUBLIC_TOKENIZERS, add_tokenizers
from comfyui_codi.codi_core.decoders.audio import AudioCodec
from comfyui_codi.codi_core.decoders.latent import decode_scaled
from comfyui_codi.codi_core.decoders.mel import MelFrontend, analysis
from comfyui_codi.codi_core.decoders.text import DECODER_TOKENIZER, ENCODER_TOKENIZER, TextAutoencoder
from comfyui_codi.codi_core.decoders.wording import sentence, without_repeats
from comfyui_codi.codi_core.encoders.clip import TOKENIZER, clip_pixels
from comfyui_codi.codi_core.media_files import from_bytes
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.released import squared_frames, squared_picture
from comfyui_codi.codi_core.values import Frames, Picture, Waveform

HEARD_HZ = 16_000
CLAP_HZ = 48_000
RATE = Fraction(4)
"""Of videos; no encoder looks at it."""


def _sampled(autoencoder: Any, media: Tensor, noise: Tensor | None, scale: float) -> dict[str, Tensor]:
    posterior = autoencoder.encode(media.to(autoencoder.dtype)).latent_dist
    found = {"moments": posterior.parameters}
    # The released code samples the posterior where ours takes its mean.
    return found if noise is None else found | {"z": scale * (posterior.mean.float() + posterior.std.float() * noise)}


def check_image_autoencoder(case: Case) -> Pairs:
    autoencoder, scale = case.model["image_autoencoder"], case.facts["call"]["scale"]

    def decoded(latent: Tensor) -> Tensor:
        return decode_scaled(autoencoder, latent, scale)

    made = _sampled(autoencoder, case.given("x"), case.tensors.get("in.noise"), scale)
    made["decoded"] = decoded(case.given("z"))
    # The released code cuts off where media.to_bytes rounds.
    made["image_u8"] = ((made["decoded"] + 1) / 2).clamp(0, 1).mul(255).to(torch.uint8)
    if "in.x_video" in case.tensors:
        video, latent = case.given("x_video"), case.given("z_video")
        moments = _sampled(autoencoder, video.transpose(1, 2).flatten(0, 1), None, scale)["moments"]
        made["moments_video"] = moments.unflatten(0, (len(video), -1)).transpose(1, 2)
        frames = decoded(latent.transpose(1, 2).flatten(0, 1))
        made["decoded_video"] = frames.unflatten(0, (len(latent), -1)).transpose(1, 2)
    return case.paired(made)


def _audio_codec(case: Case, scale: float = 1.0) -> AudioCodec:
    mel = MelFrontend(**case.model.config.mel)
    return AudioCodec(case.model["audio_autoencoder"], case.model["vocoder"], mel, scale)


def _spectrogram(wave: Tensor, seconds: float) -> Tensor:
    mel = MelFrontend()
    # The released code's frames are a little less than a hundredth of a second.
    return mel.log_mel(mel.normalise(wave), int(seconds * 102.4))


def check_audio_autoencoder(case: Case) -> Pairs:
    call = case.facts["call"]
    codec = _audio_codec(case, call["scale"])
    spectrogram = _spectrogram(case.given("wave"), call["time"])
    made = _sampled(codec.autoencoder, spectrogram, case.tensors.get("in.noise"), call["scale"])
    loud = case.given("z").clone()
    loud[0, 0, 0, 0] = 150.0
    made |= {"fbank": spectrogram, "mel": codec.decode_mel(case.given("z")), "mel_big": codec.decode_mel(loud)}
    return case.paired(made)


def check_mel_frontend(case: Case) -> Pairs:
    made = {f"fbank_{seconds:g}": _spectrogram(case.given("wave"), seconds) for seconds in case.facts["call"]["times"]}
    made["fbank_10_every_8th_frame"] = _spectrogram(case.given("wave10"), 10.0)[:, :, ::8]
    window, filters = analysis(MelFrontend(), torch.device("cpu"))
    made["mel_basis"] = filters.T
    # The answers to single impulses are the columns of the windowed Fourier basis.
    impulses = torch.eye(len(window))
    answers = torch.stft(impulses, len(window), window=window, center=False, return_complex=True)[..., 0].T
    made["forward_basis_every_57th_row"] = torch.cat([answers.real, answers.imag])[::57]
    return case.paired(made)


def check_vocoder(case: Case) -> Pairs:
    mel = case.given("mel")
    return case.paired({"wave": _audio_codec(case).vocode(mel if mel.ndim == 4 else mel.transpose(1, 2)[:, None])})


def _pictures(tensor: Tensor) -> Picture:
    """From [-1, 1] as it is, or from bytes with the channels last."""
    if tensor.dtype == torch.uint8:
        tensor = from_bytes(tensor.reshape(-1, *tensor.shape[-3:]).numpy())
    return Picture(tensor)


def check_clip_text(case: Case) -> Pairs:
    clip, ids = case.model["clip"], case.given("ids")
    tower = clip.clip.text_model(input_ids=ids)
    made = {"pooled": tower.pooler_output, "last_hidden": tower.last_hidden_state[:, ::7]}
    return case.paired(made | {"embedding": clip.embed_tokens(ids)})


def check_clip_vision(case: Case) -> Pairs:
    clip, image = case.model["clip"], case.given("image")
    videos = {name: case.given(name).transpose(1, 2) for name in ("video", "video_1frame")}
    made: dict[str, Tensor] = {name: clip.encode_video(Frames(each, RATE)) for name, each in videos.items()}
    made["image"] = clip.encode_image(Picture(image))
    made["uncond_image"] = clip.encode_image(Picture(torch.zeros_like(image)))
    made["uncond_video"] = clip.encode_video(Frames(torch.zeros_like(videos["video"]), RATE))
    made["pixels_image"] = clip_pixels(image, clip.image_size)
    made["pixels_video"] = clip_pixels(videos["video"].flatten(0, 1), clip.image_size)
    return case.paired(made)


def check_clip_processor(case: Case) -> Pairs:
    made = {"pixels_a": clip_pixels(case.given("a"), 224)}
    made["pixels_b"] = clip_pixels(_pictures(case.given("b_u8")).pixels, 224)[..., ::4, ::4]
    return case.paired(made)


def check_full_clip(case: Case) -> Pairs:
    clip = case.model["clip"]
    picture, frames = _pictures(case.given("image_u8")), _pictures(case.given("video_u8"))
    made = {
        "text": clip.embed_tokens(case.given("ids")),
        "image": clip.encode_image(picture),
        "uncond_image": clip.encode_image(Picture(torch.zeros_like(picture.pixels))),
        "video": clip.encode_video(Frames(frames.pixels[None], RATE)),
    }
    return case.paired(made)


def check_clap(case: Case) -> Pairs:
    clap, wave = case.model["clap"], case.given("wave")
    samples = resample(wave[:, 0], HEARD_HZ, CLAP_HZ)
    fitted = clap.fit(samples)
    log_mel = clap.log_mel(fitted)
    seen: dict[str, Tensor] = {}
    patches = clap.clap.audio_model.audio_encoder.patch_embed
    hook = patches.register_forward_pre_hook(lambda module, given: seen.update(image=given[0]))
    pooled = clap.clap.audio_model(input_features=log_mel.to(clap.dtype)).pooler_output
    hook.remove()
    made = {
        "wave48_first": samples[:, :2000],
        "wave48_every_64th": fitted[:, ::64],
        "logmel": log_mel[:, :, ::3],
        "image": seen["image"][..., ::4, ::4],
        "pooled": pooled,
        "embedding": clap.encode_audio(Waveform(wave, HEARD_HZ)),
        "uncond": clap.encode_audio(Waveform(torch.zeros_like(wave[:1]), HEARD_HZ)),
    }
    if "in.wave_2s" in case.tensors:
        made["embedding_2s"] = clap.encode_audio(Waveform(case.given("wave_2s"), HEARD_HZ))
    return case.paired(made)


def check_text_encoder(case: Case) -> Pairs:
    autoencoder, ids = case.model["text_autoencoder"], case.given("ids")
    mask = (ids != 0).long()
    tower = autoencoder.bert(input_ids=ids, attention_mask=mask)
    mean, _ = autoencoder.encode_tokens(ids, mask)
    made = {"mu": mean, "pooled": tower.pooler_output, "sequence": tower.last_hidden_state}
    return case.paired(made | {"z": mean * case.facts["call"]["scale"]})


def _scores(logits: Tensor, name: str) -> dict[str, Tensor]:
    ending = f"_{name}" if name else ""
    return {
        f"logits{ending}": logits[..., ::149],
        f"logsumexp{ending}": logits.logsumexp(dim=-1),
        f"argmax{ending}": logits.argmax(dim=-1),
    }


def check_text_logits(case: Case) -> Pairs:
    autoencoder, ids, latent = case.model["text_autoencoder"], case.given("ids"), case.fed("z")
    made = _scores(autoencoder.logits(ids, latent), "both")
    # Without memory there is no position before the first token.
    made |= _scores(autoencoder._advance(ids, latent, None, position=0), "embedding_only")
    hook = autoencoder.to_embedding.register_forward_hook(lambda module, given, output: torch.zeros_like(output))
    made |= _scores(autoencoder.logits(ids, latent), "memory_only")
    hook.remove()
    return case.paired(made)


def check_text_greedy(case: Case) -> Pairs:
    autoencoder, scale = case.model["text_autoencoder"], case.model.config.modalities[Modality.TEXT].latent_scale
    latent = case.fed("z_scaled") / scale
    made = {"ids": autoencoder.generate(latent)}
    end = autoencoder.end_id
    autoencoder.end_id = case.facts["call"]["early_eos"]
    try:
        made["early_stop"] = autoencoder.generate(latent[:1])[0]
    finally:
        autoencoder.end_id = end
    return {name: (made[name], case.expected(name).tolist()) for name in made}


def check_full_text(case: Case) -> Pairs:
    autoencoder = case.model["text_autoencoder"]
    mean, _ = autoencoder.encode_tokens(case.given("ids"), (case.given("ids") != 0).long())
    made: dict[str, Any] = {"mu": mean} | _scores(autoencoder.logits(case.given("dec_ids"), case.fed("z")), "")
    longest = autoencoder.config["maximum_tokens"]
    autoencoder.register_to_config(maximum_tokens=case.facts["call"]["max_length"])
    try:
        made["greedy"] = torch.tensor(autoencoder.generate(case.fed("z")))
    finally:
        autoencoder.register_to_config(maximum_tokens=longest)
    return case.paired(made)


def check_tokenizers(case: Case) -> Pairs:
    """Of the vocabularies that are at hand."""
    folder = os.environ.get("CODI_VOCABULARIES")
    if not folder:
        pytest.skip("set CODI_VOCABULARIES to a folder with the public vocabularies, as codi convert takes it")
    pairs: Pairs = {}
    with tempfile.TemporaryDirectory() as scratch:
        for part, kinds in TOKENIZER_CASES.items():
            missing = add_tokenizers(part, Path(scratch) / part, Path(folder))
            for place, public in PUBLIC_TOKENIZERS[part].items():
                if public.hub_name in missing:
                    continue
                tokenizer = AutoTokenizer.from_pretrained(Path(scratch) / part / place)
                kind, read = kinds[place]
                for row in case.facts["data"][kind]:
                    pairs[f"{kind} {row['text']}"] = (read(tokenizer, row["text"]), row["ids"])
            if part == "text_autoencoder" and not missing:
                writer = _writer(Path(scratch) / part)
                for row in case.facts["data"]["gpt2_decode"]:
                    pairs[f"gpt2_decode {row['ids']}"] = (sentence(writer.decoded(row["ids"])), row["text"])
    return pairs


def _writer(tokenizers: Path) -> TextAutoencoder:
    """As small as can be, but with vocabularies of the official size: it turns tokens into text."""
    bert = {"vocab_size": 28996, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    gpt2 = {"vocab_size": 50260, "n_embd": 8, "n_layer": 1, "n_head": 1}
    writer = TextAutoencoder(encoder=bert, decoder=gpt2, latent_width=2)
    writer.attach_tokenizers(tokenizers)
    return writer


TOKENIZER_CASES: Mapping[str, Mapping[str, tuple[str, Callable[[Any, str], list[int]]]]] = {
    "clip": {TOKENIZER: ("clip_encode", lambda tokenizer, text: tokenizer(text)["input_ids"])},
    "text_autoencoder": {
        ENCODER_TOKENIZER: ("bert_encode", lambda tokenizer, text: tokenizer(text.lower())["input_ids"]),
        DECODER_TOKENIZER: (
            "gpt2_encode",
            # As TextAutoencoder.decoder_ids does.
            lambda tokenizer, text: tokenizer(f" {text.strip()}".rstrip(), add_special_tokens=False)["input_ids"],
        ),
    },
}
"""Per part and folder: the golden's list, and how its ids are made."""


def check_wording(case: Case) -> Pairs:
    pairs = [pair for pair in case.facts["data"]["pairs"] if pair["error"] is None]
    return {pair["input"]: (without_repeats(pair["input"]), pair["output"]) for pair in pairs}


def check_preparation(case: Case) -> Pairs:
    def picture(name: str, *arguments: Any, **options: Any) -> Tensor:
        return squared_picture(case.given(name).numpy(), *arguments, **options)[0]

    def frames(name: str, *arguments: Any) -> Tensor:
        return squared_frames(case.given(name).numpy(), *arguments)[0].transpose(0, 1)

    made = {
        "square_to_64": picture("square_u8", 64),
        "square_to_64_flipped": picture("square_u8", 64, mirrored=True),
        "square_to_512_every_8th": picture("square_u8")[:, ::8, ::8],
        "nonsquare_centre_to_64": picture("nonsquare_u8", 64),
        "nonsquare_offset7_to_64": picture("nonsquare_u8", 64, offset=7),
        "video_to_32": frames("video_u8", 32),
        "video_to_256_every_4th": frames("video_u8")[..., ::4, ::4],
        "video2_to_256_every_4th": frames("video2_u8")[..., ::4, ::4],
    }
    return case.paired(made)


LIBRARY_CHECKS: Mapping[str, Callable[[Case], Pairs]] = {
    "autokl": check_image_autoencoder,
    "full_autokl": check_image_autoencoder,
    "audiovae": check_audio_autoencoder,
    "full_audiovae": check_audio_autoencoder,
    "mel_frontend": check_mel_frontend,
    "vocoder": check_vocoder,
    "full_vocoder": check_vocoder,
    "clip_text": check_clip_text,
    "clip_vision": check_clip_vision,
    "clip_processor": check_clip_processor,
    "full_clip": check_full_clip,
    "clap": check_clap,
    "full_clap": check_clap,
    "optimus_encode": check_text_encoder,
    "optimus_logits": check_text_logits,
    "optimus_greedy": check_text_greedy,
    "full_optimus": check_full_text,
    "text_postprocess": check_wording,
    "tokenizers": check_tokenizers,
    "preprocess": check_preparation,
}
