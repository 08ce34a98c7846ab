"""Telemetry from a real Prometheus server that scrapes exporters: its labels, its lookback, its outages."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from extender.collectors.prometheus import queries
from extender.decision.state.changes import ClockTicked, Listed, TopologySeen
from extender.errors import SettingsError
from extender.kube.objects.decode import seen
from extender.server.service import build_service
from extender.settings import Prometheus, Settings, Telemetry
from tests.cluster.processes.control_plane import free_port
from tests.collectors.prometheus_server import prometheus
from tests.decision.verdicts.test_telemetry_decisions import machine, refusal
from tests.exporters import Values, dcgm_text, exporter, used
from tests.objects import node, pod
from tests.waiting import wait
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord


def test_five_queries_have_the_selector() -> None:
    found = queries('cluster="a"')
    assert len(found) == 5
    assert all('cluster="a"' in text for text in found.values())


def test_source_prometheus_without_an_address_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"set telemetry\.prometheus\.url"):
        build_service(Settings(telemetry=Telemetry(source="prometheus")))


def test_readings_of_a_real_prometheus_decide_and_become_unknown_in_an_outage(tmp_path: Path) -> None:
    values: dict[str, dict[str, Values]] = {name: {f"GPU-{name}-{n}": {} for n in range(8)} for name in ("a", "b")}
    engine = 'vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.95\nvllm:num_requests_running{engine="0",model_name="m"} 4\n'
    with ExitStack() as stack:
        targets = {n: stack.enter_context(exporter(lambda n=n: dcgm_text(values[n]))) for n in values}  # type: ignore[misc]
        vllm = stack.enter_context(exporter(lambda: engine))
        jobs = [
            {"job_name": "dcgm", "static_configs": [{"targets": [f"127.0.0.1:{t.port}" for t in targets.values()]}]},
            {
                "job_name": "vllm",
                "static_configs": [{"targets": [f"127.0.0.1:{vllm.port}"], "labels": {"namespace": "team", "pod": "vllm"}}],
            },
        ]
        port = free_port()
        outage = ExitStack()
        url = outage.enter_context(prometheus(tmp_path, jobs, port))
        stack.push(outage)
        said = Telemetry(
            source="prometheus",
            interval_seconds=0.5,
            timeout_seconds=2.0,
            max_age_seconds=3.0,
            half_life_seconds=1.0,
            prometheus=Prometheus(url=url),
        )
        service = build_service(Settings(telemetry=said))
        store = service.store
        held = DeviceStatus(allocated=(Allocation(0, "uid-vllm", "team", "vllm"),))
        records = (TopologyRecord("a", machine("hgx-h100", "a"), held), TopologyRecord("b", machine("hgx-h100", "b")))
        store.apply((Listed("nodes", tuple(seen("Node", node(name, 8)) for name in values)),))
        store.apply((Listed("pods", (seen("Pod", pod(1, name="vllm", node="a")),)),))
        store.apply((Listed("topologies", tuple(TopologySeen(r.node, r) for r in records)),))
        feed = service.telemetry
        assert feed is not None
        feed.start()
        stack.callback(feed.stop)

        def device_loads(name: str) -> list[object]:
            store.apply((ClockTicked(time.time(), time.monotonic()),))
            return list(store.snapshot.views[name].state.device_telemetry.device_loads)

        wait("both nodes known", lambda: all(device_loads(n) and all(device_loads(n)) for n in values), 30)
        first = store.snapshot.telemetry["a"].devices["GPU-a-0", None]
        assert first.reading.fb_free_bytes == 80000 << 20
        assert first.reading.age_seconds is not None
        assert first.reading.age_seconds < 3
        wait("the engine known", lambda: "uid-vllm" in store.snapshot.telemetry["a"].engines, 30)

        values["b"]["GPU-b-3"] = used(60_000)
        wait("avoided", lambda: refusal(store.snapshot, "b", pod(1)) == "GPU memory is in use by processes unknown to Kubernetes", 30)
        values["b"]["GPU-b-3"] = {}
        wait("used again", lambda: refusal(store.snapshot, "b", pod(1)) is None, 30)
        values["b"]["GPU-b-3"] = {"DCGM_FI_DEV_XID_ERRORS": 79}
        wait("fenced", lambda: refusal(store.snapshot, "b", pod(1)) == "GPU reports a fatal XID error", 30)

        targets["a"].mode = "hang"
        wait(
            "a target that hangs is unknown, lookback or not",
            lambda: not any(one is not None and getattr(one, "free_bytes", None) is not None for one in device_loads("a")),
            30,
        )
        assert refusal(store.snapshot, "a", pod(1)) is None
        targets["a"].mode = "ok"
        wait("known again", lambda: all(device_loads("a")), 30)

        outage.close()
        wait("the outage told", lambda: any((look["failed"] or "").startswith("cannot be reached") for look in feed.status()["looks"]), 30)
        wait("all unknown", lambda: all(getattr(one, "free_bytes", None) is None for one in device_loads("a")), 30)
        assert refusal(store.snapshot, "a", pod(4)) is None
        assert refusal(store.snapshot, "b", pod(1)) == "GPU reports a fatal XID error", "silence lifts no fence"
        stack.enter_context(prometheus(tmp_path, jobs, port))
        wait("known after it is back", lambda: all(device_loads("a")), 40)
