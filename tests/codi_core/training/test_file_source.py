"""Training on files: what counts as a sample, how it is fitted, and what is said of samples that are unusable."""

from __future__ import annotations

import shutil
import tarfile
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comfyui_codi.codi_core import media
from comfyui_codi.codi_core.config import mini, tiny
from comfyui_codi.codi_core.errors import ConfigError, MediaError
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.pipeline import BUNDLED, CoDiPipeline
from comfyui_codi.codi_core.training.command import train_command
from comfyui_codi.codi_core.training.file_source import FileSource
from comfyui_codi.codi_core.training.loop import TrainingError
from comfyui_codi.codi_core.training.sample_files import find_samples
from comfyui_codi.codi_core.training.stages import run_stage, tasks
from comfyui_codi.codi_core.values import Frames, Picture, Waveform

TEXT, IMAGE, VIDEO, AUDIO = Modality
RATE_HZ = 22_050
SHORT = {"steps": 1, "batch": 2, "rows": 4, "precision": "fp32"}


def shade(number: int) -> float:
    return -1 + 0.25 * number


def make_sample(folder: Path, number: int) -> None:
    """A picture, a clip with sound, a sound and a text of two lines, all named alike."""
    folder.mkdir(exist_ok=True)
    name = folder / f"sample{number}"
    time_s = torch.arange(4 * RATE_HZ) / RATE_HZ
    sound = Waveform(0.5 * torch.sin(2 * torch.pi * 100 * (number + 2) * time_s)[None, None], RATE_HZ)
    ramp = torch.linspace(-1, 1, 40)[None, :, None, None, None].expand(1, 40, 3, 48, 96)
    media.write_video(name.with_suffix(".mp4"), Frames(ramp, Fraction(10)), sound)
    media.write(Picture(torch.full((1, 3, 50, 70), shade(number))), name.with_suffix(".png"))
    media.write(sound, name.with_suffix(".flac"))
    media.write(f"a thing of shade {number}\n\nnumber {number}", name.with_suffix(".txt"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("samples")
    for number in range(4):
        make_sample(made, number)
    return made


def pack(folder: Path, shard: Path, mode: str = "w") -> Path:
    with tarfile.open(shard, mode) as archive:
        for file in sorted(folder.iterdir()):
            archive.add(file, file.name)
    return shard


@pytest.fixture(scope="module")
def shard(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(folder, tmp_path_factory.mktemp("shards") / "shard-000.tar")


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_files_of_one_name_are_one_sample(folder: Path, shard: Path) -> None:
    for place in (folder, shard):
        assert [set(sample) for sample in find_samples([place])] == [set(Modality)] * 4


def test_a_shard_gives_what_its_folder_gives(folder: Path, shard: Path) -> None:
    one, other = (
        FileSource([place], mini()).samples(set(Modality), TEXT, range(3), draw()) for place in (folder, shard)
    )
    assert one.captions == other.captions
    assert torch.equal(one.media[VIDEO].pixels, other.media[VIDEO].pixels)
    assert torch.equal(one.media[AUDIO].samples, other.media[AUDIO].samples)
    assert torch.equal(one.media[IMAGE].pixels, other.media[IMAGE].pixels)


def test_samples_have_the_models_sizes_and_belong_together(folder: Path) -> None:
    samples = FileSource([folder], mini()).samples(set(Modality), TEXT, range(6), draw())
    assert samples.media[IMAGE].pixels.shape == (6, 3, 64, 64)
    assert samples.media[VIDEO].pixels.shape == (6, 16, 3, 64, 64)
    assert samples.media[AUDIO].samples.shape == (6, 1, 40_960)
    for row, caption in enumerate(samples.media[TEXT]):
        assert abs(float(samples.media[IMAGE].pixels[row].mean()) - shade(int(caption[-1]))) < 0.02


def test_picture_and_sound_of_a_clip_are_cut_at_the_same_moment(tmp_path: Path) -> None:
    """Brightness and loudness rise together, over four seconds."""
    rise = torch.linspace(0, 1, 40)
    frames = Frames((2 * rise - 1)[None, :, None, None, None].expand(1, 40, 3, 32, 32), Fraction(10))
    loud = torch.linspace(0, 1, 4 * RATE_HZ) * torch.sin(torch.arange(4 * RATE_HZ) * 0.3)
    media.write_video(tmp_path / "clip.mp4", frames, Waveform(loud[None, None], RATE_HZ))
    source = FileSource([tmp_path], mini())
    starts = set()
    for seed in range(4):
        batch = source.samples({VIDEO, AUDIO}, VIDEO, range(1), draw(seed)).media
        brightness = (float(batch[VIDEO].pixels[0, 0].mean()) + 1) / 2
        loudness = float(batch[AUDIO].samples[0, 0, :800].square().mean().sqrt()) * 2**0.5
        assert abs(brightness - loudness) < 0.1
        starts.add(round(brightness, 2))
    assert len(starts) > 1


def test_silent_videos_are_learned_from_as_videos_alone(folder: Path, tmp_path: Path) -> None:
    """Of a folder and of a shard; a video that cannot be read is told as such when it is."""
    clips = tmp_path / "clips"
    for number in range(2):
        frames = Frames(torch.rand(1, 8, 3, 32, 32), Fraction(25, 4))
        media.write_video(clips / f"clip{number}.mp4", frames, None)
        media.write(f"a clip of number {number}", clips / f"clip{number}.txt")
    (clips / "broken.mp4").write_bytes(b"no video")
    packed = pack(clips, tmp_path / "clips.tar")
    for place in (clips, packed):
        assert not FileSource([place], mini()).holds({AUDIO})
    (clips / "broken.mp4").unlink()
    model = tmp_path / "model"
    shutil.copytree(BUNDLED["codi-mini"], model)
    source = FileSource([clips], mini())
    run_stage(model, "diffuse", mini(), {"diffuser_video": SHORT}, "diffuser_video", source=source)


def test_videos_so_long_that_they_move_in_leaps_are_passed_over(tmp_path: Path) -> None:
    media.write_video(tmp_path / "long.mp4", Frames(torch.zeros(1, 400, 3, 16, 16), Fraction(10)), None)
    media.write_video(tmp_path / "short.mp4", Frames(torch.ones(1, 200, 3, 16, 16), Fraction(10)), None)
    media.write_video(tmp_path / "slow.mp4", Frames(torch.ones(1, 10, 3, 16, 16), Fraction(2)), None)
    source = FileSource([tmp_path], mini())
    with pytest.warns(
        UserWarning, match=r"at least 6\.25 frames per second, got long\.mp4 with 5.*at most 20 s"
    ) as told:
        frames = source.samples({VIDEO}, VIDEO, range(6), draw()).media[VIDEO]
    assert len(told) == 1
    assert frames.pixels.min() > 0.9


def test_short_clips_rest_at_their_last_frame_and_in_silence(tmp_path: Path) -> None:
    media.write_video(tmp_path / "clips" / "clip.mp4", Frames(torch.rand(1, 4, 3, 32, 32), Fraction(10)), None)
    media.write(Waveform(torch.ones(1, 2, 8000) * 0.5, 16_000), tmp_path / "sounds" / "tone.wav")
    frames = FileSource([tmp_path / "clips"], mini()).samples({VIDEO}, VIDEO, range(1), draw()).media[VIDEO].pixels[0]
    assert torch.equal(frames[5], frames[15])
    sound = FileSource([tmp_path / "sounds"], mini()).sounds(1, draw()).samples[0, 0]
    assert sound[:7900].min() > 0.4
    assert sound[8100:].abs().max() == 0


@given(seed=st.integers(0, 2**31), count=st.integers(1, 4))
def test_the_same_chance_gives_the_same_samples(folder: Path, seed: int, count: int) -> None:
    source = FileSource([folder], tiny())
    one, other = (source.pairs(IMAGE, count, draw(seed)) for _ in range(2))
    assert one.texts == other.texts
    assert isinstance(one.media, Picture)
    assert isinstance(other.media, Picture)
    assert torch.equal(one.media.pixels, other.media.pixels)
    assert one.fits.diagonal().all()


def test_equal_texts_fit_each_others_samples(tmp_path: Path) -> None:
    for name in ("a", "b"):
        media.write("the same", tmp_path / f"{name}.txt")
        media.write(Picture(torch.zeros(1, 3, 8, 8)), tmp_path / f"{name}.png")
    assert FileSource([tmp_path], mini()).pairs(IMAGE, 8, draw()).fits.all()


def test_every_stage_learns_from_files(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    source = FileSource([folder], tiny())
    for stage, planned in tasks(tiny()).items():
        run_stage(model, stage, tiny(), dict.fromkeys(planned, SHORT), source=source)
    made = CoDiPipeline.from_pretrained(model)(["a thing"], list(Modality), steps=1)
    assert set(made) == set(Modality)


def test_clips_without_texts_are_aligned_by_their_own_prompts(folder: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for file in folder.glob("*.mp4"):
        shutil.copy(file, clips)
    model = tmp_path / "model"
    shutil.copytree(BUNDLED["codi-mini"], model)
    settings = {"video-audio": SHORT}
    run_stage(model, "align", mini(), settings, "video-audio", source=FileSource([clips], mini()))


def test_samples_that_cannot_be_read_are_passed_over_and_told(folder: Path, tmp_path: Path) -> None:
    for file in folder.glob("sample[01].*"):
        shutil.copy(file, tmp_path)
    (tmp_path / "sample0.png").write_bytes(b"no picture")
    source = FileSource([tmp_path], mini())
    with pytest.warns(UserWarning, match=r"passed over a sample: wanted a picture.*sample0\.png"):
        pairs = source.pairs(IMAGE, 6, draw())
    assert all(text.endswith("1") for text in pairs.texts)


def test_a_damaged_member_is_named_with_its_shard(folder: Path, tmp_path: Path) -> None:
    for file in folder.glob("sample[01].*"):
        shutil.copy(file, tmp_path)
    (tmp_path / "sample0.txt").write_text("")
    shard = pack(tmp_path, tmp_path.parent / "damaged.tar")
    with pytest.warns(UserWarning, match=r"passed over a sample: .*sample0\.txt in .*damaged\.tar"):
        FileSource([shard], mini()).texts(8, draw())


def test_where_nothing_can_be_read_training_stops(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning), pytest.raises(TrainingError, match=r"none of 2 samples can be read; the first one"):
        FileSource([tmp_path], mini()).pictures(1, draw())


def test_a_missing_modality_is_named_with_what_there_is(tmp_path: Path) -> None:
    media.write("a text", tmp_path / "a.txt")
    with pytest.raises(ConfigError, match=r"wanted samples with text and audio, got 1 samples.*1 with text, 0 with im"):
        FileSource([tmp_path], mini()).pairs(AUDIO, 2, draw())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"wanted a folder or a \.tar shard, got .*nowhere"),
        (b"", r"wanted an uncompressed tar archive, got .*data\.tar"),
        (b"x" * 5000, r"wanted an uncompressed tar archive, got .*data\.tar"),
    ],
)
def test_what_is_no_data_says_so(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / ("nowhere" if content is None else "data.tar")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MediaError, match=message):
        find_samples([path])


def test_data_without_samples_says_what_would_be_one(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(MediaError, match=r"wanted samples \(\.txt, \.png.*got none; name folders or \.tar shards"):
        find_samples([tmp_path])


@given(kept=st.floats(0.05, 0.95))
def test_a_shard_that_was_cut_off_is_never_taken_for_whole(shard: Path, kept: float) -> None:
    content = shard.read_bytes()
    # A tar archive ends with zeros; without them alone nothing is lost.
    last = len(content.rstrip(b"\0"))
    cut = shard.with_name("cut.tar")
    cut.write_bytes(content[: int(last * kept)])
    with pytest.raises(MediaError, match=r"cut\.tar.*fetch it anew"):
        find_samples([cut])


@pytest.mark.parametrize("damage", [b"x", b"\0"])
@given(member=st.integers(1, 15))
def test_a_shard_with_a_damaged_header_is_never_taken_for_whole(shard: Path, damage: bytes, member: int) -> None:
    content = bytearray(shard.read_bytes())
    with tarfile.open(shard) as archive:
        header = archive.getmembers()[member].offset
    content[header : header + 512] = damage * 512
    damaged = shard.with_name("damaged.tar")
    damaged.write_bytes(content)
    with pytest.raises(MediaError, match=rf"damaged\.tar, from byte {header} on.*fetch it anew"):
        find_samples([damaged])


def test_compressed_shards_say_so(folder: Path, tmp_path: Path) -> None:
    shard = pack(folder, tmp_path / "shard.tar", "w:gz")
    with pytest.raises(MediaError, match="wanted an uncompressed tar archive"):
        find_samples([shard])


def test_a_run_never_goes_on_with_other_data(folder: Path, shard: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(BUNDLED["codi-mini"], model)
    settings = {"text_autoencoder": {"steps": 1, "batch": 2}}
    for data in ([folder], [folder]):
        run_stage(model, "autoencode", mini(), settings, "text_autoencoder", source=FileSource(data, mini()))
    with pytest.raises(ConfigError, match=r"started with .*'data': .*go on with the same settings"):
        run_stage(model, "autoencode", mini(), settings, "text_autoencoder", source=FileSource([shard], mini()))


def test_the_command_takes_folders_and_shards(folder: Path, shard: Path, tmp_path: Path, capsys) -> None:
    model = tmp_path / "model"
    shutil.copytree(BUNDLED["codi-mini"], model)
    config = tmp_path / "config.json"
    config.write_text('{"text_autoencoder": {"steps": 1, "batch": 2}}')
    train_command("autoencode", model, "mini", "text_autoencoder", config, [folder, shard])
    assert capsys.readouterr().out.strip() == str(model)
