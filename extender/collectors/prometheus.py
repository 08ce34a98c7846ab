"""A Prometheus server as the source of telemetry: five instant queries for the whole cluster.

The queries aggregate away unused labels. One of them reads the age of the values, because an instant query repeats a sample for up to
five minutes after the last scrape of the exporter (Prometheus documentation, "Staleness").
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import httpx
import msgspec

from extender.collectors.ipc import PROMETHEUS, Assignment, ScrapeResult
from extender.collectors.scrape import ScrapeError
from extender.telemetry import dcgm, engines
from extender.telemetry.exposition import Sample
from extender.telemetry.readings import DeviceReading
from extender.telemetry.signals import BUSY, CLOCK_EVENTS, FB_TOTAL, HEADROOM, HOLDS, SIGNALS, XID_COUNT

_DEVICE = "UUID, uuid, GPU_I_ID, GPU_I_PROFILE, gpu, modelName, instance, node"
_WORKLOAD = "exported_pod, exported_namespace, xid, clock_event"
_ENGINE = ", ".join(("namespace", "pod", "model_name", "model", *engines.ENGINE_LABELS))
_DEVICE_CLOCKS = ("DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_XID_ERRORS")
_ENGINE_CLOCKS = (
    "vllm:num_requests_running",
    "ray_vllm_num_requests_running",
    "sglang:num_running_reqs",
    "tgi_queue_size",
    "nv_trt_llm_request_metrics",
    "nv_inference_request_success",
    "trtllm_kv_cache_utilization",
    "num_requests_running",
    "dynamo_component_inflight_requests",
    "llamacpp:requests_processing",
)
"""A metric per engine; its timestamp determines the age of all values of the engine."""


class _Series(msgspec.Struct):
    metric: dict[str, str]
    value: tuple[float, str]


class _Data(msgspec.Struct, rename="camel"):
    result_type: str = ""
    result: list[_Series] = []


class _Answer(msgspec.Struct, rename="camel"):
    status: str = ""
    data: _Data = msgspec.field(default_factory=_Data)
    error: str = ""


_ANSWER = msgspec.json.Decoder(_Answer)


def queries(selector: str) -> dict[str, str]:
    """Return name -> PromQL; `selector` has additional label matchers, such as `cluster="a"`."""
    and_selector = f", {selector}" if selector else ""
    only_selector = f"{{{selector}}}" if selector else ""

    def named(metrics: Iterable[str], by: str) -> str:
        return f'max by (__name__, {by}) ({{__name__=~"{"|".join(metrics)}"{and_selector}}})'

    def age(metric: str, by: str) -> str:
        return f"max by ({by}) (time() - timestamp({metric}{only_selector}))"

    device = f"{_DEVICE}, {_WORKLOAD}"
    ages = [age(metric, "UUID, uuid, GPU_I_ID") for metric in _DEVICE_CLOCKS] + [age(metric, "namespace, pod") for metric in _ENGINE_CLOCKS]
    load = (BUSY, HEADROOM)
    return {
        "memory": named([*(s.metric for s in SIGNALS if s.question == HOLDS), FB_TOTAL], device),
        "load": named([s.metric for s in SIGNALS if s.question in load], device),
        "health": named([*(s.metric for s in SIGNALS if s.question not in (*load, HOLDS)), XID_COUNT, CLOCK_EVENTS], device),
        "engines": named(engines.ENGINE_METRICS, _ENGINE),
        "ages": " or ".join(ages),
    }


async def ask(client: httpx.AsyncClient, options: Assignment) -> ScrapeResult:
    """Run all queries once. Returns the readings of all devices and engines that the server knows, or why there are none."""
    started = time.monotonic()

    def result(**fields: object) -> ScrapeResult:
        took_seconds = time.monotonic() - started
        return ScrapeResult(options.prometheus_url, PROMETHEUS, "", "", started, took_seconds, **fields)  # type: ignore[arg-type]

    try:
        headers = _authorization(options.bearer_token_file)
        query_texts = queries(options.selector)
        answers = await asyncio.gather(*(_query(client, options, text, headers) for text in query_texts.values()))
    except ScrapeError as error:
        return result(failed=str(error))
    samples = dict(zip(query_texts, answers, strict=True))
    ages = {_owner(sample.labels): sample.value for sample in samples["ages"]}
    devices = tuple(_with_age(reading, ages) for reading in dcgm.devices([*samples["memory"], *samples["load"], *samples["health"]]))
    fresh = [sample for sample in samples["engines"] if ages.get(_owner(sample.labels), 0.0) <= options.max_age_seconds]
    return result(devices=devices, engines=engines.engines(fresh))


def _owner(labels: Mapping[str, str]) -> tuple[str, ...]:
    """Return what a series is about: (UUID, MIG instance) of a device, or ("", namespace, pod) of an engine."""
    uuid = labels.get("UUID") or labels.get("uuid")
    if uuid:
        return uuid, labels.get("GPU_I_ID", "")
    return "", labels.get("namespace", ""), labels.get("pod", "")


def _with_age(reading: DeviceReading, ages: Mapping[tuple[str, ...], float]) -> DeviceReading:
    instance = "" if reading.mig_instance is None else str(reading.mig_instance)
    age = ages.get((reading.uuid, instance))
    return msgspec.structs.replace(reading, age_seconds=None if age is None else max(0.0, age), pods=())


def _authorization(path: str) -> dict[str, str]:
    if not path:
        return {}
    try:
        return {"Authorization": f"Bearer {Path(path).read_text().strip()}"}
    except OSError as error:
        raise ScrapeError(
            f"bearer_token_file {path}: {error.strerror or 'cannot be read'}: check the path and the mounted Secret"
        ) from None


async def _query(client: httpx.AsyncClient, options: Assignment, text: str, headers: dict[str, str]) -> list[Sample]:
    """Return the samples of one instant query. Raises ScrapeError."""
    url = f"{options.prometheus_url.rstrip('/')}/api/v1/query"
    try:
        async with asyncio.timeout(options.timeout_seconds):
            response = await client.post(url, data={"query": text}, headers=headers)
            answer = _ANSWER.decode(response.content)
    except TimeoutError:
        raise ScrapeError(
            f"no whole answer within {options.timeout_seconds:g} s: check the server's load, or raise telemetry.timeout_seconds"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ScrapeError(
            f"answered {response.status_code} without a query result: telemetry.prometheus.url must be the part of the URL before /api/v1"
        ) from None
    except httpx.ConnectError:
        raise ScrapeError("cannot be reached: check telemetry.prometheus.url, and that a NetworkPolicy allows it") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise ScrapeError(f"no answer: {type(error).__name__}") from None
    if answer.status != "success":
        raise ScrapeError(f"answered {response.status_code}: {answer.error[:200]}: check telemetry.prometheus.selector and the token")
    return [Sample(series.metric.pop("__name__", ""), series.metric, _value(series.value[1])) for series in answer.data.result]


def _value(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
