"""The largest context and concurrency and the fewest GPUs that fit: laws, and the machines that publishers name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.workload.architecture.recognition import from_config
from extender.workload.capacity import capacities, capacity, smallest_tensor_parallel
from extender.workload.memory import CLASSES_GIB, USABLE_CLASS_BYTES, Serving, footprint, tensor_parallel_problems
from tests.workload.known_models.published import PUBLISHED

MODELS = {name: from_config(one.config).upper for name, one in PUBLISHED.items()}


@given(st.sampled_from(sorted(MODELS)), st.sampled_from(CLASSES_GIB), st.integers(1, 1 << 17), st.integers(1, 512))
def test_largest_number_that_fits_fits_and_one_more_does_not(name: str, size: int, context: int, concurrency: int) -> None:
    model, asked = MODELS[name], Serving(context, concurrency)
    budget = USABLE_CLASS_BYTES[size] * asked.utilization
    found = capacity(model, asked, size, USABLE_CLASS_BYTES[size])

    def need(one: Serving) -> int:
        return footprint(model, one).total_bytes

    assert found.fits == (need(asked) <= budget)
    if found.largest_concurrency is None:
        assert need(replace(asked, concurrency=1)) > budget
    else:
        assert need(replace(asked, concurrency=found.largest_concurrency)) <= budget
        assert found.largest_concurrency == 1 << 16 or need(replace(asked, concurrency=found.largest_concurrency + 1)) > budget
    if found.largest_context is not None:
        assert need(replace(asked, context=found.largest_context)) <= budget


MACHINES: dict[str, tuple[str, Serving, int, int]] = {
    # The publishers' own advice on the models' pages: GPUs of a class (GB) that the model is served on.
    "gpt-oss-120b on one 80 GB card": ("gpt-oss-120b", Serving(8192, 8), 80, 1),
    "gpt-oss-20b on one 24 GB card": ("gpt-oss-20b", Serving(4096, 1, utilization=0.95), 24, 1),
    "Llama 4 Maverick in bf16 on eight 141 GB cards": ("Llama-4-Maverick-17B-128E", Serving(8192, 8), 141, 8),
    "DeepSeek-V3 on eight 141 GB cards": ("DeepSeek-V3", Serving(16384, 16), 141, 8),
    "Llama 3.1 70B in bf16 on four 80 GB cards": ("Meta-Llama-3.1-70B", Serving(8192, 16), 80, 4),
    "Qwen3-235B-A22B in bf16 on eight 80 GB cards": ("Qwen3-235B-A22B", Serving(8192, 8), 80, 8),
    "Kimi K2 on sixteen 80 GB cards": ("Kimi-K2-Instruct", Serving(8192, 4), 80, 16),
}


@pytest.mark.parametrize("case", MACHINES)
def test_proposed_tensor_parallelism_is_the_one_that_the_publisher_uses(case: str) -> None:
    name, serving, size, expected = MACHINES[case]
    assert smallest_tensor_parallel(MODELS[name], serving, USABLE_CLASS_BYTES[size]) == expected


@given(st.sampled_from(sorted(MODELS)), st.sampled_from(CLASSES_GIB))
def test_a_proposed_size_divides_heads_and_widths(name: str, size: int) -> None:
    model = MODELS[name]
    found = smallest_tensor_parallel(model, Serving(4096, 4), USABLE_CLASS_BYTES[size])
    if found is not None:
        assert model.attention_heads % found == 0
        assert tensor_parallel_problems(model, found) == ()


def test_larger_memory_class_never_fits_less() -> None:
    found = [one.largest_concurrency or 0 for one in capacities(MODELS["Meta-Llama-3.1-8B"], Serving(8192, 16))]
    assert found == sorted(found)
    assert found[0] == 0 < found[-1]


def test_blocks_of_a_quantisation_limit_tensor_parallelism() -> None:
    """Qwen3-235B-A22B-FP8 on eight GPUs: experts of 1536 make 192 each, which blocks of 128 do not divide. Source: vLLM's error."""
    config = {**PUBLISHED["Qwen3-235B-A22B"].config, "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    model = from_config(config).upper
    assert tensor_parallel_problems(model, 4) == ()
    assert "does not divide width 1536 into multiples of 128" in tensor_parallel_problems(model, 8)[0]


@pytest.mark.parametrize(("width", "divides"), [(29568, False), (29696, True)])
def test_groups_of_a_quantisation_limit_tensor_parallelism(width: int, divides: bool) -> None:
    """Qwen2.5-72B in groups of 128 on eight GPUs: its publisher pads 29568 to 29696 for that. Source: Qwen's page on quantisation."""
    quantization = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    model = from_config({**PUBLISHED["Qwen2.5-72B"].config, "intermediate_size": width, "quantization_config": quantization}).upper
    assert (tensor_parallel_problems(model, 8) == ()) is divides


@pytest.mark.parametrize("name", ["gpt-oss-120b", "gemma-3-27b", "Llama-4-Scout-17B-16E", "c4ai-command-a-03-2025"])
def test_windows_limit_the_kv_cache_of_long_sequences(name: str) -> None:
    model = MODELS[name]
    long = footprint(model, Serving(131072, 1)).kv_cache_bytes
    assert long < 0.6 * model.kv_bytes_per_token() * 131072


def test_a_state_does_not_grow_with_the_sequence() -> None:
    model = MODELS["Mamba-Codestral-7B-v0.1"]
    assert footprint(model, Serving(1 << 20, 8)).state_bytes == footprint(model, Serving(1, 8)).state_bytes > 0
