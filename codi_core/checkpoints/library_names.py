"""The official parameter names of what is library classes here: autoencoders, vocoder, CLIP, CLAP, OPTIMUS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .names import Rename, at

RESNET = (Rename("", ""), Rename("conv_shortcut", "nin_shortcut"))

ATTENTION = (
    Rename("group_norm", "norm"),
    Rename("to_q", "q", 2),
    Rename("to_k", "k", 2),
    Rename("to_v", "v", 2),
    Rename("to_out.0", "proj_out", 2),
)

CLIP_TEMPORAL = (
    Rename("position_bias.net.0", "temporal_rel_pos_bias.net.0.0"),
    Rename("position_bias.net.2", "temporal_rel_pos_bias.net.1.0"),
    Rename("position_bias.net.4", "temporal_rel_pos_bias.net.2"),
    Rename("attention.norm.gain", "temporal_attn.norm.g"),
    Rename("attention.to_q", "temporal_attn.to_q"),
    Rename("attention.to_kv", "temporal_attn.to_kv"),
    Rename("attention.to_out", "temporal_attn.to_out"),
    Rename("feed_forward.proj_in", "ff.proj_in.0", trailing_ones=1),
    Rename("feed_forward.norm.gain", "ff.proj_out.0.g", trailing_ones=1, leading_ones=1),
    Rename("feed_forward.proj_out", "ff.proj_out.1", trailing_ones=1),
)

SWIN_BLOCK = (
    Rename("layernorm_before", "norm1"),
    Rename("layernorm_after", "norm2"),
    Rename("attention.self.relative_position_bias_table", "attn.relative_position_bias_table"),
    *(
        Rename(f"attention.self.{name}", "attn.qkv", piece=(index, 3))
        for index, name in enumerate(("query", "key", "value"))
    ),
    Rename("attention.output.dense", "attn.proj"),
    Rename("intermediate.dense", "mlp.fc1"),
    Rename("output.dense", "mlp.fc2"),
)


def autoencoder_renames(arguments: Mapping[str, Any]) -> list[Rename]:
    """The table of one `AutoencoderKL`. The official decoder counts its levels from the finest one."""
    levels = len(arguments["block_out_channels"])
    units = arguments["layers_per_block"]
    table = [Rename("quant_conv", "quant_conv"), Rename("post_quant_conv", "post_quant_conv")]
    for half in ("encoder", "decoder"):
        for name in ("conv_in", "conv_out"):
            table.append(Rename(f"{half}.{name}", f"{half}.{name}"))
        table.append(Rename(f"{half}.conv_norm_out", f"{half}.norm_out"))
        table += at(f"{half}.mid_block.attentions.0", f"{half}.mid.attn_1", ATTENTION)
        for index in range(2):
            table += at(f"{half}.mid_block.resnets.{index}", f"{half}.mid.block_{index + 1}", RESNET)
    for level in range(levels):
        up = levels - 1 - level
        table += _level(f"encoder.down_blocks.{level}", f"encoder.down.{level}", units, "down")
        table += _level(f"decoder.up_blocks.{level}", f"decoder.up.{up}", units + 1, "up")
    return table


def _level(ours: str, official: str, units: int, way: str) -> Iterator[Rename]:
    for index in range(units):
        yield from at(f"{ours}.resnets.{index}", f"{official}.block.{index}", RESNET)
    yield Rename(f"{ours}.{way}samplers.0", f"{official}.{way}sample")


def vocoder_renames(arguments: Mapping[str, Any]) -> list[Rename]:
    return [Rename("", ""), Rename("upsampler", "ups")]


def clip_renames(arguments: Mapping[str, Any]) -> list[Rename]:
    table = [Rename("clip", "")]
    for layer in range(arguments["vision"]["num_hidden_layers"]):
        official = f"vision_model.encoder.layers.{layer}.temporal_self_attn"
        table += at(f"temporal_blocks.{layer}", official, CLIP_TEMPORAL)
    return table


def clap_renames(arguments: Mapping[str, Any]) -> list[Rename]:
    ours, official = "clap.audio_model.audio_encoder", "audio_branch"
    table = [
        Rename(ours, official),
        Rename(f"{ours}.batch_norm", f"{official}.bn0"),
        Rename("clap.audio_projection.linear1", "audio_projection.0"),
        Rename("clap.audio_projection.linear2", "audio_projection.2"),
    ]
    for stage, depth in enumerate(arguments["audio"]["depths"]):
        for block in range(depth):
            place = f"layers.{stage}.blocks.{block}"
            table += at(f"{ours}.{place}", f"{official}.{place}", SWIN_BLOCK)
    return table


def text_autoencoder_renames(arguments: Mapping[str, Any]) -> list[Rename]:
    """OPTIMUS: its encoder wraps BERT, its decoder GPT-2."""
    return [
        Rename("bert", "encoder"),
        Rename("to_posterior", "encoder.linear"),
        Rename("gpt2", "decoder.transformer"),
        Rename("to_memory", "decoder.transformer.linear"),
        Rename("to_embedding", "decoder.transformer.linear_emb"),
    ]
