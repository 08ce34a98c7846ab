"""Published models that read images too; the sources are those of `published`."""

from __future__ import annotations

from tests.workload.known_models.published_fields import Published, decoder, multimodal

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

PUBLISHED_VISION: dict[str, Published] = {
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
}
