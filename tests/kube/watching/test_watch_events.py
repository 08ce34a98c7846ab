"""Lines of a watch decoded straight into a pod: the same as decoded as plain data first."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.decision.state.changes import PodGone, PodSeen
from extender.decision.state.isolation import SetAside
from extender.kube.watching.watch_events import UnreadableLineError, plain_event, watch_event
from tests.objects import GPU, container, pod

TEXT = st.text('aé"\\/\n<&', max_size=6)
TEXTS = st.none() | st.dictionaries(TEXT, TEXT, max_size=2)
QUANTITY: st.SearchStrategy[Any] = st.sampled_from([1, 0, "2", "1k", 1.5, None, "", [], True])


@st.composite
def containers(draw: st.DrawFn) -> Any:
    names = st.sampled_from([GPU, "cpu", "nvidia.com/mig-1g.5gb"])
    amounts = st.none() | st.dictionaries(names, QUANTITY, max_size=2)
    return container(
        name=draw(TEXT),
        resources={"limits": draw(amounts), "requests": draw(amounts)},
        restartPolicy=draw(st.sampled_from([None, "Always"])),
        args=draw(st.none() | st.lists(TEXT, max_size=2)),
        env=draw(st.none() | st.just([{"name": "A", "valueFrom": {"fieldRef": {}}}, {"name": "B", "value": "b"}])),
    )


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    """A pod as an API server sends it; some fields are absent, null or invalid."""
    meta: dict[str, Any] = {
        "name": draw(st.sampled_from(["llm", "", None, 7])),
        "namespace": draw(st.sampled_from(["team", "", None])),
        "uid": draw(st.sampled_from(["u-1", "", None])),
        "resourceVersion": draw(st.sampled_from(["7", "", "x", None, 7, "9" * 5_000])),
        "labels": draw(TEXTS),
        "annotations": draw(TEXTS),
        "deletionTimestamp": draw(st.sampled_from([None, "2026-01-01T00:00:00Z"])),
        "ownerReferences": draw(st.sampled_from([None, [], [{"kind": "DaemonSet", "name": "d"}]])),
        "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
    }
    spec: dict[str, Any] = {
        "containers": draw(st.lists(containers(), max_size=2)),
        "initContainers": draw(st.none() | st.lists(containers(), max_size=1)),
        "nodeName": draw(st.sampled_from([None, "a", 7])),
        "priority": draw(st.sampled_from([None, 5, "5"])),
    }
    conditions = st.lists(st.fixed_dictionaries({"type": TEXT, "status": st.just("True"), "message": st.none() | TEXT}), max_size=2)
    status = {"phase": draw(st.sampled_from([None, "Running", 3])), "podIP": "10.0.0.1", "conditions": draw(st.none() | conditions)}
    whole = {"kind": "Pod", "metadata": meta, "spec": spec, "status": draw(st.sampled_from([None, status]))}
    absent = draw(st.sets(st.sampled_from(sorted(meta)), max_size=3))
    whole["metadata"] = {key: value for key, value in meta.items() if key not in absent}
    return whole


@given(st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "SOMETHING"]), pods())
def test_pod_decoded_straight_from_the_line_is_the_pod_decoded_from_plain_data(event_type: str, manifest: dict[str, Any]) -> None:
    line = json.dumps({"type": event_type, "object": manifest}).encode()
    assert watch_event("Pod", line) == plain_event("Pod", line)


def line_of(event_type: str, manifest: Any) -> bytes:
    return json.dumps({"type": event_type, "object": manifest}).encode()


def test_version_is_that_of_the_object() -> None:
    manifest = pod(1)
    manifest["metadata"]["resourceVersion"] = "12"
    event = watch_event("Pod", line_of("ADDED", manifest))
    assert isinstance(event.change, PodSeen)
    assert (event.change.version, event.version) == (12, "12")


def test_versions_alone_make_no_two_pods_differ() -> None:
    changes = []
    for version in ("1", "2"):
        manifest = pod(1)
        manifest["metadata"]["resourceVersion"] = version
        changes.append(watch_event("Pod", line_of("MODIFIED", manifest)).change)
    first, second = changes
    assert isinstance(first, PodSeen)
    assert isinstance(second, PodSeen)
    assert first.pod == second.pod


def test_pod_that_was_deleted_is_known_by_its_identity_alone() -> None:
    event = watch_event("Pod", line_of("DELETED", {"metadata": {"name": "p", "namespace": "n", "resourceVersion": "3"}}))
    assert event.change == PodGone("n/p", 3)


def test_invalid_pod_is_set_aside_by_name() -> None:
    event = watch_event("Pod", line_of("ADDED", {"metadata": {"name": "p", "uid": "u"}, "spec": {"containers": 7, "nodeName": "a"}}))
    assert isinstance(event.change, SetAside)
    assert (event.change.name, event.change.node) == ("u", "a")


def test_object_without_a_name_is_a_problem_and_no_change() -> None:
    event = watch_event("Pod", line_of("ADDED", {"metadata": {}, "spec": {}}))
    assert event.change is None
    assert event.problem is not None
    assert "metadata.name" in event.problem


@pytest.mark.parametrize("kind", ["Pod", "Node", "GpuTopology"])
def test_error_has_its_code_and_message(kind: str) -> None:
    event = watch_event(kind, line_of("ERROR", {"kind": "Status", "metadata": {}, "code": 410, "message": "too old"}))
    assert (event.change, event.error_code, event.error_message) == (None, 410, "too old")


UNREADABLE = {
    "text": b"<html>",
    "cut": b'{"type": "ADDED", "object": {"metadata": {"na',
    "no object": b'{"type": "ADDED"}',
    "object is a list": b'{"type": "ADDED", "object": []}',
    "a list": b"[]",
    "deep": b'{"type": "ADDED", "object": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    "not UTF-8": b'{"type": "ADDED", "object": {"metadata": {"name": "\xff"}}}',
}


@pytest.mark.parametrize("kind", ["Pod", "Node"])
@pytest.mark.parametrize("fault", UNREADABLE)
def test_line_that_is_no_event_is_refused(fault: str, kind: str) -> None:
    with pytest.raises(UnreadableLineError, match="not an event"):
        watch_event(kind, UNREADABLE[fault])
