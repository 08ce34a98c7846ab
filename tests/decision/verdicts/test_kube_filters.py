"""kube-scheduler's filters as `explain` repeats them, case by case.

tests/cluster/questions/test_explain_and_kube_scheduler.py compares them with the real ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.decision.kube_filters.evaluate import evaluate
from extender.decision.kube_filters.pod_objects import KubePod, PersistentVolume, PersistentVolumeClaim
from extender.decision.kube_filters.pod_requests import requests_of
from extender.decision.kube_filters.surroundings import Surroundings
from extender.decision.request.kubernetes_objects import Node
from tests.cluster.fleets.random_clusters import Generator

AMOUNTS = {"cpu": "4", "memory": "8Gi", "pods": "3", "nvidia.com/gpu": "2"}


def a_node(name: str = "n", labels: dict[str, str] | None = None, amounts: dict[str, str] | None = None, **spec: Any) -> Node:
    status = {"allocatable": AMOUNTS if amounts is None else amounts, "conditions": spec.pop("conditions", [])}
    return msgspec.convert({"metadata": {"name": name, "labels": labels or {}}, "spec": spec, "status": status}, Node)


def a_pod(name: str = "p", labels: dict[str, str] | None = None, status: dict[str, Any] | None = None, **spec: Any) -> KubePod:
    metadata = {"name": name, "namespace": "default", "labels": labels or {}}
    return msgspec.convert({"metadata": metadata, "spec": {"containers": [{"name": "c"}]} | spec, "status": status}, KubePod)


def asking(name: str = "c", **requests: str) -> dict[str, Any]:
    return {"name": name, "resources": {"requests": {"nvidia.com/gpu" if key == "gpu" else key: value for key, value in requests.items()}}}


def affinity(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def apart(**labels: str) -> dict[str, Any]:
    term = {"topologyKey": "zone", "labelSelector": {"matchLabels": labels}}
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def together(**labels: str) -> dict[str, Any]:
    term = {"topologyKey": "zone", "labelSelector": {"matchLabels": labels}}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def spread(**more: Any) -> dict[str, Any]:
    selector = {"matchLabels": {"app": "llm"}}
    return {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector} | more


@dataclass
class Case:
    """A pod, a node `n` in zone `a` and other nodes, their pods, and the expected reasons of `n`."""

    pod: KubePod
    reasons: tuple[str, ...] = ()
    node: Node = field(default_factory=lambda: a_node(labels={"zone": "a"}))
    there: tuple[KubePod, ...] = ()
    others: Mapping[str, tuple[Node, tuple[KubePod, ...]]] = field(default_factory=dict)


LLM = {"app": "llm"}
TAINT = {"key": "team", "value": "red", "effect": "NoSchedule"}
UNTOLERATED = "node(s) had untolerated taint {team: red}"
AFFINITY = "node(s) didn't match Pod's node affinity/selector"
OTHER_ZONE = {"m": (a_node("m", {"zone": "b"}), ())}
RESIZED = {"containerStatuses": [{"name": "c", "resources": {"requests": {"cpu": "3"}}, "allocatedResources": {"cpu": "3"}}]}
CASES = {
    "an empty node takes any pod": Case(a_pod()),
    "cordoned": Case(a_pod(), ("node(s) were unschedulable",), a_node(unschedulable=True)),
    "cordoned, and tolerated": Case(
        a_pod(tolerations=[{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]), (), a_node(unschedulable=True)
    ),
    "another node's name": Case(a_pod(nodeName="m"), ("node(s) didn't match the requested node name",)),
    "tainted": Case(a_pod(), (UNTOLERATED,), a_node(taints=[TAINT])),
    "tainted, tolerated by value": Case(a_pod(tolerations=[{"key": "team", "value": "red"}]), (), a_node(taints=[TAINT])),
    "tainted, another value tolerated": Case(a_pod(tolerations=[{"key": "team", "value": "x"}]), (UNTOLERATED,), a_node(taints=[TAINT])),
    "tainted, another effect tolerated": Case(
        a_pod(tolerations=[{"key": "team", "operator": "Exists", "effect": "NoExecute"}]), (UNTOLERATED,), a_node(taints=[TAINT])
    ),
    "a preference is no taint to tolerate": Case(a_pod(), (), a_node(taints=[TAINT | {"effect": "PreferNoSchedule"}])),
    "not ready, before its controller has tainted it": Case(
        a_pod(),
        ("node(s) had untolerated taint {node.kubernetes.io/not-ready: }",),
        a_node(conditions=[{"type": "Ready", "status": "False"}]),
    ),
    "unreachable": Case(
        a_pod(),
        ("node(s) had untolerated taint {node.kubernetes.io/unreachable: }",),
        a_node(conditions=[{"type": "Ready", "status": "Unknown"}]),
    ),
    "not ready for execution is tolerated as admission has it": Case(
        a_pod(), (), a_node(taints=[{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}])
    ),
    "nodeSelector": Case(a_pod(nodeSelector={"zone": "b"}), (AFFINITY,)),
    "affinity In": Case(a_pod(affinity=affinity(expression("zone", "In", "b", "c"))), (AFFINITY,)),
    "affinity NotIn of an absent label": Case(a_pod(affinity=affinity(expression("disk", "NotIn", "hdd")))),
    "affinity Gt": Case(a_pod(affinity=affinity(expression("cores", "Gt", "8"))), (AFFINITY,), a_node(labels={"cores": "8"})),
    "affinity Lt": Case(a_pod(affinity=affinity(expression("cores", "Lt", "9"))), (), a_node(labels={"cores": "8"})),
    "affinity Gt of no number": Case(a_pod(affinity=affinity(expression("cores", "Gt", "8"))), (AFFINITY,), a_node(labels={"cores": "x"})),
    "any term is enough": Case(a_pod(affinity=affinity(expression("zone", "In", "b"), expression("zone", "Exists")))),
    "no term matches nothing": Case(a_pod(affinity=affinity()), (AFFINITY,)),
    "an empty term matches nothing": Case(a_pod(affinity=affinity({})), (AFFINITY,)),
    "matchFields": Case(
        a_pod(affinity=affinity({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["m"]}]})), (AFFINITY,)
    ),
    "cpu": Case(a_pod(containers=[asking(cpu="4001m")]), ("Insufficient cpu",)),
    "all that is free": Case(a_pod(containers=[asking(cpu="3")]), (), there=(a_pod("q", containers=[asking(cpu="1")]),)),
    "what pods there request": Case(
        a_pod(containers=[asking(cpu="3", memory="8Gi")]),
        ("Insufficient cpu", "Insufficient memory"),
        there=(a_pod("q", containers=[asking(cpu="1.001", memory="1")]),),
    ),
    "requests default to limits": Case(a_pod(containers=[{"name": "c", "resources": {"limits": {"cpu": "5"}}}]), ("Insufficient cpu",)),
    "GPUs": Case(a_pod(containers=[asking(gpu="2")]), ("Insufficient nvidia.com/gpu",), there=(a_pod("q", containers=[asking(gpu="1")]),)),
    "a resource that the node does not offer": Case(
        a_pod(containers=[asking(**{"example.com/fpga": "1"})]), ("Insufficient example.com/fpga",)
    ),
    "an init container's peak": Case(a_pod(initContainers=[asking("i", cpu="5")]), ("Insufficient cpu",)),
    "init containers run one by one": Case(a_pod(initContainers=[asking("i", cpu="3"), asking("j", cpu="4")])),
    "a sidecar stays": Case(
        a_pod(initContainers=[asking("i", cpu="3") | {"restartPolicy": "Always"}], containers=[asking(cpu="2")]), ("Insufficient cpu",)
    ),
    "overhead": Case(a_pod(containers=[asking(cpu="4")], overhead={"cpu": "1m"}), ("Insufficient cpu",)),
    "the pod as a whole": Case(a_pod(resources={"requests": {"cpu": "5"}}), ("Insufficient cpu",)),
    "the pod as a whole goes before its containers": Case(a_pod(resources={"requests": {"cpu": "1"}}, containers=[asking(cpu="9")])),
    "a resize under way": Case(
        a_pod(containers=[asking(cpu="2")]), ("Insufficient cpu",), there=(a_pod("q", None, RESIZED, containers=[asking(cpu="1")]),)
    ),
    "too many pods": Case(a_pod(), ("Too many pods",), there=tuple(a_pod(f"q{n}") for n in range(3))),
    "host port taken": Case(
        a_pod(containers=[{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]),
        ("node(s) didn't have free ports for the requested pod ports",),
        there=(a_pod("q", hostNetwork=True, containers=[{"name": "c", "ports": [{"containerPort": 80}]}]),),
    ),
    "host port of another protocol": Case(
        a_pod(containers=[{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "UDP"}]}]),
        there=(a_pod("q", containers=[{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]),),
    ),
    "spread over zones": Case(
        a_pod(labels=LLM, topologySpreadConstraints=[spread()]),
        ("node(s) didn't match pod topology spread constraints",),
        there=(a_pod("q", LLM),),
        others=OTHER_ZONE,
    ),
    "spread, the other zone has as many": Case(
        a_pod(labels=LLM, topologySpreadConstraints=[spread()]),
        (),
        there=(a_pod("q", LLM),),
        others={"m": (a_node("m", {"zone": "b"}), (a_pod("r", LLM),))},
    ),
    "spread over labels the node lacks": Case(
        a_pod(topologySpreadConstraints=[spread(topologyKey="rack")]),
        ("node(s) didn't match pod topology spread constraints (missing required label)",),
    ),
    "spread over too few domains": Case(
        a_pod(labels=LLM, topologySpreadConstraints=[spread(minDomains=2)]),
        ("node(s) didn't match pod topology spread constraints",),
        there=(a_pod("q", LLM),),
    ),
    "a preferred spread refuses nothing": Case(
        a_pod(labels=LLM, topologySpreadConstraints=[spread(whenUnsatisfiable="ScheduleAnyway")]),
        there=(a_pod("q", LLM),),
        others=OTHER_ZONE,
    ),
    "affinity to pods elsewhere": Case(
        a_pod(affinity=together(app="db")),
        ("node(s) didn't match pod affinity rules",),
        others={"m": (a_node("m", {"zone": "b"}), (a_pod("q", {"app": "db"}),))},
    ),
    "affinity to pods in the zone": Case(
        a_pod(affinity=together(app="db")), others={"m": (a_node("m", {"zone": "a"}), (a_pod("q", {"app": "db"}),))}
    ),
    "the first of pods that want to be together": Case(a_pod(labels=LLM, affinity=together(app="llm"))),
    "affinity to no pod that is": Case(a_pod(affinity=together(app="llm")), ("node(s) didn't match pod affinity rules",)),
    "anti-affinity": Case(a_pod(affinity=apart(app="llm")), ("node(s) didn't match pod anti-affinity rules",), there=(a_pod("q", LLM),)),
    "anti-affinity of a pod that is there": Case(
        a_pod(labels=LLM), ("node(s) didn't satisfy existing pods anti-affinity rules",), there=(a_pod("q", affinity=apart(app="llm")),)
    ),
}


def around(case: Case) -> Surroundings:
    nodes = {case.node.metadata.name: case.node} | {name: node for name, (node, _) in case.others.items()}
    return Surroundings(nodes, {case.node.metadata.name: case.there} | {name: pods for name, (_, pods) in case.others.items()})


@pytest.mark.parametrize("name", CASES)
def test_node_is_refused_for_the_reasons_of_the_case(name: str) -> None:
    case = CASES[name]
    refusals = evaluate(case.pod, around(case)).refusals.get("n", ())
    assert tuple(refusal.reason for refusal in refusals) == case.reasons
    assert all(refusal.detail and refusal.plugin for refusal in refusals)


def claim(volume: str | None) -> dict[tuple[str, str], PersistentVolumeClaim]:
    manifest = {"metadata": {"name": "data", "namespace": "default"}, "spec": {"volumeName": volume} if volume else {}}
    return {("default", "data"): msgspec.convert(manifest, PersistentVolumeClaim)}


def volumes(zone: str) -> dict[str, PersistentVolume]:
    required = {"nodeSelectorTerms": [expression("zone", "In", zone)]}
    manifest = {"metadata": {"name": "pv"}, "spec": {"nodeAffinity": {"required": required}}}
    return {"pv": msgspec.convert(manifest, PersistentVolume)}


VOLUMES: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "claims that were not read": ({}, (), "PersistentVolumeClaims were not read (data)"),
    "no such claim": ({"claims": {}}, ('persistentvolumeclaim "data" not found',), ""),
    "not bound yet": ({"claims": claim(None)}, (), "data is not bound yet"),
    "its volume was not read": ({"claims": claim("pv"), "volumes": {}}, (), "PersistentVolume pv of claim data was not read"),
    "bound in the node's zone": ({"claims": claim("pv"), "volumes": volumes("a")}, (), ""),
    "bound elsewhere": ({"claims": claim("pv"), "volumes": volumes("b")}, ("node(s) didn't match PersistentVolume's node affinity",), ""),
}


@pytest.mark.parametrize("name", VOLUMES)
def test_bound_volume_limits_the_pod_to_its_nodes_and_unread_objects_are_listed(name: str) -> None:
    known, reasons, not_checked = VOLUMES[name]
    pod = a_pod(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}])
    answer = evaluate(pod, Surroundings({"n": a_node(labels={"zone": "a"})}, {}, **known))
    assert tuple(refusal.reason for refusal in answer.refusals.get("n", ())) == reasons
    assert (not_checked in " ".join(answer.not_checked)) if not_checked else "VolumeBinding" not in " ".join(answer.not_checked)


def test_filters_that_need_unread_pods_are_listed_and_refuse_no_node() -> None:
    pod = a_pod(
        labels=LLM,
        containers=[asking(cpu="4") | {"ports": [{"containerPort": 1, "hostPort": 1}]}],
        topologySpreadConstraints=[spread()],
        affinity=apart(app="llm"),
    )
    answer = evaluate(pod, Surroundings({"n": a_node(labels={"zone": "a"})}))
    assert answer.refusals == {}
    assert {words.partition(":")[0] for words in answer.not_checked} >= {
        "NodePorts",
        "NodeResourcesFit",
        "PodTopologySpread",
        "InterPodAffinity",
    }


def test_request_larger_than_the_node_is_unresolvable_even_if_the_pods_on_it_are_unread() -> None:
    answer = evaluate(a_pod(containers=[asking(cpu="5")]), Surroundings({"n": a_node()}))
    assert [(refusal.reason, refusal.resolvable) for refusal in answer.refusals["n"]] == [("Insufficient cpu", False)]


# (the node's allocatable GPUs, resources that DeviceClasses stand for) -> reasons of kube-scheduler's NodeResourcesFit
SERVED_BY_CLASSES: tuple[tuple[dict[str, str], frozenset[str], tuple[str, ...]], ...] = (
    ({}, frozenset(), ("Insufficient nvidia.com/gpu",)),
    ({}, frozenset({"nvidia.com/gpu"}), ()),
    ({"nvidia.com/gpu": "1"}, frozenset({"nvidia.com/gpu"}), ("Insufficient nvidia.com/gpu",)),
)


@pytest.mark.parametrize(("amounts", "class_resources", "reasons"), SERVED_BY_CLASSES)
def test_resource_of_a_device_class_is_not_counted_on_nodes_that_allocate_none_of_it(
    amounts: dict[str, str], class_resources: frozenset[str], reasons: tuple[str, ...]
) -> None:
    node = msgspec.convert({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "4", "pods": "10"} | amounts}}, Node)
    pod = a_pod(containers=[asking(**{"nvidia.com/gpu": "2"})])
    answer = evaluate(pod, Surroundings({"n": node}, {}, class_resources=class_resources))
    assert tuple(refusal.reason for refusal in answer.refusals.get("n", ())) == reasons


def drawn(seed: int, count: int) -> list[KubePod]:
    generator = Generator(seed, "x")
    return [msgspec.convert(generator.pod(f"p{place}", "s"), KubePod) for place in range(count)]


@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_order_of_nodes_and_pods_changes_no_refusal(seed: int, dice: Any) -> None:
    generator = Generator(seed, "x")
    nodes = [msgspec.convert(generator.node(place), Node) for place in range(4)]
    pods = drawn(seed + 1, 6)
    there = {node.metadata.name: tuple(pods[place :: len(nodes)]) for place, node in enumerate(nodes)}
    pod = drawn(seed + 2, 1)[0]
    answer = evaluate(pod, Surroundings({node.metadata.name: node for node in nodes}, there))
    dice.shuffle(nodes)
    shuffled = {name: tuple(dice.sample(pods, len(pods))) for name, pods in there.items()}
    again = evaluate(pod, Surroundings({node.metadata.name: node for node in nodes}, shuffled))
    assert {name: [one.reason for one in found] for name, found in again.refusals.items()} == {
        name: [one.reason for one in found] for name, found in answer.refusals.items()
    }


@given(st.integers(0, 10_000))
def test_removing_a_pod_from_a_node_adds_no_resource_refusal(seed: int) -> None:
    pods, node = drawn(seed, 4), msgspec.convert(Generator(seed, "x").node(0), Node)

    def scarce(there: list[KubePod]) -> set[str]:
        found = evaluate(pods[0], Surroundings({node.metadata.name: node}, {node.metadata.name: tuple(there)})).refusals
        return {one.reason for one in found.get(node.metadata.name, ()) if one.plugin == "NodeResourcesFit"}

    assert scarce(pods[1:3]) <= scarce(pods[1:])


@given(st.integers(0, 10_000))
def test_pod_requests_at_least_what_each_of_its_containers_requests(seed: int) -> None:
    for pod in drawn(seed, 3):
        if pod.spec.resources is None:
            total = requests_of(pod)
            for container in [*(pod.spec.containers or ()), *(pod.spec.init_containers or ())]:
                alone = requests_of(
                    msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, containers=[container], init_containers=None))
                )
                assert all(total.get(name, 0) >= amount for name, amount in alone.items())
