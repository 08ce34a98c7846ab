"""What a model needs, as plain data: what `fabricwise fit` prints."""

from __future__ import annotations

from typing import Any

from extender.workload.memory import Serving, fitting_classes, footprint, weights_bytes
from extender.workload.model import ModelShape


def fit(model: ModelShape, serving: Serving) -> dict[str, Any]:
    """Per-GPU need and the memory classes that are large enough. Raises ModelError."""
    found = footprint(model, serving)
    warnings = []
    if model.context is not None and serving.context > model.context:
        warnings.append(f"context {serving.context} is longer than the model's {model.context}")
    if model.latent_size is None and model.kv_heads % serving.tensor_parallel:
        warnings.append(f"{model.kv_heads} key-value heads over tensor parallelism {serving.tensor_parallel}: some are kept more than once")
    return {
        "model": model.name,
        "parameters": model.parameters,
        "active_parameters": model.active_parameters,
        "gpus": serving.tensor_parallel * serving.pipeline_parallel,
        "tensor_parallel": serving.tensor_parallel,
        "pipeline_parallel": serving.pipeline_parallel,
        "context": serving.context,
        "concurrency": serving.concurrency,
        "utilization": serving.utilization,
        "all_weights_bytes": weights_bytes(model, serving.weight_bytes),
        "kv_bytes_per_token": model.kv_bytes_per_token(serving.kv_bytes),
        "per_gpu": {
            "weights_bytes": found.weights_bytes,
            "kv_cache_bytes": found.kv_cache_bytes,
            "activations_bytes": found.activations_bytes,
            "runtime_bytes": found.runtime_bytes,
            "total_bytes": found.total_bytes,
            "memory_bytes": int(found.total_bytes / serving.utilization),
        },
        "memory_classes_gb": list(fitting_classes(found.total_bytes, serving.utilization)),
        "warnings": warnings,
    }
