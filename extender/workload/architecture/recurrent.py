"""Layers with a state of constant size instead of a KV cache: state spaces, gated linear attention, short convolutions. Pure.

Sources: modelling files of Hugging Face transformers 4.57 and 5 (Mamba, Mamba2, Jamba, NemotronH, Qwen3Next, KimiLinear, MiniMax, Lfm2);
state shapes of vLLM (`MambaStateShapeCalculator`): `kernel - 1` columns of convolution input and one recurrent matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from extender.workload.checkpoint.config_fields import Fields
from extender.workload.structure import CONVOLUTION, LINEAR_ATTENTION, STATE_SPACE, Layer, State, Weight, linear, vector

Mixer = Callable[[Fields, int, str], Layer]
"""(fields, layer, the layer's module name) -> the sublayer that mixes tokens."""


def _convolution(module: str, part: str, channels: int, kernel: int, bias: bool) -> tuple[Weight, ...]:
    convolution = Weight(module, part, channels, kernel, linear=False)
    return (convolution, vector(module, part, channels)) if bias else (convolution,)


def mamba(*, norms: bool = False, name: str = "mamba") -> Mixer:
    """Mamba 1 (Mamba, Falcon Mamba, Jamba). `norms`: with Jamba's norms on the time step, B and C."""

    def layer(fields: Fields, _index: int, prefix: str) -> Layer:
        module, hidden = f"{prefix}.{name}" if name else prefix, fields.hidden
        inner = (
            fields.count("intermediate_size", 0)
            if fields.raw.get("model_type") in ("mamba", "falcon_mamba") and fields.has("intermediate_size")
            else int(fields.number("mamba_expand", 2) * hidden)
        )
        state, kernel = fields.count("mamba_d_state", 16), fields.count("mamba_d_conv", 4)
        rank = fields.get("mamba_dt_rank") or fields.get("time_step_rank")
        rank = rank if isinstance(rank, int) and not isinstance(rank, bool) and rank > 0 else math.ceil(hidden / 16)
        bias = fields.flag("mamba_proj_bias") or fields.flag("use_bias")
        weights = linear(f"{module}.in_proj", STATE_SPACE, 2 * inner, hidden, bias)
        weights += _convolution(f"{module}.conv1d", STATE_SPACE, inner, kernel, True)
        weights += linear(f"{module}.x_proj", STATE_SPACE, rank + 2 * state, inner) + linear(
            f"{module}.dt_proj", STATE_SPACE, inner, rank, True
        )
        weights += (vector(f"{module}.A_log", STATE_SPACE, inner * state), vector(f"{module}.D", STATE_SPACE, inner))
        weights += linear(f"{module}.out_proj", STATE_SPACE, hidden, inner, bias)
        weights += (vector(f"{module}.norms", STATE_SPACE, rank + 2 * state),) if norms else ()
        return Layer(weights, state=State("mamba", 1, inner * (kernel - 1), inner * state))

    return layer


def mamba2(*, name: str = "mamba", bias: str = "mamba_proj_bias", inner: str = "", gated_norm: str = "") -> Mixer:
    """Mamba 2 (Mamba2, Bamba, Granite 4, Nemotron-H, Falcon-H1, Zamba 2).

    `bias`: the field that states whether projections have a bias. `inner`: a field with the inner width, which is otherwise heads x head
    size. `gated_norm`: a field that states whether the gated norm exists; without it, it exists.
    """

    def layer(fields: Fields, _index: int, prefix: str) -> Layer:
        module, hidden = f"{prefix}.{name}" if name else prefix, fields.hidden
        heads, size = fields.count("mamba_n_heads", 0) if fields.has("mamba_n_heads") else 0, fields.get("mamba_d_head")
        expanded = int(fields.number("mamba_expand", 2) * hidden)
        if not isinstance(size, int):
            size = expanded // heads if heads else 64
        heads = heads or expanded // size
        width = fields.count(inner) if inner and fields.has(inner) else heads * size
        groups, state, kernel = fields.count("mamba_n_groups", 1), fields.count("mamba_d_state", 128), fields.count("mamba_d_conv", 4)
        channels, with_bias = width + 2 * groups * state, fields.flag(bias)
        weights = linear(f"{module}.in_proj", STATE_SPACE, width + channels + heads, hidden, with_bias)
        weights += _convolution(f"{module}.conv1d", STATE_SPACE, channels, kernel, True)
        weights += (vector(f"{module}.A_log_D_dt_bias", STATE_SPACE, 3 * heads),)
        weights += (vector(f"{module}.norm", STATE_SPACE, width),) if not gated_norm or fields.flag(gated_norm) else ()
        weights += linear(f"{module}.out_proj", STATE_SPACE, hidden, width, with_bias)
        return Layer(weights, state=State("mamba2", 1, channels * (kernel - 1), width * state))

    return layer


def delta_net(fields: Fields, _index: int, prefix: str) -> Layer:
    """Gated DeltaNet of Qwen3-Next and Qwen 3.5."""
    module, hidden = f"{prefix}.linear_attn", fields.hidden
    key_heads, value_heads = fields.count("linear_num_key_heads", 16), fields.count("linear_num_value_heads", 32)
    key_size, value_size = fields.count("linear_key_head_dim", 128), fields.count("linear_value_head_dim", 128)
    kernel, keys, values = fields.count("linear_conv_kernel_dim", 4), key_heads * key_size, value_heads * value_size
    channels = 2 * keys + values
    weights = linear(f"{module}.in_proj_qkvz", LINEAR_ATTENTION, channels + values, hidden)
    weights += linear(f"{module}.in_proj_ba", LINEAR_ATTENTION, 2 * value_heads, hidden)
    weights += _convolution(f"{module}.conv1d", LINEAR_ATTENTION, channels, kernel, False)
    weights += (vector(f"{module}.A_log_dt_bias_norm", LINEAR_ATTENTION, 2 * value_heads + value_size),)
    weights += linear(f"{module}.out_proj", LINEAR_ATTENTION, hidden, values)
    return Layer(weights, state=State("gated delta net", 1, channels * (kernel - 1), value_heads * key_size * value_size))


def kimi_delta(fields: Fields, _index: int, prefix: str) -> Layer:
    """Kimi Delta Attention (Kimi Linear): decay per channel through low-rank gates."""
    module, hidden, nested = f"{prefix}.self_attn", fields.hidden, fields.part("linear_attn_config") or Fields({})
    heads, size = (
        nested.count("num_attention_heads", fields.count("linear_num_heads", fields.heads)),
        nested.count("head_dim", fields.count("linear_head_dim", 128)),
    )
    kernel, width = nested.count("short_conv_kernel_size", 4), heads * size
    weights: tuple[Weight, ...] = ()
    for which in ("q", "k", "v"):
        weights += linear(f"{module}.{which}_proj", LINEAR_ATTENTION, width, hidden)
        weights += _convolution(f"{module}.{which}_conv1d", LINEAR_ATTENTION, width, kernel, False)
    for which in ("f", "g"):
        weights += linear(f"{module}.{which}_a_proj", LINEAR_ATTENTION, size, hidden) + linear(
            f"{module}.{which}_b_proj", LINEAR_ATTENTION, width, size
        )
    weights += linear(f"{module}.b_proj", LINEAR_ATTENTION, heads, hidden) + linear(f"{module}.o_proj", LINEAR_ATTENTION, hidden, width)
    weights += (vector(f"{module}.A_log_dt_bias_norm", LINEAR_ATTENTION, heads + width + size),)
    return Layer(weights, state=State("Kimi delta attention", 1, 3 * width * (kernel - 1), width * size))


def lightning(fields: Fields, _index: int, prefix: str) -> Layer:
    """Lightning attention of MiniMax-Text-01."""
    module, hidden, width = f"{prefix}.self_attn", fields.hidden, fields.heads * fields.head_size
    weights = linear(f"{module}.qkv_proj", LINEAR_ATTENTION, 3 * width, hidden) + linear(
        f"{module}.out_proj", LINEAR_ATTENTION, hidden, width
    )
    weights += (*linear(f"{module}.output_gate", LINEAR_ATTENTION, width, hidden), vector(f"{module}.norm", LINEAR_ATTENTION, width))
    return Layer(weights, state=State("lightning attention", 1, 0, width * fields.head_size))


def short_convolution(fields: Fields, _index: int, prefix: str) -> Layer:
    """Double-gated short convolution of LFM2."""
    module, hidden, kernel, bias = f"{prefix}.conv", fields.hidden, fields.count("conv_L_cache", 3), fields.flag("conv_bias")
    weights = linear(f"{module}.in_proj", CONVOLUTION, 3 * hidden, hidden, bias)
    weights += _convolution(f"{module}.conv", CONVOLUTION, hidden, kernel, bias)
    weights += linear(f"{module}.out_proj", CONVOLUTION, hidden, hidden, bias)
    return Layer(weights, state=State("short convolution", 1, hidden * (kernel - 1)))
