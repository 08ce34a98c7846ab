"""A model's shape: how many parameters it has and what a token costs in KV cache.

Read from the fields of a Hugging Face `config.json` (transformers, `configuration_*.py`): dense decoders, mixtures of experts,
and multi-head latent attention (DeepSeek-V2 and V3), whose cache is one latent per token and layer instead of keys and values per head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

DTYPE_BYTES: dict[str, float] = {
    "float32": 4, "fp32": 4, "float16": 2, "fp16": 2, "half": 2, "bfloat16": 2, "bf16": 2,
    "fp8": 1, "float8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1, "int8": 1, "w8a8": 1, "fp4": 0.5, "nvfp4": 0.5, "mxfp4": 0.5, "int4": 0.5,
}  # fmt: skip
"""Bytes of one number."""

SCALES_SHARE: dict[float, float] = {0.5: 0.0625, 1: 0.002}
"""Bytes per number -> share added by scales and zero points: 4-bit formats keep 16 or 32 bits per group of 64 to 128 numbers,
8-bit ones a scale per channel or block of 128 x 128. Sources: the AWQ, GPTQ and OCP MX formats."""

QUANTIZATION_BYTES: dict[str, float] = {
    "awq": 0.5, "gptq": 0.5, "awq_marlin": 0.5, "gptq_marlin": 0.5, "bitsandbytes": 0.5, "mxfp4": 0.5, "nvfp4": 0.5, "modelopt_fp4": 0.5,
    "fp8": 1, "fbgemm_fp8": 1, "modelopt": 1, "compressed-tensors": 1, "w8a8": 1, "int8": 1, "bitsandbytes-int8": 1, "int4": 0.5,
}  # fmt: skip
"""Quantisation method, as serving engines call it -> bytes per weight of its usual width."""


Size = Annotated[int, Meta(ge=1, lt=1 << 40)]
Parameters = Annotated[int, Meta(ge=1, lt=1 << 50)]
Rest = Annotated[int, Meta(ge=0, lt=1 << 50)]
Width = Annotated[float, Meta(gt=0, le=16)]
"""Bytes of one number. Products of fields within these bounds are finite."""


class ModelError(ValueError):
    """A description that says too little, or contradicts itself; names the field."""


class ModelShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What memory depends on. Also the JSON of annotation `fabricwise.dev/model`."""

    layers: Size
    hidden_size: Size
    attention_heads: Size
    kv_heads: Size
    head_size: Size
    parameters: Parameters
    active_parameters: Parameters | None = None
    """Of a mixture of experts, those that one token uses."""
    embedding_parameters: Rest = 0
    """Of them, embeddings and output layer, which quantisation leaves alone."""
    intermediate_size: Rest = 0
    vocabulary: Rest = 0
    latent_size: Size | None = None
    """Numbers per token and layer of a latent KV cache (MLA), which tensor parallelism does not divide."""
    weight_bytes: Width = 2.0
    """Bytes per weight as published."""
    dtype_bytes: Width = 2.0
    """Of activations and the KV cache, unless told otherwise."""
    context: Size | None = None
    """Longest context."""
    name: Annotated[str, Meta(max_length=256)] | None = None

    def kv_bytes_per_token(self, bytes_per_number: float | None = None) -> float:
        """KV cache of one token, over all layers."""
        size = self.dtype_bytes if bytes_per_number is None else bytes_per_number
        if self.latent_size is not None:
            return self.layers * self.latent_size * size
        return 2 * self.layers * self.kv_heads * self.head_size * size


def from_config(config: Mapping[str, Any]) -> ModelShape:
    """A Hugging Face `config.json` -> shape. Raises ModelError naming the field that is missing or makes no sense."""
    outer = config
    if isinstance(config.get("text_config"), Mapping):
        config = {**config, **config["text_config"]}
    hidden, layers = _count(config, "hidden_size", "n_embd", "d_model"), _count(config, "num_hidden_layers", "n_layer", "n_layers")
    heads = _count(config, "num_attention_heads", "n_head", "n_heads")
    kv_heads = _count(config, "num_key_value_heads", "multi_query_group_num", default=heads)
    head_size = _count(config, "head_dim", default=hidden // heads)
    vocabulary = _count(config, "vocab_size")
    inner = _count(config, "intermediate_size", "n_inner", "ffn_dim", default=4 * hidden)
    if heads % kv_heads:
        raise ModelError(f"num_key_value_heads {kv_heads} does not divide num_attention_heads {heads}")
    latent = _count(config, "kv_lora_rank", default=0)
    attention = _latent_attention(config, hidden, heads, latent) if latent else hidden * head_size * (2 * heads + 2 * kv_heads)
    gates = 2 if str(config.get("model_type", "")) in ("gpt2", "gpt_neox", "opt", "phi", "falcon", "bloom") else 3
    dense = gates * hidden * inner
    experts, per_token, width, shared, first_dense = _experts(config, inner)
    expert = gates * hidden * width
    sparse_layers = max(0, layers - first_dense) if experts else 0
    router = hidden * experts
    mlps = (layers - sparse_layers) * dense + sparse_layers * ((experts + shared) * expert + router)
    used = (layers - sparse_layers) * dense + sparse_layers * ((per_token + shared) * expert + router)
    embeddings = vocabulary * hidden * (1 if _tied(config) else 2)
    rest = layers * (attention + 2 * hidden) + hidden
    dtype = str(config.get("torch_dtype") or config.get("dtype") or outer.get("torch_dtype") or "bfloat16")
    return ModelShape(
        layers, hidden, heads, kv_heads, head_size, embeddings + rest + mlps, embeddings + rest + used if experts else None,
        embeddings, inner, vocabulary, latent + _count(config, "qk_rope_head_dim", default=0) if latent else None,
        _quantised(config) or DTYPE_BYTES.get(dtype, 2.0), DTYPE_BYTES.get(dtype, 2.0),
        _count(config, "max_position_embeddings", "n_positions", "seq_length", default=0) or None, config.get("_name_or_path") or None,
    )  # fmt: skip


def _count(config: Mapping[str, Any], *names: str, default: int | None = None) -> int:
    for name in names:
        value = config.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 40:
            told = repr(value[:40]) if isinstance(value, str) else type(value).__name__
            if isinstance(value, int | float) and abs(value) < 1 << 64:
                told = repr(value)
            raise ModelError(f"{name} {told} is not a positive whole number")
        return value
    if default is None:
        raise ModelError(f"{names[0]} is missing")
    return default


def _latent_attention(config: Mapping[str, Any], hidden: int, heads: int, latent: int) -> int:
    """Source: DeepSeek-V3 technical report, section 2.1.1, and its `modeling_deepseek.py`."""
    rope, nope = _count(config, "qk_rope_head_dim"), _count(config, "qk_nope_head_dim")
    value, query_rank = _count(config, "v_head_dim"), _count(config, "q_lora_rank", default=0)
    queries = hidden * query_rank + query_rank * heads * (nope + rope) if query_rank else hidden * heads * (nope + rope)
    return queries + hidden * (latent + rope) + latent * heads * (nope + value) + heads * value * hidden


def _experts(config: Mapping[str, Any], inner: int) -> tuple[int, int, int, int, int]:
    """(experts, experts per token, width of one, shared ones, layers before the first sparse one)."""
    experts = _count(config, "num_local_experts", "n_routed_experts", "num_experts", default=0)
    if not experts:
        return 0, 0, 0, 0, 0
    width = _count(config, "moe_intermediate_size", default=inner)
    per_token = _count(config, "num_experts_per_tok", default=2)
    shared = config.get("n_shared_experts") or 0
    if not shared and config.get("shared_expert_intermediate_size"):
        shared = config["shared_expert_intermediate_size"] / width
    return experts, per_token, width, int(shared), config.get("first_k_dense_replace") or 0


def _tied(config: Mapping[str, Any]) -> bool:
    """transformers ties by default; the larger families say so themselves when they do not."""
    told = config.get("tie_word_embeddings")
    return bool(told) if told is not None else str(config.get("model_type", "")) in ("gemma", "gemma2", "gemma3_text", "gpt2")


def _quantised(config: Mapping[str, Any]) -> float | None:
    found = config.get("quantization_config")
    if not isinstance(found, Mapping):
        return None
    bits = found.get("bits")
    if isinstance(bits, int) and 1 < bits <= 16:
        return bits / 8
    return QUANTIZATION_BYTES.get(str(found.get("quant_method", "")))
