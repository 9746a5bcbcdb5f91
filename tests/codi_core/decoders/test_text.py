from __future__ import annotations

import shutil

import pytest
import torch

from comfyui_codi.codi_core.decoders.text import TextAutoencoder, TextCodec
from comfyui_codi.codi_core.errors import CheckpointError, ConfigError, ShapeError


def latents(rows: int = 3) -> torch.Tensor:
    return torch.randn(rows, 6, generator=torch.Generator().manual_seed(2))


def uncached_greedy(model: TextAutoencoder, latent: torch.Tensor) -> list[int]:
    ids = [model.begin_id]
    while ids[-1] != model.end_id:
        ids.append(int(model.logits(torch.tensor([ids]), latent)[0, -1].argmax()))
        if len(ids) == model.config["maximum_tokens"]:
            ids[-1] = model.end_id
    return ids


@torch.no_grad()
def test_cached_generation_equals_uncached(text_autoencoder):
    latent = latents()
    rows = text_autoencoder.generate(latent)
    assert rows == [uncached_greedy(text_autoencoder, latent[i : i + 1]) for i in range(3)]


def test_rows_begin_and_end_and_are_never_too_long(text_autoencoder):
    for row in text_autoencoder.generate(latents(8), temperature=3.0, generator=torch.Generator().manual_seed(0)):
        assert row[0] == text_autoencoder.begin_id
        assert row[-1] == text_autoencoder.end_id
        assert row.count(text_autoencoder.end_id) == 1
        assert len(row) <= 12


def test_a_row_stops_at_its_end_token(text_autoencoder, monkeypatch):
    row = text_autoencoder.generate(latents(1))[0]
    monkeypatch.setattr(text_autoencoder, "end_id", row[2])
    assert text_autoencoder.generate(latents(1))[0] == row[: row.index(row[2]) + 1]


def test_drawing_follows_the_seed(text_autoencoder):
    def draw(seed: int) -> list[list[int]]:
        return text_autoencoder.generate(latents(), 1.0, torch.Generator().manual_seed(seed))

    assert draw(0) == draw(0)
    assert draw(0) != draw(1)


def test_a_low_temperature_approaches_the_likeliest_text(text_autoencoder):
    assert text_autoencoder.generate(latents(), temperature=1e-4) == text_autoencoder.generate(latents())


@torch.no_grad()
@pytest.mark.parametrize("way", ["to_memory", "to_embedding"])
def test_the_latent_matters_as_memory_and_as_embedding(text_autoencoder, way, monkeypatch):
    ids = torch.tensor([[text_autoencoder.begin_id, 5, 9]])
    both = text_autoencoder.logits(ids, latents(1))
    weight = getattr(text_autoencoder, way).weight
    monkeypatch.setattr(weight, "data", torch.zeros_like(weight))
    assert not torch.allclose(text_autoencoder.logits(ids, latents(1)), both, atol=1e-3)


@torch.no_grad()
def test_logits_do_not_see_later_tokens(text_autoencoder):
    ids = torch.tensor([[text_autoencoder.begin_id, 5, 9, 30]])
    whole = text_autoencoder.logits(ids, latents(1))
    torch.testing.assert_close(text_autoencoder.logits(ids[:, :2], latents(1)), whole[:, :2])


def test_gradients_reach_every_weight(text_autoencoder):
    mean, log_variance = text_autoencoder.encode_tokens(*text_autoencoder.encoder_ids(["a red circle"]))
    ids = text_autoencoder.decoder_ids(["a red circle"])
    loss = text_autoencoder.logits(ids, mean).logsumexp(-1).mean() + log_variance.square().mean()
    names = [name for name, _ in text_autoencoder.named_parameters()]
    gradients = torch.autograd.grad(loss, list(text_autoencoder.parameters()), allow_unused=True)
    assert [name for name, gradient in zip(names, gradients, strict=True) if gradient is None] == []


@torch.no_grad()
def test_padding_does_not_change_a_latent(text_autoencoder):
    codec = TextCodec(text_autoencoder, latent_scale=2.0)
    texts = ["a", "the blue square bounces"]
    assert codec.encode(texts).shape == (2, 6)
    torch.testing.assert_close(codec.encode(texts)[:1], codec.encode("a"))
    mean, _ = text_autoencoder.encode_tokens(*text_autoencoder.encoder_ids(texts))
    torch.testing.assert_close(codec.encode(texts), 2 * mean)


def test_case_does_not_change_a_latent(text_autoencoder):
    codec = TextCodec(text_autoencoder, latent_scale=1.0)
    assert torch.equal(codec.encode("A RED Circle"), codec.encode("a red circle"))


def test_texts_longer_than_the_models_are_cut(text_autoencoder):
    text = "a red circle moves left, " * 20
    assert text_autoencoder.encoder_ids([text])[0].shape == (1, 16)
    ids = text_autoencoder.decoder_ids([text])
    assert ids.shape == (1, 12)
    assert ids[0, -1] == text_autoencoder.end_id
    assert TextCodec(text_autoencoder, 1.0).encode(text).isfinite().all()


@pytest.mark.parametrize("text", ["a red circle", "  it stays  ", "", "a café 北"])
def test_decoder_ids_decode_to_the_text(text_autoencoder, text):
    ids = text_autoencoder.decoder_ids([text])[0].tolist()
    assert text_autoencoder.decoded(ids) == f" <BOS> {text.strip()}".rstrip() + " <EOS>"


def test_special_tokens_show_with_a_space_in_front(text_autoencoder):
    a = text_autoencoder.tokenizer_decoder.convert_tokens_to_ids("a")
    begin, pad = text_autoencoder.begin_id, text_autoencoder.pad_id
    assert text_autoencoder.decoded([begin, begin, a, pad, a]) == " <BOS> <BOS>a <PAD>a"


def test_broken_bytes_become_replacement_characters(text_autoencoder):
    first_byte = text_autoencoder.tokenizer_decoder(" 北", add_special_tokens=False)["input_ids"][1]
    assert text_autoencoder.decoded([first_byte]) == "\N{REPLACEMENT CHARACTER}"


def test_decoding_gives_one_clean_text_per_row(text_autoencoder):
    texts = TextCodec(text_autoencoder, latent_scale=2.0).decode(2 * latents())
    assert len(texts) == 3
    assert not any("<BOS>" in text or "<EOS>" in text for text in texts)
    assert texts == TextCodec(text_autoencoder, latent_scale=1.0).decode(latents())


def test_saved_model_writes_the_same(text_autoencoder, tmp_path):
    text_autoencoder.save_pretrained(tmp_path)
    loaded = TextAutoencoder.from_pretrained(tmp_path)
    assert loaded.generate(latents()) == text_autoencoder.generate(latents())


def test_without_tokenizers_says_how_to_get_them(text_autoencoder):
    bare = TextAutoencoder.from_config(text_autoencoder.config)
    with pytest.raises(CheckpointError, match="add these with `codi convert FOLDER`"):
        TextCodec(bare, 1.0).encode("a")


def test_absent_tokenizers_name_their_folder(text_autoencoder, tmp_path):
    with pytest.raises(CheckpointError, match="encoder_tokenizer"):
        text_autoencoder.attach_tokenizers(tmp_path)


def test_damaged_tokenizer_says_to_fetch_it_again(text_autoencoder, tokenizer_folder, tmp_path):
    shutil.copytree(tokenizer_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "decoder_tokenizer" / "tokenizer.json").write_text("{damaged")
    with pytest.raises(CheckpointError, match=r"decoder_tokenizer.*fetch the model again"):
        text_autoencoder.attach_tokenizers(tmp_path)


def test_tokenizers_of_another_model_are_refused(text_autoencoder, tokenizer_folder):
    decoder = dict(text_autoencoder.config["decoder"], vocab_size=500)
    other = TextAutoencoder.from_config(text_autoencoder.config, decoder=decoder)
    with pytest.raises(CheckpointError, match="and 500 tokens"):
        other.attach_tokenizers(tokenizer_folder)


def test_too_many_tokens_for_the_decoder_say_both_numbers(text_autoencoder):
    with pytest.raises(ConfigError, match="16 positions, got 17"):
        TextAutoencoder.from_config(text_autoencoder.config, maximum_tokens=17)


def test_latent_of_another_model_is_refused(text_autoencoder):
    with pytest.raises(ShapeError, match=r"text latent of shape \(batch, 6\), got \(1, 768\)"):
        TextCodec(text_autoencoder, 1.0).decode(torch.zeros(1, 768))
    with pytest.raises(ConfigError, match="temperature of at least 0"):
        text_autoencoder.generate(latents(), temperature=-1.0)
