"""Quantised checkpoints: bytes of single matrices by format, published sizes, and unknown methods."""

from __future__ import annotations

from typing import Any

import pytest

from extender.workload.architecture.recognition import from_config
from extender.workload.checkpoint.config_fields import Fields
from extender.workload.checkpoint.module_patterns import matcher, unread
from extender.workload.checkpoint.quantization import Quantization, published
from extender.workload.structure import ATTENTION, Weight
from tests.workload.known_models.published import PUBLISHED
from tests.workload.known_models.published_fields import decoder

OUT, IN = 4096, 14336
MATRIX = Weight("model.layers.3.mlp.down_proj", "dense MLP", OUT, IN)
LINEAR = ["Linear"]


def compressed(weights: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"targets": LINEAR, "weights": weights}},
        "ignore": ["lm_head"],
        **more,
    }


FORMATS: dict[str, tuple[dict[str, Any], float]] = {
    # Tensors of one matrix as the format's own writer stores them: packed numbers, scales, zero points, order.
    "GPTQ: qweight, scales, qzeros, g_idx": (
        {"quant_method": "gptq", "bits": 4, "group_size": 128},
        OUT * IN / 2 + IN / 128 * OUT * 2 + IN / 128 * OUT / 2 + IN * 4,
    ),
    "GPTQ of 8 bit without groups": ({"quant_method": "gptq", "bits": 8, "group_size": -1}, OUT * IN + OUT * 2 + OUT + IN * 4),
    "AWQ: qweight, scales, qzeros": (
        {"quant_method": "awq", "bits": 4, "group_size": 64},
        OUT * IN / 2 + IN / 64 * OUT * 2 + IN / 64 * OUT / 2,
    ),
    "compressed-tensors of 4 bit": (
        compressed({"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True}),
        OUT * IN / 2 + IN / 128 * OUT * 2,
    ),
    "compressed-tensors of 8 bit, a scale per channel": (
        compressed({"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True}),
        OUT * IN + OUT * 2,
    ),
    "compressed-tensors NVFP4": (
        compressed({"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}),
        OUT * IN / 2 + IN / 16 * OUT,
    ),
    "ModelOpt NVFP4": ({"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}, OUT * IN / 2 + IN / 16 * OUT),
    "ModelOpt FP8": ({"quant_method": "modelopt", "quant_algo": "FP8", "exclude_modules": ["lm_head"]}, OUT * IN + 8),
    "FP8 in blocks": ({"quant_method": "fp8", "weight_block_size": [128, 128]}, OUT * IN + OUT / 128 * IN / 128 * 4),
    "fbgemm": ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": []}, OUT * IN + OUT * 2),
    "bitsandbytes NF4": (
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True},
        OUT * IN / 2 + OUT * IN / 64 * (1 + 4 / 256),
    ),
    "bitsandbytes of 8 bit": ({"quant_method": "bitsandbytes", "load_in_8bit": True}, OUT * IN + OUT * 4),
    "Quark": ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}}}, OUT * IN + 8),
}


@pytest.mark.parametrize("case", FORMATS)
def test_bytes_of_a_matrix_are_those_that_the_formats_writer_stores(case: str) -> None:
    config, expected = FORMATS[case]
    found = published(Fields({"quantization_config": config}))
    assert isinstance(found, Quantization)
    assert found.size(MATRIX, 2) == pytest.approx(expected, rel=1e-4)


LLAMA_8B = ("llama", 4096, 32, 32, 8, 14336, 128256)
LLAMA_70B = ("llama", 8192, 80, 64, 8, 28672, 128256)
KIMI_THINKING = ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", r"re:.*mlp\.(gate|up|gate_up|down)_proj.*"]

CHECKPOINTS: dict[str, tuple[dict[str, Any], float]] = {
    # Sizes in GB as the pages of these repositories show them, from memory.
    "RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8": (
        decoder(*LLAMA_8B, quantization_config=compressed({"num_bits": 8, "type": "float", "strategy": "tensor"})),
        9.08,
    ),
    "RedHatAI/Meta-Llama-3.1-70B-Instruct-quantized.w4a16": (
        decoder(
            *LLAMA_70B,
            quantization_config=compressed({"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True}),
        ),
        39.8,
    ),
    "RedHatAI/Meta-Llama-3.1-70B-Instruct-quantized.w8a8": (
        decoder(*LLAMA_70B, quantization_config=compressed({"num_bits": 8, "type": "int", "strategy": "channel"})),
        72.7,
    ),
    "nvidia/Llama-3.3-70B-Instruct-FP4": (
        decoder(*LLAMA_70B, quantization_config={"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}),
        42.7,
    ),
    "TheBloke/Llama-2-7B-GPTQ": (
        decoder("llama", 4096, 32, 32, 32, 11008, 32000, quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128}),
        3.90,
    ),
    "unsloth/Meta-Llama-3.1-8B-bnb-4bit": (
        decoder(
            *LLAMA_8B,
            quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True},
        ),
        5.70,
    ),
    "moonshotai/Kimi-K2-Thinking": (
        {
            **PUBLISHED["Kimi-K2-Instruct"].config,
            "quantization_config": compressed(
                {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}, ignore=KIMI_THINKING
            ),
        },
        594,
    ),
    "Qwen/Qwen3-235B-A22B-FP8": (
        {
            **PUBLISHED["Qwen3-235B-A22B"].config,
            "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["lm_head"]},
        },
        236.4,
    ),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_quantised_checkpoints_are_within_two_percent_of_their_published_size(name: str) -> None:
    config, gigabytes = CHECKPOINTS[name]
    found = from_config(config)
    assert found.unknown is None
    assert (found.upper.published_bytes or 0) / 1e9 == pytest.approx(gigabytes, rel=0.02)


SKIPPED: dict[str, tuple[str, list[Any], bool]] = {
    "the output layer": ("lm_head", ["lm_head"], True),
    "a module of one layer": ("model.layers.3.mlp.down_proj", ["model.layers.3.mlp.down_proj"], True),
    "the same of another layer": ("model.layers.30.mlp.down_proj", ["model.layers.3.mlp.down_proj"], False),
    "a whole layer": ("model.layers.3.mlp.down_proj", ["model.layers.3"], True),
    "a wildcard": ("model.layers.3.self_attn.q_proj", ["model.layers.*.self_attn"], True),
    "an expression": ("model.layers.3.self_attn.q_proj", ["re:.*self_attn.*"], True),
    "an expression from the first letter on": ("model.layers.3.self_attn.q_proj", ["re:self_attn.*"], False),
    "a multimodal model's prefix": ("model.layers.3.self_attn.q_proj", ["language_model.model.layers.3.self_attn.q_proj"], True),
    "a part of a name is no name": ("model.layers.3.mlp.gate_proj", ["gate"], False),
}


@pytest.mark.parametrize("case", SKIPPED)
def test_patterns_name_the_modules_of_the_case(case: str) -> None:
    module, patterns, expected = SKIPPED[case]
    assert not unread(patterns)
    assert matcher(patterns)(Weight(module, ATTENTION, 8, 8)) is expected


@pytest.mark.parametrize("pattern", ["re:(a+)+$", "re:.*.*.*x", "re:(", "re:" + "a" * 300, 7, "re:.*a.*b.*c.*d.*e"])
def test_an_expression_that_could_take_long_makes_the_size_a_bound(pattern: Any) -> None:
    config = decoder(*LLAMA_8B, quantization_config=compressed({"num_bits": 4, "type": "int", "group_size": 128}, ignore=[pattern]))
    assert from_config(config).unknown == "unknown quantisation method: compressed-tensors with module names that are not read"


UNKNOWN: dict[str, dict[str, Any]] = {
    "a method without a row": {"quant_method": "aqlm"},
    "no method": {"bits": 4},
    "a new algorithm of ModelOpt": {"quant_method": "modelopt", "quant_algo": "FP3"},
    "sparsity": compressed({"num_bits": 4, "type": "int", "group_size": 128}, sparsity_config={"format": "sparse-24-bitmask"}),
    "a width that makes no sense": {"quant_method": "gptq", "bits": 99},
    "layers of their own": {
        "quant_method": "quark",
        "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}},
        "layer_quant_config": {"*": {"weight": None}},
    },
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_an_unknown_method_is_named_and_has_bounds(case: str) -> None:
    found = from_config(decoder(*LLAMA_8B, quantization_config=UNKNOWN[case]))
    assert found.unknown is not None
    assert found.unknown.startswith("unknown quantisation method: ")
    assert (found.lower.published_bytes or 0) * 2 < (found.upper.published_bytes or 0) == 16060522496
    assert found.lower.kv_bytes_per_token() == found.upper.kv_bytes_per_token() == 131072


KV: dict[str, tuple[dict[str, Any], float]] = {
    "compressed-tensors": (
        compressed({"num_bits": 8, "type": "float", "strategy": "tensor"}, kv_cache_scheme={"num_bits": 8, "type": "float"}),
        65536,
    ),
    "ModelOpt": ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}, 65536),
    "an unknown width of the weights": ({"quant_method": "modelopt", "quant_algo": "FP3", "kv_cache_quant_algo": "FP8"}, 65536),
    "none": ({"quant_method": "fp8"}, 131072),
}


@pytest.mark.parametrize("case", KV)
def test_the_kv_cache_has_the_width_that_the_checkpoint_has_scales_for(case: str) -> None:
    config, expected = KV[case]
    model = from_config(decoder(*LLAMA_8B, quantization_config=config)).upper
    assert model.kv_bytes_per_token() == expected
    assert model.kv_bytes_per_token(2) == 131072


@pytest.mark.parametrize(
    ("ignored", "kept"), [(["lm_head"], False), (["re:.*vision_tower.*"], True), (["model.visual.blocks.0.attn.qkv"], True)]
)
def test_pattern_that_names_one_module_of_a_tower_excludes_the_whole_tower(ignored: list[str], kept: bool) -> None:
    weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}
    found = from_config({**PUBLISHED["Qwen2.5-VL-7B"].config, "quantization_config": compressed(weights, ignore=ignored)})
    tower = next(part for part in found.parts if part.part == "vision and audio")
    assert (tower.weight_bytes == 2 * tower.parameters) is kept


def test_a_mixed_checkpoint_has_a_width_per_module() -> None:
    layers = {f"model.layers.{layer}.mlp.{name}_proj": {"quant_algo": "NVFP4"} for layer in range(32) for name in ("gate", "up", "down")}
    layers |= {f"model.layers.{layer}.self_attn.{name}_proj": {"quant_algo": "FP8"} for layer in range(32) for name in "qkvo"}
    config = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    found = from_config(decoder(*LLAMA_8B, quantization_config=config))
    mlps, attention, rest = 3 * 32 * 4096 * 14336, 32 * 4096 * 128 * (2 * 32 + 2 * 8), 2 * 128256 * 4096
    assert found.upper.published_bytes == pytest.approx(mlps * 9 / 16 + attention + rest * 2, rel=1e-3)
