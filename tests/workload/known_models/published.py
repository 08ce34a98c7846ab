"""Published models: the fields of their config.json that sizes depend on, the bytes of their safetensors, and the KV cache of a token.

Sources, by letter in `Published.source`:
index   `metadata.total_size` of the model.safetensors.index.json beside the config.json, from memory
card    the number of parameters on the model's Hugging Face page ("Safetensors, model size"), from memory, times the width of its dtype
round   the size that the page or the publisher states, rounded
KV bytes per token and state are worked out by hand from the layer counts in the last column's comment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Published:
    config: dict[str, Any]
    weights_bytes: int
    source: str
    kv_bytes_per_token: int
    """Over all layers, while no window is full."""
    kv_bytes_beyond_windows: int | None = None
    """Of each further token once every window is full; None: the same."""
    state_bytes: int = 0


def decoder(kind: str, hidden: int, layers: int, heads: int, kv_heads: int, inner: int, vocabulary: int, **more: Any) -> dict[str, Any]:
    shape = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads}
    return {
        "model_type": kind,
        **shape,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "torch_dtype": "bfloat16",
        "tie_word_embeddings": False,
        **more,
    }


def multimodal(kind: str, text: dict[str, Any], vision: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model_type": kind, "torch_dtype": "bfloat16", "text_config": text, "vision_config": vision, **more}


MXFP4 = {
    "quant_method": "mxfp4",
    "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
}
FP8_BLOCKS = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
GPT_OSS = {"head_dim": 64, "num_experts_per_tok": 4, "sliding_window": 128, "attention_bias": True, "quantization_config": MXFP4}
QWEN3_MOE = {"head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": []}
LLAMA4_VISION = {
    "model_type": "llama4_vision_model",
    "hidden_size": 1408,
    "intermediate_size": 5632,
    "num_hidden_layers": 34,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projector_input_dim": 4096,
    "projector_output_dim": 4096,
    "vision_output_dim": 4096,
}
LLAMA4 = {"head_dim": 128, "intermediate_size_mlp": 16384, "num_experts_per_tok": 1, "attention_chunk_size": 8192}
SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "image_size": 896,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "num_hidden_layers": 27,
    "patch_size": 14,
    "vision_use_head": False,
}
QWEN25_VISION = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "in_chans": 3,
}
LATENT = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}
DEEPSEEK3 = {
    **LATENT,
    "q_lora_rank": 1536,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "quantization_config": FP8_BLOCKS,
}
DEEPSEEK2 = {**LATENT, "n_shared_experts": 2, "num_experts_per_tok": 6, "first_k_dense_replace": 1, "moe_layer_freq": 1}
JAMBA = {
    "attn_layer_offset": 4,
    "attn_layer_period": 8,
    "expert_layer_offset": 1,
    "expert_layer_period": 2,
    "num_experts": 16,
    "num_experts_per_tok": 2,
    "mamba_d_state": 16,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
}
NEMOTRON_H = {
    "head_dim": 128,
    "ssm_state_size": 128,
    "n_groups": 8,
    "conv_kernel": 4,
    "expand": 2,
    "use_conv_bias": True,
    "use_bias": False,
}
FALCON = {"model_type": "falcon", "vocab_size": 65024, "parallel_attn": True, "bias": False, "torch_dtype": "bfloat16"}
GLM = {"head_dim": 128, "attention_bias": True, "n_shared_experts": 1, "num_experts_per_tok": 8, "num_nextn_predict_layers": 1}

PUBLISHED: dict[str, Published] = {
    "Meta-Llama-3.1-8B": Published(decoder("llama", 4096, 32, 32, 8, 14336, 128256), 16060522496, "index", 2 * 32 * 8 * 128 * 2),
    "Meta-Llama-3.1-70B": Published(decoder("llama", 8192, 80, 64, 8, 28672, 128256), 141107412992, "index", 2 * 80 * 8 * 128 * 2),
    "Mistral-7B-v0.1": Published(
        decoder("mistral", 4096, 32, 32, 8, 14336, 32000, sliding_window=4096), 14483464192, "index", 2 * 32 * 8 * 128 * 2, 0
    ),
    "Mixtral-8x7B-v0.1": Published(
        decoder("mixtral", 4096, 32, 32, 8, 14336, 32000, num_local_experts=8, num_experts_per_tok=2), 93405585408, "index", 131072
    ),
    "Qwen2.5-7B": Published(decoder("qwen2", 3584, 28, 28, 4, 18944, 152064), 15231233024, "index", 2 * 28 * 4 * 128 * 2),
    "Qwen2.5-72B": Published(decoder("qwen2", 8192, 80, 64, 8, 29568, 152064), 145412407296, "index", 2 * 80 * 8 * 128 * 2),
    "Qwen3-0.6B": Published(
        decoder("qwen3", 1024, 28, 16, 8, 3072, 151936, head_dim=128, tie_word_embeddings=True), 1192099840, "card", 2 * 28 * 8 * 128 * 2
    ),
    "Qwen3-8B": Published(decoder("qwen3", 4096, 36, 32, 8, 12288, 151936, head_dim=128), 16381470720, "index", 2 * 36 * 8 * 128 * 2),
    "Qwen3-32B": Published(decoder("qwen3", 5120, 64, 64, 8, 25600, 151936, head_dim=128), 65524246528, "index", 2 * 64 * 8 * 128 * 2),
    "Qwen3-30B-A3B": Published(
        decoder("qwen3_moe", 2048, 48, 32, 4, 6144, 151936, moe_intermediate_size=768, **QWEN3_MOE),
        61064245248,
        "index",
        2 * 48 * 4 * 128 * 2,
    ),
    "Qwen3-235B-A22B": Published(
        decoder("qwen3_moe", 4096, 94, 64, 4, 12288, 151936, moe_intermediate_size=1536, **QWEN3_MOE),
        470187269120,
        "index",
        2 * 94 * 4 * 256,
    ),
    "gpt-oss-20b": Published(  # half the layers keep 128 tokens
        decoder("gpt_oss", 2880, 24, 64, 8, 2880, 201088, num_local_experts=32, **GPT_OSS), 13761264768, "index", 24 * 2048, 12 * 2048
    ),
    "gpt-oss-120b": Published(
        decoder("gpt_oss", 2880, 36, 64, 8, 2880, 201088, num_local_experts=128, **GPT_OSS), 65248815744, "index", 36 * 2048, 18 * 2048
    ),
    "Llama-4-Scout-17B-16E": Published(  # 36 of 48 layers keep one chunk
        multimodal(
            "llama4",
            decoder("llama4_text", 5120, 48, 40, 8, 8192, 202048, num_local_experts=16, interleave_moe_layer_step=1, **LLAMA4),
            LLAMA4_VISION,
        ),
        217283587072,
        "card",
        48 * 4096,
        12 * 4096,
    ),
    "Llama-4-Maverick-17B-128E": Published(
        multimodal(
            "llama4",
            decoder("llama4_text", 5120, 48, 40, 8, 8192, 202048, num_local_experts=128, interleave_moe_layer_step=2, **LLAMA4),
            LLAMA4_VISION,
        ),
        803167562752,
        "card",
        48 * 4096,
        12 * 4096,
    ),
    "gemma-2-9b": Published(
        decoder("gemma2", 3584, 42, 16, 8, 14336, 256000, head_dim=256, sliding_window=4096, tie_word_embeddings=True),
        18483411968,
        "card",
        42 * 8192,
        21 * 8192,
    ),
    "gemma-3-1b": Published(
        {
            k: v
            for k, v in decoder("gemma3_text", 1152, 26, 4, 1, 6912, 262144, head_dim=256, sliding_window=512).items()
            if k != "tie_word_embeddings"
        },
        1999771392,
        "card",
        26 * 1024,
        4 * 1024,
    ),
    "gemma-3-4b": Published(  # heads, key-value heads, head size and vocabulary are omitted in the published file
        multimodal(
            "gemma3",
            {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024},
            SIGLIP,
        ),
        8600158944,
        "card",
        34 * 4096,
        5 * 4096,
    ),
    "gemma-3-27b": Published(
        multimodal(
            "gemma3",
            {
                "model_type": "gemma3_text",
                "hidden_size": 5376,
                "intermediate_size": 21504,
                "num_hidden_layers": 62,
                "num_attention_heads": 32,
                "num_key_value_heads": 16,
                "head_dim": 128,
                "sliding_window": 1024,
            },
            SIGLIP,
        ),
        54864813280,
        "card",
        62 * 8192,
        10 * 8192,
    ),
    "Qwen2-VL-7B": Published(
        decoder(
            "qwen2_vl",
            3584,
            28,
            28,
            4,
            18944,
            152064,
            vision_config={
                "depth": 32,
                "embed_dim": 1280,
                "hidden_size": 3584,
                "mlp_ratio": 4,
                "num_heads": 16,
                "patch_size": 14,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
            },
        ),
        16582751232,
        "index",
        28 * 2048,
    ),
    "Qwen2.5-VL-3B": Published(
        decoder("qwen2_5_vl", 2048, 36, 16, 2, 11008, 151936, tie_word_embeddings=True, vision_config=QWEN25_VISION),
        7509245952,
        "index",
        36 * 1024,
    ),
    "Qwen2.5-VL-7B": Published(
        decoder("qwen2_5_vl", 3584, 28, 28, 4, 18944, 152064, vision_config=QWEN25_VISION, use_sliding_window=False, sliding_window=32768),
        16584333312,
        "index",
        28 * 2048,
    ),
    "Qwen2.5-VL-72B": Published(
        decoder("qwen2_5_vl", 8192, 80, 64, 8, 29568, 152064, vision_config={**QWEN25_VISION, "intermediate_size": 3456}),
        146821554688,
        "index",
        80 * 4096,
    ),
    "Llama-3.2-11B-Vision": Published(
        multimodal(
            "mllama",
            decoder("mllama_text_model", 4096, 40, 32, 8, 14336, 128256, cross_attention_layers=[3, 8, 13, 18, 23, 28, 33, 38]),
            {
                "model_type": "mllama_vision_model",
                "hidden_size": 1280,
                "intermediate_size": 5120,
                "num_hidden_layers": 32,
                "num_global_layers": 8,
                "image_size": 560,
                "patch_size": 14,
                "max_num_tiles": 4,
                "vision_output_dim": 7680,
                "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
            },
        ),
        21340441670,
        "card",
        32 * 4096,
    ),
    "Mistral-Small-3.1-24B": Published(
        multimodal(
            "mistral3",
            decoder("mistral", 5120, 40, 32, 8, 32768, 131072, head_dim=128),
            {
                "model_type": "pixtral",
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "patch_size": 14,
                "image_size": 1540,
                "head_dim": 64,
            },
        ),
        48022792192,
        "card",
        40 * 4096,
    ),
    "Qwen3-Next-80B-A3B": Published(  # 12 layers attend; 36 keep 8192 x 3 and 32 x 128 x 128 numbers
        decoder(
            "qwen3_next",
            2048,
            48,
            16,
            2,
            5120,
            151936,
            head_dim=256,
            num_experts=512,
            num_experts_per_tok=10,
            moe_intermediate_size=512,
            shared_expert_intermediate_size=512,
            linear_conv_kernel_dim=4,
            linear_key_head_dim=128,
            linear_num_key_heads=16,
            linear_num_value_heads=32,
            linear_value_head_dim=128,
            full_attention_interval=4,
            decoder_sparse_step=1,
            mlp_only_layers=[],
        ),
        162649725440,
        "card",
        12 * 2048,
        state_bytes=36 * (8192 * 3 + 32 * 128 * 128) * 2,
    ),
    "falcon-7b": Published(  # one key-value head of 64 numbers
        {
            **FALCON,
            "hidden_size": 4544,
            "num_hidden_layers": 32,
            "num_attention_heads": 71,
            "multi_query": True,
            "new_decoder_architecture": False,
        },
        13843441408,
        "card",
        32 * 2 * 64 * 2,
    ),
    "falcon-40b": Published(
        {
            **FALCON,
            "hidden_size": 8192,
            "num_hidden_layers": 60,
            "num_attention_heads": 128,
            "num_kv_heads": 8,
            "new_decoder_architecture": True,
        },
        83670409216,
        "index",
        60 * 2 * 8 * 64 * 2,
    ),
    "falcon-180b": Published(
        {
            **FALCON,
            "hidden_size": 14848,
            "num_hidden_layers": 80,
            "num_attention_heads": 232,
            "num_kv_heads": 8,
            "new_decoder_architecture": True,
        },
        359045130240,
        "card",
        80 * 2 * 8 * 64 * 2,
    ),
    "Jamba-v0.1": Published(  # 4 layers attend; 28 keep 8192 x 3 and 8192 x 16 numbers
        decoder("jamba", 4096, 32, 32, 8, 14336, 65536, mamba_dt_rank=256, **JAMBA),
        103140646656,
        "card",
        4 * 4096,
        state_bytes=28 * (8192 * 3 + 8192 * 16) * 2,
    ),
    "AI21-Jamba-1.5-Large": Published(
        decoder("jamba", 8192, 72, 64, 8, 24576, 65536, mamba_dt_rank=512, **JAMBA),
        797_000_000_000,
        "round",
        9 * 4096,
        state_bytes=63 * (16384 * 3 + 16384 * 16) * 2,
    ),
    "Nemotron-H-8B": Published(  # 4 layers attend; 24 keep (8192 + 2 x 8 x 128) x 3 and 128 x 64 x 128 numbers
        decoder(
            "nemotron_h",
            4096,
            52,
            32,
            8,
            21504,
            131072,
            mamba_num_heads=128,
            mamba_head_dim=64,
            hybrid_override_pattern="M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
            **NEMOTRON_H,
        ),
        16_202_000_000,
        "round",
        4 * 4096,
        state_bytes=24 * (10240 * 3 + 128 * 64 * 128) * 2,
    ),
    "NVIDIA-Nemotron-Nano-9B-v2": Published(
        decoder(
            "nemotron_h",
            4480,
            56,
            40,
            8,
            15680,
            131072,
            mamba_num_heads=128,
            mamba_head_dim=80,
            hybrid_override_pattern="M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-",
            **NEMOTRON_H,
        ),
        17776454656,
        "card",
        4 * 4096,
        state_bytes=27 * (12288 * 3 + 128 * 80 * 128) * 2,
    ),
    "NVIDIA-Nemotron-3-Nano-30B-A3B": Published(
        decoder(
            "nemotron_h",
            2688,
            52,
            32,
            2,
            1856,
            131072,
            mamba_num_heads=64,
            mamba_head_dim=64,
            n_routed_experts=128,
            n_shared_experts=1,
            num_experts_per_tok=6,
            moe_intermediate_size=1856,
            moe_shared_expert_intermediate_size=3712,
            hybrid_override_pattern="MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
            **NEMOTRON_H,
        ),
        63155874688,
        "card",
        6 * 1024,
        state_bytes=23 * (6144 * 3 + 64 * 64 * 128) * 2,
    ),
    "granite-4.0-h-small": Published(
        decoder(
            "granitemoehybrid",
            4096,
            40,
            32,
            8,
            768,
            100352,
            tie_word_embeddings=True,
            num_local_experts=72,
            num_experts_per_tok=10,
            shared_intermediate_size=1536,
            mamba_n_heads=128,
            mamba_d_head=64,
            mamba_d_state=128,
            mamba_n_groups=1,
            mamba_d_conv=4,
            mamba_expand=2,
            layer_types=["attention" if layer in (5, 15, 25, 35) else "mamba" for layer in range(40)],
        ),
        64_400_000_000,
        "round",
        4 * 4096,
        state_bytes=36 * (8448 * 3 + 128 * 64 * 128) * 2,
    ),
    "Mamba-Codestral-7B-v0.1": Published(
        {
            "model_type": "mamba2",
            "hidden_size": 4096,
            "num_hidden_layers": 64,
            "num_heads": 128,
            "head_dim": 64,
            "state_size": 128,
            "n_groups": 8,
            "conv_kernel": 4,
            "expand": 2,
            "vocab_size": 32768,
            "use_bias": False,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
        },
        14570807296,
        "card",
        0,
        state_bytes=64 * (10240 * 3 + 128 * 64 * 128) * 2,
    ),
    "falcon-mamba-7b": Published(
        {
            "model_type": "falcon_mamba",
            "hidden_size": 4096,
            "intermediate_size": 8192,
            "num_hidden_layers": 64,
            "state_size": 16,
            "conv_kernel": 4,
            "time_step_rank": 256,
            "vocab_size": 65024,
            "use_bias": False,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
        },
        14545330176,
        "card",
        0,
        state_bytes=64 * (8192 * 3 + 8192 * 16) * 2,
    ),
    "MiniMax-Text-01": Published(  # 10 layers attend; 70 keep 64 x 128 x 128 numbers
        decoder(
            "minimax_text_01",
            6144,
            80,
            64,
            8,
            9216,
            200064,
            head_dim=128,
            num_local_experts=32,
            num_experts_per_tok=2,
            attn_type_list=[0, 0, 0, 0, 0, 0, 0, 1] * 10,
        ),
        912179310592,
        "card",
        10 * 4096,
        state_bytes=70 * 64 * 128 * 128 * 2,
    ),
    "MiniMax-M2": Published(
        decoder(
            "minimax_m2",
            3072,
            62,
            48,
            8,
            1536,
            200064,
            head_dim=128,
            num_local_experts=256,
            num_experts_per_tok=8,
            use_qk_norm=True,
            quantization_config={**FP8_BLOCKS, "modules_to_not_convert": ["gate", "e_score_correction_bias", "lm_head"]},
        ),
        230_000_000_000,
        "round",
        62 * 4096,
    ),
    "DeepSeek-V2-Lite": Published(  # a latent of 512 and a rotary key of 64 numbers per layer
        decoder(
            "deepseek_v2", 2048, 27, 16, 16, 10944, 102400, q_lora_rank=None, n_routed_experts=64, moe_intermediate_size=1408, **DEEPSEEK2
        ),
        31412968448,
        "card",
        27 * 576 * 2,
    ),
    "DeepSeek-V2": Published(
        decoder(
            "deepseek_v2",
            5120,
            60,
            128,
            128,
            12288,
            102400,
            q_lora_rank=1536,
            n_routed_experts=160,
            moe_intermediate_size=1536,
            **DEEPSEEK2,
        ),
        471482869760,
        "card",
        60 * 576 * 2,
    ),
    "DeepSeek-V3": Published(
        decoder(
            "deepseek_v3",
            7168,
            61,
            128,
            128,
            18432,
            129280,
            n_routed_experts=256,
            first_k_dense_replace=3,
            num_nextn_predict_layers=1,
            **DEEPSEEK3,
        ),
        688586727753,
        "index",
        61 * 576 * 2,
    ),
    "Kimi-K2-Instruct": Published(
        decoder(
            "kimi_k2",
            7168,
            61,
            64,
            64,
            18432,
            163840,
            n_routed_experts=384,
            first_k_dense_replace=1,
            num_nextn_predict_layers=0,
            **DEEPSEEK3,
        ),
        1029173256720,
        "index",
        61 * 576 * 2,
    ),
    "GLM-4.5-Air": Published(
        decoder(
            "glm4_moe", 4096, 46, 96, 8, 10944, 151552, n_routed_experts=128, moe_intermediate_size=1408, first_k_dense_replace=1, **GLM
        ),
        220_937_000_000,
        "card",
        46 * 4096,
    ),
    "GLM-4.5": Published(
        decoder(
            "glm4_moe",
            5120,
            92,
            96,
            8,
            12288,
            151552,
            n_routed_experts=160,
            moe_intermediate_size=1536,
            first_k_dense_replace=3,
            use_qk_norm=True,
            **GLM,
        ),
        716_675_000_000,
        "card",
        92 * 4096,
    ),
    "c4ai-command-r-v01": Published(
        {k: v for k, v in decoder("cohere", 8192, 40, 64, 64, 22528, 256000).items() if k != "tie_word_embeddings"},
        69961672704,
        "index",
        40 * 32768,
    ),
    "c4ai-command-a-03-2025": Published(  # one layer of four attends to everything
        decoder("cohere2", 12288, 64, 96, 8, 36864, 256000, head_dim=128, sliding_window=4096, tie_word_embeddings=True),
        222115160064,
        "card",
        64 * 4096,
        16 * 4096,
    ),
    "Phi-3-mini-4k": Published(
        decoder("phi3", 3072, 32, 32, 32, 8192, 32064, sliding_window=2047), 7642159104, "index", 32 * 2 * 3072 * 2, 0
    ),
    "phi-4": Published(decoder("phi3", 5120, 40, 40, 10, 17920, 100352, sliding_window=None), 29319014400, "index", 40 * 2 * 1280 * 2),
    "Meta-Llama-3.1-8B-Instruct-AWQ-INT4": Published(
        decoder(
            "llama",
            4096,
            32,
            32,
            8,
            14336,
            128256,
            quantization_config={
                "quant_method": "awq",
                "bits": 4,
                "group_size": 128,
                "zero_point": True,
                "version": "gemm",
                "modules_to_not_convert": None,
            },
        ),
        5727862784,
        "index",
        131072,
    ),
}
