"""Serving engines: how each is recognised, what its flags and variables mean, and how many GPUs its ranks take on one node.

Arguments as of vLLM 0.11, SGLang 0.5, Text Generation Inference 3, TensorRT-LLM 1.1 (`trtllm-serve`), Dynamo 0.7 and Triton's launch
script.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

TENSOR, PIPELINE, DATA = "tensor_parallel", "pipeline_parallel", "data_parallel"
CONTEXT_PARALLEL, DATA_LOCAL, NODES = "context_parallel", "data_parallel_local", "nodes"
MODEL, DTYPE, QUANTIZATION = "model", "dtype", "quantization"
CONTEXT, UTILIZATION = "context", "memory_utilization"
BACKEND = "executor_backend"
"""vLLM: `ray` places ranks on as many nodes as its cluster has."""
INSIDE = "data_parallel_attention"
"""SGLang's data-parallel attention: its ranks are the tensor-parallel ones, not further GPUs."""
ONE_RANK = "data_parallel_rank"
"""vLLM: this process runs one data-parallel rank, the others run elsewhere."""
SEVERAL_NODES = "several_nodes"
"""A flag that only a deployment over several nodes has."""
FILE = "configuration_file"
"""A file with arguments that are not seen here."""

SWITCHES = frozenset({INSIDE, ONE_RANK, SEVERAL_NODES, FILE})
"""Names whose flag means something by being there, whatever its value."""

Sizes = Mapping[str, int]
"""Parallel sizes by name, those that are told."""


def _product(sizes: Sizes, *names: str) -> int:
    found = 1
    for name in names:
        found *= sizes.get(name, 1)
    return found


def _sglang(sizes: Sizes) -> int:
    """Without data-parallel attention each replica has its own tensor-parallel GPUs."""
    replicas = 1 if INSIDE in sizes else sizes.get(DATA, 1)
    return _product(sizes, TENSOR, PIPELINE) * replicas


def _vllm(sizes: Sizes) -> int:
    """Each data-parallel rank has its own tensor-parallel GPUs, with expert parallelism too; DATA_LOCAL of them are on this node."""
    engine = _product(sizes, TENSOR, PIPELINE, CONTEXT_PARALLEL)
    if DATA_LOCAL in sizes:
        return engine * sizes[DATA_LOCAL]
    return engine * (1 if ONE_RANK in sizes else sizes.get(DATA, 1))


def _others(sizes: Sizes) -> int:
    """Expert parallelism of TensorRT-LLM is inside tensor parallelism; context parallelism is not."""
    return _product(sizes, TENSOR, PIPELINE, CONTEXT_PARALLEL)


@dataclass(frozen=True, slots=True)
class Engine:
    """How one engine is recognised and what its flags and variables mean."""

    name: str
    marks: tuple[str, ...]
    """A word of the command line that ends so, or a part of the image's name."""
    flags: Mapping[str, str]
    """Flag, with dashes -> fact."""
    variables: Mapping[str, str]
    positional_after: str | None = None
    """A word after which the model stands bare (`vllm serve MODEL`)."""
    ranks: Callable[[Sizes], int] = _others
    """Parallel sizes -> GPUs that all ranks take together, on this node where the sizes say so."""
    one_without: bool = False
    """Whether it uses one GPU where no size is told."""


def _flags(by_fact: Mapping[str, str]) -> dict[str, str]:
    """Fact -> flags in one text, turned around."""
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
"""Words of scripts that start one process group over several nodes; a word that ends so, or a variable of that name."""

SEVERAL_NODES_VARIABLES = frozenset({"LWS_GROUP_SIZE", "LWS_LEADER_ADDRESS", "RAY_ADDRESS", "RAY_CLUSTER_SIZE"})
"""Environment that only a member of a group of pods has."""
