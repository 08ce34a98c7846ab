"""Serving engines' samples -> KV cache usage and queue lengths. An engine has one series per rank; the largest value counts.

Metric names and their sources: vLLM `vllm:*` (`gpu_cache_usage_perc` until 0.10, `kv_cache_usage_perc` since; behind Ray Serve
`ray_vllm:*`, in newer versions `ray_vllm_*`), SGLang `sglang:*` (docs, "Production metrics"), TensorRT-LLM `trtllm_*`
(`tensorrt_llm/metrics/collector.py`), Triton `nv_inference_*` (docs, "Metrics") and its TensorRT-LLM backend `nv_trt_llm_*` (its
README, "Triton metrics"), NVIDIA NIM for LLMs, which leaves out vLLM's prefix (docs, "Observability"), Dynamo `dynamo_*` (docs,
"Dynamo metrics"), llama.cpp `llamacpp:*` (server README; `kv_cache_usage_ratio` in older versions), Text Generation Inference `tgi_*`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from extender.telemetry.exposition import Labels, Sample
from extender.telemetry.readings import EngineReading
from extender.telemetry.signals import blank

KV, WAITING, RUNNING = "kv_cache_usage", "requests_waiting", "requests_running"
_USED, _MOST = "kv_blocks_used", "kv_blocks_max"
_IN_FLIGHT = "requests_in_flight"
"""Waiting and running together."""
_PRESENT = "present"
"""Shows that the engine serves a model, without its load."""

SUPPORTED_ENGINES: Mapping[str, str] = MappingProxyType(
    {
        "vllm": "vLLM",
        "sglang": "SGLang",
        "tensorrt-llm": "TensorRT-LLM",
        "triton": "Triton",
        "triton-tensorrt-llm": "Triton with TensorRT-LLM",
        "nim": "NVIDIA NIM",
        "dynamo": "NVIDIA Dynamo",
        "llama.cpp": "llama.cpp",
        "tgi": "Text Generation Inference",
    }
)
"""`EngineReading.engine` -> the engine's own name."""


@dataclass(frozen=True, slots=True)
class EngineSignal:
    """One metric of one engine."""

    metric: str
    engine: str
    field: str
    where: tuple[tuple[str, str], ...] = ()
    """Labels that the sample must have, with their values."""
    rank: int = 0
    """Of several metrics of one field, the one of the highest rank counts: newer names over older."""
    summed_over: tuple[str, ...] = ()
    """Labels that distinguish engines that serve in parallel: their requests are added. Ranks of one engine have the same requests."""


def _kinds(metric: str, engine: str, label: str, fields: dict[str, str]) -> tuple[EngineSignal, ...]:
    return tuple(EngineSignal(metric, engine, field, ((label, value),)) for value, field in fields.items())


_TRITON = "triton-tensorrt-llm"
_VLLM_ENGINES = ("engine", "WorkerId")
"""vLLM's data-parallel engines; Ray adds its process. Ray's `ReplicaId` does not count: a process shows its engine with and without."""
_GENERATE = (("dynamo_endpoint", "generate"),)
"""The endpoint that serves requests; the others load adapters and clear caches."""

ENGINE_SIGNALS: tuple[EngineSignal, ...] = (
    EngineSignal("vllm:kv_cache_usage_perc", "vllm", KV, rank=1),
    EngineSignal("vllm:gpu_cache_usage_perc", "vllm", KV),
    EngineSignal("vllm:num_requests_waiting", "vllm", WAITING, summed_over=_VLLM_ENGINES),
    EngineSignal("vllm:num_requests_running", "vllm", RUNNING, summed_over=_VLLM_ENGINES),
    EngineSignal("sglang:token_usage", "sglang", KV),
    EngineSignal("sglang:num_queue_reqs", "sglang", WAITING, summed_over=("dp_rank",)),
    EngineSignal("sglang:num_running_reqs", "sglang", RUNNING, summed_over=("dp_rank",)),
    EngineSignal("trtllm_kv_cache_utilization", "tensorrt-llm", KV),
    EngineSignal("trtllm_num_requests_waiting", "tensorrt-llm", WAITING),
    EngineSignal("trtllm_num_requests_running", "tensorrt-llm", RUNNING),
    EngineSignal("trtllm_request_success_total", "tensorrt-llm", _PRESENT),
    EngineSignal("nv_inference_pending_request_count", "triton", WAITING, summed_over=("version",)),
    EngineSignal("nv_inference_request_success", "triton", _PRESENT),
    *_kinds("nv_trt_llm_kv_cache_block_metrics", _TRITON, "kv_cache_block_type", {"fraction": KV, "used": _USED, "max": _MOST}),
    *_kinds("nv_trt_llm_request_metrics", _TRITON, "request_type", {"waiting": WAITING, "active": RUNNING}),
    EngineSignal("gpu_cache_usage_perc", "nim", KV),
    EngineSignal("num_requests_waiting", "nim", WAITING),
    EngineSignal("num_requests_running", "nim", RUNNING),
    EngineSignal("dynamo_component_gpu_cache_usage_percent", "dynamo", KV, rank=1),
    EngineSignal("dynamo_component_kvstats_gpu_cache_usage_percent", "dynamo", KV),
    EngineSignal("dynamo_component_inflight_requests", "dynamo", _IN_FLIGHT, _GENERATE),
    EngineSignal("dynamo_frontend_inflight_requests", "dynamo", _IN_FLIGHT, rank=1),
    EngineSignal("dynamo_frontend_queued_requests", "dynamo", WAITING),
    EngineSignal("llamacpp:kv_cache_usage_ratio", "llama.cpp", KV),
    EngineSignal("llamacpp:requests_deferred", "llama.cpp", WAITING),
    EngineSignal("llamacpp:requests_processing", "llama.cpp", RUNNING),
    EngineSignal("tgi_queue_size", "tgi", WAITING),
    EngineSignal("tgi_batch_current_size", "tgi", RUNNING),
)

_NEEDS = {"nim": KV}
"""Engine whose metric names do not identify it -> the field that it must have."""


def _spellings(metric: str) -> tuple[str, ...]:
    """The metric's name, the name after OpenTelemetry replaced its colon, and the names behind Ray Serve."""
    plain = (metric, metric.replace(":", "_", 1)) if ":" in metric else (metric,)
    return plain + tuple(f"ray_{name}" for name in plain) if metric.startswith("vllm:") else plain


_BY_METRIC: dict[str, list[EngineSignal]] = {}
for _signal in ENGINE_SIGNALS:
    for _name in _spellings(_signal.metric):
        _BY_METRIC.setdefault(_name, []).append(_signal)

_ROUNDED = 1.05
"""A share up to this value is 1 with a rounding error."""

ENGINE_METRICS = tuple(_BY_METRIC)
"""Every name that is read, in all spellings."""

ENGINE_LABELS = tuple(sorted({label for signal in ENGINE_SIGNALS for label in (*dict(signal.where), *signal.summed_over)}))
"""Labels that distinguish what a metric counts."""

_Key = tuple[str, str | None, str | None]
"""(engine, model, pod)."""
_Values = dict[tuple[int, tuple[str, ...]], float]
"""(rank of the metric, values of the labels that are summed over) -> largest value."""


def wanted(metric: str) -> bool:
    """Whether a metric belongs to an engine."""
    return metric in _BY_METRIC


def engine_of(family: str) -> str | None:
    """Return the engine whose prefix a metric family has, whether the family is read or not; a key of `SUPPORTED_ENGINES`."""
    for signal in ENGINE_SIGNALS:
        prefix = re.match(r"[a-z]+:|nv_trt_llm_|nv_inference_|[a-z]+_(?=.*_)", signal.metric)
        if signal.engine not in _NEEDS and prefix is not None and family.startswith(_spellings(prefix[0])):
            return signal.engine
    return None


def engines(samples: Iterable[Sample]) -> tuple[EngineReading, ...]:
    """Return one reading per engine, model and pod, in the order of their first samples."""
    fields_by_key: dict[_Key, dict[str, _Values]] = {}
    for sample in samples:
        for signal in _BY_METRIC.get(sample.name, ()):
            if blank(sample.value) or sample.value < 0 or any(sample.labels.get(label) != value for label, value in signal.where):
                continue
            key = (signal.engine, _model(sample.labels), _pod(sample.labels))
            part = tuple(sample.labels.get(label, "") for label in signal.summed_over)
            values = fields_by_key.setdefault(key, {}).setdefault(signal.field, {})
            values[signal.rank, part] = max(sample.value, values.get((signal.rank, part), 0.0))
    return _without_repeats([_reading(key, fields) for key, fields in _with_models(fields_by_key).items() if _is_sure(key, fields)])


def _model(labels: Labels) -> str | None:
    return labels.get("model_name") or labels.get("model") or None


def _pod(labels: Labels) -> str | None:
    """The pod in the target labels of a Prometheus server; an engine itself exports no pod."""
    return f"{labels['namespace']}/{labels['pod']}" if labels.get("pod") and labels.get("namespace") else None


def _with_models(fields_by_key: dict[_Key, dict[str, _Values]]) -> dict[_Key, dict[str, _Values]]:
    """The fields by key, where series without a model are merged into the engine's model if it has exactly one.

    A worker of Dynamo 0.8 names the model on a worker's requests and not on its KV cache.
    """
    models: dict[tuple[str, str | None], list[_Key]] = {}
    for key in fields_by_key:
        if key[1] is not None:
            models.setdefault((key[0], key[2]), []).append(key)
    merged: dict[_Key, dict[str, _Values]] = {}
    for key, fields in fields_by_key.items():
        owners = models.get((key[0], key[2]), [])
        owner = owners[0] if key[1] is None and len(owners) == 1 else key
        known = merged.setdefault(owner, {})
        for field, values in fields.items():
            known[field] = {**values, **known.get(field, {})}
    return merged


def _is_sure(key: _Key, fields: dict[str, _Values]) -> bool:
    needed = _NEEDS.get(key[0])
    return needed is None or (needed in fields and len(fields) > 1)


def _without_repeats(readings: list[EngineReading]) -> tuple[EngineReading, ...]:
    """The readings without those that add nothing to another of the same pod: readings without any value, and Triton's requests for a
    model whose backend (TensorRT-LLM, vLLM) counts them itself.
    """
    pods_with_values = {reading.pod for reading in readings if _has_values(reading)}
    backends = {(reading.pod, reading.model) for reading in readings if reading.engine != "triton" and _has_values(reading)}
    return tuple(
        reading
        for reading in readings
        if (_has_values(reading) or reading.pod not in pods_with_values)
        and (reading.engine != "triton" or (reading.pod, reading.model) not in backends)
    )


def _has_values(reading: EngineReading) -> bool:
    return any(getattr(reading, field) is not None for field in (KV, WAITING, RUNNING))


def _reading(key: _Key, fields: dict[str, _Values]) -> EngineReading:
    engine, model, pod = key
    values: dict[str, float] = {}
    for field, parts in fields.items():
        newest = max(rank for rank, _ in parts)
        values[field] = sum(value for (rank, _), value in parts.items() if rank == newest)
    used, most = values.pop(_USED, None), values.pop(_MOST, None)
    usage = values.get(KV)
    if usage is None and used is not None and most:
        usage = used / most
    if usage is not None and usage > 1:
        usage = 1.0 if usage < _ROUNDED else None  # no share
    waiting, running, in_flight = values.get(WAITING), values.get(RUNNING), values.get(_IN_FLIGHT)
    if running is None and in_flight is not None:
        running = max(0.0, in_flight - (waiting or 0.0))
    return EngineReading(engine, model, usage, waiting, running, pod)
