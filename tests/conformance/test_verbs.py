"""The conformance cases that one request and its answer can prove."""

from __future__ import annotations

import json
import socket
from typing import Any

from extender.decision.cycle.scheduling_cycle import Stall
from extender.decision.state.changes import PodGone, PodSeen
from extender.kube.objects.decode import seen
from extender.server.service import build_service
from extender.settings import AssumedPodSettings, Server, Settings
from extender.sources.simulated import simulated
from tests.checkout import ROOT
from tests.conformance.calls import KEYS, Small, assumed_pods, filtered, full_v100, named, nominated, preempted, scored, terminating
from tests.conftest import Served, serve
from tests.objects import GPU, node, pod, topology

CASES = {
    "capitalised keys": "test_capitalised_keys",
    "both nodeCacheCapable modes echo the matching field": "test_both_nodecachecapable_modes_echo_the_matching_field",
    "output within input": "test_output_within_input_and_no_duplicates",
    "no duplicates": "test_output_within_input_and_no_duplicates",
    "`[]`": "test_an_empty_list",
    "one node in, one out": "test_one_node_in_one_out",
    "5,000 names": "test_5000_names",
    "stable messages across attempts": "test_stable_messages_across_attempts",
    "hard rejects in Unresolvable": "test_hard_rejects_in_unresolvable",
    "every dropped node explained": "test_every_dropped_node_explained",
    "unsynced cache -> Error": "test_unsynced_cache_is_an_error_never_a_rejection",
    "nominated pod after its victims are gone -> accept": "test_nominated_pod_after_its_victims_are_gone",
    "victims still terminating -> no false no": "test_victims_still_terminating_no_false_no",
    "full-list call after a nominated call": "test_full_list_call_after_a_nominated_call",
    "integer scores": "test_integer_scores_every_host_once_in_a_bare_array",
    "every host scored once": "test_integer_scores_every_host_once_in_a_bare_array",
    "bare array": "test_integer_scores_every_host_once_in_a_bare_array",
    "unique top score when holding": "test_unique_top_score_is_on_the_assumed_node",
    "a burst without device double-booking": "test_a_burst_without_device_double_booking",
    "re-filter of one UID replaces its hold": "test_re_filter_of_one_uid_replaces_its_assumed_pod",
    "TTL release": "test_ttl_release",
    "a pod recreated under the same name with a new UID": "test_a_pod_recreated_under_the_same_name_with_a_new_uid",
    "preempt echoes given UIDs only": "test_preempt_echoes_given_uids_only",
    "preempt veto -> empty map": "test_preempt_veto_is_an_empty_map",
    "foreign schedulerName passes through": "test_foreign_schedulername_passes_through",
    "init-container, zero-GPU and claim-only pods": "test_init_container_zero_gpu_and_claim_only_pods",
    "keep-alive and Content-Length": "test_keep_alive_and_content_length",
    "unknown JSON fields": "test_unknown_json_fields",
    "idempotent bind with UID precondition": "cluster/test_bind_is_idempotent_and_requires_the_uid",
    "bind's error text returned, never success unbound": "cluster/test_failed_bind_returns_its_error_text",
    "mTLS rotation": "cluster/test_rotated_certificates_are_used_without_a_restart",
    "100 x 50 event storm": "cluster/test_100_x_50_event_storm",
    "restart mid-bind": "cluster/test_pods_are_bound_once_when_the_extender_is_killed_while_it_binds",
}


def test_every_case_has_its_test() -> None:
    cluster = (ROOT / "tests/cluster/scheduling/test_conformance.py").read_text()
    for case, name in CASES.items():
        there = f"def {name.removeprefix('cluster/')}(" in cluster if name.startswith("cluster/") else name in globals()
        assert there, case


def test_capitalised_keys(served: Served, names: list[str]) -> None:
    assert list(filtered(served, pod(8), names)) == KEYS
    rows = served.client.post("/scheduler/prioritize", json={"Pod": pod(2), "NodeNames": names}).json()
    assert all(list(row) == ["Host", "Score"] for row in rows)
    assert served.client.post("/scheduler/bind", json={"PodName": "a", "PodUID": "u", "Node": "n"}).json().keys() == {"Error"}
    assert served.client.post("/scheduler/preempt", json={"Pod": pod(2)}).json() == {"NodeNameToMetaVictims": {}}


def test_both_nodecachecapable_modes_echo_the_matching_field(served: Served) -> None:
    by_name = filtered(served, pod(8), ["t4-0", "hgx-h100-0"])
    assert (by_name["Nodes"], by_name["NodeNames"]) == (None, ["hgx-h100-0"])
    given = [node("t4-0", 4), node("hgx-h100-0", 8) | {"spec": {"odd": [1]}}]
    whole = served.client.post("/scheduler/filter", json={"Pod": pod(8), "Nodes": {"items": given}, "NodeNames": None}).json()
    assert (whole["NodeNames"], whole["Nodes"]["items"]) == (None, [given[1]])


def test_output_within_input_and_no_duplicates(served: Served, names: list[str]) -> None:
    answer = filtered(served, pod(2), [*names, *names, "nowhere"])
    answered = [*answer["NodeNames"], *answer["FailedNodes"], *answer["FailedAndUnresolvableNodes"]]
    assert sorted(answered) == sorted({*names, "nowhere"})
    hosts = [row["Host"] for row in served.client.post("/scheduler/prioritize", json={"Pod": pod(2), "NodeNames": names + names}).json()]
    assert sorted(hosts) == sorted(names)


def test_an_empty_list(served: Served) -> None:
    empties: tuple[list[str] | None, ...] = ([], None)
    for names in empties:
        answer = served.client.post("/scheduler/filter", json={"Pod": pod(1), "NodeNames": names}).json()
        assert (answer["NodeNames"], answer["Error"]) == ([], "")
        assert served.client.post("/scheduler/prioritize", json={"Pod": pod(1), "NodeNames": names}).json() == []


def test_one_node_in_one_out(served: Served) -> None:
    assert filtered(served, pod(1), ["t4-0"])["NodeNames"] == ["t4-0"]
    assert scored(served, pod(1), ["t4-0"]) == {"t4-0": 10}


def test_5000_names(served: Served) -> None:
    names = [f"ghost-{number}" for number in range(5000)]
    assert len(filtered(served, pod(1), names)["FailedNodes"]) == 5000
    assert len(scored(served, pod(1), names)) == 5000


def test_stable_messages_across_attempts(served: Served, names: list[str]) -> None:
    """Also while assumed pods come and go, and the state changes."""
    body = json.dumps({"Pod": named(8, "big"), "NodeNames": [name for name in names if not name.startswith("hgx")]})
    first = json.loads(served.client.post("/scheduler/filter", content=body).content)
    for number in range(3):
        scored(served, named(1, f"p{number}"), names)
        served.cluster.bind(named(1, f"b{number}"), "t4-0", served.service.store)
        again = json.loads(served.client.post("/scheduler/filter", content=body).content)
        assert again["FailedAndUnresolvableNodes"] == first["FailedAndUnresolvableNodes"]
    assert not any(char.isdigit() for text in first["FailedAndUnresolvableNodes"].values() for char in text)


def test_hard_rejects_in_unresolvable(served: Served, names: list[str]) -> None:
    answer = filtered(served, pod(2, annotations={"fabricwise.dev/min-gpu-memory": "900Gi"}), names)
    assert (set(answer["FailedAndUnresolvableNodes"]), answer["FailedNodes"]) == (set(names), {})


def test_every_dropped_node_explained(served: Served, names: list[str]) -> None:
    answer = filtered(served, pod(8), names)
    assert {*answer["NodeNames"], *answer["FailedNodes"], *answer["FailedAndUnresolvableNodes"]} == set(names)
    assert all({**answer["FailedNodes"], **answer["FailedAndUnresolvableNodes"]}.values())


def test_unsynced_cache_is_an_error_never_a_rejection() -> None:
    for served in serve(build_service(Settings(server=Server(log_level="error"))), simulated(GPU)):
        answer = filtered(served, pod(1), ["a"])
        assert (bool(answer["Error"]), answer["FailedNodes"], answer["FailedAndUnresolvableNodes"]) == (True, {}, {})
        assert preempted(served, pod(1), {"a": ["uid-x"]}) == {}, "no pod is evicted while the state is not known"


def test_nominated_pod_after_its_victims_are_gone(small: Small) -> None:
    """The agent still lists the victims, or the watch shows them as terminating, while kube-scheduler already counts room for the pod."""
    objects = full_v100(victim=(0, 1, 2, 3), other=(4, 5, 6, 7))
    served = small(*objects)
    assert filtered(served, nominated(4), ["dgx"])["Error"] == Stall.LAGGING
    served.service.store.apply([seen("Pod", terminating(objects[2]))])
    assert filtered(served, nominated(4), ["dgx"])["NodeNames"] == ["dgx"], "only the terminating pod explains the room"
    served.service.store.apply([PodGone("uid-victim")])
    assert filtered(served, nominated(4), ["dgx"])["NodeNames"] == ["dgx"], "the agent's status is older than the eviction"
    assert assumed_pods(served) == {"uid-preemptor": "dgx"}


def test_victims_still_terminating_no_false_no(small: Small) -> None:
    """Four GPUs are free, but not the quad that the pod demands: it depends on whether the two GPUs of the victim are free."""
    objects = full_v100(victim=(0, 1), other=(4, 5))
    served = small(*objects)
    wants_quad = nominated(4, min_busbw="70")
    assert filtered(served, wants_quad, ["dgx"])["Error"] == Stall.LAGGING, "the victim may be terminating"
    served.service.store.apply([seen("Pod", terminating(objects[2]))])
    assert filtered(served, wants_quad, ["dgx"])["Error"] == Stall.LAGGING, "it is; its GPUs may be free or not"
    served.service.store.apply([PodGone("uid-victim")])
    assert filtered(served, wants_quad, ["dgx"])["NodeNames"] == ["dgx"], "its GPUs are free; the agent's status is older"
    infeasible = nominated(4, "infeasible", min_busbw="100")
    assert filtered(served, infeasible, ["dgx"])["FailedAndUnresolvableNodes"] == {"dgx": "bandwidth floor out of reach"}, (
        "stays a rejection"
    )


def test_full_list_call_after_a_nominated_call(small: Small) -> None:
    objects = [*full_v100(victim=(0, 1, 2, 3, 4, 5, 6, 7)), node("spare", 8), topology("spare", "dgx-1v")]
    served = small(*objects)
    assert filtered(served, nominated(4), ["dgx"])["Error"] == Stall.LAGGING
    answer = filtered(served, nominated(4), ["dgx", "spare"])
    assert (answer["NodeNames"], list(answer["FailedNodes"])) == (["spare"], ["dgx"])
    assert assumed_pods(served) == {"uid-preemptor": "spare"}


def test_integer_scores_every_host_once_in_a_bare_array(served: Served, names: list[str]) -> None:
    answer = served.client.post("/scheduler/prioritize", json={"Pod": pod(2), "NodeNames": names}).json()
    assert isinstance(answer, list)
    assert [row["Host"] for row in answer] == names
    assert all(type(row["Score"]) is int and 0 <= row["Score"] <= 10 for row in answer)


def test_unique_top_score_is_on_the_assumed_node(small: Small) -> None:
    """Of eight equal nodes one has the top score, the node that the pod is assumed on; for other pods it is another node."""
    names = [f"n{number}" for number in range(8)]
    served = small(*(one for name in names for one in (node(name, 8), topology(name, "hgx-h100"))))
    chosen = set()
    for number in range(24):
        scores = scored(served, named(8, f"p{number}"), names)
        tops = [name for name, score in scores.items() if score == 10]
        assert len(tops) == 1
        assert assumed_pods(served)[f"uid-p{number}"] == tops[0]
        chosen.add(tops[0])
        served.service.store.release(f"uid-p{number}")
    assert len(chosen) > 4


def test_a_burst_without_device_double_booking(small: Small) -> None:
    """Six pods of two GPUs that the watch does not show yet, for a node with four bridges and one without: each bridge is given once."""
    served = small(node("pairs", 8), topology("pairs", "a100-pcie-bridge-pairs"), node("plain", 8), topology("plain", "l40s"))
    floor = {"fabricwise.dev/min-busbw": "200"}
    answers = []
    for number in range(6):
        manifest = named(2, f"p{number}", annotations=floor)
        answer = filtered(served, manifest, ["pairs", "plain"])
        answers.append((answer["NodeNames"], answer["Error"]))
    assert [names for names, _ in answers[:4]] == [["pairs"]] * 4
    assert all(not names and error == Stall.HELD for names, error in answers[4:]), "no bridge is left, until the four pods are seen or gone"
    notes = served.client.post("/v1/explain", json=named(2, "asked")).json()["nodes"]
    assert "8 GPUs are promised to pods that are not seen there yet" in next(row for row in notes if row["node"] == "pairs")["notes"]
    predicted = [row["predicted"] for row in served.client.get("/v1/assumed-pods").json()["assumed_pods"]]
    assert len(predicted) == 4
    changes = [seen("Pod", named(2, f"p{number}", node="pairs", annotations=floor)) for number in range(4)]
    served.service.store.apply(changes)
    answer = filtered(served, named(2, "p4", annotations=floor), ["pairs", "plain"])
    assert list(answer["FailedNodes"]) == ["pairs"], "the four pods are seen"


def test_re_filter_of_one_uid_replaces_its_assumed_pod(small: Small) -> None:
    served = small(node("a", 8), topology("a", "hgx-h100"), node("b", 8), topology("b", "hgx-h100"))
    filtered(served, named(8, "one"), ["a"])
    assert assumed_pods(served) == {"uid-one": "a"}
    filtered(served, named(8, "one"), ["b"])
    assert assumed_pods(served) == {"uid-one": "b"}
    assert filtered(served, named(8, "two"), ["a"])["NodeNames"] == ["a"]


def test_ttl_release(small: Small) -> None:
    import time

    served = small(node("a", 8), topology("a", "hgx-h100"), assumed_pods=AssumedPodSettings(ttl_seconds=0.4))
    filtered(served, named(8, "one"), ["a"])
    assert filtered(served, named(8, "two"), ["a"])["Error"] == Stall.HELD
    time.sleep(0.5)
    assert assumed_pods(served) == {}
    assert filtered(served, named(8, "two"), ["a"])["NodeNames"] == ["a"]


def test_a_pod_recreated_under_the_same_name_with_a_new_uid(small: Small) -> None:
    """As by a StatefulSet: assumed pod, binding and deletion of the old uid do not affect the new one."""
    served = small(node("a", 8), topology("a", "hgx-h100"))

    def incarnation(uid: str, where: str | None = None) -> dict[str, Any]:
        manifest = named(4, "sts-0", node=where)
        return {**manifest, "metadata": {**manifest["metadata"], "uid": uid}}

    assert filtered(served, incarnation("old"), ["a"])["NodeNames"] == ["a"]
    served.service.store.apply([seen("Pod", incarnation("old", "a"))])
    assert filtered(served, incarnation("new"), ["a"])["NodeNames"] == ["a"]
    assert assumed_pods(served) == {"new": "a"}
    served.service.store.apply([PodGone("old")])
    assert assumed_pods(served) == {"new": "a"}
    change = seen("Pod", incarnation("new", "a"))
    assert isinstance(change, PodSeen)
    served.service.store.apply([change, PodGone("old")])
    assert assumed_pods(served) == {}
    assert served.client.get("/v1/nodes/a").json()["requested"] == 4


def test_preempt_echoes_given_uids_only(small: Small) -> None:
    served = small(*full_v100(a=(0, 1, 2, 3), b=(4, 5, 6, 7)))
    wanted = pod(4, name="vip", spec={"priority": 100})
    assert preempted(served, wanted, {"dgx": ["uid-a"]}) == {"dgx": ["uid-a"]}
    answer = preempted(served, wanted, {"dgx": ["uid-a", "uid-b"]})
    assert list(answer) == ["dgx"]
    assert len(answer["dgx"]) == 1, "one victim is enough"
    assert set(answer["dgx"]) < {"uid-a", "uid-b"}


def test_preempt_takes_whole_pods_too(small: Small) -> None:
    """As without nodeCacheCapable; the answer names uids all the same."""
    objects = full_v100(a=(0, 1, 2, 3), b=(4, 5, 6, 7))
    served = small(*objects)
    args = {"Pod": pod(4, name="vip", spec={"priority": 9}), "NodeNameToVictims": {"dgx": {"Pods": [objects[2]], "NumPDBViolations": 1}}}
    answer = served.client.post("/scheduler/preempt", json=args).json()
    assert answer == {"NodeNameToMetaVictims": {"dgx": {"Pods": [{"UID": "uid-a"}], "NumPDBViolations": 1}}}


def test_gpus_that_another_scheduler_takes_count_after_one_event(small: Small) -> None:
    served = small(node("a", 8), topology("a", "hgx-h100"), node("b", 8), topology("b", "t4"))
    assert filtered(served, pod(8), ["a"])["NodeNames"] == ["a"]
    served.service.store.apply([seen("Pod", pod(2, name="theirs", node="a", spec={"schedulerName": "volcano", "nodeName": "a"}))])
    assert list(filtered(served, pod(8), ["a"])["FailedNodes"]) == ["a"]


def test_preempt_veto_is_an_empty_map(small: Small) -> None:
    """The GPUs of the victim are not joined by NVLink, so no pod is evicted."""
    served = small(*full_v100(a=(0, 5), b=(1, 2, 3), c=(4, 6, 7)))
    floor = {"fabricwise.dev/min-busbw": "100"}
    wanted = pod(2, name="vip", annotations=floor, spec={"priority": 100})
    assert preempted(served, wanted, {"dgx": ["uid-a"]}) == {}


def test_foreign_schedulername_passes_through(small: Small) -> None:
    served = small(*full_v100(a=(0, 1, 2, 3, 4, 5, 6, 7)), scheduler_names=("gpu-scheduler",))
    theirs, ours = pod(4, spec={"schedulerName": "volcano"}), pod(4, spec={"schedulerName": "gpu-scheduler"})
    assert filtered(served, theirs, ["dgx", "nowhere"])["NodeNames"] == ["dgx", "nowhere"]
    assert scored(served, theirs, ["dgx"]) == {"dgx": 0}
    assert preempted(served, theirs, {"dgx": ["uid-a"]}) == {"dgx": ["uid-a"]}
    assert filtered(served, pod(4), ["dgx"])["NodeNames"] == ["dgx"], "a pod without a schedulerName belongs to default-scheduler"
    assert assumed_pods(served) == {}
    assert filtered(served, ours, ["dgx"])["FailedNodes"]
    assert served.client.get("/v1/nodes/dgx").json()["requested"] == 8, "bound pods of other schedulers count all the same"


def test_init_container_zero_gpu_and_claim_only_pods(served: Served, names: list[str]) -> None:
    claim = pod() | {
        "spec": {"containers": [{"name": "c", "resources": {"claims": [{"name": "gpu"}]}}], "resourceClaims": [{"name": "gpu"}]}
    }
    for manifest in (pod(), pod(0), claim):
        assert filtered(served, manifest, names)["NodeNames"] == names
        assert set(scored(served, manifest, names).values()) == {0}
    init = {"name": "warm", "resources": {"limits": {GPU: "8"}}}
    only_init = pod(spec={"initContainers": [init]})
    assert "t4-0" in filtered(served, only_init, names)["FailedAndUnresolvableNodes"], "it needs eight at its peak"
    assert assumed_pods(served) == {}
    assert scored(served, only_init, ["hgx-h100-0"]) == {"hgx-h100-0": 10}


def test_keep_alive_and_content_length(served: Served) -> None:
    body = json.dumps({"Pod": pod(1), "NodeNames": ["t4-0"]}).encode()
    request = b"POST /scheduler/filter HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    url = served.client.base_url
    with socket.create_connection((url.host, url.port or 80), timeout=5) as connection:
        for _ in range(3):
            connection.sendall(request)
            answer = connection.recv(65536)
            head, _, content = answer.partition(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200")
            assert f"content-length: {len(content)}".encode() in head.lower()
            assert b"connection: close" not in head.lower()
    assert Settings().server.keep_alive_seconds > 90, "longer than kube-scheduler's client keeps an idle connection"


def test_unknown_json_fields(served: Served) -> None:
    args = {"Pod": pod(1) | {"new": {"field": 1}}, "NodeNames": ["t4-0"], "Future": [1, 2]}
    assert served.client.post("/scheduler/filter", json=args).json()["NodeNames"] == ["t4-0"]
    victims = {"t4-0": {"Pods": [{"UID": "u", "New": 1}], "NumPDBViolations": 0, "New": {}}}
    assert served.client.post("/scheduler/preempt", json={"Pod": pod(), "NodeNameToMetaVictims": victims, "New": 1}).status_code == 200
    bound = served.client.post("/scheduler/bind", json={"PodName": "a", "PodNamespace": "b", "PodUID": "u", "Node": "n", "New": 1}).json()
    assert bound["Error"].startswith("fabricwise watches no API server, so it cannot bind: start it with --cluster kube")
