"""Whole runs of the released entry point, stage by stage: conditions, latents, media."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import torch
from cases import Case, Pairs
from torch import Tensor

from comfyui_codi.codi_core import encoders
from comfyui_codi.codi_core.decoders import build_codec
from comfyui_codi.codi_core.mixing import mix
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.models.joint import Alignment, JointDenoiser
from comfyui_codi.codi_core.released import squared_frames, squared_picture
from comfyui_codi.codi_core.sampling import JointSampler, noise_generator
from comfyui_codi.codi_core.values import Condition, Frames, Media, Picture, Waveform

HEARD_HZ = 16_000
RATE = Fraction(4)
PREPARED: Mapping[Modality, Callable[[Tensor], Media]] = {
    Modality.IMAGE: lambda given: Picture(squared_picture(given.numpy())),
    Modality.VIDEO: lambda given: Frames(squared_frames(given.numpy()), RATE),
    Modality.AUDIO: lambda given: Waveform(given[None], HEARD_HZ),
}


def _condition(case: Case, kind: Modality, pairs: Pairs) -> Condition:
    """As our encoders make it. Words come as the golden's rows: their vocabulary is not at hand everywhere."""
    golden = case.expected(f"cond_{kind}")
    if kind is Modality.TEXT:
        null, prompt = golden.chunk(2)
        return Condition(prompt, null)
    prompt = encoders.encode(case.model, PREPARED[kind](case.given(f"cond_{kind}")))
    null = encoders.encode(case.model, encoders.null_like(case.model, kind)).expand_as(prompt)
    pairs[f"cond_{kind}"] = (torch.cat([null, prompt]), golden)
    return Condition(prompt, null)


def check_pipeline(case: Case) -> Pairs:
    call, modalities, pairs = case.facts["call"], case.modalities(), {}
    kinds = [Modality(kind) for kind in call["condition_types"]]
    conditions = [_condition(case, kind, pairs) for kind in kinds]
    noise = {modality: case.given(f"noise_{modality}") for modality in modalities}
    latents = JointSampler(JointDenoiser(case.model.diffusers(modalities), Alignment.RELEASED)).sample(
        noise,
        mix(conditions, [float(call["mix_weight"][kind]) for kind in kinds]),
        steps=call["ddim_steps"],
        guidance=call["scale"],
        generators={modality: noise_generator(0, modality) for modality in modalities},
    )
    for modality, latent in latents.items():
        pairs[f"latent_{modality}"] = (latent, case.expected(f"latent_{modality}"))
        if modality is not Modality.TEXT:
            pairs |= DECODED[modality](case, build_codec(modality, case.model, case.model.config), latent)
    return pairs


def _levels(pixels: Tensor) -> Tensor:
    """The released code cuts off where media.to_bytes rounds."""
    return ((pixels + 1) / 2 * 255).to(torch.uint8).movedim(-3, -1)


def _sound(case: Case, codec: Any, latent: Tensor) -> Pairs:
    samples = codec.vocode(codec.decode_mel(latent))
    return {"audio": (samples[..., ::4], case.expected("audio"))}


DECODED: Mapping[Modality, Callable[[Case, Any, Tensor], Pairs]] = {
    Modality.IMAGE: lambda case, codec, latent: {
        "image_u8": (_levels(codec.decode(latent).pixels), case.expected("image_u8"))
    },
    Modality.VIDEO: lambda case, codec, latent: {
        "video_u8": (_levels(codec.decode(latent).pixels), case.expected("video_u8"))
    },
    Modality.AUDIO: _sound,
}

PIPELINE_CHECKS: Mapping[str, Callable[[Case], Pairs]] = {"pipeline_": check_pipeline}
