"""A Prometheus server as the source: five instant queries for the whole cluster.

Labels nobody reads are aggregated away by the server. The age of a value is asked for too: an instant query repeats a sample for up to
five minutes after the exporter's last (Prometheus, "Staleness"), as if it were new.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import httpx
import msgspec

from extender.collectors.ipc import Assignment, ScrapeResult
from extender.collectors.scrape import ScrapeError
from extender.telemetry import dcgm, engines
from extender.telemetry.exposition import Sample
from extender.telemetry.readings import DeviceReading
from extender.telemetry.signals import BUSY, CLOCK_EVENTS, FB_TOTAL, HEADROOM, HOLDS, SIGNALS, XID_COUNT

SOURCE = "prometheus"
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
"""A metric per engine whose time says how old the engine's values are."""


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
    """Name -> PromQL; `selector` are further matchers, such as `cluster="a"`."""
    more = f", {selector}" if selector else ""
    within = f"{{{selector}}}" if selector else ""

    def named(metrics: Iterable[str], by: str) -> str:
        return f'max by (__name__, {by}) ({{__name__=~"{"|".join(metrics)}"{more}}})'

    def age(metric: str, by: str) -> str:
        return f"max by ({by}) (time() - timestamp({metric}{within}))"

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


async def ask(client: httpx.AsyncClient, said: Assignment) -> ScrapeResult:
    """One round: all devices and engines the server knows."""
    started = time.monotonic()

    def look(**more: object) -> ScrapeResult:
        return ScrapeResult(said.prometheus_url, SOURCE, "", "", started, time.monotonic() - started, **more)  # type: ignore[arg-type]

    try:
        headers = _authorization(said.bearer_token_file)
        asked = queries(said.selector)
        answers = await asyncio.gather(*(_query(client, said, text, headers) for text in asked.values()))
    except ScrapeError as error:
        return look(failed=str(error))
    found = dict(zip(asked, answers, strict=True))
    ages = {_place(sample.labels): sample.value for sample in found["ages"]}
    devices = tuple(_dated(reading, ages) for reading in dcgm.devices([*found["memory"], *found["load"], *found["health"]]))
    fresh = [s for s in found["engines"] if ages.get(_place(s.labels), 0.0) <= said.max_age_seconds]
    return look(devices=devices, engines=engines.engines(fresh))


def _place(labels: Mapping[str, str]) -> tuple[str, ...]:
    uuid = labels.get("UUID") or labels.get("uuid")
    if uuid:
        return uuid, labels.get("GPU_I_ID", "")
    return "", labels.get("namespace", ""), labels.get("pod", "")


def _dated(reading: DeviceReading, ages: Mapping[tuple[str, ...], float]) -> DeviceReading:
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


async def _query(client: httpx.AsyncClient, said: Assignment, text: str, headers: dict[str, str]) -> list[Sample]:
    """One instant query. Raises ScrapeError."""
    url = f"{said.prometheus_url.rstrip('/')}/api/v1/query"
    try:
        async with asyncio.timeout(said.timeout_seconds):
            response = await client.post(url, data={"query": text}, headers=headers)
            answer = _ANSWER.decode(response.content)
    except TimeoutError:
        raise ScrapeError(
            f"no whole answer within {said.timeout_seconds:g} s: check the server's load, or raise telemetry.timeout_seconds"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ScrapeError(
            f"answered {response.status_code} with no query result: telemetry.prometheus.url is what stands before /api/v1"
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
