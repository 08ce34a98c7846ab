"""What a pod asks for, counted as the kubelet counts."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.decision.request.pod_request import Demand, demand_of
from extender.decision.request.quantity import quantity
from extender.decision.request.reasons import Reason, Rejection
from tests.objects import GPU, container, pod, pod_struct

MIN_GPU_MEMORY = "fabricwise.dev/min-gpu-memory"
SIDECAR = {"restartPolicy": "Always"}

# name -> (pod, total, groups, steps)
COUNTED: dict[str, tuple[dict[str, Any], int, tuple[int, ...]]] = {
    "one container": (pod(4), 4, (4,)),
    "a container each": (pod(1, 1, 1, 1), 4, (1, 1, 1, 1)),
    "no GPU": (pod(), 0, ()),
    "zero": (pod("0"), 0, ()),
    "written as a quantity": (pod("4k"), 4000, (4000,)),
    "written as 4.0": (pod("4.0"), 4, (4,)),
    "requests only": (
        pod(spec={"containers": [{"name": "c", "resources": {"requests": {GPU: 2}}}]}),
        2,
        (2,),
    ),
    "init smaller than the app": (pod(4, spec={"initContainers": [container(2)]}), 4, (4,)),
    "init larger than the app": (pod(2, spec={"initContainers": [container(4)]}), 4, (2,)),
    "sidecar adds": (pod(2, spec={"initContainers": [container(1, **SIDECAR)]}), 3, (1, 2)),
    "init beside an earlier sidecar": (pod(1, spec={"initContainers": [container(1, **SIDECAR), container(4)]}), 5, (1, 1)),
    "init before a later sidecar": (pod(1, spec={"initContainers": [container(4), container(1, **SIDECAR)]}), 4, (1, 1)),
    "another resource": (pod(spec={"containers": [{"name": "c", "resources": {"limits": {"amd.com/gpu": 4}}}]}), 0, ()),
    "only resource claims": (pod(spec={"containers": [{"name": "c", "resources": {"claims": [{"name": "gpu"}]}}]}), 0, ()),
    "an absurd count is just a large one": (pod(10**15), 10**15, (10**15,)),
}


@pytest.mark.parametrize("case", COUNTED)
def test_gpus_of_a_pod_are_counted_as_the_kubelet_counts_them(case: str) -> None:
    manifest, total, groups = COUNTED[case]
    demand = demand_of(pod_struct(manifest), GPU)
    assert isinstance(demand, Demand)
    assert (demand.total, demand.groups) == (total, groups)
    assert demand.needs_links is any(size > 1 for size in groups)


MALFORMED: list[object] = ["-1", "1.5", "four", "500m", "", None, True, [], {}, "1e30", "9" * 30, "NaN", "Infinity", "1e999999999"]


@pytest.mark.parametrize("count", MALFORMED)
def test_malformed_gpu_count_is_a_rejection_that_names_container_and_resource(count: object) -> None:
    manifest = pod(spec={"containers": [{"name": "c", "resources": {"limits": {GPU: count}}}]})
    rejection = demand_of(pod_struct(manifest), GPU)
    assert isinstance(rejection, Rejection)
    assert rejection.reason is Reason.BAD_GPU_REQUEST
    assert "container c, nvidia.com/gpu" in rejection.detail
    assert not rejection.resolvable


MEMORY = {"80Gi": 80 << 30, "40G": 40 * 10**9, "81559Mi": 81559 << 20, "1Ti": 1 << 40, "85899345920": 80 << 30}


@pytest.mark.parametrize("text", MEMORY)
def test_memory_annotation_is_read_as_a_kubernetes_quantity(text: str) -> None:
    demand = demand_of(pod_struct(pod(1, annotations={MIN_GPU_MEMORY: text})), GPU)
    assert isinstance(demand, Demand)
    assert demand.wishes.min_gpu_memory_bytes == MEMORY[text]


@pytest.mark.parametrize("text", ["lots", "80 GB", "80gb", "-80Gi", "0", "", "NaN", "Gi"])
def test_malformed_memory_annotation_is_a_rejection_that_names_it(text: str) -> None:
    rejection = demand_of(pod_struct(pod(1, annotations={MIN_GPU_MEMORY: text})), GPU)
    assert isinstance(rejection, Rejection)
    assert rejection.reason is Reason.BAD_MIN_GPU_MEMORY
    assert MIN_GPU_MEMORY in rejection.reason


@given(st.text(max_size=20))
def test_every_text_is_a_quantity_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(quantity(text), Decimal)


def test_reasons_are_distinct_and_have_no_digits() -> None:
    """kube-scheduler requeues a pod whose message differs, so a reason has no numbers, names or times."""
    for reason in Reason:
        assert not any(character.isdigit() for character in reason.value)
    assert len({reason.value for reason in Reason}) == len(Reason)
