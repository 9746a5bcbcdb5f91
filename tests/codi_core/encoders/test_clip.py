from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from comfyui_codi.codi_core.encoders import CLIPEncoder
from comfyui_codi.codi_core.encoders.clip import PIXEL_DEVIATION, PIXEL_MEAN, clip_pixels
from comfyui_codi.codi_core.errors import CheckpointError, ConfigError, MediaError, PromptError
from comfyui_codi.codi_core.values import Frames, Picture

MakeCLIP = Callable[..., CLIPEncoder]


def video(frames: int, batch: int = 1, seed: int = 0) -> Frames:
    pixels = torch.rand(batch, frames, 3, 40, 48, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return Frames(pixels, Fraction(6))


def test_every_embedding_is_one_token_of_unit_length(clip: CLIPEncoder) -> None:
    tokens = [
        clip.encode_text(["a red ball", ""]),
        clip.encode_image(Picture(video(2).pixels[0])),
        clip.encode_video(video(5, batch=2)),
    ]
    for token in tokens:
        assert token.shape == (2, 1, 20)
        assert_close(token.norm(dim=-1), torch.ones(2, 1))


def test_case_and_spaces_do_not_matter(clip: CLIPEncoder) -> None:
    assert_close(clip.encode_text(["A  Red BALL "]), clip.encode_text(["a red ball"]))


def test_texts_do_not_see_each_other(clip: CLIPEncoder) -> None:
    texts = ["a red ball bounces", "", "é 北京 ~!"]
    alone = torch.cat([clip.encode_text([text]) for text in texts])
    assert_close(clip.encode_text(texts), alone)
    assert (alone[0] - alone[2]).norm() > 1e-3


def test_text_beyond_the_last_position_is_cut_off(clip: CLIPEncoder) -> None:
    long = "a red ball bounces " * 9
    assert clip.tokenize([long]).shape == (1, 12)
    assert_close(clip.encode_text([long]), clip.encode_text([long + "blue"]))


def test_text_is_filled_up_with_the_end_token(clip: CLIPEncoder) -> None:
    row = clip.tokenize(["ball"])[0].tolist()
    assert row[0] == 538
    assert row[row.index(539) :] == [539] * (12 - row.index(539))


def test_no_text_and_no_tokenizer_say_what_to_do(clip: CLIPEncoder, make_clip: MakeCLIP) -> None:
    with pytest.raises(PromptError, match="at least one text, got none; use an empty text"):
        clip.encode_text([])
    with pytest.raises(CheckpointError, match="tokenizer to read a text, got none; add the vocabulary with `codi"):
        make_clip().encode_text(["a red ball"])


def test_missing_vocabulary_is_named(make_clip: MakeCLIP, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"in .*missing, got: .*; get these files again"):
        make_clip().attach_tokenizer(tmp_path / "missing")


def test_vocabulary_of_other_weights_is_refused(make_clip: MakeCLIP, vocabulary: Path) -> None:
    other = make_clip()
    other.clip.text_model.config.eos_token_id = 49407
    with pytest.raises(CheckpointError, match="end token at 49407, got 540 with it at 539"):
        other.attach_tokenizer(vocabulary)


def test_one_frame_is_read_as_a_picture(clip: CLIPEncoder) -> None:
    frames = video(1, batch=2)
    assert_close(clip.encode_video(frames), clip.encode_image(Picture(frames.pixels[:, 0])))


@pytest.mark.parametrize("normalization", ["frames", "channels"])
def test_order_of_frames_matters(normalization: str, make_clip: MakeCLIP) -> None:
    clip, frames = make_clip(normalization), video(6)
    backwards = Frames(frames.pixels.flip(1), frames.frames_per_second)
    assert (clip.encode_video(frames) - clip.encode_video(backwards)).norm() > 1e-4


@pytest.mark.parametrize("normalization", ["frames", "channels"])
def test_number_of_equal_frames_does_not_matter(normalization: str, make_clip: MakeCLIP) -> None:
    clip, still = make_clip(normalization), video(1).pixels
    two, nine = (clip.encode_video(Frames(still.repeat(1, n, 1, 1, 1), Fraction(6))) for n in (2, 9))
    assert_close(two, nine, atol=1e-4, rtol=0)


def test_videos_do_not_see_each_other(clip: CLIPEncoder) -> None:
    both = video(5, batch=2)
    alone = [clip.encode_video(Frames(row[None], Fraction(6))) for row in both.pixels]
    assert_close(clip.encode_video(both), torch.cat(alone), atol=1e-4, rtol=0)


def test_untrained_temporal_blocks_leave_a_still_video_a_picture(make_clip: MakeCLIP) -> None:
    clip = make_clip()
    for block in clip.temporal_blocks:
        block.attention.to_out.weight.data.zero_()
        block.feed_forward.proj_out.weight.data.zero_()
    still = video(1).pixels
    assert_close(
        clip.encode_video(Frames(still.repeat(1, 4, 1, 1, 1), Fraction(6))),
        clip.encode_image(Picture(still[0])),
    )


def test_rows_of_a_single_video_lie_together_too(clip: CLIPEncoder) -> None:
    seen = []
    hooks = [
        layer.register_forward_pre_hook(lambda layer, given: seen.append(given[0].is_contiguous()))
        for layer in clip.temporal_blocks.modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    clip.encode_video(Frames(torch.rand(1, 3, 3, 8, 8), Fraction(4)))
    for hook in hooks:
        hook.remove()
    assert seen
    assert all(seen)


def test_long_video_is_seen_at_even_distances(clip: CLIPEncoder) -> None:
    every_second = video(30)
    pixels = every_second.pixels.repeat_interleave(2, dim=1)[:, :59]
    assert_close(clip.encode_video(Frames(pixels, Fraction(12))), clip.encode_video(every_second))


def test_gradients_reach_every_part(clip: CLIPEncoder) -> None:
    pixels = torch.rand(2, 4, 3, 32, 32)
    text = clip.embed_tokens(clip.tokenize(["a red ball", "a blue square"]))
    loss = (text * clip.embed_frames(pixels) * clip.embed_pixels(pixels[:, 0])).sum()
    loss.backward()
    without = {name for name, weight in clip.named_parameters() if weight.grad is None}
    assert without == {"clip.logit_scale"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_pixels_that_are_no_numbers_are_refused(clip: CLIPEncoder, value: float) -> None:
    frames = video(3)
    frames.pixels[0, 1, 0, 0, 0] = value
    with pytest.raises(MediaError, match=r"a video with values in \[-1, 1\], got 1 that are NaN or infinite"):
        clip.encode_video(frames)


def test_empty_media_say_their_shape(clip: CLIPEncoder) -> None:
    with pytest.raises(MediaError, match=r"a picture to encode, got an empty one of shape \(0, 3, 8, 8\)"):
        clip.encode_image(Picture(torch.zeros(0, 3, 8, 8)))
    with pytest.raises(MediaError, match=r"a video to encode, got an empty one of shape \(1, 0, 3, 8, 8\)"):
        clip.encode_video(Frames(torch.zeros(1, 0, 3, 8, 8), Fraction(6)))


def test_unknown_normalization_lists_the_known(make_clip: MakeCLIP) -> None:
    with pytest.raises(ConfigError, match="'batch'; choose one of: frames, channels"):
        make_clip("batch")


def test_saved_and_loaded_encodes_the_same(clip: CLIPEncoder, tmp_path: Path) -> None:
    clip.save_pretrained(tmp_path)
    loaded = CLIPEncoder.from_pretrained(tmp_path)
    assert_close(loaded.encode_video(video(4)), clip.encode_video(video(4)))


def test_half_precision_stays_close(clip: CLIPEncoder) -> None:
    picture, text = Picture(video(1).pixels[0]), ["a red ball"]
    expected = torch.cat([clip.encode_image(picture), clip.encode_text(text)])
    clip.half()
    half = torch.cat([clip.encode_image(picture), clip.encode_text(text)])
    assert half.dtype == torch.float16
    assert_close(half.float(), expected, atol=5e-3, rtol=0)


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), size=st.sampled_from([8, 32]))
def test_any_picture_becomes_a_square_of_its_own_colour(height: int, width: int, size: int) -> None:
    colour = torch.tensor([0.0, 1.0, -1.0])[:, None, None]
    pixels = clip_pixels(colour.expand(1, 3, height, width), size)
    assert pixels.shape == (1, 3, size, size)
    mean, deviation = (torch.tensor(each)[:, None, None] for each in (PIXEL_MEAN, PIXEL_DEVIATION))
    levels = torch.tensor([127.0, 255.0, 0.0])[:, None, None] / 255
    assert_close(pixels, ((levels - mean) / deviation).expand_as(pixels))


def test_middle_square_of_an_oblong_picture_is_seen() -> None:
    oblong = torch.full((1, 3, 32, 64), -1.0)
    oblong[..., 16:48] = 1.0
    assert_close(clip_pixels(oblong, 32), clip_pixels(torch.ones(1, 3, 32, 32), 32))


def test_values_beyond_the_range_are_clipped() -> None:
    assert_close(clip_pixels(torch.full((1, 3, 8, 8), 1.7), 8), clip_pixels(torch.ones(1, 3, 8, 8), 8))
