"""What is run and compared for goldens of diffusers, joint steps, sampling and losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from cases import Case, Pairs
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor

from comfyui_codi.codi_core.checkpoints.official import OFFICIAL_PARTS
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.models.joint import Alignment, JointDenoiser
from comfyui_codi.codi_core.models.layers import Memories
from comfyui_codi.codi_core.sampling import JointSampler, make_scheduler, noise_generator
from comfyui_codi.codi_core.training.losses import diffusion_loss
from comfyui_codi.codi_core.values import Condition

VECTOR_AXES = 2
"""Of the latents of text."""


def _joint(case: Case, alignment: Alignment, modalities: list[Modality]) -> JointDenoiser:
    return JointDenoiser(case.model.diffusers(modalities), alignment)


def check_unet(case: Case) -> Pairs:
    (modality,) = case.modalities()
    denoiser = _joint(case, Alignment.RELEASED, [modality])
    noise = denoiser(case.latents(), {modality: case.given("t")}, {modality: case.context()})[modality]
    made = {"eps": noise, "stats": torch.stack([noise.mean(), noise.std(correction=0), noise.norm()])}
    if noise.ndim > VECTOR_AXES:
        made["eps_every_4th_row"] = noise[:, :, ::4]
    return case.paired(made)


def check_environment(case: Case) -> Pairs:
    pairs: Pairs = {}
    for modality, latent in case.latents().items():
        diffuser = case.model.diffuser(modality)
        latent = latent.to(diffuser.dtype)
        features = diffuser.environment_map(latent, case.given("t"))
        if latent.ndim == 5:
            features = features.unflatten(0, (len(latent), -1)).transpose(1, 2)
        golden = case.tensors.get(f"out.map_{modality}")
        if golden is not None:
            pairs[f"map_{modality}"] = (features.reshape(golden.shape), golden)
        token = diffuser.encode_environment(latent, case.given("t"))
        pairs[f"env_{modality}"] = (token, case.expected(f"env_{modality}"))
    return pairs


def check_joint(case: Case) -> Pairs:
    pairs: Pairs = {}
    modalities, latents = case.modalities(), case.latents()
    timesteps = dict.fromkeys(modalities, case.given("t"))
    contexts = dict.fromkeys(modalities, case.context())
    for alignment in (Alignment.PAPER, Alignment.RELEASED):
        denoiser = _joint(case, alignment, modalities)
        for modality, noise in denoiser(latents, timesteps, contexts).items():
            name = f"{alignment}_eps_{modality}"
            pairs[name] = (noise, case.expected(name))
        for modality, token in denoiser.environments(latents, timesteps).items():
            pairs[f"env_{modality}"] = (token, case.expected(f"env_{modality}"))
    return pairs


def check_ddim(case: Case) -> Pairs:
    """The trajectory through the sampler's named steps, and where no noise is injected the sampler as a whole."""
    call = case.facts["call"]
    modalities, noise = case.modalities(), case.latents()
    null, prompt = case.context().chunk(2)
    condition, scales = Condition(prompt, null), dict.fromkeys(modalities, call["guidance_scale"])
    alignment = Alignment(call.get("connector", "released"))
    sampler = JointSampler(_joint(case, alignment, modalities))

    latents = sampler.start(noise, call["steps"])
    guidance = {modality: sampler.guidance(condition, modality, scales[modality]) for modality in modalities}
    kept: dict[str, list[Tensor]] = {}
    for index, timestep in enumerate(sampler.schedulers[modalities[0]].timesteps):
        predicted = sampler.noise(latents, dict.fromkeys(modalities, timestep), guidance)
        for modality in modalities:
            fresh = case.given(f"noise_{modality}")[index] if call["eta"] else None
            stepped = sampler.schedulers[modality].step(
                predicted[modality], timestep, latents[modality], eta=call["eta"], variance_noise=fresh
            )
            latents[modality] = stepped.prev_sample
            kept.setdefault(f"traj_{modality}", []).append(stepped.prev_sample)
            kept.setdefault(f"x0_{modality}", []).append(stepped.pred_original_sample)
    pairs = {name: (torch.stack(steps), case.expected(name)) for name, steps in kept.items()}
    if not call["eta"]:
        whole = JointSampler(_joint(case, alignment, modalities)).sample(
            noise,
            condition,
            steps=call["steps"],
            guidance=call["guidance_scale"],
            generators={modality: noise_generator(0, modality) for modality in modalities},
        )
        latents = dict(whole)
    return pairs | {f"final_{m}": (latents[m], case.expected(f"final_{m}")) for m in modalities}


def check_schedule(case: Case) -> Pairs:
    scheduler = make_scheduler("ddim")
    cumulative = scheduler.alphas_cumprod
    pairs: Pairs = {
        "betas": (scheduler.betas, case.expected("betas")),
        "alphas_cumprod": (cumulative, case.expected("alphas_cumprod")),
        "sqrt_alphas_cumprod": (cumulative.sqrt(), case.expected("sqrt_alphas_cumprod")),
        "sqrt_one_minus_alphas_cumprod": (
            (1 - cumulative).sqrt(),
            case.expected("sqrt_one_minus_alphas_cumprod"),
        ),
    }
    for steps in case.facts["data"]:
        scheduler.set_timesteps(int(steps))
        timesteps = scheduler.timesteps.flip(0)
        stride = 1000 // int(steps)
        before = torch.where(timesteps >= stride, cumulative[timesteps - stride], scheduler.final_alpha_cumprod)
        alphas = cumulative[timesteps]
        made = {
            "timesteps": timesteps,
            "alphas": alphas,
            "alphas_prev": before,
            "sqrt_one_minus_alphas": (1 - alphas).sqrt(),
        }
        for name, ours in made.items():
            pairs[f"{name}_{steps}"] = (ours, case.expected(f"{name}_{steps}"))
        if f"out.sigmas_{steps}_eta1" in case.tensors:
            variance = [scheduler._get_variance(int(t), int(t) - stride) for t in timesteps]
            pairs[f"sigmas_{steps}_eta1"] = (
                torch.stack(variance).sqrt(),
                case.expected(f"sigmas_{steps}_eta1"),
            )
    return pairs


def check_training(case: Case) -> Pairs:
    scheduler, timestep = make_scheduler("ddim"), case.given("t")
    noisy = scheduler.add_noise(case.given("q_x"), case.given("q_noise"), timestep)
    pairs: Pairs = {"q_sample": (noisy, case.expected("q_sample"))}
    for name in case.facts["data"]["losses"]:
        modalities = [Modality(part) for part in name.split("_")]
        denoiser = _joint(case, Alignment.RELEASED, modalities)
        clean = {m: case.given(f"{name}.x_{m}") for m in modalities}
        noise = {m: case.given(f"{name}.noise_{m}") for m in modalities}
        contexts = dict.fromkeys(modalities, case.context(prefix=f"{name}."))
        for diffuser in denoiser.diffusers.values():
            diffuser.zero_grad()
        with torch.enable_grad():
            loss = diffusion_loss(denoiser, scheduler, clean, noise, dict.fromkeys(clean, timestep), contexts)
            loss.backward()
        pairs[f"loss_{name}"] = (loss.detach()[None], case.expected(f"loss_{name}"))
        for parameter, norm in case.facts["data"]["gradient_norms"][name].items():
            ours = _gradient_norm(case, parameter)
            pairs[f"gradient_norm {name} {parameter}"] = (ours, torch.tensor([norm]))
    return pairs


def _gradient_norm(case: Case, official: str) -> Tensor:
    diffusers = {m: entry.diffuser for m, entry in case.model.config.modalities.items()}
    modality = next(m for m, name in diffusers.items() if official.startswith(OFFICIAL_PARTS[name].prefix))
    gradient = case.model.parameter(modality, official).grad
    assert gradient is not None
    return gradient.norm()[None]


def check_skip(case: Case) -> Pairs:
    (modality,) = case.modalities()
    diffuser = case.model.diffuser(modality)
    memories = diffuser.prepare_context(case.context().to(diffuser.dtype))
    pairs = {"released": (diffuser(*_call(case), memories), case.expected("released"))}
    diffuser.register_to_config(deepest_skip="input")
    try:
        pairs["plain"] = (diffuser(*_call(case), memories), case.expected("plain"))
    finally:
        diffuser.register_to_config(deepest_skip="middle")
    return pairs


def _call(case: Case) -> tuple[Tensor, Tensor]:
    return case.fed("x"), case.given("t")


def check_blocks(case: Case) -> Pairs:
    """Single blocks, with contexts of three tokens: only these show the query and key projections."""
    vision, text = case.model.diffuser(Modality.IMAGE), case.model.diffuser(Modality.TEXT)
    unit, text_unit = vision.down[0].units[0], text.down[0].units[0]
    still, clip, frames = case.fed("x4"), case.fed("x5"), case.fed("x5").shape[2]
    embedding, context, seen = case.fed("emb"), case.fed("ctx"), case.fed("h")

    def folded(video: Tensor) -> Tensor:
        return video.transpose(1, 2).flatten(0, 1)

    def unfolded(rows: Tensor) -> Tensor:
        return rows.unflatten(0, (-1, frames)).transpose(1, 2)

    def memories(block: Any) -> Memories:
        return {block.transformer: block.transformer.prepare(context)}

    rows = clip.permute(0, 3, 4, 2, 1).flatten(0, 2)
    shifted = folded(clip) + unit.temporal.frame_shift(folded(clip), frames)
    fed = unit.temporal.feed_forward(rows).unflatten(0, (1, 8, 8)).permute(0, 4, 3, 1, 2)
    clip_embedding = embedding.repeat_interleave(frames, dim=0)
    bias = unit.temporal.position_bias(frames, still)
    connector = unit.connector.prepare(seen)
    timestep = case.given("t")
    width = vision.config["width"]
    waves = get_timestep_embedding(timestep, width, flip_sin_to_cos=True, downscale_freq_shift=0)
    made = {
        "image_block_4d": unit(still, embedding, memories(unit), None),
        "image_block_5d": unfolded(unit(folded(clip), clip_embedding, memories(unit), frames)),
        "image_res_4d": unit.residual(still, embedding),
        "temporal_5d": unfolded(unit.temporal(folded(clip), frames)),
        "rel_pos_bias_5": bias,
        "temporal_attn": unit.temporal.attention(case.fed("xt"), bias),
        "temporal_ff_5d": fed,
        "frameshift_5d": unfolded(shifted),
        "transformer_4d": unit.transformer(still, memories(unit)[unit.transformer]),
        "connector_4d": unit.connector(still, connector),
        "connector_5d": unfolded(unit.connector(folded(clip), connector)),
        "text_block": text_unit(case.fed("xtext"), case.fed("temb"), memories(text_unit), None),
        "text_res": text_unit.residual(case.fed("xtext"), case.fed("temb")),
        "text_lin": text.stem(case.fed("xlin")),
        "timestep_embedding": waves,
        "time_embed": vision.time_embedding(timestep, still),
    }
    return {name: (ours, case.expected(name)) for name, ours in made.items()}


DIFFUSER_CHECKS: dict[str, Callable[[Case], Pairs]] = {
    "unet_": check_unet,
    "full_unet_": check_unet,
    "env_": check_environment,
    "joint_": check_joint,
    "full_joint_": check_joint,
    "ddim_schedule": check_schedule,
    "ddim_": check_ddim,
    "training": check_training,
    "diag_image_skip": check_skip,
    "diag_blocks": check_blocks,
}
"""By the beginning of the case's name; the first that fits."""
