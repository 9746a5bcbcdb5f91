"""What each node makes of its inputs, with the bundled model and the stand-in for ComfyUI."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hub_server import REPOSITORY, Hub, serving

from comfyui_codi.codi_core.checkpoints.conversion import FoundPart
from comfyui_codi.codi_core.checkpoints.download import download
from comfyui_codi.codi_core.errors import CheckpointError, ConfigError, GraphError, PromptError, ShapeError
from comfyui_codi.codi_core.headless.folders import Folders, current
from comfyui_codi.codi_core.mixing import relative_weights
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.pipeline import BUNDLED, CoDiPipeline
from comfyui_codi.codi_core.values import Condition, Latents
from comfyui_codi.nodes import (
    CompareSimilarity,
    DecodeAudio,
    DecodeImage,
    DecodeText,
    DecodeVideo,
    DownloadCoDi,
    EncodeLatents,
    EncodeModality,
    FadeConditions,
    InterpolateConditions,
    JoinLatents,
    JointSampler,
    LatentsFromNative,
    LoadCoDi,
    MaskLatents,
    NativeModel,
    NativeNoise,
    SplitLatents,
    load,
    native,
)
from comfyui_codi.nodes import download as download_node
from comfyui_codi.nodes.decode import sounds_for
from comfyui_codi.nodes.host import InputImpl, Types
from comfyui_codi.nodes.mix import parse_weights
from comfyui_codi.nodes.native import from_latent, to_latent

WEIGHTS = json.loads((Path(__file__).parent.parent / "web/weights.json").read_text(encoding="utf-8"))
"""What the mixing panel of the editor is tested with too."""
SWITCHED_OFF = dict.fromkeys(map(str, Modality), False)
QUICK = {"steps": 2, "guidance": -1.0, "scheduler": "ddim", "seed": 3}


@pytest.fixture(scope="module")
def model() -> CoDiPipeline:
    return LoadCoDi.execute("codi-mini", "fp32", "paper")[0]


@pytest.fixture
def condition(model) -> Condition:
    return EncodeModality.execute(model, "a red circle bounces")[0]


@pytest.fixture(autouse=True)
def folders(tmp_path: Path) -> Iterator[Path]:
    token = current.set(Folders((), tmp_path, tmp_path))
    yield tmp_path
    current.reset(token)


def image(batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 48, 40, 3, generator=torch.Generator().manual_seed(0))


def sound(batch: int = 1, channels: int = 1) -> dict:
    samples = torch.rand(batch, channels, 8000, generator=torch.Generator().manual_seed(0))
    return {"waveform": samples - 0.5, "sample_rate": 16000}


def video():
    return InputImpl.VideoFromComponents(Types.VideoComponents(images=image(4), frame_rate=Fraction(6)))


def test_official_files_are_converted_where_they_lie_when_first_used(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folders / "models/codi/released"
    place.mkdir(parents=True)
    torch.save({"clip.model.logit_scale": torch.ones(())}, place / "CoDi_encoders.pth")
    monkeypatch.chdir(folders)
    assert "released" in load.local_models()
    with pytest.raises(CheckpointError, match=r"CoDi_encoders\.pth: the weights below 'clip\.model\.' .* missing"):
        LoadCoDi.execute("released", "fp32", "paper")
    assert [path.name for path in place.iterdir()] == ["CoDi_encoders.pth"]

    def converted(sources: list[Path], folder: Path, on_progress) -> list:
        assert [source.name for source in sources] == ["CoDi_encoders.pth"]
        on_progress("clip", 1, 2)
        shutil.copytree(BUNDLED["codi-mini"], folder, dirs_exist_ok=True)
        return []

    monkeypatch.setattr(load, "convert", converted)
    assert LoadCoDi.execute("released", "fp32", "paper")[0].config.name == "codi-mini"
    monkeypatch.undo()
    monkeypatch.chdir(folders)
    assert LoadCoDi.execute("released", "fp32", "paper")[0].config.name == "codi-mini"


def test_official_files_beside_a_model_are_converted_if_it_lacks_their_parts(
    folders: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(load, "model_folders", lambda: [folders])
    place = folders / "own"
    shutil.copytree(BUNDLED["codi-mini"], place)
    torch.save({"clap.model.logit_scale": torch.ones(())}, place / "official.pth")
    assert "clap" in LoadCoDi.execute("own", "fp32", "paper")[0].parts

    index = json.loads((place / "model_index.json").read_text(encoding="utf-8"))
    index["parts"].remove("clap")
    (place / "model_index.json").write_text(json.dumps(index), encoding="utf-8")

    def converted(sources: list[Path], folder: Path, on_progress) -> list[FoundPart]:
        assert (sources, folder) == ([place / "official.pth"], place)
        return [FoundPart("clip", sources[0], {}, None, ("openai/clip-vit-large-patch14",))]

    monkeypatch.setattr(load, "convert", converted)
    LoadCoDi.execute("own", "fp32", "paper")
    (told,) = caplog.messages
    assert told.startswith(f"CoDi: {place / 'clip'} cannot read or write text without the vocabulary of openai/clip")
    assert f"run `codi convert {place}`" in told


def test_a_changed_model_folder_is_noticed(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folders)
    place = folders / "models/codi/own"
    seen = [LoadCoDi.fingerprint_inputs(name, "fp32", "paper") for name in ("own", "codi-mini")]
    shutil.copytree(BUNDLED["codi-mini"], place)
    seen.append(LoadCoDi.fingerprint_inputs("own", "fp32", "paper"))
    (place / "clip/model.safetensors").touch()
    seen.append(LoadCoDi.fingerprint_inputs("own", "fp32", "paper"))
    (place / "official.pth").touch()
    seen.append(LoadCoDi.fingerprint_inputs("own", "fp32", "paper"))
    assert seen[:2] == [[], []]
    assert all(before != after for before, after in pairwise(seen[1:]))
    assert LoadCoDi.fingerprint_inputs("own", "fp32", "paper") == seen[-1]
    assert LoadCoDi.fingerprint_inputs(None, "fp32", "paper") == seen[-1]


def test_a_folder_of_models_codi_is_on_offer_and_the_bundled_model_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("small", "large"):
        (tmp_path / "models/codi" / name).mkdir(parents=True)
        (tmp_path / "models/codi" / name / "model_index.json").touch()
    (tmp_path / "models/codi/other").mkdir()
    assert LoadCoDi.define_schema().inputs[0].options == ["codi-mini", "large", "small"]


def test_an_unknown_model_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="nothing-here"):
        LoadCoDi.execute("nothing-here", "auto", "paper")


@pytest.mark.parametrize("prompt", ["a blue star", image(), sound(), video()], ids=["text", "image", "audio", "video"])
def test_every_kind_of_prompt_becomes_one_token(model, prompt):
    encoded = EncodeModality.execute(model, prompt)[0]
    assert encoded.embedding.shape == encoded.null.shape == (1, 1, 128)


def test_a_negative_prompt_changes_only_what_guidance_moves_away_from(model, condition):
    pushed = EncodeModality.execute(model, "a red circle bounces", image())[0]
    assert torch.equal(pushed.embedding, condition.embedding)
    assert not torch.equal(pushed.null, condition.null)


def test_an_empty_negative_prompt_is_none(model, condition):
    assert torch.equal(EncodeModality.execute(model, "a red circle bounces", "")[0].null, condition.null)


@pytest.mark.parametrize(("text", "weights"), [("1, 0.5", [1, 0.5]), ("2", [2]), ("", None), ("  ", None)])
def test_weights_are_a_list_with_commas(text, weights):
    assert parse_weights(text) == weights


@pytest.mark.parametrize("text", ["a", "1,", "1;2"])
def test_other_weights_say_how_to_write_them(text):
    with pytest.raises(PromptError, match="such as"):
        parse_weights(text)


@pytest.mark.parametrize("case", WEIGHTS, ids=lambda case: f"{case['text']!r} for {case['count']}")
def test_the_panels_weights_are_those_of_the_node(case):
    if case["shares"] is None:
        with pytest.raises(PromptError):
            relative_weights(parse_weights(case["text"]), case["count"])
    else:
        assert relative_weights(parse_weights(case["text"]), case["count"]) == case["shares"]


def test_conditions_are_mixed_by_their_weights(model, condition):
    other = EncodeModality.execute(model, "a blue square")[0]
    conditions = {"condition_0": condition, "condition_1": other}
    mixed = InterpolateConditions.execute("3, 1", "linear", conditions)[0]
    torch.testing.assert_close(mixed.embedding, condition.embedding * 0.75 + other.embedding * 0.25)


def test_nothing_to_mix_and_too_few_weights_are_said(condition):
    with pytest.raises(PromptError, match="at least one prompt"):
        InterpolateConditions.execute("", "linear")
    with pytest.raises(PromptError, match="one weight for each"):
        InterpolateConditions.execute("1, 1", "linear", {"condition_0": condition})


def test_guidance_of_a_modality_comes_before_the_common_one_and_that_before_the_models(model, condition):
    own = {"image": True, "audio": True, "image_guidance": 1.5}
    wanted = {Modality.IMAGE: 1.5, Modality.AUDIO: model.config.modalities[Modality.AUDIO].guidance}
    made = JointSampler.execute(model, condition, **QUICK, **SWITCHED_OFF | own)[0]
    expected = model.sample(condition, to=list(wanted), steps=2, guidance=wanted, seed=3)
    assert made.samples.keys() == expected.samples.keys()
    for modality, latent in expected.samples.items():
        assert torch.equal(made.samples[modality], latent)


@pytest.mark.parametrize("guidance", [{"guidance": -0.5}, {"image_guidance": -0.5}], ids=["common", "own"])
def test_guidance_between_unset_and_none_is_refused(model, condition, guidance):
    with pytest.raises(ConfigError, match=r"guidance for image must be a number from 0 on, got -0\.5"):
        JointSampler.execute(model, condition, **QUICK | guidance, **SWITCHED_OFF | {"image": True})


def test_a_modality_that_the_model_lacks_is_refused_by_both_ways_to_sample(model, condition):
    known = {modality: each for modality, each in model.config.modalities.items() if modality is not Modality.VIDEO}
    small = CoDiPipeline(replace(model.config, modalities=known), model.parts)
    wanted = SWITCHED_OFF | {"video": True, "image": True}
    message = "unknown modality 'video'; choose one of: text, image, audio"
    with pytest.raises(ConfigError, match=message):
        JointSampler.execute(small, condition, **QUICK, **wanted)
    with pytest.raises(ConfigError, match=message):
        NativeModel.execute(small, condition, **wanted)
    made = JointSampler.execute(small, condition, **QUICK, **SWITCHED_OFF | {"image": True})[0]
    assert set(made.samples) == {Modality.IMAGE}


def test_nothing_to_make_lists_the_modalities(model, condition):
    with pytest.raises(ConfigError, match="text, image, video, audio"):
        JointSampler.execute(model, condition, **QUICK, **SWITCHED_OFF)


def test_sizes_reach_the_outputs(model, condition):
    size = {"width": 96, "height": 32, "frames": 4, "seconds": 0.64}
    made = JointSampler.execute(model, condition, **QUICK, **size, **SWITCHED_OFF | {"video": True, "audio": True})[0]
    assert DecodeVideo.execute(model, made)[1][0].shape == (4, 32, 96, 3)
    assert DecodeAudio.execute(model, made)[0]["waveform"].shape == (1, 1, 10240)


def test_every_output_has_the_form_that_the_host_expects(model, folders):
    two = EncodeModality.execute(model, image(2))[0]
    made = JointSampler.execute(model, two, **QUICK, **dict.fromkeys(map(str, Modality), True))[0]
    picture = DecodeImage.execute(model, made)[0]
    audio = DecodeAudio.execute(model, made)[0]
    videos, frames = DecodeVideo.execute(model, made, audio).result
    texts = DecodeText.execute(model, made)[0]
    assert picture.shape == (2, 64, 64, 3)
    assert 0 <= picture.min() <= picture.max() <= 1
    assert audio["waveform"].shape == (2, 1, 40960)
    assert [clip.shape for clip in frames] == [(16, 64, 64, 3)] * 2
    assert [each.get_components().audio["waveform"].shape for each in videos] == [(1, 2, 40960)] * 2
    assert [type(text) for text in texts] == [str, str]
    shown = sorted(path.suffix for path in folders.iterdir())
    assert shown == [".flac"] * 2 + [".mp4"] * 2 + [".png"] * 2


def test_sound_of_one_channel_goes_into_videos_as_two():
    mono, surround = sound(batch=2), sound(channels=6)
    both = sounds_for(mono, 2)[1]["waveform"]
    assert torch.equal(both, mono["waveform"][1:].repeat(1, 2, 1))
    assert torch.equal(sounds_for(surround, 1)[0]["waveform"], surround["waveform"][:, :2])


def test_one_sound_serves_every_video_and_other_numbers_are_refused(model):
    made = EncodeLatents.execute(model, image(2))[0]
    films = Latents({Modality.VIDEO: made.samples[Modality.IMAGE][:, :, None].expand(-1, -1, 2, -1, -1)})
    videos = DecodeVideo.execute(model, films, sound()).result[0]
    heard = [each.get_components().audio["waveform"] for each in videos]
    assert [each.shape for each in heard] == [(1, 2, 8000)] * 2
    assert torch.equal(heard[0], heard[1])
    with pytest.raises(ShapeError, match="wanted 1 sound, or 2 of them, one for each video, got 3; connect as many"):
        DecodeVideo.execute(model, films, sound(batch=3))


def test_a_video_is_kept_and_gets_its_sound(model, condition):
    known = EncodeLatents.execute(model, video())[0]
    made = JointSampler.execute(model, condition, **QUICK, **{**SWITCHED_OFF, "audio": True}, known=known)[0]
    assert torch.equal(made.samples[Modality.VIDEO], known.samples[Modality.VIDEO])
    assert DecodeVideo.execute(model, made)[1][0].shape == (4, 64, 64, 3)
    audio = DecodeAudio.execute(model, made)[0]
    assert audio["waveform"].shape[-1] / audio["sample_rate"] == pytest.approx(4 / 6.25)


def test_several_things_are_kept_in_one_run(model, condition):
    first = EncodeLatents.execute(model, image(), width=32, height=48)[0]
    both = EncodeLatents.execute(model, "a red circle", first)[0]
    made = JointSampler.execute(model, condition, **QUICK, **SWITCHED_OFF, known=both)[0]
    assert set(made.samples) == {Modality.IMAGE, Modality.TEXT}
    assert DecodeImage.execute(model, made)[0].shape == (1, 48, 32, 3)


def test_a_span_of_a_sound_is_made_anew(model, condition):
    known = EncodeLatents.execute(model, sound())[0]
    masked = MaskLatents.execute(model, known, "audio", 0.2, 0.4)[0]
    made = JointSampler.execute(model, condition, **QUICK, **SWITCHED_OFF, known=masked, strength=1.0)[0]
    changed = (made.samples[Modality.AUDIO] != known.samples[Modality.AUDIO]).flatten(0, 1).any(dim=2).any(dim=0)
    middle_s = (torch.arange(len(changed)) + 0.5) * 0.08
    assert changed.tolist() == ((middle_s >= 0.2) & (middle_s < 0.4)).tolist()


def test_a_mask_without_strength_says_what_to_do(model, condition):
    masked = MaskLatents.execute(model, EncodeLatents.execute(model, sound())[0], "audio", 0.0, 0.0)[0]
    with pytest.raises(ConfigError, match=r"strength is 0 and changes nothing; raise it, or leave the mask out"):
        JointSampler.execute(model, condition, **QUICK, **SWITCHED_OFF, known=masked)


@pytest.mark.parametrize(
    ("modality", "start", "message"),
    [
        ("video", 0.0, r"wanted latents with video to mask, got audio; encode one first"),
        ("audio", 9.0, r"within the 0\.64 s of the audio, got 9 to its end s, which holds nothing"),
        ("image", 0.0, r"wanted video or audio, which last for some time, got image"),
    ],
)
def test_a_mask_that_hits_nothing_says_so(modality, start, message, model):
    with pytest.raises(ShapeError, match=message):
        MaskLatents.execute(model, EncodeLatents.execute(model, sound())[0], modality, start, 0.0)


def test_a_fade_leads_to_something_between_its_two_ends(model, condition):
    other = EncodeModality.execute(model, "a blue star")[0]
    fading = FadeConditions.execute(condition, other, 0.2, 0.8, "linear")[0]
    made = [
        JointSampler.execute(model, each, **QUICK | {"steps": 4}, **SWITCHED_OFF | {"image": True})[0]
        for each in (condition, fading, other)
    ]
    first, between, second = (each.samples[Modality.IMAGE] for each in made)
    assert max((between - first).norm(), (between - second).norm()) < (first - second).norm()


def test_conditions_and_media_are_compared(model, condition, folders):
    things = {"thing_0": condition, "thing_1": "a red circle bounces", "thing_2": image(), "thing_3": video()}
    picture, similarity = CompareSimilarity.execute(model, things).args
    assert picture.shape[-1] == 3
    assert -1 <= similarity <= 1
    assert [path.suffix for path in folders.iterdir()] == [".png"]
    alone = CompareSimilarity.execute(model, {"thing_0": condition, "thing_1": "a red circle bounces"})
    assert alone[1] == pytest.approx(1, abs=1e-4)


def test_nothing_to_compare_says_what_to_do(model):
    with pytest.raises(PromptError, match="wanted at least 2 things to compare, got 0; connect more"):
        CompareSimilarity.execute(model)


@pytest.fixture
def latents(model, condition) -> Latents:
    return JointSampler.execute(model, condition, **QUICK, **dict.fromkeys(SWITCHED_OFF, True))[0]


@pytest.mark.parametrize("modality", Modality)
def test_latents_that_were_split_can_be_joined_again(latents, modality):
    one, others = SplitLatents.execute(latents, modality).args
    assert set(one.samples) == {modality}
    assert set(others.samples) == set(Modality) - {modality}
    for parts in ((one, others), (others, one)):
        joined = JoinLatents.execute(*parts)[0]
        assert joined.seconds == latents.seconds
        assert all(torch.equal(joined.samples[each], latents.samples[each]) for each in Modality)


def test_a_mask_goes_with_its_modality(model):
    masked = MaskLatents.execute(model, EncodeLatents.execute(model, sound())[0], "audio", 0.2, 0.4)[0]
    both = JoinLatents.execute(EncodeLatents.execute(model, "a red circle")[0], masked)[0]
    sounds, texts = SplitLatents.execute(both, "audio").args
    assert torch.equal(sounds.masks[Modality.AUDIO], masked.masks[Modality.AUDIO])
    assert not texts.masks


def test_a_modality_that_is_not_there_cannot_be_split_off(model):
    with pytest.raises(ShapeError, match="wanted latents with video, got text; choose one of these"):
        SplitLatents.execute(EncodeLatents.execute(model, "a red circle")[0], "video")


def test_a_native_latent_holds_the_same_and_gives_every_sample_channels_and_an_axis(latents):
    native = to_latent(latents)
    assert all(sample.ndim >= 3 for sample in native["samples"])
    back = LatentsFromNative.execute(native)[0]
    assert list(back.samples) == list(Modality)
    assert back.seconds == latents.seconds
    assert all(torch.equal(back.samples[each], latents.samples[each]) for each in Modality)


def native_start(model, condition, known: Latents, monkeypatch, **widgets) -> dict:
    """The LATENT of Native Model, whose MODEL is ComfyUI's alone."""
    monkeypatch.setattr(native, "native_model", lambda model, outputs: outputs)
    return NativeModel.execute(model, condition, known=known, **SWITCHED_OFF | widgets)[3]


def test_a_native_mask_keeps_what_is_known_without_one_and_leaves_the_rest_to_be_made(model, condition, monkeypatch):
    masked = MaskLatents.execute(model, EncodeLatents.execute(model, sound())[0], "audio", 0.2, 0.4)[0]
    known = JoinLatents.execute(EncodeLatents.execute(model, "a red circle")[0], masked)[0]
    start = native_start(model, condition, known, monkeypatch, image=True)
    assert start["codi_modalities"] == [Modality.TEXT, Modality.IMAGE, Modality.AUDIO]
    texts, pictures, sounds = start["noise_mask"]
    assert [mask.shape for mask in start["noise_mask"]] == [sample.shape for sample in start["samples"]]
    assert not texts.any()
    assert pictures.all()
    assert torch.equal(sounds[0, 0, :, :1], masked.masks[Modality.AUDIO])


def test_without_a_mask_a_native_latent_has_none(model, condition, monkeypatch):
    known = EncodeLatents.execute(model, "a red circle")[0]
    assert "noise_mask" not in native_start(model, condition, known, monkeypatch)


def test_a_native_latent_has_seconds_only_with_a_sound(model, condition, monkeypatch):
    known = EncodeLatents.execute(model, video())[0]
    assert native_start(model, condition, known, monkeypatch)["codi_seconds"] is None
    assert native_start(model, condition, known, monkeypatch, audio=True)["codi_seconds"] == pytest.approx(4 / 6.25)


def test_what_is_known_keeps_its_shape_in_a_native_latent_and_serves_every_row(model, monkeypatch):
    two = EncodeModality.execute(model, image(2))[0]
    known = EncodeLatents.execute(model, image(), width=32, height=48)[0]
    start = native_start(model, two, known, monkeypatch, text=True)
    assert [len(sample) for sample in start["samples"]] == [2, 2]
    for row in start["samples"][1]:
        assert torch.equal(row, known.samples[Modality.IMAGE][0])
    three = EncodeLatents.execute(model, image(3))[0]
    with pytest.raises(
        ShapeError, match="wanted 1 image to keep, or 2 of them, one for each row of the condition, got 3"
    ):
        native_start(model, two, three, monkeypatch)


def test_a_latent_of_another_model_says_what_to_connect():
    with pytest.raises(ShapeError, match="wanted a LATENT that began at Native Model"):
        from_latent({"samples": torch.zeros(1, 4, 8, 8)})


def test_a_checkpoint_that_is_missing_says_where_it_belongs(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "model_folders", lambda: [tmp_path])
    assert LoadCoDi.validate_inputs("codi-mini") is True
    assert LoadCoDi.validate_inputs(None) is True
    told = LoadCoDi.validate_inputs("official")
    assert told.startswith(
        f"wanted a model in {tmp_path / 'official'} (model_index.json and its parts, or official .pth"
    )
    (tmp_path / "official").mkdir()
    (tmp_path / "official/CoDi_encoders.pth").touch()
    assert LoadCoDi.validate_inputs("official") is True


def test_a_model_is_downloaded_where_load_codi_finds_it(tmp_path, monkeypatch):
    monkeypatch.setattr(download_node, "model_folders", lambda: [tmp_path])
    with serving(Hub({"model_index.json": b"{}", "clip/config.json": b"[]"})) as hub:
        monkeypatch.setattr(download_node, "download", partial(download, endpoint=hub.url))
        before = DownloadCoDi.fingerprint_inputs(REPOSITORY, "*", "one")
        shown = DownloadCoDi.execute(REPOSITORY, "*", "one").ui.as_dict()["text"][0]
    assert "choose one in Load CoDi" in shown
    assert DownloadCoDi.fingerprint_inputs(REPOSITORY, "*", "one") != before
    assert (tmp_path / "one/model_index.json").exists()


@pytest.mark.parametrize("name", ["", " ", ".", "..", ".. ", "../elsewhere", "a/b", "/"])
def test_a_download_goes_to_one_folder(name):
    with pytest.raises(CheckpointError, match="choose letters, and no slashes"):
        DownloadCoDi.execute(REPOSITORY, "*", name)


def test_comfyuis_samplers_are_comfyuis(model, condition):
    with pytest.raises(GraphError, match="wanted ComfyUI, whose samplers Native Model is for"):
        NativeModel.execute(model, condition, **SWITCHED_OFF | {"image": True})
    with pytest.raises(ConfigError, match="wanted at least one output, got none"):
        NativeModel.execute(model, condition, **SWITCHED_OFF)
    with pytest.raises(GraphError, match="whose samplers Native Noise is for"):
        NativeNoise.execute(0)
