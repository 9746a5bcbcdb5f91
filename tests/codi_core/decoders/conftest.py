"""Tiny random models: real classes, a few thousand parameters."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from comfyui_codi.codi_core.decoders.audio import AudioCodec, build_vocoder
from comfyui_codi.codi_core.decoders.mel import MelFrontend
from comfyui_codi.codi_core.decoders.text import (
    DECODER_TOKENIZER,
    ENCODER_TOKENIZER,
    SPECIAL_TOKENS,
    TextAutoencoder,
)

SENTENCES = ["a red circle moves left", "the blue square bounces", "it doesn't move, it stays", "a café"]


def autoencoder(channels: int, levels: int) -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8,) * levels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
    ).eval()


@pytest.fixture(scope="session")
def image_autoencoder() -> AutoencoderKL:
    return autoencoder(channels=3, levels=3)


@pytest.fixture(scope="session")
def audio_codec() -> AudioCodec:
    torch.manual_seed(0)
    vocoder = build_vocoder(
        {
            "model_in_dim": 16,
            "upsample_initial_channel": 16,
            "upsample_rates": [5, 4, 4],
            "upsample_kernel_sizes": [16, 16, 8],
            "resblock_kernel_sizes": [3],
            "resblock_dilation_sizes": [[1, 3]],
        }
    ).eval()
    mel = MelFrontend(sample_rate_hz=8000, hop_samples=80, window_samples=512, bands=16, maximum_hz=4000.0)
    return AudioCodec(autoencoder(channels=1, levels=3), vocoder, mel, latent_scale=0.5)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    """WordPiece and byte-level BPE in the layout of BERT and GPT-2, trained on four sentences."""
    folder = tmp_path_factory.mktemp("text_autoencoder")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    wordpiece = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    wordpiece.normalizer = normalizers.BertNormalizer(lowercase=False)
    wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    wordpiece.train_from_iterator(SENTENCES, trainers.WordPieceTrainer(vocab_size=80, special_tokens=names))
    wordpiece.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(tokenizer_object=wordpiece, pad_token="[PAD]").save_pretrained(folder / ENCODER_TOKENIZER)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet))
    bpe.add_special_tokens(list(SPECIAL_TOKENS))
    PreTrainedTokenizerFast(tokenizer_object=bpe).save_pretrained(folder / DECODER_TOKENIZER)
    return folder


@pytest.fixture(scope="session")
def text_autoencoder(tokenizer_folder) -> TextAutoencoder:
    torch.manual_seed(0)
    sizes = [
        PreTrainedTokenizerFast.from_pretrained(tokenizer_folder / name)
        for name in (ENCODER_TOKENIZER, DECODER_TOKENIZER)
    ]
    model = TextAutoencoder(
        encoder={
            "vocab_size": len(sizes[0]),
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 16,
        },
        decoder={
            "vocab_size": len(sizes[1]),
            "n_embd": 16,
            "n_layer": 2,
            "n_head": 2,
            "n_positions": 16,
            "initializer_range": 0.5,
        },
        latent_width=6,
        maximum_tokens=12,
    ).eval()
    model.attach_tokenizers(tokenizer_folder)
    return model
