"""More published models that read images too; the sources are those of `counted`."""

from __future__ import annotations

from typing import Any

from tests.workload.known_models.published_fields import decoder, multimodal

QWEN3_VISION = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "depth": 27,
    "patch_size": 16,
    "num_heads": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [8, 16, 24],
}

COUNTED_VISION: dict[str, tuple[dict[str, Any], int, int]] = {
    "Qwen3-VL-8B": (
        multimodal(
            "qwen3_vl",
            decoder("qwen3_vl_text", 4096, 36, 32, 8, 12288, 151936, head_dim=128),
            {**QWEN3_VISION, "out_hidden_size": 4096},
            tie_word_embeddings=False,
        ),
        8767123696,
        36 * 2 * 8 * 128 * 2,
    ),
    "Qwen3-VL-30B-A3B": (
        multimodal(
            "qwen3_vl_moe",
            decoder(
                "qwen3_vl_moe_text",
                2048,
                48,
                32,
                4,
                6144,
                151936,
                head_dim=128,
                num_experts=128,
                num_experts_per_tok=8,
                moe_intermediate_size=768,
                decoder_sparse_step=1,
                mlp_only_layers=[],
            ),
            {**QWEN3_VISION, "out_hidden_size": 2048},
            tie_word_embeddings=False,
        ),
        31070754032,
        48 * 2 * 4 * 128 * 2,
    ),
    "llava-1.5-7b": (
        {
            "model_type": "llava",
            "torch_dtype": "float16",
            "tie_word_embeddings": False,
            "text_config": {"model_type": "llama", "vocab_size": 32064, "max_position_embeddings": 4096},
            "vision_config": {
                "model_type": "clip_vision_model",
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "image_size": 336,
                "patch_size": 14,
                "num_attention_heads": 16,
            },
        },
        7063427072,
        32 * 2 * 32 * 128 * 2,
    ),
    "InternVL3-8B": (
        {
            "model_type": "internvl_chat",
            "torch_dtype": "bfloat16",
            "downsample_ratio": 0.5,
            "llm_config": decoder("qwen2", 3584, 28, 28, 4, 18944, 151674),
            "vision_config": {
                "model_type": "intern_vit_6b",
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "image_size": 448,
                "patch_size": 14,
                "qk_normalization": False,
                "norm_type": "layer_norm",
                "qkv_bias": True,
            },
        },
        7944373760,
        28 * 2 * 4 * 128 * 2,
    ),
    "Idefics3-8B": (
        {
            "model_type": "idefics3",
            "torch_dtype": "bfloat16",
            "scale_factor": 2,
            "tie_word_embeddings": False,
            "text_config": decoder("llama", 4096, 32, 32, 8, 14336, 128259),
            "vision_config": {
                "model_type": "idefics3",
                "hidden_size": 1152,
                "intermediate_size": 4304,
                "num_hidden_layers": 27,
                "image_size": 364,
                "patch_size": 14,
            },
        },
        8462153728,
        32 * 2 * 8 * 128 * 2,
    ),
    "paligemma-3b": (
        {
            "model_type": "paligemma",
            "torch_dtype": "float32",
            "text_config": {
                "model_type": "gemma",
                "hidden_size": 2048,
                "intermediate_size": 16384,
                "num_hidden_layers": 18,
                "num_attention_heads": 8,
                "num_key_value_heads": 1,
                "vocab_size": 257216,
            },
            "vision_config": {
                "model_type": "siglip_vision_model",
                "hidden_size": 1152,
                "intermediate_size": 4304,
                "num_hidden_layers": 27,
                "patch_size": 14,
                "image_size": 224,
                "vision_use_head": False,
            },
        },
        2923466480,
        18 * 2 * 1 * 256 * 4,
    ),
    "Pixtral-12B": (
        {
            "model_type": "llava",
            "torch_dtype": "bfloat16",
            "text_config": decoder("mistral", 5120, 40, 32, 8, 14336, 131072, head_dim=128),
            "vision_config": {
                "model_type": "pixtral",
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "image_size": 1024,
                "patch_size": 16,
                "head_dim": 64,
            },
        },
        12682741760,
        40 * 2 * 8 * 128 * 2,
    ),
}
