"""Serving engines' samples -> what their KV cache and queues say. One series per rank: the fullest rank governs.

Metric names: vLLM `vllm:*` (`gpu_cache_usage_perc` until 0.10, `kv_cache_usage_perc` since), SGLang `sglang:*`, Text
Generation Inference `tgi_*`, Triton's TensorRT-LLM backend `nv_trt_llm_*` (its README, "Triton metrics"), TensorRT-LLM `trtllm_*`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from extender.telemetry.exposition import Labels, Sample
from extender.telemetry.readings import EngineReading
from extender.telemetry.signals import blank

KV, WAITING, RUNNING = "kv_cache_usage", "requests_waiting", "requests_running"


@dataclass(frozen=True, slots=True)
class EngineSignal:
    """One metric of one engine; `where` are labels it must have."""

    metric: str
    engine: str
    field: str
    where: tuple[tuple[str, str], ...] = ()
    rank: int = 0
    """Of several metrics of one field, the one of the highest rank counts: newer names over older."""
    summed_over: str | None = None
    """The label of engines that serve side by side: their requests add up. Ranks of one engine see the same ones."""


def _kinds(metric: str, engine: str, label: str, fields: dict[str, str]) -> tuple[EngineSignal, ...]:
    return tuple(EngineSignal(metric, engine, field, ((label, value),)) for value, field in fields.items())


_TRITON = "triton-tensorrt-llm"
_USED, _MOST = "kv_blocks_used", "kv_blocks_max"

ENGINE_SIGNALS: tuple[EngineSignal, ...] = (
    EngineSignal("vllm:kv_cache_usage_perc", "vllm", KV, rank=1),
    EngineSignal("vllm:gpu_cache_usage_perc", "vllm", KV),
    EngineSignal("vllm:num_requests_waiting", "vllm", WAITING, summed_over="engine"),
    EngineSignal("vllm:num_requests_running", "vllm", RUNNING, summed_over="engine"),
    EngineSignal("sglang:token_usage", "sglang", KV),
    EngineSignal("sglang:num_queue_reqs", "sglang", WAITING),
    EngineSignal("sglang:num_running_reqs", "sglang", RUNNING),
    EngineSignal("tgi_queue_size", "tgi", WAITING),
    EngineSignal("tgi_batch_current_size", "tgi", RUNNING),
    *_kinds("nv_trt_llm_kv_cache_block_metrics", _TRITON, "kv_cache_block_type", {"fraction": KV, "used": _USED, "max": _MOST}),
    *_kinds("nv_trt_llm_request_metrics", _TRITON, "request_type", {"waiting": WAITING, "active": RUNNING}),
    EngineSignal("trtllm_kv_cache_utilization", "tensorrt-llm", KV),
    EngineSignal("trtllm_num_requests_waiting", "tensorrt-llm", WAITING),
    EngineSignal("trtllm_num_requests_running", "tensorrt-llm", RUNNING),
)

_BY_METRIC: dict[str, list[EngineSignal]] = {}
for _signal in ENGINE_SIGNALS:
    _BY_METRIC.setdefault(_signal.metric, []).append(_signal)

_ROUNDED = 1.05

ENGINE_METRICS = tuple(_BY_METRIC)


def wanted(metric: str) -> bool:
    """Whether a metric is some engine's."""
    return metric in _BY_METRIC


def engines(samples: Iterable[Sample]) -> tuple[EngineReading, ...]:
    """A reading per engine, model and pod, in the order they appear."""
    found: dict[tuple[str, str | None, str | None], dict[str, dict[tuple[int, str], float]]] = {}
    for sample in samples:
        for signal in _BY_METRIC.get(sample.name, ()):
            if blank(sample.value) or sample.value < 0 or any(sample.labels.get(label) != value for label, value in signal.where):
                continue
            key = (signal.engine, _model(sample.labels), _pod(sample.labels))
            part = sample.labels.get(signal.summed_over, "") if signal.summed_over else ""
            values = found.setdefault(key, {}).setdefault(signal.field, {})
            values[signal.rank, part] = max(sample.value, values.get((signal.rank, part), 0.0))
    return tuple(_reading(*key, fields) for key, fields in found.items())


def _model(labels: Labels) -> str | None:
    return labels.get("model_name") or labels.get("model") or None


def _pod(labels: Labels) -> str | None:
    """As a Prometheus server's target labels have it; an engine itself names no pod."""
    return f"{labels['namespace']}/{labels['pod']}" if labels.get("pod") and labels.get("namespace") else None


def _reading(engine: str, model: str | None, pod: str | None, fields: dict[str, dict[tuple[int, str], float]]) -> EngineReading:
    values: dict[str, float] = {}
    for field, parts in fields.items():
        newest = max(rank for rank, _ in parts)
        values[field] = sum(value for (rank, _), value in parts.items() if rank == newest)
    used, most = values.pop(_USED, None), values.pop(_MOST, None)
    usage = values.get(KV)
    if usage is None and used is not None and most:
        usage = used / most
    if usage is not None and usage > 1:
        usage = 1.0 if usage < _ROUNDED else None  # a share, whatever it is above that
    return EngineReading(engine, model, usage, values.get(WAITING), values.get(RUNNING), pod)
