"""The official parameter names of the diffusers and ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .names import Rename, at, join

TIME_EMBEDDING = (Rename("linear_1", "0"), Rename("linear_2", "2"))

RESIDUAL = (
    Rename("norm_in", "in_layers.0"),
    Rename("mix_in", "in_layers.2"),
    Rename("time_projection", "emb_layers.1"),
    Rename("norm_out", "out_layers.0"),
    Rename("mix_out", "out_layers.3"),
    Rename("shortcut", "skip_connection"),
)

VECTOR_RESIDUAL = tuple(
    Rename(entry.ours, entry.official, 2 if entry.ours in ("mix_in", "mix_out", "shortcut") else 0)
    for entry in RESIDUAL
)

TRANSFORMER = (
    Rename("norm", "norm"),
    Rename("proj_in", "proj_in", 2),
    Rename("proj_out", "proj_out", 2),
    Rename("norm_self", "transformer_blocks.0.norm1"),
    Rename("norm_cross", "transformer_blocks.0.norm2"),
    Rename("norm_feed_forward", "transformer_blocks.0.norm3"),
    Rename("feed_forward.proj_in", "transformer_blocks.0.ff.net.0.proj"),
    Rename("feed_forward.proj_out", "transformer_blocks.0.ff.net.2"),
    *(
        Rename(f"{ours}.{layer}", f"transformer_blocks.0.{official}.{layer}{'.0' if layer == 'to_out' else ''}")
        for ours, official in (("self_attention", "attn1"), ("cross_attention", "attn2"))
        for layer in ("to_q", "to_k", "to_v", "to_out")
    ),
)

TEMPORAL = (
    Rename("position_bias.net.0", "temporal_rel_pos_bias.net.0.0"),
    Rename("position_bias.net.2", "temporal_rel_pos_bias.net.1.0"),
    Rename("position_bias.net.4", "temporal_rel_pos_bias.net.2"),
    Rename("attention.norm.gain", "temporal_attn.norm.g"),
    Rename("attention.positions", "temporal_attn.pos_embeds"),
    Rename("attention.frame_rates", "temporal_attn.frame_rate_embeds"),
    Rename("attention.to_q", "temporal_attn.to_q"),
    Rename("attention.to_kv", "temporal_attn.to_kv"),
    Rename("attention.to_out", "temporal_attn.to_out"),
    Rename("feed_forward.proj_in", "ff.proj_in.0", 3),
    Rename("feed_forward.norm.gain", "ff.proj_out.0.g", 3),
    Rename("feed_forward.proj_out", "ff.proj_out.1", 3),
    Rename("frame_shift.norm", "frameshiftblock.out_layers.0"),
    Rename("frame_shift.conv", "frameshiftblock.out_layers.2"),
)


def diffuser_renames(arguments: Mapping[str, Any]) -> list[Rename]:
    """The table of one diffuser, from the arguments of its `UNet`.

    The official blocks are numbered through: first the stem, then per level its units and the downsampling.
    """
    vector = arguments.get("slots") is not None
    temporal = arguments.get("temporal") is not None
    residual = VECTOR_RESIDUAL if vector else RESIDUAL
    units, transformers = arguments["units"], arguments["transformer_levels"]
    levels = len(units)

    def unit(ours: str, official: str) -> Iterator[Rename]:
        yield from at(join(ours, "residual"), join(official, "0") if temporal else official, residual)
        if temporal:
            yield from at(join(ours, "temporal"), join(official, "1"), TEMPORAL)

    def resample(ours: str, official: str, layer: str) -> Rename:
        """`layer`: the name of the convolution inside a spatial resampling; a vector one is a bare linear layer."""
        inner = "linear" if vector else ("conv" if layer == "conv" else "")
        return Rename(join(ours, inner), official if vector else join(official, layer))

    stem = "stem.linear" if vector else "stem"
    table = [
        *at("time_embedding", "time_embed", TIME_EMBEDDING),
        Rename(stem, "input_blocks.0.0"),
    ]
    number = 1
    for level in range(levels):
        for index in range(units[level]):
            ours = f"down.{level}.units.{index}"
            table += unit(ours, f"input_blocks.{number}.0")
            table += at(f"{ours}.transformer", f"input_blocks.{number}.1", TRANSFORMER)
            table += at(f"{ours}.connector", f"input_block_connecters_in.{number}.0", TRANSFORMER)
            number += 1
        if level < levels - 1:
            table.append(resample(f"down.{level}.downsample", f"input_blocks.{number}.0", "op"))
            number += 1

    table += unit("middle_first", "middle_block.0")
    table += at("middle_first.transformer", "middle_block.1", TRANSFORMER)
    table += unit("middle_last", "middle_block.2")

    number = 0
    for step, level in enumerate(reversed(range(levels))):
        for index in range(units[level] + 1):
            ours = f"up.{step}.units.{index}"
            table += unit(ours, f"output_blocks.{number}.0")
            table += at(f"{ours}.transformer", f"output_blocks.{number}.1", TRANSFORMER)
            place = 2 if transformers[level] else 1
            table.append(resample(f"{ours}.upsample", f"output_blocks.{number}.{place}", "conv"))
            table += at(f"{ours}.connector", f"output_block_connecters_in.{number}.0", TRANSFORMER)
            number += 1

    last = "last.1" if vector else "last"
    table += [Rename("head.norm", "out.0"), Rename(f"head.{last}", "out.2")]
    if arguments.get("environment") is not None:
        stages = len(arguments["environment"]["multipliers"])
        table.append(Rename(f"environment_encoder.{stem}", "connecters_out.0.0"))
        for stage in range(stages):
            ours = f"environment_encoder.stages.{stage}"
            table += unit(ours, f"connecters_out.{2 * stage + 1}.0")
            if stage < stages - 1:
                table.append(resample(f"{ours}.downsample", f"connecters_out.{2 * stage + 2}.0", "op"))
        table += [
            Rename("environment_encoder.head.norm", f"connecters_out.{2 * stages}.0"),
            Rename(f"environment_encoder.head.{last}", f"connecters_out.{2 * stages}.2"),
        ]
    return table
