"""Attention layers: their matrices, and the numbers per token in the KV cache. Pure.

Sources: the configuration and modelling files of Hugging Face transformers 4.57 and 5, and the DeepSeek-V3 technical report, section 2.1.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from extender.workload.checkpoint.config_fields import Fields
from extender.workload.structure import ATTENTION, Cache, Layer, linear, vector

Window = Callable[[Fields, int], Cache | None]
"""(fields, layer) -> a cache of which only kind and window are used; None: the layer attends to all tokens."""

INDEXER_BYTES_PER_NUMBER = 132 / 128
"""DeepSeek sparse attention keeps 128 FP8 numbers and one 4-byte scale per token. Source: vLLM, DeepseekV32IndexerCache."""


def everywhere(_fields: Fields, _layer: int) -> Cache | None:
    """No window in any layer."""
    return None


def _limited(fields: Fields, name: str, kind: str = "sliding") -> Cache | None:
    size = fields.amount(name)
    return Cache(kind, 1, 0, window=size) if size else None


def by_layer_type(fields: Fields, layer: int) -> Cache | None:
    """The window by `layer_types`; no window if the file does not have that field."""
    kinds = fields.items("layer_types")
    kind = kinds[layer] if layer < len(kinds) else "full_attention"
    if kind == "sliding_attention":
        return _limited(fields, "sliding_window")
    return _limited(fields, "attention_chunk_size", "chunked") if kind == "chunked_attention" else None


def every_layer(fields: Fields, layer: int) -> Cache | None:
    """A window in all layers, as in Mistral 7B v0.1, unless the file has `layer_types`."""
    return by_layer_type(fields, layer) if fields.items("layer_types") else _limited(fields, "sliding_window")


def one_full_in(pattern: int, offset: int = 0) -> Window:
    """A window in all but the last of every `pattern` layers: Gemma 2 (2), Gemma 3 (6), Cohere 2 (4)."""

    def window(fields: Fields, layer: int) -> Cache | None:
        if fields.items("layer_types"):
            return by_layer_type(fields, layer)
        stated = fields.get("sliding_window_pattern") or fields.get("_sliding_window_pattern") or pattern
        if isinstance(stated, str):
            return _limited(fields, "sliding_window") if stated[layer % len(stated)] == "L" else None
        every = stated if isinstance(stated, int) and stated > 0 else pattern
        return _limited(fields, "sliding_window") if (layer + 1 + offset) % every else None

    return window


def qwen_window(fields: Fields, layer: int) -> Cache | None:
    """Qwen 2 and 3: a window from layer `max_window_layers` on, only with `use_sliding_window`."""
    if not fields.flag("use_sliding_window"):
        return None
    if fields.items("layer_types"):
        return by_layer_type(fields, layer)
    return _limited(fields, "sliding_window") if layer >= fields.amount("max_window_layers", 28) else None


def llama4_window(fields: Fields, layer: int) -> Cache | None:
    """Llama 4: three of four layers attend within chunks; the fourth has no rotary embedding and attends to all tokens."""
    if fields.items("layer_types"):
        return by_layer_type(fields, layer)
    rotary = fields.items("no_rope_layers")
    chunked = bool(rotary[layer]) if layer < len(rotary) else (layer + 1) % fields.count("no_rope_layer_interval", 4) != 0
    return _limited(fields, "attention_chunk_size", "chunked") if chunked else None


def grouped(
    *,
    bias: bool | None = None,
    output_bias: bool | None = None,
    qk_norm: str = "",
    gated: bool = False,
    sinks: bool = False,
    window: Window = everywhere,
    heads: Callable[[Fields, int], tuple[int, int, int]] | None = None,
    fused: str = "",
    name: str = "self_attn",
) -> Callable[[Fields, int, str], Layer]:
    """Grouped-query attention, including multi-head and multi-query attention.

    `bias`: None means by the field `attention_bias`. `output_bias`: None means as `bias`. `qk_norm`: "head" (one vector for all heads) or
    "full". `gated`: queries have a gate of the same size. `heads`: (heads, key-value heads, head size) per layer, where layers differ.
    `fused`: the module's name, if one matrix has queries, keys and values. `name`: the module's name in the layer.
    """

    def layer(fields: Fields, index: int, prefix: str) -> Layer:
        query_heads, kv_heads, size = heads(fields, index) if heads else (fields.heads, fields.kv_heads, fields.head_size)
        hidden, module = fields.hidden, f"{prefix}.{name}"
        with_bias = fields.flag("attention_bias") if bias is None else bias
        out_bias = with_bias if output_bias is None else output_bias
        queries, keys = query_heads * size, kv_heads * size
        if fused:
            weights = linear(f"{module}.{fused}", ATTENTION, queries + 2 * keys, hidden, with_bias)
        else:
            weights = linear(f"{module}.q_proj", ATTENTION, queries * (2 if gated else 1), hidden, with_bias)
            weights += linear(f"{module}.k_proj", ATTENTION, keys, hidden, with_bias)
            weights += linear(f"{module}.v_proj", ATTENTION, keys, hidden, with_bias)
        weights += linear(f"{module}.o_proj", ATTENTION, hidden, queries, out_bias)
        if qk_norm:
            weights += (vector(f"{module}.qk_norm", ATTENTION, 2 * size if qk_norm == "head" else queries + keys),)
        if sinks:
            weights += (vector(f"{module}.sinks", ATTENTION, query_heads),)
        limit = window(fields, index)
        cache = Cache(limit.kind if limit else "full", 1, 2 * keys, kv_heads, limit.window if limit else None)
        return Layer(weights, cache)

    return layer


def latent(fields: Fields, _index: int, prefix: str) -> Layer:
    """Multi-head latent attention (DeepSeek-V2, V3): the cache has one latent and one rotary key per token, shared by all heads."""
    module, hidden, heads = f"{prefix}.self_attn", fields.hidden, fields.heads
    rank, query_rank = fields.count("kv_lora_rank"), fields.amount("q_lora_rank")
    rope, nope, value = fields.count("qk_rope_head_dim"), fields.count("qk_nope_head_dim"), fields.count("v_head_dim")
    bias = fields.flag("attention_bias")
    if query_rank:
        weights = linear(f"{module}.q_a_proj", ATTENTION, query_rank, hidden, bias)
        weights += (vector(f"{module}.q_a_layernorm", ATTENTION, query_rank),)
        weights += linear(f"{module}.q_b_proj", ATTENTION, heads * (nope + rope), query_rank)
    else:
        weights = linear(f"{module}.q_proj", ATTENTION, heads * (nope + rope), hidden)
    weights += linear(f"{module}.kv_a_proj_with_mqa", ATTENTION, rank + rope, hidden, bias)
    weights += (vector(f"{module}.kv_a_layernorm", ATTENTION, rank),)
    weights += linear(f"{module}.kv_b_proj", ATTENTION, heads * (nope + value), rank)
    weights += linear(f"{module}.o_proj", ATTENTION, hidden, heads * value, bias)
    return Layer(weights, Cache("latent", 1, rank + rope))


def sparse_latent(fields: Fields, index: int, prefix: str) -> Layer:
    """Latent attention with DeepSeek's indexer (V3.2, GLM 5): a second, small cache chooses the tokens that attention reads."""
    base, module = latent(fields, index, prefix), f"{prefix}.self_attn.indexer"
    heads, size = fields.count("index_n_heads"), fields.count("index_head_dim")
    weights = linear(f"{module}.wq_b", ATTENTION, heads * size, fields.count("q_lora_rank"))
    weights += (*linear(f"{module}.wk", ATTENTION, size, fields.hidden), vector(f"{module}.k_norm", ATTENTION, 2 * size))
    weights += linear(f"{module}.weights_proj", ATTENTION, heads, fields.hidden)
    indexer = Cache("indexer", 1, size, number_bytes=INDEXER_BYTES_PER_NUMBER)
    return Layer(base.weights + weights, base.cache, more_caches=(indexer,))


def falcon(fields: Fields, index: int, prefix: str) -> Layer:
    """Falcon: `num_kv_heads` applies only with `new_decoder_architecture`; otherwise `multi_query` means one key-value head."""
    kv_heads = fields.heads
    if fields.flag("new_decoder_architecture"):
        kv_heads = fields.count("num_key_value_heads", fields.heads)
    elif fields.flag("multi_query", True):
        kv_heads = 1
    bias = fields.flag("bias")
    shape = (fields.heads, kv_heads, fields.hidden // fields.heads)
    return grouped(bias=bias, heads=lambda _fields, _layer: shape, fused="query_key_value", name="self_attention")(fields, index, prefix)


def options(name: str, value: Any) -> Callable[[Fields, int], tuple[int, int, int]]:
    """Heads of a model whose key-value heads are the field `value` of the nested object `name`: MPT and DBRX, `attn_config`."""

    def heads(fields: Fields, _layer: int) -> tuple[int, int, int]:
        nested = fields.part(name)
        kv_heads = nested.count(value, fields.heads) if nested else fields.heads
        return fields.heads, kv_heads, fields.head_size

    return heads
