"""Attention layers: their matrices and what each token leaves in the KV cache.

Sources: the configuration and modelling files of Hugging Face transformers 4.57 and 5, and the DeepSeek-V3 technical report, section 2.1.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from extender.workload.checkpoint.config_fields import Fields
from extender.workload.structure import ATTENTION, Cache, Layer, linear, vector

Window = Callable[[Fields, int], Cache | None]
"""Fields and layer -> a cache that carries kind and window only; None: the layer attends to everything."""

INDEXER_BYTES_PER_NUMBER = 132 / 128
"""DeepSeek sparse attention keeps 128 FP8 numbers and one 4-byte scale per token. Source: vLLM, DeepseekV32IndexerCache."""


def everywhere(_fields: Fields, _layer: int) -> Cache | None:
    """No window."""
    return None


def _limited(fields: Fields, name: str, kind: str = "sliding") -> Cache | None:
    size = fields.amount(name)
    return Cache(kind, 1, 0, window=size) if size else None


def by_layer_type(fields: Fields, layer: int) -> Cache | None:
    """By `layer_types`, where the file has it."""
    kinds = fields.items("layer_types")
    kind = kinds[layer] if layer < len(kinds) else "full_attention"
    if kind == "sliding_attention":
        return _limited(fields, "sliding_window")
    return _limited(fields, "attention_chunk_size", "chunked") if kind == "chunked_attention" else None


def every_layer(fields: Fields, layer: int) -> Cache | None:
    """All layers, as in Mistral 7B v0.1, unless `layer_types` says otherwise."""
    return by_layer_type(fields, layer) if fields.items("layer_types") else _limited(fields, "sliding_window")


def one_full_in(pattern: int, offset: int = 0) -> Window:
    """Of `pattern` layers the last one attends to everything: Gemma 2 (2), Gemma 3 (6), Cohere 2 (4)."""

    def window(fields: Fields, layer: int) -> Cache | None:
        if fields.items("layer_types"):
            return by_layer_type(fields, layer)
        told = fields.get("sliding_window_pattern") or fields.get("_sliding_window_pattern") or pattern
        if isinstance(told, str):
            return _limited(fields, "sliding_window") if told[layer % len(told)] == "L" else None
        every = told if isinstance(told, int) and told > 0 else pattern
        return _limited(fields, "sliding_window") if (layer + 1 + offset) % every else None

    return window


def qwen_window(fields: Fields, layer: int) -> Cache | None:
    """Qwen 2 and 3: from layer `max_window_layers` on, and only with `use_sliding_window`."""
    if not fields.flag("use_sliding_window"):
        return None
    if fields.items("layer_types"):
        return by_layer_type(fields, layer)
    return _limited(fields, "sliding_window") if layer >= fields.amount("max_window_layers", 28) else None


def llama4_window(fields: Fields, layer: int) -> Cache | None:
    """Llama 4: three layers of four attend within chunks; the fourth has no rotary embedding and attends to everything."""
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
    """Grouped-query attention (multi-head and multi-query included).

    `bias` None: by field `attention_bias`. `qk_norm`: "head" (one vector for all heads) or "full". `gated`: queries have a gate of their
    size. `heads`: (heads, key-value heads, head size) where layers differ. `fused`: the module's name where one matrix holds queries, keys
    and values.
    """

    def layer(fields: Fields, index: int, prefix: str) -> Layer:
        query_heads, kv_heads, size = heads(fields, index) if heads else (fields.heads, fields.kv_heads, fields.head_size)
        hidden, place = fields.hidden, f"{prefix}.{name}"
        with_bias = fields.flag("attention_bias") if bias is None else bias
        out_bias = with_bias if output_bias is None else output_bias
        queries, keys = query_heads * size, kv_heads * size
        if fused:
            weights = linear(f"{place}.{fused}", ATTENTION, queries + 2 * keys, hidden, with_bias)
        else:
            weights = linear(f"{place}.q_proj", ATTENTION, queries * (2 if gated else 1), hidden, with_bias)
            weights += linear(f"{place}.k_proj", ATTENTION, keys, hidden, with_bias)
            weights += linear(f"{place}.v_proj", ATTENTION, keys, hidden, with_bias)
        weights += linear(f"{place}.o_proj", ATTENTION, hidden, queries, out_bias)
        if qk_norm:
            weights += (vector(f"{place}.qk_norm", ATTENTION, 2 * size if qk_norm == "head" else queries + keys),)
        if sinks:
            weights += (vector(f"{place}.sinks", ATTENTION, query_heads),)
        limit = window(fields, index)
        cache = Cache(limit.kind if limit else "full", 1, 2 * keys, kv_heads, limit.window if limit else None)
        return Layer(weights, cache)

    return layer


def latent(fields: Fields, _index: int, prefix: str) -> Layer:
    """Multi-head latent attention (DeepSeek-V2, V3): the cache is one latent and one rotary key per token, for all heads."""
    place, hidden, heads = f"{prefix}.self_attn", fields.hidden, fields.heads
    rank, query_rank = fields.count("kv_lora_rank"), fields.amount("q_lora_rank")
    rope, nope, value = fields.count("qk_rope_head_dim"), fields.count("qk_nope_head_dim"), fields.count("v_head_dim")
    bias = fields.flag("attention_bias")
    if query_rank:
        weights = linear(f"{place}.q_a_proj", ATTENTION, query_rank, hidden, bias)
        weights += (vector(f"{place}.q_a_layernorm", ATTENTION, query_rank),)
        weights += linear(f"{place}.q_b_proj", ATTENTION, heads * (nope + rope), query_rank)
    else:
        weights = linear(f"{place}.q_proj", ATTENTION, heads * (nope + rope), hidden)
    weights += linear(f"{place}.kv_a_proj_with_mqa", ATTENTION, rank + rope, hidden, bias)
    weights += (vector(f"{place}.kv_a_layernorm", ATTENTION, rank),)
    weights += linear(f"{place}.kv_b_proj", ATTENTION, heads * (nope + value), rank)
    weights += linear(f"{place}.o_proj", ATTENTION, hidden, heads * value, bias)
    return Layer(weights, Cache("latent", 1, rank + rope))


def sparse_latent(fields: Fields, index: int, prefix: str) -> Layer:
    """Latent attention with DeepSeek's indexer (V3.2, GLM 5): a second, small cache chooses the tokens that attention reads."""
    base, place = latent(fields, index, prefix), f"{prefix}.self_attn.indexer"
    heads, size = fields.count("index_n_heads"), fields.count("index_head_dim")
    weights = linear(f"{place}.wq_b", ATTENTION, heads * size, fields.count("q_lora_rank"))
    weights += (*linear(f"{place}.wk", ATTENTION, size, fields.hidden), vector(f"{place}.k_norm", ATTENTION, 2 * size))
    weights += linear(f"{place}.weights_proj", ATTENTION, heads, fields.hidden)
    indexer = Cache("indexer", 1, size, number_bytes=INDEXER_BYTES_PER_NUMBER)
    return Layer(base.weights + weights, base.cache, more_caches=(indexer,))


def falcon(fields: Fields, index: int, prefix: str) -> Layer:
    """Falcon: `num_kv_heads` counts only with the new decoder architecture; else `multi_query` means one."""
    kv_heads = fields.heads
    if fields.flag("new_decoder_architecture"):
        kv_heads = fields.count("num_key_value_heads", fields.heads)
    elif fields.flag("multi_query", True):
        kv_heads = 1
    bias = fields.flag("bias")
    shape = (fields.heads, kv_heads, fields.hidden // fields.heads)
    return grouped(bias=bias, heads=lambda _fields, _layer: shape, fused="query_key_value", name="self_attention")(fields, index, prefix)


def options(name: str, value: Any) -> Callable[[Fields, int], tuple[int, int, int]]:
    """Heads of a model that keeps its key-value heads in a nested object, as MPT and DBRX do in `attn_config`."""

    def heads(fields: Fields, _layer: int) -> tuple[int, int, int]:
        nested = fields.part(name)
        found = nested.count(value, fields.heads) if nested else fields.heads
        return fields.heads, found, fields.head_size

    return heads
