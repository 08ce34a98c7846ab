"""Architectures: sizes of published models, bounds for unknown ones, and errors of an invalid config.json."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.workload.architecture.recognition import from_config
from extender.workload.checkpoint.config_fields import ModelError
from extender.workload.memory import Serving, footprint
from tests.workload.known_models.counted import COUNTED
from tests.workload.known_models.published import PUBLISHED
from tests.workload.known_models.published_fields import decoder, multimodal
from tests.workload.known_models.published_vision import LLAMA4_VISION
from tests.workload.known_models.stored import STORED

LONG = 1 << 21
"""A number of tokens that is longer than every window."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_weights_are_within_two_percent_of_the_published_safetensors(name: str) -> None:
    found = from_config(PUBLISHED[name].config)
    assert found.unknown is None
    assert found.upper.published_bytes == pytest.approx(PUBLISHED[name].weights_bytes, rel=0.02)


@pytest.mark.parametrize("name", STORED)
def test_weights_of_models_that_the_table_was_not_written_from_are_within_two_percent(name: str) -> None:
    config, published_bytes, _ = STORED[name]
    found = from_config(config)
    assert found.unknown is None
    assert found.upper.published_bytes == pytest.approx(published_bytes, rel=0.02)


ROUGH = {"starcoder2-15b": 0.02, "NVIDIA-Nemotron-3-Super-120B-A12B": 0.005}


@pytest.mark.parametrize("name", COUNTED)
def test_parameters_equal_those_on_the_models_page_and_the_kv_cache_is_exact(name: str) -> None:
    config, parameters, kv_bytes = COUNTED[name]
    found = from_config(config)
    assert found.unknown is None
    assert found.upper.parameters == pytest.approx(parameters, rel=ROUGH.get(name, 1e-4))
    assert found.upper.kv_bytes_per_token() == kv_bytes


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_kv_cache_of_a_token_and_the_state_of_a_sequence_are_exact(name: str) -> None:
    model, published = from_config(PUBLISHED[name].config).upper, PUBLISHED[name]
    beyond = published.kv_bytes_beyond_windows
    assert model.kv_bytes_per_token() == published.kv_bytes_per_token
    assert model.kv_bytes(LONG) - model.kv_bytes(LONG - 1) == (published.kv_bytes_per_token if beyond is None else beyond)
    assert model.state_bytes_per_sequence() == published.state_bytes


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_parts_add_up_to_all_weights(name: str) -> None:
    found = from_config(PUBLISHED[name].config)
    assert sum(part.parameters for part in found.parts) == found.upper.parameters
    assert sum(part.weight_bytes for part in found.parts) == found.upper.published_bytes


ACTIVE_BILLIONS = {
    # The publishers' own names and cards.
    "Mixtral-8x7B-v0.1": 12.9,
    "Qwen3-30B-A3B": 3.3,
    "Qwen3-235B-A22B": 22,
    "gpt-oss-120b": 5.7,
    "DeepSeek-V3": 37,
    "Kimi-K2-Instruct": 32,
    "GLM-4.5-Air": 12,
    "AI21-Jamba-1.5-Large": 94,
    "NVIDIA-Nemotron-3-Nano-30B-A3B": 3.6,
    "MiniMax-Text-01": 45.9,
    "granite-4.0-h-small": 9,
}


@pytest.mark.parametrize("name", ACTIVE_BILLIONS)
def test_active_parameters_are_those_that_the_publisher_states(name: str) -> None:
    assert (from_config(PUBLISHED[name].config).upper.active_parameters or 0) / 1e9 == pytest.approx(ACTIVE_BILLIONS[name], rel=0.15)


def test_layers_for_multi_token_prediction_are_published_but_not_loaded() -> None:
    model = from_config(PUBLISHED["DeepSeek-V3"].config).upper
    without = footprint(model, Serving(1, 1)).weights_bytes
    assert (model.published_bytes or 0) - without == model.unloaded_bytes
    assert without / 1e9 == pytest.approx(673, rel=0.01)  # 671 billion parameters, most of them in FP8


UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "a model_type that is not in the table": (decoder("sparkle", 4096, 32, 32, 8, 14336, 128256), "unknown architecture: sparkle"),
    "a class that is no decoder": (
        decoder("llama", 4096, 1, 32, 8, 14336, 128256, architectures=["LlamaForCausalLMEagle3"]),
        "LlamaForCausalLMEagle3",
    ),
    "no name at all": ({k: v for k, v in decoder("", 4096, 32, 32, 8, 14336, 128256).items() if k != "model_type"}, "not named"),
    "experts in an architecture without": (decoder("llama", 4096, 32, 32, 8, 14336, 32000, num_local_experts=8), "llama with experts"),
    "latent attention in an architecture without": (
        decoder("qwen2", 4096, 32, 32, 32, 14336, 32000, kv_lora_rank=512),
        "with latent attention",
    ),
    "recurrent layers in an architecture without": (
        decoder("llama", 4096, 32, 32, 8, 14336, 32000, mamba_d_state=16),
        "with recurrent layers",
    ),
    "a known text model under an unknown tower": (
        multimodal(
            "sparkle_vl",
            decoder("llama", 4096, 32, 32, 8, 14336, 128256),
            {"model_type": "sparkle", "hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 4096},
        ),
        "sparkle_vl",
    ),
    "a known wrapper with an unknown tower": (
        multimodal("llava", decoder("llama", 4096, 32, 32, 32, 11008, 32064), {"model_type": "sparkle", "hidden_size": 1024}),
        "sparkle",
    ),
    "layers of a tower without end": (
        multimodal(
            "llama4",
            decoder("llama4_text", 5120, 48, 40, 8, 8192, 202048, num_local_experts=16),
            {**LLAMA4_VISION, "num_hidden_layers": 1 << 30},
        ),
        "num_hidden_layers 1073741824 is more than",
    ),
    "a tower whose width is an object": (
        multimodal("sparkle_vl", decoder("llama", 4096, 32, 32, 8, 14336, 128256), {"width": {"sam": 768}}),
        "sparkle_vl",
    ),
    "a tower under another field": (
        {**decoder("qwen", 4096, 32, 32, 32, 22016, 151936), "visual": {"width": 1664, "layers": 48}},
        "unknown architecture: qwen",
    ),
    "vision in a text architecture": (
        {**decoder("qwen3", 4096, 36, 32, 8, 12288, 151936), "vision_config": {"hidden_size": 1024}},
        "qwen3",
    ),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_an_unknown_architecture_is_named_and_has_bounds(case: str) -> None:
    config, words = UNKNOWN[case]
    found = from_config(config)
    assert found.unknown is not None
    assert found.unknown.startswith("unknown architecture: ")
    assert words in found.unknown
    assert 0 < (found.lower.published_bytes or 0) < (found.upper.published_bytes or 0)
    assert found.lower.kv_bytes_per_token() <= found.upper.kv_bytes_per_token()


@pytest.mark.parametrize(
    "name", [name for name, one in PUBLISHED.items() if "text_config" not in one.config and "hidden_size" in one.config]
)
def test_the_bounds_of_a_model_under_another_name_hold_the_published_size(name: str) -> None:
    published = PUBLISHED[name]
    found = from_config({**published.config, "model_type": "renamed"})
    assert found.unknown is not None
    assert (found.lower.published_bytes or 0) <= published.weights_bytes * 1.02
    assert (found.upper.published_bytes or 0) >= published.weights_bytes * 0.98
    assert found.lower.kv_bytes_per_token() == 0
    assert found.upper.kv_bytes_per_token() >= published.kv_bytes_per_token
    assert found.upper.state_bytes_per_sequence() >= published.state_bytes


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "num_hidden_layers is missing"),
    "text": ({"model_type": "llama", "hidden_size": "many"}, "hidden_size 'many' is not a positive whole number"),
    "zero": ({"model_type": "llama", "hidden_size": 0}, "hidden_size 0"),
    "heads that do not divide": (decoder("llama", 4096, 32, 32, 7, 14336, 128256), "num_key_value_heads 7 does not divide"),
    "more layers than a model has": (decoder("llama", 4096, 1 << 30, 32, 8, 14336, 128256), "num_hidden_layers 1073741824 is more than"),
    "a pattern that is too short": (
        decoder("nemotron_h", 4096, 52, 32, 8, 21504, 131072, hybrid_override_pattern="M-", mamba_num_heads=128, mamba_head_dim=64),
        "hybrid_override_pattern has 2 layers",
    ),
    "a layer of an unknown kind": (
        decoder("granitemoehybrid", 4096, 2, 32, 8, 768, 100352, layer_types=["mamba", "dream"]),
        "layer 1 is of kind 'dream'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_error_of_an_invalid_config_names_the_field(case: str) -> None:
    config, words = WRONG[case]
    with pytest.raises(ModelError, match=re.escape(words)):
        from_config(config)


def test_a_mamba_model_needs_no_attention_heads() -> None:
    model = from_config(PUBLISHED["falcon-mamba-7b"].config).upper
    assert model.kv_bytes_per_token() == 0
    assert footprint(model, Serving(1 << 20, 4)).kv_cache_bytes == 0
    assert footprint(model, Serving(1 << 20, 4)).state_bytes == 4 * PUBLISHED["falcon-mamba-7b"].state_bytes


@given(
    st.sampled_from(sorted(PUBLISHED)),
    st.dictionaries(
        st.sampled_from(
            [
                "hidden_size",
                "num_hidden_layers",
                "num_attention_heads",
                "vocab_size",
                "layer_types",
                "quantization_config",
                "vision_config",
                "text_config",
                "model_type",
                "architectures",
                "num_experts",
                "n_routed_experts",
                "kv_lora_rank",
                "sliding_window",
                "head_dim",
                "moe_layer_freq",
                "mlp_only_layers",
                "hybrid_override_pattern",
                "mamba_expand",
                "torch_dtype",
                "intermediate_size",
            ]
        ),
        st.none()
        | st.booleans()
        | st.integers(-2, 1 << 70)
        | st.floats()
        | st.text(max_size=8)
        | st.lists(st.integers(-1, 9), max_size=4)
        | st.dictionaries(
            st.sampled_from(["quant_method", "bits", "hidden_size", "config_groups", "ignore"]), st.text(max_size=5), max_size=3
        ),
        max_size=4,
    ),
)
def test_any_config_is_recognised_bounded_or_refused(name: str, changes: dict[str, Any]) -> None:
    try:
        found = from_config({**PUBLISHED[name].config, **changes})
    except ModelError:
        return
    assert (found.lower.published_bytes or 0) <= (found.upper.published_bytes or 0)
    assert found.lower.kv_bytes_per_token() <= found.upper.kv_bytes_per_token()
