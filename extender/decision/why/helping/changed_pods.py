"""A question about a pod with one of its requirements changed, in both forms in which the pod is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from extender.decision.kube_filters.pod_objects import KubeContainer, KubePod, Toleration
from extender.decision.kube_filters.pod_requests import read_amounts, requests_of, whole_units
from extender.decision.request.kubernetes_objects import Container, Resources, Taint
from extender.decision.why.pod_question import Question

_replace = msgspec.structs.replace
C = TypeVar("C", Container, KubeContainer)


def with_annotations(question: Question, changed: Mapping[str, str | None]) -> Question:
    """Return the question about the pod with these annotations set; None removes one."""
    meta = question.pod.metadata
    kept = {key: value for key, value in (meta.annotations or {}).items() if key not in changed}
    annotations = kept | {key: value for key, value in changed.items() if value is not None}
    return question.of(_replace(question.pod, metadata=_replace(meta, annotations=annotations)))


def with_gpus(question: Question, gpus: int) -> Question | None:
    """Return the question about the pod with so many GPUs in its only container with GPUs; None where several containers have some."""
    pod, kube_pod, name = question.pod, question.kube_pod, question.resource
    if sum(_requests(container, name) for container in [*(pod.spec.containers or ()), *(pod.spec.init_containers or ())]) != 1:
        return None
    containers = [_of_container(container, name, str(gpus), both=True) for container in pod.spec.containers or ()]
    changed = _replace(pod, spec=_replace(pod.spec, containers=containers))
    if kube_pod is None:
        return question.of(changed)
    kube_containers = [_of_container(container, name, str(gpus), both=True) for container in kube_pod.spec.containers or ()]
    return question.of(changed, _replace(kube_pod, spec=_replace(kube_pod.spec, containers=kube_containers)))


def with_less(question: Question, resource: str, most: int) -> tuple[Question, str] | None:
    """Return the question about the pod that requests at most `most` units of CPU or memory, and the new request as text.

    The container with the largest request gets less; `most` is in the units of `pod_requests.requests_of`. None where one container
    cannot give so much, or the pod itself states its requests.
    """
    kube_pod = question.kube_pod
    if kube_pod is None or kube_pod.spec.resources is not None or not kube_pod.spec.containers:
        return None
    total = requests_of(kube_pod).get(resource, 0)
    amounts = [_amount(container, resource) for container in kube_pod.spec.containers]
    largest = max(range(len(amounts)), key=lambda place: amounts[place])
    left = amounts[largest] - (total - most)
    if most <= 0 or left <= 0 or total <= most:
        return None
    containers = list(kube_pod.spec.containers)
    containers[largest] = _of_container(containers[largest], resource, amount_text(resource, left))
    changed = _replace(kube_pod, spec=_replace(kube_pod.spec, containers=containers))
    return question.of(question.pod, changed), amount_text(resource, most)


def amount_text(resource: str, amount: int) -> str:
    """Return an amount as a quantity: of CPU in thousandths, else in bytes or pieces. Memory is rounded down to Mi."""
    if resource == "cpu":
        return str(amount // 1000) if amount % 1000 == 0 else f"{amount}m"
    if resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-"):
        mebibytes = amount >> 20
        return f"{mebibytes >> 10}Gi" if mebibytes and mebibytes % 1024 == 0 else f"{mebibytes}Mi" if mebibytes else str(amount)
    return str(amount)


def with_tolerations(question: Question, taints: Sequence[Taint]) -> Question | None:
    """Return the question about the pod that tolerates these taints; None where its tolerations are not known."""
    kube_pod = question.kube_pod
    if kube_pod is None:
        return None
    added = [Toleration(taint.key, "Equal" if taint.value else "Exists", taint.value, taint.effect) for taint in taints]
    return question.of(question.pod, _with_spec(kube_pod, tolerations=[*(kube_pod.spec.tolerations or ()), *added]))


def without_node_selection(question: Question) -> Question | None:
    """Return the question about the pod without nodeSelector and node affinity; None where it has none."""
    kube_pod = question.kube_pod
    if kube_pod is None:
        return None
    affinity = kube_pod.spec.affinity
    has_affinity = affinity is not None and affinity.node_affinity is not None
    if not kube_pod.spec.node_selector and not has_affinity:
        return None
    without = _replace(affinity, node_affinity=None) if affinity is not None else None
    return question.of(question.pod, _with_spec(kube_pod, node_selector=None, affinity=without))


def without_pod_constraints(question: Question) -> Question | None:
    """Return the question about the pod without pod (anti-)affinity and topology spread; None where it has none."""
    kube_pod = question.kube_pod
    if kube_pod is None:
        return None
    affinity = kube_pod.spec.affinity
    has_affinity = affinity is not None and (affinity.pod_affinity is not None or affinity.pod_anti_affinity is not None)
    if not kube_pod.spec.topology_spread_constraints and not has_affinity:
        return None
    without = _replace(affinity, pod_affinity=None, pod_anti_affinity=None) if affinity is not None else None
    return question.of(question.pod, _with_spec(kube_pod, affinity=without, topology_spread_constraints=None))


def _with_spec(kube_pod: KubePod, **changed: Any) -> KubePod:
    return _replace(kube_pod, spec=_replace(kube_pod.spec, **changed))


def _requests(container: Container | KubeContainer, resource: str) -> bool:
    resources = container.resources
    return resources is not None and (resource in (resources.requests or {}) or resource in (resources.limits or {}))


def _amount(container: KubeContainer, resource: str) -> int:
    resources = container.resources
    if resources is None:
        return 0
    return whole_units(read_amounts({**(resources.limits or {}), **(resources.requests or {})})).get(resource, 0)


def _of_container(container: C, resource: str, text: str, both: bool = False) -> C:
    """Return the container with a changed request; `both`: its limit is the same, as for extended resources."""
    resources = container.resources or Resources()
    if both and not _requests(container, resource):
        return container
    requests = {**(resources.requests or {}), resource: text}
    limits = {**(resources.limits or {}), resource: text} if both else resources.limits
    return _replace(container, resources=_replace(resources, requests=requests, limits=limits))
