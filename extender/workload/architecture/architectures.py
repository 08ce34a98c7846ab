"""DECODERS: the known architectures by `model_type`. A row states how the architecture differs from Llama. Pure.

Sources: configuration and modelling files of Hugging Face transformers 4.57 and 5, and of the publishers' own repositories.
"""

from __future__ import annotations

from typing import Any

from extender.workload.architecture import gemma
from extender.workload.architecture.attention import (
    by_layer_type,
    every_layer,
    falcon,
    grouped,
    latent,
    llama4_window,
    one_full_in,
    options,
    qwen_window,
    sparse_latent,
)
from extender.workload.architecture.families import Decoder, predicted, transformer
from extender.workload.architecture.feed_forward import (
    FeedForward,
    after_first_dense,
    by_interval,
    by_sparse_step,
    dense,
    interleaved,
    mixture,
    shared_count,
    shared_width,
)
from extender.workload.architecture.hybrids import HYBRIDS
from extender.workload.architecture.recurrent import Mixer
from extender.workload.checkpoint.config_fields import Fields
from extender.workload.structure import ATTENTION, DENSE, Layer, Weight, vector

_LLAMA_SIZES = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
}
_MISTRAL_SIZES = {**_LLAMA_SIZES, "intermediate_size": 14336, "num_key_value_heads": 8}
_GEMMA3 = {
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "vocab_size": 262208,
    "sliding_window": 4096,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "max_position_embeddings": 131072,
}
_PREDICTED = predicted("num_nextn_predict_layers")
_WITH_COPIES = predicted("num_nextn_predict_layers", copies=True)
_DEEPSEEK: FeedForward = mixture(chosen=after_first_dense, shared=shared_count)


def _flagged(name: str, **more: Any) -> Mixer:
    """Attention with a bias on queries, keys and values if the field `name` is true, and no bias on the output."""
    return lambda fields, index, prefix: grouped(bias=fields.flag(name), output_bias=False, **more)(fields, index, prefix)


def _normed(name: str, how: str, **more: Any) -> Mixer:
    """Attention that normalises queries and keys in the way `how` if the field `name` is true."""
    return lambda fields, index, prefix: grouped(qk_norm=how if fields.flag(name) else "", **more)(fields, index, prefix)


def _multi_query(fields: Fields, _layer: int) -> tuple[int, int, int]:
    return fields.heads, 1 if fields.flag("multi_query", True) else fields.heads, fields.head_size


def _mpt_mlp(fields: Fields, _layer: int) -> int:
    return int(fields.number("expansion_ratio", 4) * fields.hidden)


def _half(fields: Fields, _layer: int) -> int:
    return fields.inner // 2


def _nested_experts(fields: Fields, index: int, prefix: str) -> tuple[Weight, ...]:
    """DBRX: the sizes of the experts are in `ffn_config`."""
    nested = fields.part("ffn_config") or Fields({})
    sizes = {
        "num_experts": nested.count("moe_num_experts", 4),
        "num_experts_per_tok": nested.count("moe_top_k", 1),
        "moe_intermediate_size": nested.count("ffn_hidden_size", 3584),
        "hidden_size": fields.hidden,
    }
    return mixture()(Fields(sizes), index, prefix)


def _nas_block(fields: Fields, index: int, prefix: str) -> list[Layer]:
    """Llama-Nemotron, found by neural architecture search: `block_configs` states the parts of each layer."""
    listed = fields.items("block_configs")
    config = Fields(listed[index]) if index < len(listed) and isinstance(listed[index], dict) else Fields({})
    attention, feed = config.part("attention") or Fields({}), config.part("ffn") or Fields({})
    layers: list[Layer] = []
    if attention.flag("replace_with_linear"):
        layers.append(Layer((Weight(f"{prefix}.self_attn.linear", ATTENTION, fields.hidden, fields.hidden),)))
    elif not attention.flag("no_op"):
        shape = (fields.heads, fields.heads // attention.count("n_heads_in_group"), fields.hidden // fields.heads)
        layers.append(grouped(heads=lambda _fields, _layer: shape)(fields, index, prefix))
    if feed.flag("replace_with_linear"):
        layers.append(Layer((Weight(f"{prefix}.mlp.linear", DENSE, fields.hidden, fields.hidden),)))
    elif not feed.flag("no_op"):
        inner = int(2 * feed.number("ffn_mult", 8 / 3 * 1.5) * fields.hidden / 3)
        width = -(-inner // 256) * 256
        layers.append(Layer(dense(width=lambda _fields, _layer: width)(fields, index, prefix)))
    return layers


def _mllama_block(fields: Fields, index: int, prefix: str) -> list[Layer]:
    """Llama 3.2 Vision: layers in `cross_attention_layers` attend to the image, so they have no KV cache per token of text."""
    layers = transformer()(fields, index, prefix)
    if index not in fields.items("cross_attention_layers"):
        return layers
    attention = (*layers[0].weights, vector(f"{prefix}.cross_attn.norms_gates", ATTENTION, 2 * fields.head_size + 2))
    return [Layer(attention), *layers[1:]]


_LLAMA = Decoder(transformer(), sizes=_LLAMA_SIZES)
_BIASED = transformer(grouped(bias=True), dense(gated=False, bias=True), biased=True)

DECODERS: dict[str, Decoder] = {
    **HYBRIDS,
    **dict.fromkeys(("llama", "granite", "smollm3", "exaone", "minicpm", "internlm", "helium", "ministral3", "Yi", "aquila"), _LLAMA),
    "mistral": Decoder(transformer(grouped(window=every_layer)), sizes=_MISTRAL_SIZES),
    "ministral": Decoder(transformer(grouped(window=every_layer)), sizes=_MISTRAL_SIZES),
    "mixtral": Decoder(transformer(grouped(window=every_layer), mixture(name="block_sparse_moe"))),
    "granitemoe": Decoder(transformer(grouped(), mixture(name="block_sparse_moe")), tied=True),
    "granitemoeshared": Decoder(
        transformer(grouped(), mixture(name="block_sparse_moe", shared=shared_width("shared_intermediate_size"))), tied=True
    ),
    "internlm2": Decoder(transformer(_flagged("bias", fused="wqkv"))),
    "internlm3": Decoder(transformer(_flagged("qkv_bias"))),
    "baichuan": Decoder(transformer(grouped(bias=False, fused="W_pack"))),
    "qwen": Decoder(transformer(grouped(bias=True, output_bias=False, fused="c_attn"), dense(width=_half))),
    "qwen2": Decoder(
        transformer(grouped(bias=True, output_bias=False, window=qwen_window)),
        sizes={**_LLAMA_SIZES, "intermediate_size": 22016, "vocab_size": 151936, "num_key_value_heads": 32},
    ),
    "qwen3": Decoder(transformer(grouped(qk_norm="head", window=qwen_window))),
    "qwen2_moe": Decoder(
        transformer(
            grouped(bias=True, output_bias=False, window=qwen_window),
            mixture(chosen=by_sparse_step, shared=shared_width(), shared_gate=True),
        )
    ),
    "qwen3_moe": Decoder(transformer(grouped(qk_norm="head", window=qwen_window), mixture(chosen=by_sparse_step))),
    "mimo": Decoder(transformer(grouped(bias=True, output_bias=False)), prediction=_PREDICTED),
    "seed_oss": Decoder(transformer(grouped(output_bias=False))),
    "ernie4_5": Decoder(transformer(_flagged("use_bias")), tied=True),
    "ernie4_5_moe": Decoder(
        transformer(_flagged("use_bias"), mixture(chosen=by_interval, shared=shared_count)), tied=True, prediction=_PREDICTED
    ),
    "hunyuan_v1_dense": Decoder(transformer(grouped(qk_norm="head"))),
    "hunyuan_v1_moe": Decoder(transformer(grouped(qk_norm="head"), mixture(shared=shared_count))),
    "exaone4": Decoder(transformer(grouped(qk_norm="head", window=one_full_in(4)))),
    "arcee": Decoder(transformer(grouped(), dense(gated=False, bias=None))),
    "apertus": Decoder(transformer(grouped(qk_norm="head"), dense(gated=False))),
    "nemotron": Decoder(transformer(grouped(), dense(gated=False, bias=None), biased=True)),
    "olmo": Decoder(transformer(count=0)),
    "olmo2": Decoder(transformer(grouped(qk_norm="full"))),
    "olmo3": Decoder(transformer(grouped(qk_norm="full", window=one_full_in(4)))),
    "olmoe": Decoder(transformer(grouped(qk_norm="full"), mixture())),
    "stablelm": Decoder(transformer(_flagged("use_qkv_bias"), biased=True)),
    "starcoder2": Decoder(transformer(grouped(bias=True, window=every_layer), dense(gated=False, bias=True), biased=True), tied=True),
    "cohere": Decoder(transformer(_normed("use_qk_norm", "full"), count=1), tied=True),
    "cohere2": Decoder(transformer(grouped(window=one_full_in(4)), count=1), tied=True, defaults={"sliding_window": 4096}),
    "gemma": Decoder(
        transformer(), tied=True, sizes={**_LLAMA_SIZES, "hidden_size": 3072, "vocab_size": 256000}, defaults={"head_dim": 256}
    ),
    "gemma2": Decoder(
        transformer(grouped(window=one_full_in(2)), count=4),
        tied=True,
        defaults={"head_dim": 256, "sliding_window": 4096},
        sizes={"num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 256000},
    ),
    "gemma3_text": Decoder(transformer(grouped(qk_norm="head", window=one_full_in(6)), count=4), tied=True, defaults=_GEMMA3),
    "phi": Decoder(transformer(grouped(bias=True), dense(gated=False, bias=True), count=1, biased=True), head_bias=True),
    "phi3": Decoder(transformer(grouped(fused="qkv_proj", window=every_layer))),
    "phimoe": Decoder(transformer(grouped(window=every_layer), mixture(name="block_sparse_moe"), biased=True), head_bias=True),
    "falcon": Decoder(
        lambda fields, index, prefix: transformer(
            falcon,
            dense(gated=False, bias=fields.flag("bias")),
            2 if fields.flag("new_decoder_architecture") else 1,
            True,
        )(fields, index, prefix),
        tied=True,
    ),
    "bloom": Decoder(_BIASED, tied=True),
    "opt": Decoder(_BIASED, tied=True, positions=2),
    "gpt2": Decoder(_BIASED, tied=True, positions=0),
    "gpt_neox": Decoder(_BIASED),
    "gptj": Decoder(transformer(grouped(bias=False), dense(gated=False, bias=True), count=1, biased=True), head_bias=True),
    "gpt_bigcode": Decoder(
        transformer(grouped(bias=True, heads=_multi_query), dense(gated=False, bias=True), biased=True), tied=True, positions=0
    ),
    "mpt": Decoder(
        transformer(grouped(bias=False, heads=options("attn_config", "kv_n_heads"), fused="Wqkv"), dense(gated=False, width=_mpt_mlp)),
        tied=True,
    ),
    "dbrx": Decoder(
        transformer(grouped(bias=False, heads=options("attn_config", "kv_n_heads"), fused="Wqkv"), _nested_experts, biased=False)
    ),
    "chatglm": Decoder(transformer(_flagged("add_qkv_bias", fused="query_key_value"))),
    "glm": Decoder(transformer(grouped(output_bias=False))),
    "glm4": Decoder(transformer(grouped(output_bias=False), count=4)),
    "glm4_moe": Decoder(transformer(_normed("use_qk_norm", "head", output_bias=False), _DEEPSEEK), prediction=_WITH_COPIES),
    "glm4_moe_lite": Decoder(transformer(latent, _DEEPSEEK), prediction=_WITH_COPIES),
    "glm_moe_dsa": Decoder(transformer(sparse_latent, _DEEPSEEK), prediction=_WITH_COPIES),
    "deepseek": Decoder(transformer(grouped(), _DEEPSEEK)),
    "deepseek_v2": Decoder(transformer(latent, _DEEPSEEK)),
    "deepseek_v3": Decoder(transformer(latent, _DEEPSEEK), prediction=_WITH_COPIES),
    "deepseek_v32": Decoder(transformer(sparse_latent, _DEEPSEEK), prediction=_WITH_COPIES),
    "kimi_k2": Decoder(transformer(latent, _DEEPSEEK), prediction=_WITH_COPIES),
    "minicpm3": Decoder(transformer(latent), tied=True),
    "dots1": Decoder(transformer(grouped(qk_norm="head"), _DEEPSEEK)),
    "bailing_moe": Decoder(transformer(_flagged("use_qkv_bias", fused="query_key_value"), _DEEPSEEK)),
    "bailing_moe_v2": Decoder(
        transformer(_normed("use_qk_norm", "head", fused="query_key_value", output_bias=False), _DEEPSEEK), prediction=_PREDICTED
    ),
    "minimax_m2": Decoder(transformer(_normed("use_qk_norm", "full"), mixture(name="block_sparse_moe"))),
    "gpt_oss": Decoder(
        transformer(grouped(bias=True, sinks=True, window=one_full_in(2)), mixture(bias=True, router_bias=True)),
        defaults={"sliding_window": 128},
    ),
    "llama4_text": Decoder(
        transformer(
            grouped(window=llama4_window),
            mixture(
                chosen=interleaved,
                width="intermediate_size",
                shared=lambda fields: fields.inner,
                name="feed_forward",
                otherwise=dense(width=lambda fields, _layer: fields.count("intermediate_size_mlp", fields.inner), name="feed_forward"),
            ),
        ),
        defaults={"head_dim": 128, "attention_chunk_size": 8192, "num_experts_per_tok": 1},
    ),
    "gemma4_text": Decoder(gemma.block, tied=True, defaults=gemma.GEMMA4, tables=gemma.per_layer_tables),
    "nemotron-nas": Decoder(_nas_block),
    "exaone_moe": Decoder(transformer(grouped(qk_norm="head", window=by_layer_type), _DEEPSEEK), prediction=_PREDICTED),
    **dict.fromkeys(("hy_v3", "solar_open", "sarvam_moe"), Decoder(transformer(grouped(qk_norm="head"), _DEEPSEEK), prediction=_PREDICTED)),
    **dict.fromkeys(("youtu", "axk1", "sarvam_mla"), Decoder(transformer(latent, _DEEPSEEK), prediction=_PREDICTED)),
    **dict.fromkeys(("cwm", "granite_swa"), Decoder(transformer(grouped(window=by_layer_type)))),
    "mllama_text_model": Decoder(_mllama_block, extra_embeddings=8),
}
"""model_type -> decoder."""
