"""Serving engines' command lines -> facts with their sources, and warnings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.workload.serving.inference import CommandLine, infer, warnings
from tests.workload.recipes import RECIPES, SGLANG, recipe


def line(*words: str, image: str = "registry/any:1", gpus: int = 1, **environment: str) -> CommandLine:
    return CommandLine("c", image, words, environment, gpus)


KNOWN: dict[str, tuple[CommandLine, str, dict[str, Any]]] = {
    "vllm serve": (
        line("vllm", "serve", "meta-llama/Llama-3.1-70B", "--tensor-parallel-size", "4", "--max-model-len=32768", "--dtype", "bfloat16"),
        "vllm",
        {"model": "meta-llama/Llama-3.1-70B", "tensor_parallel": 4, "context": 32768, "dtype": "bfloat16"},
    ),
    "vllm as a module": (
        line(
            "python3", "-m", "vllm.entrypoints.openai.api_server", "--model", "m", "-tp", "8", "-pp=2", "--gpu-memory-utilization", "0.85"
        ),
        "vllm",
        {"model": "m", "tensor_parallel": 8, "pipeline_parallel": 2, "memory_utilization": 0.85},
    ),
    "vllm by its image, arguments alone": (
        line("--model=m", "--tensor_parallel_size=2", "--quantization", "fp8", image="docker.io/vllm/vllm-openai:v0.10.1"),
        "vllm",
        {"model": "m", "tensor_parallel": 2, "quantization": "fp8"},
    ),
    "a shell script with variables": (
        line("sh", "-c", "exec vllm serve $MODEL \\\n  --tensor-parallel-size ${TP} # four\n", MODEL="m", TP="4"),
        "vllm",
        {"model": "m", "tensor_parallel": 4},
    ),
    "kubelet's variables": (
        line("vllm", "serve", "$(MODEL)", "-tp", "$(TP)", MODEL="m", TP="2"),
        "vllm",
        {"model": "m", "tensor_parallel": 2},
    ),
    "32k tokens": (line("vllm", "serve", "m", "--max-model-len", "32k"), "vllm", {"model": "m", "context": 32000}),
    "sglang": (
        line(
            "python",
            "-m",
            "sglang.launch_server",
            "--model-path",
            "m",
            "--tp",
            "8",
            "--context-length",
            "16384",
            "--mem-fraction-static",
            "0.8",
        ),
        "sglang",
        {"model": "m", "tensor_parallel": 8, "context": 16384, "memory_utilization": 0.8},
    ),
    "tgi by environment": (
        line(image="ghcr.io/huggingface/text-generation-inference:3.0", NUM_SHARD="4", MODEL_ID="m", QUANTIZE="awq"),
        "tgi",
        {"model": "m", "tensor_parallel": 4, "quantization": "awq"},
    ),
    "tgi: an argument goes before the environment": (
        line("text-generation-launcher", "--num-shard", "2", NUM_SHARD="4"),
        "tgi",
        {"tensor_parallel": 2},
    ),
    "trtllm-serve": (
        line("trtllm-serve", "m", "--tp_size", "8", "--max_seq_len", "4096"),
        "tensorrt-llm",
        {"model": "m", "tensor_parallel": 8, "context": 4096},
    ),
    "trtllm-serve serve": (line("trtllm-serve", "serve", "m", "--tp_size", "8"), "tensorrt-llm", {"model": "m", "tensor_parallel": 8}),
    "sglang's short flags": (
        line("python", "-m", "sglang.launch_server", "--model", "m", "--tp", "4", "--dp", "2", "--pp", "2", "--nnodes", "2"),
        "sglang",
        {"model": "m", "tensor_parallel": 4, "data_parallel": 2, "pipeline_parallel": 2, "nodes": 2},
    ),
    "dynamo": (line("python3", "-m", "dynamo.vllm", "--model", "m", "-tp", "2"), "vllm", {"model": "m", "tensor_parallel": 2}),
    "a default in the shell": (
        line("sh", "-c", "vllm serve m -tp ${TP:-4} -pp ${PP:-2}", PP="3"),
        "vllm",
        {"model": "m", "tensor_parallel": 4, "pipeline_parallel": 3},
    ),
    "triton": (line("python3", "/opt/scripts/launch_triton_server.py", "--world_size=4"), "triton", {"tensor_parallel": 4}),
    "a value that makes no sense is none": (line("vllm", "serve", "m", "-tp", "many", "--dtype", "huge"), "vllm", {"model": "m"}),
}


@pytest.mark.parametrize("case", KNOWN)
def test_facts_of_a_command_line_are_those_of_the_case(case: str) -> None:
    given_line, engine, facts = KNOWN[case]
    found = infer(given_line)
    assert found is not None
    assert found.engine == engine
    assert {fact.name: fact.value for fact in found.facts} == facts
    assert all(fact.source.startswith("container c, ") for fact in found.facts)


def test_source_of_a_fact_is_its_argument() -> None:
    found = infer(line("vllm", "serve", "m", "-tp", "4"))
    assert found is not None
    assert {fact.source for fact in found.facts} == {"container c, -tp", "container c, argument serve m"}


@pytest.mark.parametrize("words", [("python", "train.py", "--tp", "4"), ("sleep", "infinity"), ()])
def test_command_line_without_an_engine_has_no_facts(words: tuple[str, ...]) -> None:
    assert infer(line(*words)) is None


WARNED = {
    "as many as it runs": (line("vllm", "serve", "m", "-tp", "4", gpus=4), ()),
    "stages count too": (line("vllm", "serve", "m", "-tp", "4", "-pp", "2", gpus=8), ()),
    "too few ranks": (line("vllm", "serve", "m", "-tp", "2", gpus=4), ("container c runs with tensor parallelism 2, but requests 4 GPUs",)),
    "more ranks than GPUs": (
        line("vllm", "serve", "m", "-tp", "8", gpus=4),
        ("container c runs with tensor parallelism 8, but requests 4 GPUs: a node of several, or a mistake",),
    ),
    "attention ranks are inside, whatever their number": (
        recipe(SGLANG + "--tp 8 --dp 8 --enable-dp-attention", 4),
        ("container main runs with tensor parallelism 8 x data parallelism 8, but requests 4 GPUs: a node of several, or a mistake",),
    ),
    "without attention ranks replicas have GPUs of their own": (
        recipe(SGLANG + "--tp 2 --dp 2", 2),
        ("container main runs with tensor parallelism 2 x data parallelism 2, but requests 2 GPUs: a node of several, or a mistake",),
    ),
    "a number of nodes that does not come out": (
        recipe(SGLANG + "--tp 16 --nnodes 2 --node-rank 0 --dist-init-addr a:1", 4),
        ("container main runs with tensor parallelism 16 on 2 nodes, but requests 4 GPUs: a node of several, or a mistake",),
    ),
    "more GPUs than a node's part": (
        recipe(SGLANG + "--tp 8 --nnodes 2 --node-rank 0 --dist-init-addr a:1", 8),
        ("container main runs with tensor parallelism 8 on 2 nodes, but requests 8 GPUs",),
    ),
    "local ranks that do not come out": (
        recipe("vllm serve m --data-parallel-size 16 --data-parallel-size-local 8 --data-parallel-address a", 4),
        ("container main runs with data parallelism 16 of which 8 are here, but requests 4 GPUs: a node of several, or a mistake",),
    ),
    "experts add no GPUs": (
        recipe("trtllm-serve m --tp_size 4 --ep_size 4", 8),
        ("container main runs with tensor parallelism 4, but requests 8 GPUs",),
    ),
    "several nodes, and a number that fits none": (
        recipe("vllm serve m -tp 8 -pp 2 --distributed-executor-backend ray", 6),
        ("container main runs with tensor parallelism 8 x pipeline parallelism 2, but requests 6 GPUs",),
    ),
    "several GPUs and not a word": (
        line("vllm", "serve", "m", gpus=4),
        ("container c requests 4 GPUs, but vllm uses one without an argument for tensor parallelism",),
    ),
}


@pytest.mark.parametrize("case", WARNED)
def test_warnings_are_those_of_the_case(case: str) -> None:
    given_line, expected = WARNED[case]
    found = infer(given_line)
    assert found is not None
    assert warnings(found) == expected


@pytest.mark.parametrize("name", RECIPES)
def test_public_recipe_gives_no_warning(name: str) -> None:
    found = infer(RECIPES[name])
    assert found is not None
    assert warnings(found) == ()


@given(st.lists(st.text(max_size=30), max_size=12), st.dictionaries(st.text(max_size=8), st.text(max_size=30), max_size=4))
def test_no_command_line_makes_inference_raise(words: list[str], environment: dict[str, str]) -> None:
    for image in ("vllm/vllm-openai", "x"):
        found = infer(CommandLine("c", image, ("vllm", "serve", *words), environment, 2))
        assert found is not None
        warnings(found)
