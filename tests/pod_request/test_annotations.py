"""Every annotation: its effect on a verdict, and the rejection where it is malformed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.decision.request.annotations import ANNOTATIONS, MOST_WARNINGS, Wishes, unknown_names, wishes
from extender.decision.request.reasons import Rejection
from extender.decision.state.changes import Listed, TopologySeen
from extender.decision.state.fold.reducer import fold
from extender.kube.objects.decode import seen
from extender.server.service import build_service
from extender.settings import Settings
from extender.web.scheduler_api import SchedulerApi
from tests.conftest import Served
from tests.decision.verdicts.test_decision import ask, machine, row
from tests.decision.verdicts.test_telemetry_decisions import looked, nodes, reading
from tests.decision.verdicts.test_telemetry_decisions import refusal as live_refusal
from tests.objects import GPU, node, pod, snapshot
from tests.pod_request.refusals import asks, refusal
from topology.gputopology.topology_record import DeviceStatus, TopologyRecord
from topology.platforms import machine_of

MISSING = ("no set of GPUs is joined by the link the pod requires", False)
TAKEN = ("free GPUs are not joined by the link the pod requires", True)
LABELS = {"nvidia.com/cuda.driver.major": "535", "nvidia.com/cuda.driver.minor": "129", "nvidia.com/cuda.driver.rev": "03",
          "nvidia.com/cuda.runtime.major": "12", "nvidia.com/cuda.runtime.minor": "2",
          "nvidia.com/gpu.compute.major": "8", "nvidia.com/gpu.compute.minor": "0"}  # fmt: skip

# name -> (objects, pod, refusal)
CASES: dict[str, tuple[tuple[dict[str, Any], ...], dict[str, Any], tuple[str, bool] | None]] = {
    "NVLink on an NVSwitch board": (machine("n", "hgx-h100"), asks(8, min_link="nvlink"), None),
    "NVLink on a PCIe box": (machine("n", "l40s", 4), asks(2, min_link="nvlink"), MISSING),
    "NVLink for four on bridged pairs": (machine("n", "a100-pcie-bridge-pairs"), asks(4, min_link="nvlink"), MISSING),
    "NVLink for two on bridged pairs": (machine("n", "a100-pcie-bridge-pairs"), asks(2, min_link="nvlink"), None),
    "NVLink for two on torn pairs": (
        machine("n", "a100-pcie-bridge-pairs", status=DeviceStatus(free=(0, 2, 4))), asks(2, min_link="nvlink"), TAKEN
    ),
    "a PCIe switch between two of a socket": (machine("n", "rtx4090"), asks(2, min_link="pix"), None),
    "a PCIe switch between eight of two sockets": (machine("n", "rtx4090"), asks(8, min_link="node"), MISSING),
    "any path will do": (machine("n", "rtx4090"), asks(8, min_link="sys"), None),
    "a link on an unknown topology": ((node("n", 8),), asks(2, min_link="sys"), MISSING),
    "a link for one GPU": ((node("n", 8),), asks(1, min_link="nvlink"), None),
    "80 GB class": (machine("n", "hgx-h100"), asks(2, gpu_memory_class="80,141"), None),
    "not the 80 GB class": (machine("n", "hgx-h200"), asks(2, gpu_memory_class="80"), ("GPU memory class is none the pod allows", False)),
    "memory class unknown": ((node("n", 8),), asks(2, gpu_memory_class="80"), None),
    "compute capability": (
        (node("n", 8, labels=LABELS),), asks(2, min_compute_capability="9.0"), ("GPU compute capability too low", False)
    ),
    "compute capability enough": ((node("n", 8, labels=LABELS),), asks(2, min_compute_capability="8"), None),
    "compute capability unknown": ((node("n", 8),), asks(2, min_compute_capability="9.0"), None),
    "driver": ((node("n", 8, labels=LABELS),), asks(2, min_driver="550"), ("GPU driver too old", False)),
    "driver, to the last part": ((node("n", 8, labels=LABELS),), asks(2, min_driver="535.129.03"), None),
    "driver by the newer label": (
        (node("n", 8, labels={"nvidia.com/cuda.driver-version.full": "570.86.16"}),), asks(2, min_driver="570.86.17"),
        ("GPU driver too old", False),
    ),
    "CUDA": ((node("n", 8, labels=LABELS),), asks(2, min_cuda="12.4"), ("CUDA version of the GPU driver too old", False)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_node_is_rejected_exactly_where_it_does_not_meet_an_annotation(case: str) -> None:
    objects, manifest, expected = CASES[case]
    assert refusal(snapshot(*objects), manifest) == expected


def test_versions_by_the_agent_take_precedence_over_labels() -> None:
    from dataclasses import replace

    record = TopologyRecord("n", replace(machine_of("hgx-h100"), driver_version="550.54.15", cuda_version="12.4"))
    state = fold(snapshot(node("n", 8, labels=LABELS)), TopologySeen("n", record), GPU)
    assert refusal(state, asks(2, min_driver="550", min_cuda="12.4")) is None


def test_node_is_rejected_where_no_gpu_has_the_requested_free_memory() -> None:
    state = fold(nodes(a="hgx-h100"), looked("a", 0, g3=reading("a", 3, 30)), GPU)
    assert live_refusal(state, "a", asks(1, min_free_memory="40Gi")) is None
    assert live_refusal(state, "a", asks(1, min_free_memory="60Gi")) == "GPU memory is in use by processes unknown to Kubernetes"


def test_exceeding_a_preference_scores_no_more_than_meeting_it() -> None:
    state = snapshot(*machine("b200", "hgx-b200"), *machine("half", "hgx-h100", status=DeviceStatus(free=(0, 1, 2, 3))))
    assert ask(state, asks(4))["chosen"] == "b200"
    met = ask(state, asks(4, preferred_busbw="300"))
    assert {r["scores"]["link"]["value"] for r in met["nodes"]} == {1.0}
    assert met["chosen"] == "half", "the rest decides: it breaks up no whole board"
    linked = ask(state, asks(4, preferred_link="nvlink"))
    assert {r["scores"]["link"]["value"] for r in linked["nodes"]} == {1.0}
    far = snapshot(*machine("pcie", "l40s", 4), *machine("half", "hgx-h100"))
    assert ask(far, asks(2, preferred_link="nvlink"))["chosen"] == "half"


def test_message_size_may_be_a_number_of_bytes() -> None:
    assert [wishes({"fabricwise.dev/message-size": text}) for text in ("16Mi", "17M", "decode")] == [
        Wishes(messages="16777216"), Wishes(messages="16777216"), Wishes(messages="decode"),
    ]  # fmt: skip
    state = snapshot(*machine("n", "hgx-h100"))
    small, large = (row(ask(state, asks(4, message_size=size)), "n")["effective_bandwidth_gbps"] for size in ("64Ki", "1Gi"))
    assert small * 20 < large


MALFORMED: dict[str, tuple[str, ...]] = {
    "workload-class": ("", "Big Models", "-x", "x" * 64),
    "min-gpu-memory": ("", "lots", "-1Gi", "0", "1e999999999", "80", "1048575", "80m", "80GB"),
    "gpu-memory-class": ("", "79", "eighty", "80;141"),
    "min-free-memory": ("", "NaN", "-1", "60", "60k"),
    "min-link": ("", "nvl", "PIX,PXB"),
    "min-busbw": ("", "fast", "-5", "0", "1e99", "80Gi", "4k", "200m", "200GB/s", "10001", "1e999999999"),
    "preferred-link": ("warp",),
    "preferred-busbw": ("0", "300G"),
    "message-size": ("", "huge", "Decode", "16", "1e30", "-16Mi"),
    "min-compute-capability": ("", "nine", "9.", "9.0.0.0.0"),
    "min-driver": ("", "v550", "550-1"),
    "min-cuda": ("", "12,4"),
    "sharing": ("", "maybe", "none,,mig"),
    "model": ("", "{}", "[]", '{"layers": -1}', "{" * 5000,
              '{"layers":1,"hidden_size":1,"attention_heads":0,"kv_heads":1,"head_size":1,"parameters":1}',
              '{"layers":1,"hidden_size":1,"attention_heads":0,"kv_heads":0,"head_size":0,"parameters":1}',
              '{"layers":1,"hidden_size":1,"attention_heads":1,"kv_heads":0,"head_size":1,"parameters":1}',
              '{"layers":1,"hidden_size":1,"attention_heads":1,"kv_heads":1,"head_size":1,"parameters":1,"embedding_parameters":2}'),
}  # fmt: skip


@pytest.mark.parametrize("name", [annotation.name for annotation in ANNOTATIONS])
def test_malformed_annotation_is_a_rejection_that_names_it(name: str) -> None:
    for text in MALFORMED[name]:
        rejection = wishes({f"fabricwise.dev/{name}": text})
        assert isinstance(rejection, Rejection), text
        assert rejection.reason == f"pod annotation fabricwise.dev/{name} is malformed"
        assert rejection.detail.startswith(f"annotation fabricwise.dev/{name}: ")
        assert not rejection.resolvable


# annotation -> text -> what is in the refusal
MEANT: dict[str, dict[str, str]] = {
    "min-gpu-memory": {
        "80": "is 80 bytes, less than 1Mi: did you mean 80Gi?", "81920": "is 81920 bytes, less than 1Mi: did you mean 81920Mi?",
        "80GB": "did you mean 80Gi?", "80 GiB": "did you mean 80Gi?", "40g": "did you mean 40Gi?", "80m": "did you mean 80Mi?",
        "1.5T B": "is not a quantity such as 80Gi", "0.5k": "is 500 bytes, less than 1Mi: did you mean 0.5Ki?", "0": "such as 80Gi",
    },
    "min-free-memory": {"60": "did you mean 60Gi?"},
    "min-busbw": {
        "80Gi": "did you mean 80? The unit is left out", "200GB/s": "did you mean 200? The unit is left out", "4k": "did you mean 4?",
        "fast": "give a number without a unit, such as 200", "1000000": "up to 10000, such as 200", "-5": "such as 200",
    },
    "preferred-busbw": {"300 GB/s": "did you mean 300?"},
    "min-link": {"nvl": "did you mean nvlink?", "NVLlink": "did you mean nvlink?", "warp": "is none of nvlink, pix"},
    "sharing": {"time-slice": "did you mean time-slicing?"},
    "message-size": {"16": "give a size such as 16Mi, or"},
    "min-driver": {"v550": "give one to four numbers"},
    "workload-class": {"Big Models": "give lower case letters"},
}  # fmt: skip


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in MEANT.items() for text in texts])
def test_rejection_states_the_probable_meaning_or_what_to_write(name: str, text: str) -> None:
    rejection = wishes({f"fabricwise.dev/{name}": text})
    assert isinstance(rejection, Rejection)
    assert MEANT[name][text] in rejection.detail


KEPT: dict[str, dict[str, object]] = {
    "min-gpu-memory": {"80Gi": 80 << 30, "1Mi": 1 << 20, "85899345920": 80 << 30, "80G": 80 * 10**9, "8e10": 80 * 10**9},
    "min-busbw": {"200": 200.0, "0.5": 0.5, " 12.5 ": 12.5, "1e3": 1000.0, "10000": 10_000.0},
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in KEPT.items() for text in texts])
def test_valid_amounts_are_read(name: str, text: str) -> None:
    asked = wishes({f"fabricwise.dev/{name}": text})
    assert isinstance(asked, Wishes)
    field = next(annotation.field for annotation in ANNOTATIONS if annotation.name == name)
    assert getattr(asked, field) == KEPT[name][text]


# annotation key -> what the warning says; None: no warning
UNKNOWN: dict[str, str | None] = {
    "fabricwise.dev/min-bus-bw": "did you mean fabricwise.dev/min-busbw?",
    "fabricwise.dev/min_gpu_memory": "did you mean fabricwise.dev/min-gpu-memory?",
    "fabricwise.dev/gpu-memory": "did you mean fabricwise.dev/min-gpu-memory?",
    "fabricwise.dev/Min-Link": "did you mean fabricwise.dev/min-link?",
    "fabricwise.io/min-busbw": "did you mean fabricwise.dev/min-busbw?",
    "fabricwise.dev/zebra": "the names are workload-class, min-gpu-memory",
    "fabricwise.dev/": "the names are workload-class",
    "fabricwise.dev/min-busbw": None,
    "fabricwise.dev/decision": None,
    "fabricwise.dev/requeued-at": None,
    "example.com/min-busbw": None,
    "min-busbw": None,
}


@pytest.mark.parametrize("key", UNKNOWN)
def test_unknown_annotation_under_the_prefix_is_a_warning_with_the_probable_meaning(key: str) -> None:
    words = UNKNOWN[key]
    asked = ask(snapshot(*machine("n", "hgx-h100")), pod(1, annotations={key: "200"}))
    assert asked["chosen"] == "n", "a warning refuses nothing"
    warnings = asked["inferred"]["warnings"]
    assert (len(warnings) == 1 and words in warnings[0] and key in warnings[0]) if words else warnings == []


def test_malformed_annotation_does_not_hide_the_warning_about_an_unknown_one() -> None:
    answer = ask(snapshot(*machine("n", "hgx-h100")), pod(1, annotations={"fabricwise.dev/min-link": "warp", "fabricwise.dev/zebra": ""}))
    assert answer["chosen"] is None
    assert "fabricwise.dev/zebra is unknown" in answer["inferred"]["warnings"][0]


def test_warnings_of_unknown_names_are_bounded() -> None:
    warnings = unknown_names({f"fabricwise.dev/{'x' * 5000}{number}": "" for number in range(1000)})
    assert len(warnings) == MOST_WARNINGS + 1
    assert warnings[-1] == f"and {1000 - MOST_WARNINGS} more annotations with unknown names"
    assert max(map(len, warnings)) < 600


def test_class_named_while_none_are_loaded_is_a_warning_and_rejects_no_node() -> None:
    answer = ask(snapshot(*machine("n", "hgx-h100")), asks(1, workload_class="batch"))
    assert answer["chosen"] == "n"
    assert answer["inferred"]["warnings"] == [
        "workload class batch is not defined and changes nothing: no workload classes are loaded. "
        "Start with --workload-classes FILE (config/workload-classes.yaml has six), or remove the annotation"
    ]
    assert ask(snapshot(*machine("n", "hgx-h100")), asks(1))["inferred"]["warnings"] == []


def test_decision_contains_the_same_warnings_as_explain(served: Served) -> None:
    manifest = pod(1, name="warned", annotations={"fabricwise.dev/min_busbw": "5", "fabricwise.dev/workload-class": "batch"})
    answer = served.client.post("/scheduler/filter", json={"Pod": manifest, "NodeNames": ["t4-0"]}).json()
    assert answer["NodeNames"] == ["t4-0"]
    warnings = served.client.get("/v1/decisions").json()["decisions"][0]["warnings"]
    assert warnings == served.client.post("/v1/explain", json=manifest).json()["inferred"]["warnings"]
    assert len(warnings) == 2


@pytest.mark.parametrize("annotation", ANNOTATIONS, ids=lambda one: one.name)
@given(
    text=st.text()
    | st.from_regex(r"[-+]?[0-9.eE]{0,12}[a-zA-Z]{0,3}")
    | st.sampled_from(["NaN", "Infinity", "1e-999999", "1e999999", "1" * 10_000, "[" * 9_000])
)
def test_no_text_of_an_annotation_raises(annotation: Any, text: str) -> None:
    assert isinstance(wishes({annotation.key: text}), Wishes | Rejection)


@pytest.mark.parametrize("annotation", [one for one in ANNOTATIONS if one.name != "model"], ids=lambda one: one.name)
def test_example_of_each_annotation_is_valid(annotation: Any) -> None:
    assert isinstance(wishes({annotation.key: annotation.example}), Wishes)


def test_annotations_under_other_prefixes_are_ignored() -> None:
    assert wishes({"example.com/min-link": "warp", "fabricwise.dev/requeued-at": "x"}) == Wishes()


def test_bound_pod_with_a_malformed_annotation_holds_its_gpus() -> None:
    state = fold(snapshot(*machine("n", "t4", 4)), seen("Pod", asks(3, min_link="warp") | {"spec": pod(3, node="n")["spec"]}), GPU)
    assert refusal(state, asks(2)) == ("too few free GPUs", True)


@given(
    annotations=st.dictionaries(
        st.sampled_from([one.key for one in ANNOTATIONS]), st.text(max_size=40) | st.sampled_from(["80Gi", "nvlink", "1e9"])
    ),
    count=st.integers(0, 9) | st.text(max_size=6),
)
def test_filter_answers_for_every_node_whatever_the_annotations_contain(annotations: dict[str, str], count: object) -> None:
    """Every node is either accepted or has a reason; there is never an internal error."""
    import asyncio
    import json

    from extender.web.scheduler_api import INTERNAL

    manifest = pod(count, annotations=annotations)
    encoded = asyncio.run(_API.filter(json.dumps({"Pod": manifest, "NodeNames": ["n"]}).encode()))
    assert isinstance(encoded, bytes)
    answer = json.loads(encoded)
    assert answer["Error"] != INTERNAL
    assert (answer["NodeNames"] == ["n"]) is not ("n" in {**answer["FailedNodes"], **answer["FailedAndUnresolvableNodes"]})


def _api() -> SchedulerApi:
    service = build_service(Settings())
    service.store.apply((Listed("nodes", (seen("Node", node("n", 8, labels=LABELS)),)), Listed("pods", ()), Listed("topologies", ())))
    return SchedulerApi(service.scheduling, service.settings, service.metrics)


_API = _api()
