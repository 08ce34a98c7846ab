"""A model's memory need as plain data, for `fabricwise fit`. Pure."""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import replace as replace_fields
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
"""Relative difference between the files' size and the computed size above which there is a warning."""


def described(shape: ModelShape) -> Recognised:
    """Return a model that was described by hand, in the form of a recognised one."""
    return Recognised(architecture="described", unknown=None, lower=shape, upper=shape, parts=(), quantization="as described")


def with_stated(model: Recognised, stated: Stated) -> Recognised:
    """Return the model with the size of weights that its files state instead of the computed size or bounds."""
    return replace_fields(model, lower=_with_total(model.lower, stated.total_bytes), upper=_with_total(model.upper, stated.total_bytes))


def _with_total(shape: ModelShape, total: int) -> ModelShape:
    """Return the shape with `total` bytes of weights. The total decides whether the files have the layers for multi-token prediction."""
    published, unloaded = weights_bytes(shape), shape.unloaded_bytes
    has_prediction = abs(total - published) <= abs(total - (published - unloaded))
    return replace(shape, published_bytes=total, unloaded_bytes=unloaded if has_prediction else 0)


def fit(recognised: Recognised, serving: Serving, stated: Stated | None = None) -> dict[str, Any]:
    """Return the need per GPU, the memory classes that are large enough, and the most that fits. Raises ModelError.

    For an unknown model, `per_gpu` and everything derived from it is the upper bound, and `bounds` has both bounds. `description` is the
    model as JSON for `fit --model` and the annotation `fabricwise.dev/model`.
    """
    computed, recognised = recognised, with_stated(recognised, stated) if stated else recognised
    model = recognised.upper
    need = footprint(model, serving)
    return {
        "model": model.name,
        "architecture": recognised.architecture,
        "unknown": recognised.unknown,
        "quantization": recognised.quantization,
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
        "weights_from": _source(computed, stated),
        "parts": [asdict(part) for part in recognised.parts],
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
        "bounds": _bounds(recognised, serving) if recognised.unknown else None,
        "memory_classes_gb": list(fitting_classes(need.total_bytes, serving.utilization)),
        "by_memory_class": [asdict(class_capacity) for class_capacity in capacities(model, serving)],
        "description": msgspec.to_builtins(model),
        "warnings": _warnings(computed, recognised, serving, stated),
    }


def _source(computed: Recognised, stated: Stated | None) -> str:
    """Return where the size of all weights comes from."""
    if stated is not None:
        return stated.source
    if computed.architecture == "described":
        return "the description"
    return "bounds from the sizes in config.json" if computed.unknown else "arithmetic from config.json"


def _bounds(recognised: Recognised, serving: Serving) -> dict[str, list[float]]:
    """Return name -> [lower bound, upper bound]."""
    shapes = (recognised.lower, recognised.upper)
    return {
        "weights_bytes": [weights_bytes(shape, serving.weight_bytes) for shape in shapes],
        "kv_bytes_per_token": [shape.kv_bytes_per_token(serving.kv_bytes) for shape in shapes],
        "memory_bytes": [int(footprint(shape, serving).total_bytes / serving.utilization) for shape in shapes],
    }


def _warnings(computed: Recognised, recognised: Recognised, serving: Serving, stated: Stated | None) -> list[str]:
    """Return the warnings. `computed` has the sizes before the files' sizes replaced them in `recognised`."""
    model, warnings = recognised.upper, list[str]()
    if recognised.unknown:
        exact = "the weights are exact, the rest has bounds" if stated else "all sizes are bounds, the upper ones are used"
        warnings.append(f"{recognised.unknown}: {exact}")
    elif stated is not None:
        computed_bytes = weights_bytes(computed.upper)
        nearest = min((computed_bytes, computed_bytes - computed.upper.unloaded_bytes), key=lambda size: abs(size - stated.total_bytes))
        if abs(nearest / stated.total_bytes - 1) > LARGE_DIFFERENCE:
            warnings.append(
                f"{stated.source}: {stated.total_bytes / 1e9:.1f} GB, but config.json gives {nearest / 1e9:.1f} GB: "
                "check that they belong to one model. The files' size is used"
            )
    if model.context is not None and serving.context > model.context:
        warnings.append(f"context {serving.context} is longer than the model's {model.context}")
    tensor = serving.tensor_parallel
    is_divided = model.kv_heads and any(cache.heads for cache in model.kv_caches())
    if is_divided and model.kv_heads % tensor:
        warnings.append(f"{model.kv_heads} key-value heads over tensor parallelism {tensor}: several ranks keep the same heads")
    return warnings + [text for text in tensor_parallel_problems(model, tensor) if "key-value" not in text]
