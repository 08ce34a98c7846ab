"""Expositions -> readings: real captures, both label styles, instances, sharing, blanks, every engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from extender.telemetry import dcgm, engines
from extender.telemetry.engines import ENGINE_LABELS, ENGINE_SIGNALS, SUPPORTED_ENGINES
from extender.telemetry.exposition import Sample, parse
from extender.telemetry.readings import DeviceReading, EngineReading
from extender.telemetry.signals import SIGNALS, blank
from extender.telemetry.telemetry_serializers import not_understood, read
from extender.telemetry.xids import APPLICATION, FATAL, Severity, severity
from tests.checkout import ROOT
from tests.exporters import Values, dcgm_text
from tests.telemetry.expositions import ENGINE_EXPOSITIONS

MIB = 1 << 20


def devices(text: str) -> tuple[DeviceReading, ...]:
    return dcgm.devices(parse(text, dcgm.wanted).samples)


def served(text: str) -> tuple[EngineReading, ...]:
    return engines.engines(parse(text, engines.wanted).samples)


def test_real_mig_instances_are_told_apart_by_instance_id(shared_data: Path) -> None:
    found = read((shared_data / "metrics/dcgm-a100-mig-mixed-2x1g-1x2g.txt").read_text())["devices"]
    assert [(d["mig_instance"], d["mig_profile"], d["fb_used_bytes"] // MIB, d["fb_free_bytes"] // MIB) for d in found] == [
        (5, "2g.10gb", 153, 9702), (7, "1g.5gb", 98, 4766), (9, "1g.5gb", 4384, 480),
    ]  # fmt: skip
    assert len({d["uuid"] for d in found}) == 1
    assert found[2]["engine_active"] == pytest.approx(0.999917)
    assert all(d["utilization"] is None and "utilization" in d["unknown"] for d in found)


def test_real_whole_gpus_of_two_label_styles(shared_data: Path) -> None:
    first, second = read((shared_data / "metrics/dcgm-one-workload.txt").read_text())["devices"]
    assert (first["fb_used_bytes"], first["fb_free_bytes"], first["temperature_celsius"]) == (128 * MIB, 14831 * MIB, 55)
    assert first["pods"] == ["runai-reservation/runai-reservation-gpu-qa-mig-worker-gpu-1-kvltw"]
    assert second["pods"] == []
    assert second["pcie_rx_bytes_per_second"] == 10888, "the capture ends without a newline"
    assert (first["xid"], first["healthy"]) == (0, True)
    newer = read((shared_data / "metrics/dcgm-t4-driver590-excerpt.txt").read_text())["devices"][0]
    assert newer["pci_bus_id"] == "00000000:37:00.0"
    assert newer["fb_reserved_bytes"] == 447 * MIB
    assert newer["fb_total_bytes"] == (9791 + 5120 + 447) * MIB
    assert newer["healthy"] is None, "nothing in it speaks of errors"
    assert {"xid", "utilization", "temperature_celsius"} <= set(newer["unknown"])


def test_real_engines(shared_data: Path) -> None:
    def of(name: str) -> list[tuple[object, ...]]:
        found = read((shared_data / "metrics" / name).read_text())["engines"]
        return [(e["engine"], e["model"], e["kv_cache_usage"], e["requests_waiting"], e["requests_running"]) for e in found]

    assert of("vllm-samples.txt") == [
        ("vllm", "m", 0.4, None, None), ("vllm", "qwen3.8-27b", 0.25, 2, 3), ("vllm", None, 0.445, 581, 256),
        ("vllm", "mistral-7b", 0.5, 1, 2),
    ]  # fmt: skip
    assert of("sglang-samples.txt") == [("sglang", "glm-5.3", 0.42, 11, 2), ("sglang", "meta-llama/Llama-3.1-8B-Instruct", 0.284, 0, 3)]
    assert of("triton-tensorrtllm.txt") == [("triton-tensorrt-llm", "tensorrt_llm", 0.4875, 1, 0)]


ENGINES = {
    "the newer name wins": ("vllm:gpu_cache_usage_perc 0.7\nvllm:kv_cache_usage_perc 0.1\n", EngineReading("vllm", None, 0.1)),
    "engines side by side add up, the fuller cache counts": (
        'vllm:num_requests_waiting{engine="0"} 2\nvllm:num_requests_waiting{engine="1"} 3\n'
        'vllm:kv_cache_usage_perc{engine="0"} 0.2\nvllm:kv_cache_usage_perc{engine="1"} 0.9\n',
        EngineReading("vllm", None, 0.9, 5),
    ),
    "ranks see the same queue": (
        'sglang:num_queue_reqs{tp_rank="0"} 3\nsglang:num_queue_reqs{tp_rank="1"} 11\n', EngineReading("sglang", None, None, 11)
    ),
    "tgi": ("tgi_queue_size 4\ntgi_batch_current_size 2\n", EngineReading("tgi", None, None, 4, 2)),
    "triton without a fraction": (
        'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used"} 30\n'
        'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max"} 40\n',
        EngineReading("triton-tensorrt-llm", None, 0.75),
    ),
    "tensorrt-llm": ("trtllm_kv_cache_utilization 0.3\n", EngineReading("tensorrt-llm", None, 0.3)),
    "a share above one is none": ("vllm:kv_cache_usage_perc 40\n", EngineReading("vllm")),
}  # fmt: skip


@pytest.mark.parametrize("case", ENGINES)
def test_engines(case: str) -> None:
    text, reading = ENGINES[case]
    assert served(text) == (reading,)


@pytest.mark.parametrize("case", ENGINE_EXPOSITIONS)
def test_an_engine_is_read_from_what_it_writes(case: str) -> None:
    exposition = ENGINE_EXPOSITIONS[case]
    assert served(exposition.text) == exposition.readings


FAMILIES = {
    "vllm:x": "vllm", "ray_vllm_x": "vllm", "sglang:x": "sglang", "trtllm_x": "tensorrt-llm", "nv_inference_count": "triton",
    "nv_trt_llm_x": "triton-tensorrt-llm", "dynamo_router_x": "dynamo", "llamacpp:x": "llama.cpp", "tgi_request_count": "tgi",
    "gpu_cache_hits": None, "num_requests_x": None, "nv_gpu_utilization": None, "node_load1": None, "process_x": None,
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_a_metric_family_names_its_engine_by_its_prefix(family: str) -> None:
    assert engines.engine_of(family) == FAMILIES[family]


def test_every_supported_engine_has_an_exposition_and_a_signal() -> None:
    shown = {reading.engine for exposition in ENGINE_EXPOSITIONS.values() for reading in exposition.readings}
    assert shown == set(SUPPORTED_ENGINES) == {signal.engine for signal in ENGINE_SIGNALS}


@pytest.mark.parametrize("case", ENGINE_EXPOSITIONS)
def test_what_a_prometheus_server_keeps_of_an_engine_is_read_as_the_engine_itself(case: str) -> None:
    """A query aggregates away every label but those that are asked for."""
    kept = ("model_name", "model", *ENGINE_LABELS)
    samples = [sample for sample in parse(ENGINE_EXPOSITIONS[case].text, engines.wanted).samples if sample.value == sample.value]
    largest: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for sample in samples:
        key = (sample.name, tuple((label, sample.labels[label]) for label in kept if label in sample.labels))
        largest[key] = max(sample.value, largest.get(key, sample.value))
    assert engines.engines([Sample(name, dict(labels), value) for (name, labels), value in largest.items()]) == (
        ENGINE_EXPOSITIONS[case].readings
    )


NOT_UNDERSTOOD = {
    "another exporter": ("node_load1 0.5\nnode_memory_MemFree_bytes 1e9\n", "the metric families node_load1, node_memory_MemFree_bytes"),
    "names of NIM that may be anything's": ('num_requests_waiting{model="x"} 8\n', "num_requests_waiting alone names no device"),
    "an engine's other metrics": ("vllm:request_success_total 7\n", "of vLLM, what is read is vllm:kv_cache_usage_perc, vllm:gpu_cache"),
    "an engine's other metrics behind Ray": ("ray_vllm_prompt_tokens_total 7\n", "of vLLM, what is read is vllm:kv_cache_usage_perc"),
    "dcgm-exporter 1": ('dcgm_gpu_temp{gpu="0",uuid="GPU-a"} 34\n', "the metric families dcgm_gpu_temp"),
    "a GPU without a UUID": ('DCGM_FI_DEV_FB_USED{gpu="0"} 34\n', "DCGM_FI_DEV_FB_USED alone names no device"),
    "a web page": ("<html>404</html>", "no Prometheus exposition"),
    "nothing": ("", "no Prometheus exposition"),
}


@pytest.mark.parametrize("case", NOT_UNDERSTOOD)
def test_what_is_not_understood_is_named_with_what_is_supported_and_a_remedy(case: str) -> None:
    text, words = NOT_UNDERSTOOD[case]
    assert not read(text)["devices"]
    assert not read(text)["engines"]
    said = not_understood(text)
    assert words in said
    assert all(name in said for name in SUPPORTED_ENGINES.values())
    assert "http://HOST:PORT/metrics" in said


def test_what_is_not_understood_is_told_in_a_bounded_sentence() -> None:
    assert len(not_understood("".join(f"{'x' * 5000}_{number} 1\n" for number in range(5000)))) < 1500


TOTALS: dict[str, tuple[Values, int | None]] = {
    "used and total": ({"DCGM_FI_DEV_FB_USED": 1000, "DCGM_FI_DEV_FB_TOTAL": 16000}, 15000),
    "what is reserved is not free": ({"DCGM_FI_DEV_FB_USED": 1000, "DCGM_FI_DEV_FB_TOTAL": 16000, "DCGM_FI_DEV_FB_RESERVED": 400}, 14600),
    "the exporter's own word wins": ({"DCGM_FI_DEV_FB_USED": 1000, "DCGM_FI_DEV_FB_TOTAL": 16000, "DCGM_FI_DEV_FB_FREE": 7}, 7),
    "more in use than there is": ({"DCGM_FI_DEV_FB_USED": 20000, "DCGM_FI_DEV_FB_TOTAL": 16000}, None),
    "a total that is blank": ({"DCGM_FI_DEV_FB_USED": 1000, "DCGM_FI_DEV_FB_TOTAL": "9223372036854775794"}, None),
    "a total alone": ({"DCGM_FI_DEV_FB_TOTAL": 16000}, None),
}


@pytest.mark.parametrize("case", TOTALS)
def test_free_memory_is_the_rest_of_the_total_where_it_is_not_exported(case: str) -> None:
    values, free_mib = TOTALS[case]
    text = "".join(f'{metric}{{UUID="GPU-a"}} {value}\n' for metric, value in values.items())
    assert devices(text)[0].fb_free_bytes == (None if free_mib is None else free_mib * MIB)


BLANKS = (
    "9223372036854775794",
    "9223372036854775792",
    "9.223372036854775794e+18",
    "2147483632",
    "2147483634",
    "140737488355328",
    "NaN",
    "+Inf",
)


@pytest.mark.parametrize("text", BLANKS)
def test_a_blank_is_unknown_and_never_a_number(text: str) -> None:
    assert blank(float(text))
    found = devices(dcgm_text({"GPU-a": {"DCGM_FI_DEV_XID_ERRORS": text, "DCGM_FI_DEV_FB_USED": text, "DCGM_FI_DEV_GPU_UTIL": text}}))[0]
    assert (found.xid, found.fb_used_bytes, found.utilization, found.fb_total_bytes) == (None, None, None, None)


IMPOSSIBLE = {"DCGM_FI_DEV_GPU_UTIL": 101, "DCGM_FI_DEV_FB_FREE": -1, "DCGM_FI_DEV_GPU_TEMP": 1000, "DCGM_FI_DEV_ROW_REMAP_FAILURE": 7}


@pytest.mark.parametrize("metric", IMPOSSIBLE)
def test_what_cannot_be_true_is_unknown(metric: str) -> None:
    field = next(signal.field for signal in SIGNALS if signal.metric == metric)
    assert getattr(devices(dcgm_text({"GPU-a": {metric: IMPOSSIBLE[metric]}}))[0], field) is None


def test_a_shared_gpu_is_one_device_with_all_its_pods() -> None:
    text = "".join(
        f'DCGM_FI_DEV_FB_USED{{gpu="0",UUID="GPU-a",pod="p{n}",namespace="t",vgpu="{n}"}} 500\n'
        f'DCGM_FI_DEV_FB_FREE{{gpu="0",UUID="GPU-a",pod="p{n}",namespace="t",vgpu="{n}"}} {1000 - n}\n'
        for n in (1, 2)
    )
    found = devices(text)
    assert len(found) == 1
    assert found[0].pods == ("t/p1", "t/p2")
    assert found[0].fb_free_bytes == 998 * MIB, "of two views of one card, the fuller"


def test_hostname_is_never_a_key_and_an_older_label_style_works() -> None:
    text = 'DCGM_FI_DEV_FB_USED{gpu="0",uuid="GPU-a",Hostname="h1"} 5\nDCGM_FI_DEV_FB_FREE{gpu="0",uuid="GPU-a",Hostname="h2"} 6\n'
    assert [(d.uuid, d.fb_used_bytes, d.fb_free_bytes) for d in devices(text)] == [("GPU-a", 5 * MIB, 6 * MIB)]
    assert devices('DCGM_FI_DEV_FB_USED{gpu="0",Hostname="h1"} 5\n') == ()


def test_counted_xids_and_clock_events() -> None:
    text = (
        'DCGM_FI_DEV_XID_ERRORS{UUID="GPU-a"} 31\nDCGM_EXP_XID_ERRORS_COUNT{UUID="GPU-a",window_size_in_ms="300000",xid="79"} 1\n'
        'DCGM_EXP_XID_ERRORS_COUNT{UUID="GPU-a",window_size_in_ms="300000",xid="48"} 0\n'
        'DCGM_EXP_CLOCK_EVENTS_COUNT{UUID="GPU-a",clock_event="hw_thermal"} 2\n'
    )
    found = devices(text)[0]
    assert (found.xid, found.recent_xids, found.throttle_reasons) == (31, (79,), 0x40)
    assert read(text)["devices"][0]["healthy"] is False, "a later XID does not hide an earlier one"


@pytest.mark.parametrize("code", [48, 63, 64, 74, 79, 92, 94, 95, 119, 120])
def test_fatal_codes(code: int) -> None:
    assert severity(code) is Severity.FATAL
    assert read(dcgm_text({"GPU-a": {"DCGM_FI_DEV_XID_ERRORS": code}}))["devices"][0]["healthy"] is False


@pytest.mark.parametrize("code", [13, 31, 43, 45, 68, 109])
def test_application_codes(code: int) -> None:
    assert severity(code) is Severity.APPLICATION
    assert read(dcgm_text({"GPU-a": {"DCGM_FI_DEV_XID_ERRORS": code}}))["devices"][0]["healthy"] is True


def test_ecc_and_remapping_make_a_device_unfit() -> None:
    assert read(dcgm_text({"GPU-a": {"DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": 1}}))["devices"][0]["healthy"] is False
    assert read(dcgm_text({"GPU-a": {"DCGM_FI_DEV_ROW_REMAP_FAILURE": 1}}))["devices"][0]["healthy"] is False


def test_the_document_lists_every_signal_and_code() -> None:
    text = (ROOT / "docs/telemetry.md").read_text()
    names = [signal.metric for signal in SIGNALS] + [signal.metric for signal in ENGINE_SIGNALS]
    assert [name for name in names if f"`{name}`" not in text] == []
    assert [code for code in (*FATAL, *APPLICATION) if f"{code}" not in text] == []
