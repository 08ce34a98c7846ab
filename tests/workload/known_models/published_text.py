"""Published models of text whose layers all attend; the sources are those of `published`."""

from __future__ import annotations

from tests.workload.known_models.published_fields import Published, decoder

MXFP4 = {
    "quant_method": "mxfp4",
    "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
}
FP8_BLOCKS = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
GPT_OSS = {"head_dim": 64, "num_experts_per_tok": 4, "sliding_window": 128, "attention_bias": True, "quantization_config": MXFP4}
QWEN3_MOE = {"head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": []}
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
FALCON = {"model_type": "falcon", "vocab_size": 65024, "parallel_attn": True, "bias": False, "torch_dtype": "bfloat16"}
GLM = {"head_dim": 128, "attention_bias": True, "n_shared_experts": 1, "num_experts_per_tok": 8, "num_nextn_predict_layers": 1}

PUBLISHED_TEXT: dict[str, Published] = {
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
