"""The objectives of the stages: who learns, who stays frozen, and what counts as a pair."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comfyui_codi.codi_core.decoders import build_codec
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.models.unet import UNet
from comfyui_codi.codi_core.sampling import NOISE_SCHEDULE, TRAINING_TIMESTEPS, make_scheduler
from comfyui_codi.codi_core.training.align import (
    ALIGN_STEPS,
    AlignObjective,
    AlignStep,
    ContrastObjective,
    ListeningObjective,
    weighted_contrast,
)
from comfyui_codi.codi_core.training.autoencode import (
    CHROMA_WEIGHT,
    DecoderObjective,
    pixel_weights,
    spectral_distance,
)
from comfyui_codi.codi_core.training.bridge import (
    BAND_GAIN_DB,
    NOISES,
    REMADE,
    audio_objective,
    contrastive_loss,
    noisy,
    remade,
    video_objective,
)
from comfyui_codi.codi_core.training.diffuse import (
    DROPPED,
    MODALITY_GAP,
    Cones,
    DiffusionObjective,
    displacements,
    draw_timesteps,
    mixed_prompts,
)
from comfyui_codi.codi_core.training.losses import diffusion_target
from comfyui_codi.codi_core.training.world import NONE, Fact
from comfyui_codi.codi_core.training.world_source import WorldSource, agreeing
from comfyui_codi.codi_core.values import Waveform

WIDTH = 16
SHAPES = {Modality.IMAGE: (4, 8, 8), Modality.VIDEO: (4, 2, 8, 8), Modality.AUDIO: (4, 8, 4), Modality.TEXT: (6,)}


def diffuser(modality: Modality) -> UNet:
    torch.manual_seed(0)
    return UNet(
        latent_channels=SHAPES[modality][0],
        width=64,
        multipliers=[1, 1],
        units=[1, 1],
        transformer_levels=[False, True],
        connector_levels=[False, True],
        context_width=WIDTH,
        heads=2,
        slots=2 if modality is Modality.TEXT else None,
        temporal="channels" if modality is Modality.VIDEO else None,
        environment={"width": WIDTH, "multipliers": [1]},
    )


def table(*modalities: Modality, rows: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents = {f"latent_{m}": torch.randn(rows, *SHAPES[m], generator=generator).half() for m in modalities}
    prompts = {f"prompt_{m}": torch.randn(rows, 2, WIDTH, generator=generator).half() for m in Modality}
    return latents | prompts


NULLS = {modality: torch.zeros(WIDTH) for modality in Modality}
CONES = Cones(
    {modality: 100.0 * torch.eye(WIDTH)[index] for index, modality in enumerate(Modality)},
    {modality: -torch.eye(WIDTH)[index] for index, modality in enumerate(Modality)},
)


def moved_by(objective: Any) -> set[str]:
    """Names of the parameters that a few steps of the objective change."""
    before = {name: parameter.detach().clone() for name, parameter in objective.named_parameters()}
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.1)
    for step in range(3):
        loss = objective(objective.draw(4, torch.Generator().manual_seed(step)))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name for name, parameter in objective.named_parameters() if not torch.equal(parameter, before[name])}


def moved_networks(objective: Any) -> set[str]:
    """Those of the diffusers; what an alignment projects prompts with is no part of the model."""
    return {name.split("diffusers.")[1] for name in moved_by(objective) if "diffusers." in name}


@pytest.mark.parametrize("step", ALIGN_STEPS, ids=lambda step: "-".join(step.pair))
def test_alignment_moves_only_environment_encoder_and_connectors_of_the_trained(step: AlignStep) -> None:
    diffusers = {modality: diffuser(modality) for modality in step.pair}
    objective = AlignObjective(step, diffusers, make_scheduler("ddim"), table(*step.pair), NULLS)
    moved = moved_networks(objective)
    for modality in step.trained:
        assert any(name.startswith(f"{modality}.environment_encoder") for name in moved)
        assert any(name.startswith(f"{modality}.") and ".connector." in name for name in moved)
    assert {name.split(".")[0] for name in moved} == set(step.trained)
    assert all("environment_encoder" in name or ".connector." in name for name in moved)


@pytest.mark.parametrize("step", ALIGN_STEPS, ids=lambda step: "-".join(step.pair))
def test_contrast_alone_moves_the_environment_encoders_of_the_trained(step: AlignStep) -> None:
    diffusers = {modality: diffuser(modality) for modality in step.pair}
    moved = moved_networks(ContrastObjective(step, diffusers, make_scheduler("ddim"), table(*step.pair)))
    assert {".".join(name.split(".")[:2]) for name in moved} == {f"{m}.environment_encoder" for m in step.trained}


@pytest.mark.parametrize("listener", ALIGN_STEPS[0].trained)
def test_listening_moves_the_connectors_of_the_listener_alone(listener: Modality) -> None:
    pair = ALIGN_STEPS[0].pair
    diffusers = {modality: diffuser(modality) for modality in pair}
    scheduler = make_scheduler("ddim")
    moved = moved_networks(ListeningObjective((listener,), pair, diffusers, scheduler, table(*pair), NULLS))
    assert moved
    assert all(name.startswith(f"{listener}.") and ".connector." in name for name in moved)


def test_listeners_also_hear_what_is_less_noisy_than_they_are() -> None:
    pair = ALIGN_STEPS[1].pair
    objective = ListeningObjective(
        (Modality.AUDIO,), pair, {m: diffuser(m) for m in pair}, make_scheduler("ddim"), table(*pair), NULLS
    )
    audio, text = (objective.draw(512, torch.Generator().manual_seed(0))["timestep"][modality] for modality in pair)
    assert 0.4 < (audio == text).float().mean() < 0.6
    assert ((audio > 900) & (text < 300)).any()


def test_partners_are_not_found_by_a_timestep_that_they_share() -> None:
    """Or environments would learn nothing else, which is no news to anybody."""
    step = ALIGN_STEPS[0]
    diffusers = {modality: diffuser(modality) for modality in step.pair}
    objective = ContrastObjective(step, diffusers, make_scheduler("ddim"), table(*step.pair))
    timesteps = objective.draw(64, torch.Generator().manual_seed(0))["timestep"]
    first, second = (timesteps[modality].float() for modality in step.pair)
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.2


def test_every_modality_is_aligned_and_only_neighbouring_pairs_are_used() -> None:
    aligned: set[Modality] = set()
    for step in ALIGN_STEPS:
        assert set(step.pair) - set(step.trained) <= aligned
        aligned |= set(step.trained)
    assert aligned == set(Modality)


def test_a_decoder_learns_while_its_encoder_rests(tiny_pipeline) -> None:
    autoencoder = copy.deepcopy(tiny_pipeline.parts["image_autoencoder"])
    moved = moved_by(DecoderObjective(autoencoder, WorldSource()))
    assert moved
    assert all(name.startswith("autoencoder.decoder.") for name in moved)


def test_edges_weigh_alike_on_both_sides() -> None:
    """Where a figure's own pixels weighed more than those beside it, decoders would draw it too large."""
    picture = torch.zeros(1, 3, 16, 16)
    picture[:, 0, 4:12, 4:12] = 1.0
    weight = pixel_weights(picture)[0, 0]
    assert weight[8, 3] == weight[8, 4] == 1 + CHROMA_WEIGHT
    assert weight[8, 0] == 1


def test_diffusion_training_leaves_environment_encoder_and_connectors_alone() -> None:
    network = diffuser(Modality.IMAGE)
    columns = [((Modality.TEXT, Modality.IMAGE), table(Modality.IMAGE))]
    moved = moved_by(DiffusionObjective(Modality.IMAGE, network, make_scheduler("ddim"), columns, CONES))
    assert any(name.startswith("diffuser.stem") for name in moved)
    assert not any("environment_encoder" in name or ".connector." in name for name in moved)


@given(st.integers(1, 4), st.integers(0, 2**31))
def test_mixed_prompts_are_convex_combinations(kinds: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    prompts = torch.eye(kinds).expand(64, kinds, kinds)
    mixed = mixed_prompts(prompts, torch.full((kinds, kinds), 1 / kinds), generator)
    assert mixed.shape == (64, 1, kinds)
    assert torch.allclose(mixed.sum(dim=-1), torch.ones(64, 1), atol=1e-5)
    assert (mixed >= 0).all()


@given(st.integers(0, 2**31))
def test_prompts_go_from_cone_to_cone_and_keep_what_they_say(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    kinds = (Modality.TEXT, Modality.TEXT, Modality.IMAGE)
    said = torch.randn(64, 3, WIDTH, generator=generator)
    prompts = said + torch.stack([CONES.means[kind] for kind in kinds])
    moved, nulls = CONES.moved(prompts, kinds, generator)
    known = list(Modality)
    means, empty = (torch.stack([each[modality] for modality in known]) for each in (CONES.means, CONES.nulls))
    cone = torch.cdist((moved - said).flatten(0, 1), means).argmin(dim=1).view(64, 3)
    torch.testing.assert_close(moved, said + means[cone], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(nulls, empty[cone])
    own = torch.tensor([known.index(kind) for kind in kinds])
    assert 0.4 < (cone == own).float().mean() < 0.85


@given(st.integers(1, 64), st.integers(0, 2**31))
def test_prompts_are_displaced_by_no_more_than_the_gap(rows: int, seed: int) -> None:
    moved = displacements(rows, 12, torch.Generator().manual_seed(seed)).norm(dim=-1)
    assert moved.max() <= MODALITY_GAP + 1e-5
    assert moved.min() > 0


def test_some_prompts_are_dropped_for_guidance() -> None:
    prompts = torch.ones(4000, 2, 3)
    mixed = mixed_prompts(prompts, torch.zeros(2, 3), torch.Generator().manual_seed(0))
    assert abs((mixed == 0).all(dim=-1).float().mean() - DROPPED) < 0.02


def test_videos_and_pictures_teach_all_of_clip_together(tiny_pipeline) -> None:
    clip = copy.deepcopy(tiny_pipeline.parts["clip"])
    moved = moved_by(video_objective(clip, WorldSource()))
    for part in ("clip.text_model.", "clip.vision_model.", "clip.text_projection.", "clip.visual_projection."):
        assert any(name.startswith(f"clip.{part}") for name in moved)
    assert any(name.startswith("clip.temporal_blocks.") for name in moved)


@pytest.mark.parametrize("own_sounds", [False, True])
def test_sounds_are_heard_in_noise_and_their_bands_louder_or_softer_in_all_frames(tiny_pipeline, own_sounds) -> None:
    clip, clap, source = *(copy.deepcopy(tiny_pipeline.parts[name]) for name in ("clip", "clap")), WorldSource()
    codec: Any = build_codec(Modality.AUDIO, tiny_pipeline.parts, tiny_pipeline.config) if own_sounds else None
    drawn = audio_objective(clip, clap, source, codec).draw(32, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    sounds: Any = source.pairs(Modality.AUDIO, 32, generator).media
    heard = remade(sounds, codec, generator) if own_sounds else sounds
    gains_db = drawn[str(Modality.AUDIO)]["media"] - clap.log_mel(clap.hear(noisy(heard, generator)))
    torch.testing.assert_close(gains_db, gains_db[:, :, :1].expand_as(gains_db), atol=1e-4, rtol=0)
    assert gains_db.std().item() == pytest.approx(BAND_GAIN_DB, rel=0.1)


def test_some_sounds_are_made_again_by_the_model(tiny_pipeline) -> None:
    codec: Any = build_codec(Modality.AUDIO, tiny_pipeline.parts, tiny_pipeline.config)
    sounds: Any = WorldSource().pairs(Modality.AUDIO, 8, torch.Generator().manual_seed(0)).media
    again = remade(sounds, codec, torch.Generator().manual_seed(1))
    assert (again.samples != sounds.samples).flatten(1).any(dim=1).sum() == round(REMADE * 8)


def test_noise_is_of_another_loudness_in_each_sound_and_within_its_range() -> None:
    silence = Waveform(torch.zeros(64, 1, 4000), 16_000)
    levels = noisy(silence, torch.Generator().manual_seed(0)).samples.std(dim=(1, 2))
    least, most = NOISES
    assert least * 0.9 < levels.min() < 2 * least
    assert most / 2 < levels.max() < most * 1.1


def test_captions_that_omit_facts_fit_every_sample_that_agrees_on_the_rest() -> None:
    facts = {fact: torch.full((2,), NONE) for fact in Fact} | {
        Fact.SHAPE: torch.tensor([0, 0]),
        Fact.COLOUR: torch.tensor([1, 2]),
    }
    stated = {fact: torch.zeros(2, dtype=torch.bool) for fact in Fact}
    stated[Fact.SHAPE] = torch.tensor([True, True])
    stated[Fact.COLOUR] = torch.tensor([False, True])
    assert agreeing(facts, stated, facts).tolist() == [[True, True], [False, True]]


def test_contrast_is_least_where_partners_point_the_same_way() -> None:
    rows = torch.eye(5)
    fits, scale = torch.eye(5, dtype=torch.bool), torch.tensor(3.0)
    aligned = contrastive_loss(rows, rows, fits, fits.T, scale)
    assert aligned < contrastive_loss(rows, rows.roll(1, 0), fits, fits.T, scale)
    assert aligned < 0.3


def test_both_directions_of_the_contrast_count() -> None:
    first = torch.nn.functional.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    second = first.roll(2, 0)
    weights = torch.ones(6)
    assert torch.isclose(weighted_contrast(first, second, weights), weighted_contrast(second, first, weights))


def test_rows_without_signal_do_not_count_in_the_contrast() -> None:
    rows = torch.eye(4)
    wrong = rows.clone()
    wrong[3] = rows[0]
    assert weighted_contrast(rows, wrong, torch.tensor([1.0, 1, 1, 0])) < weighted_contrast(rows, wrong, torch.ones(4))


def test_velocity_schedules_are_trained_on_velocity() -> None:
    clean, noise = torch.randn(2, 3), torch.randn(2, 3)
    timestep = torch.tensor([0, 999])
    assert diffusion_target(make_scheduler("ddim"), clean, noise, timestep) is noise
    velocity = make_scheduler("ddim", NOISE_SCHEDULE | {"prediction_type": "v_prediction"})
    target = diffusion_target(velocity, clean, noise, timestep)
    assert torch.allclose(target[0], noise[0], atol=0.1)
    assert torch.allclose(target[1], -clean[1], atol=0.4)


def test_spectral_distance_hears_pitch_but_not_phase() -> None:
    time = torch.arange(4096) / 16000
    tone = torch.sin(2 * torch.pi * 440 * time)[None]
    shifted = torch.sin(2 * torch.pi * 440 * time + 1.0)[None]
    higher = torch.sin(2 * torch.pi * 660 * time)[None]
    noise = 1e-3 * torch.randn(1, 4096, generator=torch.Generator().manual_seed(0))
    other_phase = spectral_distance(shifted + noise, tone + noise, 512)
    other_pitch = spectral_distance(higher + noise, tone + noise, 512)
    assert 5 * other_phase < other_pitch


@given(shift=st.floats(1.0, 10.0), seed=st.integers(0, 2**31))
def test_shifted_timesteps_are_noisier_and_within_the_schedule(shift: float, seed: int) -> None:
    even, shifted = (draw_timesteps(64, torch.Generator().manual_seed(seed), each) for each in (1.0, shift))
    assert (shifted >= even).all()
    assert shifted.min() >= 0
    assert shifted.max() < TRAINING_TIMESTEPS
