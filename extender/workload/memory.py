"""Memory per GPU that serving a model needs: weights, KV cache, state, activations and runtime. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from extender.workload.model import SCALES_SHARE, ModelError, ModelShape

CLASSES_GIB = (16, 24, 32, 40, 48, 80, 96, 141, 180, 192, 288)
"""Memory classes by the numbers in product names, decimal or binary as the vendor writes them."""

USABLE_CLASS_BYTES: dict[int, int] = {
    16: 15360 << 20,
    24: 23028 << 20,
    32: 32510 << 20,
    40: 40536 << 20,
    48: 46068 << 20,
    80: 81559 << 20,
    96: 95830 << 20,
    141: 143771 << 20,
    180: 183359 << 20,
    192: 196288 << 20,
    288: 294912 << 20,
}
"""Class -> bytes that nvidia-smi reports for the class's product with the least memory.

Products: T4, L4, V100 32GB, A100 40GB, L40S (ECC on), H100, H20, H200, B200. B300 and the 192 GB class: nominal less 0.2 %.
"""

RUNTIME_BYTES = int(1.25 * 2**30)
"""CUDA context, cuBLAS and attention workspaces, captured graphs. Source: 1 to 1.5 GiB in vLLM's log lines ("model weights take ...;
non_torch_memory ...; PyTorch activation peak ...")."""

NCCL_BYTES = int(0.5 * 2**30)
"""NCCL channels and custom all-reduce buffers of one tensor-parallel rank."""

PREFILL_TOKENS = 8192
"""Tokens in one forward pass: the default max_num_batched_tokens of vLLM and TensorRT-LLM."""

DEFAULT_UTILIZATION = 0.9
"""The default of vLLM's --gpu-memory-utilization."""


@dataclass(frozen=True, slots=True)
class Serving:
    """How a model is served."""

    context: int
    """Tokens of prompt and answer per sequence."""
    concurrency: int
    """Sequences at the same time, each of `context` tokens."""
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    weight_bytes: float | None = None
    """Bytes per weight; None: as published."""
    kv_bytes: float | None = None
    """Bytes per number of the KV cache; None: as the checkpoint states, else the model's dtype."""
    utilization: float = DEFAULT_UTILIZATION
    """Share of a GPU's memory that the engine may take."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes per GPU."""

    weights_bytes: int
    kv_cache_bytes: int
    state_bytes: int
    activations_bytes: int
    runtime_bytes: int

    @property
    def total_bytes(self) -> int:
        """The sum of all parts."""
        return self.weights_bytes + self.kv_cache_bytes + self.state_bytes + self.activations_bytes + self.runtime_bytes


def weights_bytes(model: ModelShape, bytes_per_weight: float | None = None) -> int:
    """Return the bytes of all weights of the model, over all GPUs.

    `bytes_per_weight`: another width than published. Embeddings and the output layer are not quantised: they keep the model's dtype.
    """
    if bytes_per_weight is None and model.published_bytes is not None:
        return model.published_bytes
    size = model.weight_bytes if bytes_per_weight is None else bytes_per_weight
    if size >= model.dtype_bytes:
        return int(model.parameters * size)
    unquantised = model.embedding_parameters
    return int((model.parameters - unquantised) * size * (1 + SCALES_SHARE.get(size, 0.0)) + unquantised * model.dtype_bytes)


def loaded_bytes(model: ModelShape, bytes_per_weight: float | None = None) -> int:
    """Return the bytes of the weights that an engine loads without speculative decoding."""
    total = weights_bytes(model, bytes_per_weight)
    if not model.published_bytes:
        return total
    return int(total * (1 - min(1.0, model.unloaded_bytes / model.published_bytes)))


def tensor_parallel_problems(model: ModelShape, tensor: int) -> tuple[str, ...]:
    """Return why engines cannot divide the model among `tensor` GPUs, as text, except for the query heads; () if they can."""
    problems = []
    if any(cache.heads for cache in model.kv_caches()) and model.kv_heads % tensor and tensor % model.kv_heads:
        problems.append(f"tensor parallelism {tensor} neither divides {model.kv_heads} key-value heads nor is a multiple of them")
    for width in model.widths:
        if width % (tensor * model.width_unit) and tensor > 1:
            unit = f" into multiples of {model.width_unit}, the block or group of its quantisation" if model.width_unit > 1 else ""
            problems.append(f"tensor parallelism {tensor} does not divide width {width}{unit}: expert parallelism does without")
    return tuple(problems)


def footprint(model: ModelShape, serving: Serving) -> Footprint:
    """Return the bytes per GPU; with unequal pipeline stages, those of the largest stage.

    Raises ModelError if the parallelism does not divide the model.
    """
    tensor, pipeline = serving.tensor_parallel, serving.pipeline_parallel
    if model.attention_heads % tensor:
        raise ModelError(f"tensor parallelism {tensor} does not divide {model.attention_heads} attention heads")
    if pipeline > model.layers:
        raise ModelError(f"pipeline parallelism {pipeline} is more than {model.layers} layers")
    stage = -(-model.layers // pipeline) / model.layers
    cache = model.kv_bytes(serving.context, serving.kv_bytes, tensor) * stage
    tokens = min(PREFILL_TOKENS, serving.context * serving.concurrency)
    wide = 4 * model.hidden_size + 2 * max(model.intermediate_size, model.hidden_size) / tensor
    logits = serving.concurrency * model.vocabulary * 4 / tensor
    return Footprint(
        weights_bytes=int(loaded_bytes(model, serving.weight_bytes) * stage / tensor),
        kv_cache_bytes=int(cache * serving.concurrency),
        state_bytes=int(model.state_bytes_per_sequence() * stage / tensor * serving.concurrency),
        activations_bytes=int(tokens * wide * model.dtype_bytes + logits),
        runtime_bytes=RUNTIME_BYTES + (NCCL_BYTES if tensor * pipeline > 1 else 0),
    )


def fitting_classes(need_bytes: int, utilization: float = DEFAULT_UTILIZATION) -> tuple[int, ...]:
    """Return the memory classes, in GB by product name, whose memory times `utilization` is at least `need_bytes`."""
    return tuple(size for size in CLASSES_GIB if USABLE_CLASS_BYTES[size] * utilization >= need_bytes)


def memory_class(reported_bytes: int) -> int:
    """Return the memory class, in GB, of a GPU that reports `reported_bytes`: the class nearest by ratio.

    The ratio is needed because some GPUs report memory that ECC uses and some do not: an L40S with ECC reports 46068 MiB (48), an H200
    143771 (141), an H100 81559 (80).
    """
    return min(CLASSES_GIB, key=lambda size: abs(USABLE_CLASS_BYTES[size] / reported_bytes - 1.0))
