"""ENGINES: how each serving engine is recognised, what its flags and variables mean, and how many GPUs its ranks use on one node. Pure.

Arguments of vLLM 0.11, SGLang 0.5, Text Generation Inference 3, TensorRT-LLM 1.1 (`trtllm-serve`), Dynamo 0.7 and Triton's launch script.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

TENSOR, PIPELINE, DATA = "tensor_parallel", "pipeline_parallel", "data_parallel"
CONTEXT_PARALLEL, DATA_LOCAL, NODES = "context_parallel", "data_parallel_local", "nodes"
MODEL, DTYPE, QUANTIZATION = "model", "dtype", "quantization"
CONTEXT, UTILIZATION = "context", "memory_utilization"
BACKEND = "executor_backend"
"""vLLM: with `ray`, the ranks can be on all nodes of the Ray cluster."""
INSIDE = "data_parallel_attention"
"""SGLang's data-parallel attention: its ranks use the GPUs of the tensor-parallel ranks, not further GPUs."""
ONE_RANK = "data_parallel_rank"
"""vLLM: this process runs one data-parallel rank; other processes run the others."""
SEVERAL_NODES = "several_nodes"
"""A flag that only a deployment over several nodes has."""
FILE = "configuration_file"
"""A file with further arguments, which is not read."""

SWITCHES = frozenset({INSIDE, ONE_RANK, SEVERAL_NODES, FILE})
"""Names whose flag has a meaning by its presence, whatever its value."""

Sizes = Mapping[str, int]
"""Name -> parallel size, for the sizes that are stated."""


def _product(sizes: Sizes, *names: str) -> int:
    """Return the product of the named sizes; a size that is not stated counts as 1."""
    product = 1
    for name in names:
        product *= sizes.get(name, 1)
    return product


def _sglang(sizes: Sizes) -> int:
    """GPUs of SGLang. Without data-parallel attention each data-parallel replica has its own tensor-parallel GPUs."""
    replicas = 1 if INSIDE in sizes else sizes.get(DATA, 1)
    return _product(sizes, TENSOR, PIPELINE) * replicas


def _vllm(sizes: Sizes) -> int:
    """GPUs of vLLM. Each data-parallel rank has its own tensor-parallel GPUs, also with expert parallelism; DATA_LOCAL ranks are on this
    node."""
    engine = _product(sizes, TENSOR, PIPELINE, CONTEXT_PARALLEL)
    if DATA_LOCAL in sizes:
        return engine * sizes[DATA_LOCAL]
    return engine * (1 if ONE_RANK in sizes else sizes.get(DATA, 1))


def _others(sizes: Sizes) -> int:
    """GPUs of other engines. TensorRT-LLM's expert parallelism uses the tensor-parallel GPUs; its context parallelism uses further GPUs."""
    return _product(sizes, TENSOR, PIPELINE, CONTEXT_PARALLEL)


@dataclass(frozen=True, slots=True)
class Engine:
    """How one engine is recognised and what its flags and variables mean."""

    name: str
    marks: tuple[str, ...]
    """Names of the engine: a word of the command line, or the last part of its path, or a part of the image's name."""
    flags: Mapping[str, str]
    """Flag, with dashes -> fact."""
    variables: Mapping[str, str]
    """Environment variable -> fact."""
    positional_after: str | None = None
    """The word that the model follows as an argument without a flag (`vllm serve MODEL`)."""
    ranks: Callable[[Sizes], int] = _others
    """Parallel sizes -> GPUs of all ranks, or of the ranks on this node if the sizes state that."""
    one_without: bool = False
    """Whether the engine uses one GPU if no size is stated."""


def _flags(by_fact: Mapping[str, str]) -> dict[str, str]:
    """Return flag -> fact. `by_fact`: fact -> its flags, separated by spaces."""
    return {flag: fact for fact, flags in by_fact.items() for flag in flags.split()}


ENGINES: tuple[Engine, ...] = (
    Engine(
        "sglang",
        ("sglang.launch_server", "sglang_router.launch_server", "dynamo.sglang", "sglang"),
        _flags(
            {
                TENSOR: "--tp-size --tp --tensor-parallel-size",
                PIPELINE: "--pp-size --pp --pipeline-parallel-size",
                DATA: "--dp-size --dp --data-parallel-size",
                INSIDE: "--enable-dp-attention",
                NODES: "--nnodes",
                SEVERAL_NODES: "--node-rank --dist-init-addr --nccl-init-addr --nccl-init",
                FILE: "--config",
                MODEL: "--model-path --model",
                DTYPE: "--dtype",
                QUANTIZATION: "--quantization",
                CONTEXT: "--context-length",
                UTILIZATION: "--mem-fraction-static",
            }
        ),
        {},
        ranks=_sglang,
        one_without=True,
    ),
    Engine(
        "tgi",
        ("text-generation-launcher", "text-generation-inference"),
        _flags(
            {
                TENSOR: "--num-shard",
                MODEL: "--model-id",
                DTYPE: "--dtype",
                QUANTIZATION: "--quantize",
                CONTEXT: "--max-total-tokens",
                UTILIZATION: "--cuda-memory-fraction",
            }
        ),
        {
            "NUM_SHARD": TENSOR,
            "MODEL_ID": MODEL,
            "DTYPE": DTYPE,
            "QUANTIZE": QUANTIZATION,
            "MAX_TOTAL_TOKENS": CONTEXT,
            "CUDA_MEMORY_FRACTION": UTILIZATION,
        },
    ),
    Engine(
        "tensorrt-llm",
        ("trtllm-serve", "dynamo.trtllm", "trtllm-llmapi-launch", "tensorrt-llm"),
        _flags(
            {
                TENSOR: "--tp-size --tensor-parallel-size",
                PIPELINE: "--pp-size --pipeline-parallel-size",
                CONTEXT_PARALLEL: "--cp-size",
                FILE: "--extra-llm-api-options --extra-engine-args --config --metadata-server-config-file",
                MODEL: "--model-path --model",
                CONTEXT: "--max-seq-len",
                UTILIZATION: "--kv-cache-free-gpu-memory-fraction --free-gpu-memory-fraction",
            }
        ),
        {},
        "trtllm-serve",
    ),
    Engine("triton", ("tritonserver", "launch_triton_server.py"), _flags({TENSOR: "--world-size --tp"}), {}),
    Engine(
        "vllm",
        ("vllm", "vllm.entrypoints.openai.api_server", "dynamo.vllm", "vllm-openai"),
        _flags(
            {
                TENSOR: "--tensor-parallel-size -tp --tp",
                PIPELINE: "--pipeline-parallel-size -pp --pp",
                CONTEXT_PARALLEL: "--prefill-context-parallel-size -pcp",
                DATA: "--data-parallel-size -dp",
                DATA_LOCAL: "--data-parallel-size-local -dpl",
                ONE_RANK: "--data-parallel-rank -dpn --data-parallel-external-lb",
                NODES: "--nnodes",
                SEVERAL_NODES: (
                    "--headless --data-parallel-address -dpa --data-parallel-start-rank -dpr --data-parallel-hybrid-lb --node-rank "
                    "--master-addr"
                ),
                BACKEND: "--distributed-executor-backend --data-parallel-backend",
                FILE: "--config --omni --stage-configs-path",
                MODEL: "--model",
                DTYPE: "--dtype",
                QUANTIZATION: "--quantization -q",
                CONTEXT: "--max-model-len",
                UTILIZATION: "--gpu-memory-utilization",
            }
        ),
        {},
        "serve",
        ranks=_vllm,
        one_without=True,
    ),
)

SEVERAL_NODES_WORDS = (
    "multi-node-serving.sh",
    "run_cluster.sh",
    "KUBERAY_GEN_RAY_START_CMD",
    "mpirun",
    "mpiexec",
    "trtllm-llmapi-launch",
    "torchrun",
)
"""Words of scripts that start one process group over several nodes: a word with this ending, or a variable with this name."""

SEVERAL_NODES_VARIABLES = frozenset({"LWS_GROUP_SIZE", "LWS_LEADER_ADDRESS", "RAY_ADDRESS", "RAY_CLUSTER_SIZE"})
"""Environment variables that only a pod in a group of pods has."""
