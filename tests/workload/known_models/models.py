"""Public models: `config.json` and published sizes, each with its source."""

from __future__ import annotations

from typing import Any


def llama(hidden: int, layers: int, heads: int, kv_heads: int, inner: int, vocabulary: int, **more: Any) -> dict[str, Any]:
    shape = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads}
    return {
        "model_type": "llama",
        **shape,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        **more,
    }


DEEPSEEK = {
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 2048,
    "first_k_dense_replace": 3,
    "quantization_config": {"quant_method": "fp8"},
}

CONFIGS: dict[str, dict[str, Any]] = {
    "Llama-3.1-8B": llama(4096, 32, 32, 8, 14336, 128256),
    "Llama-3.1-70B": llama(8192, 80, 64, 8, 28672, 128256),
    "Llama-3.1-405B": llama(16384, 126, 128, 8, 53248, 128256),
    "Llama-3.1-405B-MP16": llama(16384, 126, 128, 16, 53248, 128256),
    "Mistral-7B-v0.1": llama(4096, 32, 32, 8, 14336, 32000),
    "Mixtral-8x7B-v0.1": llama(4096, 32, 32, 8, 14336, 32000, model_type="mixtral", num_local_experts=8, num_experts_per_tok=2),
    "Qwen2.5-7B": llama(3584, 28, 28, 4, 18944, 152064, model_type="qwen2"),
    "Qwen2.5-72B": llama(8192, 80, 64, 8, 29568, 152064, model_type="qwen2"),
    "Gemma-2-9B": llama(3584, 42, 16, 8, 14336, 256000, head_dim=256, tie_word_embeddings=True, model_type="gemma2"),
    "DeepSeek-V3": llama(7168, 61, 128, 128, 18432, 129280, model_type="deepseek_v3", **DEEPSEEK),
}

PARAMETERS_BILLIONS = {
    # The model cards, "Params" as counted from the safetensors.
    "Llama-3.1-8B": 8.03,
    "Llama-3.1-70B": 70.6,
    "Llama-3.1-405B": 406,
    "Llama-3.1-405B-MP16": 410,
    "Mistral-7B-v0.1": 7.24,
    "Mixtral-8x7B-v0.1": 46.7,
    "Qwen2.5-7B": 7.62,
    "Qwen2.5-72B": 72.7,
    "Gemma-2-9B": 9.24,
    "DeepSeek-V3": 671,
}

WEIGHTS_GB = {
    # Hugging Face, "Llama 3.1 - 405B, 70B & 8B with multilinguality and long context": memory for inference, FP16 and FP8.
    ("Llama-3.1-8B", "bf16"): 16,
    ("Llama-3.1-70B", "bf16"): 140,
    ("Llama-3.1-70B", "fp8"): 70,
    ("Llama-3.1-405B", "bf16"): 810,
    ("Llama-3.1-405B", "fp8"): 405,
    # Sizes of published checkpoints, from memory: RedHatAI and hugging-quants (8-bit, AWQ), else the makers' own. Of quantised ones the
    # article just multiplies, which leaves out that embeddings and the output layer stay at 16 bits.
    ("Llama-3.1-8B", "fp8"): 9.1,
    ("Llama-3.1-70B", "int4"): 39.8,
    ("Mistral-7B-v0.1", "bf16"): 14.5,
    ("Mixtral-8x7B-v0.1", "bf16"): 93.4,
    ("Qwen2.5-7B", "bf16"): 15.2,
    ("Qwen2.5-72B", "bf16"): 145.4,
    ("Gemma-2-9B", "bf16"): 18.5,
    ("DeepSeek-V3", "fp8"): 671,
}

KV_CACHE_GIB = {
    # The same article: KV cache in FP16 at 1k, 16k and 128k tokens; the 405B as first uploaded, with 16 key-value heads.
    ("Llama-3.1-8B", 1024): 0.125,
    ("Llama-3.1-8B", 16384): 1.95,
    ("Llama-3.1-8B", 131072): 15.62,
    ("Llama-3.1-70B", 1024): 0.313,
    ("Llama-3.1-70B", 16384): 4.88,
    ("Llama-3.1-70B", 131072): 39.06,
    ("Llama-3.1-405B-MP16", 1024): 0.984,
    ("Llama-3.1-405B-MP16", 16384): 15.38,
    ("Llama-3.1-405B-MP16", 131072): 123.05,
    # DeepSeek-V2 paper: 70 KB per token for V3 (61 layers of 576 numbers, 16 bits).
    ("DeepSeek-V3", 131072): 8.58,
}
