"""What a model needs, as plain data: what `fabricwise fit` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec
from msgspec.structs import replace

from extender.workload.architecture.sizes import Recognised
from extender.workload.capacity import capacities
from extender.workload.checkpoint.file_sizes import Stated
from extender.workload.memory import (
    Serving,
    fitting_classes,
    footprint,
    loaded_bytes,
    tensor_parallel_problems,
    weights_bytes,
)
from extender.workload.model import ModelShape

LARGE_DIFFERENCE = 0.02
"""Between what files state and what arithmetic finds: more than this is a warning."""


def described(shape: ModelShape) -> Recognised:
    """A model that is described by hand."""
    return Recognised("described", None, shape, shape, (), "as described")


def with_stated(found: Recognised, stated: Stated) -> Recognised:
    """The model with the weights that its files state instead of arithmetic's or bounds'."""
    return Recognised(
        found.architecture,
        found.unknown,
        _with_total(found.lower, stated.total_bytes),
        _with_total(found.upper, stated.total_bytes),
        found.parts,
        found.quantization,
    )


def _with_total(shape: ModelShape, total: int) -> ModelShape:
    """Files without the layers for multi-token prediction are nearer to the total without them."""
    published, unloaded = weights_bytes(shape), shape.unloaded_bytes
    has_them = abs(total - published) <= abs(total - (published - unloaded))
    return replace(shape, published_bytes=total, unloaded_bytes=unloaded if has_them else 0)


def fit(found: Recognised, serving: Serving, stated: Stated | None = None) -> dict[str, Any]:
    """Per-GPU need, memory classes that are large enough, and the most that fits. Raises ModelError.

    Of a model that is not known, `per_gpu` and what follows from it are the upper bound, and `bounds` has both. `description` is the same
    model as JSON for `fit --model` and the annotation `fabricwise.dev/model`.
    """
    counted, found = found, with_stated(found, stated) if stated else found
    model = found.upper
    need = footprint(model, serving)
    return {
        "model": model.name,
        "architecture": found.architecture,
        "unknown": found.unknown,
        "quantization": found.quantization,
        "parameters": model.parameters,
        "active_parameters": model.active_parameters,
        "gpus": serving.tensor_parallel * serving.pipeline_parallel,
        "tensor_parallel": serving.tensor_parallel,
        "pipeline_parallel": serving.pipeline_parallel,
        "context": serving.context,
        "concurrency": serving.concurrency,
        "utilization": serving.utilization,
        "all_weights_bytes": weights_bytes(model, serving.weight_bytes),
        "loaded_weights_bytes": loaded_bytes(model, serving.weight_bytes),
        "weights_from": _source(counted, stated),
        "parts": [asdict(part) for part in found.parts],
        "kv_bytes_per_token": model.kv_bytes_per_token(serving.kv_bytes),
        "kv_cache": [
            {"kind": cache.kind, "layers": cache.layers, "numbers_per_token_and_layer": cache.numbers, "window": cache.window}
            for cache in model.kv_caches()
        ],
        "kv_bytes_per_sequence": int(model.kv_bytes(serving.context, serving.kv_bytes)),
        "state_bytes_per_sequence": int(model.state_bytes_per_sequence()),
        "per_gpu": {
            "weights_bytes": need.weights_bytes,
            "kv_cache_bytes": need.kv_cache_bytes,
            "state_bytes": need.state_bytes,
            "activations_bytes": need.activations_bytes,
            "runtime_bytes": need.runtime_bytes,
            "total_bytes": need.total_bytes,
            "memory_bytes": int(need.total_bytes / serving.utilization),
        },
        "bounds": _bounds(found, serving) if found.unknown else None,
        "memory_classes_gb": list(fitting_classes(need.total_bytes, serving.utilization)),
        "by_memory_class": [asdict(one) for one in capacities(model, serving)],
        "description": msgspec.to_builtins(model),
        "warnings": _warnings(counted, found, serving, stated),
    }


def _source(counted: Recognised, stated: Stated | None) -> str:
    """Where the number of all weights comes from."""
    if stated is not None:
        return stated.source
    if counted.architecture == "described":
        return "the description"
    return "bounds from the sizes in config.json" if counted.unknown else "arithmetic from config.json"


def _bounds(found: Recognised, serving: Serving) -> dict[str, list[float]]:
    """Each a list of lower and upper bound."""
    both = (found.lower, found.upper)
    return {
        "weights_bytes": [weights_bytes(one, serving.weight_bytes) for one in both],
        "kv_bytes_per_token": [one.kv_bytes_per_token(serving.kv_bytes) for one in both],
        "memory_bytes": [int(footprint(one, serving).total_bytes / serving.utilization) for one in both],
    }


def _warnings(counted: Recognised, found: Recognised, serving: Serving, stated: Stated | None) -> list[str]:
    model, warnings = found.upper, list[str]()
    if found.unknown:
        exact = "the weights are exact, the rest has bounds" if stated else "all sizes are bounds, the upper ones are used"
        warnings.append(f"{found.unknown}: {exact}")
    elif stated is not None:
        arithmetic = weights_bytes(counted.upper)
        nearest = min((arithmetic, arithmetic - counted.upper.unloaded_bytes), key=lambda size: abs(size - stated.total_bytes))
        if abs(nearest / stated.total_bytes - 1) > LARGE_DIFFERENCE:
            warnings.append(
                f"{stated.source}: {stated.total_bytes / 1e9:.1f} GB, but config.json makes {nearest / 1e9:.1f} GB: "
                "do they belong to one model? The files' number is used"
            )
    if model.context is not None and serving.context > model.context:
        warnings.append(f"context {serving.context} is longer than the model's {model.context}")
    tensor = serving.tensor_parallel
    divided = model.kv_heads and any(cache.heads for cache in model.kv_caches())
    if divided and model.kv_heads % tensor:
        warnings.append(f"{model.kv_heads} key-value heads over tensor parallelism {tensor}: some are kept more than once")
    return warnings + [text for text in tensor_parallel_problems(model, tensor) if "key-value" not in text]
