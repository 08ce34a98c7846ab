"""Memory arithmetic against published figures, and its laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.workload.architecture.recognition import from_config
from extender.workload.checkpoint.schemes import DTYPE_BYTES
from extender.workload.memory import CLASSES_GIB, USABLE_CLASS_BYTES, Serving, fitting_classes, footprint, memory_class, weights_bytes
from extender.workload.model import ModelError
from tests.workload.known_models.models import CONFIGS, KV_CACHE_GIB, PARAMETERS_BILLIONS, WEIGHTS_GB

SHAPES = {name: from_config(config).upper for name, config in CONFIGS.items()}
MIB = 1 << 20


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_within_one_percent_of_the_model_card(name: str) -> None:
    assert SHAPES[name].parameters / 1e9 == pytest.approx(PARAMETERS_BILLIONS[name], rel=0.01)


@pytest.mark.parametrize(("name", "dtype"), WEIGHTS_GB)
def test_weights_are_within_ten_percent_of_the_published_size(name: str, dtype: str) -> None:
    assert weights_bytes(SHAPES[name], DTYPE_BYTES[dtype]) / 1e9 == pytest.approx(WEIGHTS_GB[name, dtype], rel=0.10)


@pytest.mark.parametrize(("name", "tokens"), KV_CACHE_GIB)
def test_kv_cache_is_within_ten_percent_of_the_published_size(name: str, tokens: int) -> None:
    assert SHAPES[name].kv_bytes_per_token(2) * tokens / 2**30 == pytest.approx(KV_CACHE_GIB[name, tokens], rel=0.10)


def test_token_uses_a_part_of_the_parameters_of_a_mixture_of_experts() -> None:
    assert (SHAPES["Mixtral-8x7B-v0.1"].active_parameters or 0) / 1e9 == pytest.approx(12.9, rel=0.01)
    assert (SHAPES["DeepSeek-V3"].active_parameters or 0) / 1e9 == pytest.approx(37, rel=0.03)


FITS = {
    "8B in bf16 on one 24 GB card": ("Llama-3.1-8B", Serving(8192, 2), 24),
    "70B in bf16 on four 80 GB cards": ("Llama-3.1-70B", Serving(8192, 16, 4), 80),
    "70B in fp8 on two 80 GB cards": ("Llama-3.1-70B", Serving(8192, 8, 2, weight_bytes=1), 80),
    "405B in fp8 on eight 80 GB cards": ("Llama-3.1-405B", Serving(8192, 4, 8, weight_bytes=1), 80),
    "DeepSeek-V3 in fp8 on eight 141 GB cards": ("DeepSeek-V3", Serving(16384, 16, 8, weight_bytes=1), 141),
}


@pytest.mark.parametrize("case", FITS)
def test_fitting_memory_classes_are_those_of_the_machines_in_use(case: str) -> None:
    name, serving, smallest = FITS[case]
    assert fitting_classes(footprint(SHAPES[name], serving).total_bytes)[0] == smallest


def test_key_value_heads_are_repeated_where_there_are_fewer_than_ranks_and_latents_always() -> None:
    llama, deepseek = SHAPES["Llama-3.1-70B"], SHAPES["DeepSeek-V3"]
    eight, sixteen = (footprint(llama, Serving(8192, 1, tensor)).kv_cache_bytes for tensor in (8, 16))
    assert eight == sixteen == footprint(llama, Serving(8192, 1)).kv_cache_bytes // 8
    assert footprint(deepseek, Serving(8192, 1, 8)).kv_cache_bytes == footprint(deepseek, Serving(8192, 1)).kv_cache_bytes


@given(st.sampled_from(sorted(CONFIGS)), st.sampled_from([1, 2, 4]), st.integers(1, 65536), st.integers(1, 256))
def test_more_work_never_needs_less_memory_and_more_gpus_never_more_weights_per_gpu(
    name: str, tensor: int, context: int, concurrency: int
) -> None:
    shape, one = SHAPES[name], Serving(context, concurrency, tensor)
    if shape.attention_heads % (2 * tensor):
        return
    base = footprint(shape, one)
    assert footprint(shape, Serving(context + 1, concurrency, tensor)).total_bytes >= base.total_bytes
    assert footprint(shape, Serving(context, concurrency + 1, tensor)).total_bytes >= base.total_bytes
    assert footprint(shape, Serving(context, concurrency, 2 * tensor)).weights_bytes <= base.weights_bytes


def test_parallelism_that_does_not_divide_the_heads_is_named() -> None:
    with pytest.raises(ModelError, match="tensor parallelism 3 does not divide 32 attention heads"):
        footprint(SHAPES["Llama-3.1-8B"], Serving(1, 1, 3))


CARDS = {
    15360: 16,
    16384: 16,
    24576: 24,
    23034: 24,
    22731: 24,
    32768: 32,
    40960: 40,
    40536: 40,
    49140: 48,
    46068: 48,
    81559: 80,
    81920: 80,
    81251: 80,
    97871: 96,
    95830: 96,
    143771: 141,
    183359: 180,
    180_000: 180,
    196_608: 192,
    288_000: 288,
}


@pytest.mark.parametrize("mib", CARDS)
def test_memory_class_of_the_memory_that_gpus_report(mib: int) -> None:
    assert memory_class(mib * MIB) == CARDS[mib]


def test_memory_classes_are_in_ascending_order() -> None:
    usable = [USABLE_CLASS_BYTES[size] for size in CLASSES_GIB]
    assert usable == sorted(usable)
