"""Pods of a node that are bound and wait for devices, and the sets that were decided for them. Pure.

A decision is an annotation, which every user that may create a pod may write. It only ever selects among sets that the kubelet offers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from topology.devices.size_mix import MOST_DECISION_CHARACTERS, SizeMix, recorded_mix
from topology.devices.steering import reused_within

DECISION = "fabricwise.dev/decision"
ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Step:
    """A container that asks for devices."""

    container: str
    size: int
    ends: bool
    """Whether it is an init container that ends before the next one starts: others reuse its devices."""


@dataclass(frozen=True, slots=True)
class NodePod:
    """A pod that is bound to this node."""

    uid: str
    namespace: str
    name: str
    admission_order: tuple[str, int, str, str, str]
    """As `BoundPod.admission_order` of the extender, whose predictions must have the same order."""
    steps: tuple[Step, ...]
    """In the order in which the kubelet serves them."""
    decided: tuple[tuple[int, ...], ...] | None = None
    """nvidia-smi indices per container that stays, in order; None where no decision names them."""
    size_mix: SizeMix | None = None
    """The mix of sizes that its decision records; None where none does."""

    @property
    def demand(self) -> tuple[tuple[int, bool], ...]:
        """What tells its request from others."""
        return tuple((step.size, step.ends) for step in self.steps)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A container that may be the one that the kubelet asks for."""

    pod: NodePod
    step: Step
    decided: tuple[int, ...] | None
    reused: int = 0
    """Devices of the largest container that must have those of this one: see `topology.devices.steering.reused_within`."""
    asks: bool = True
    """Whether the kubelet asks for it: not where it has all its devices of an init container before it."""


class _Containers(msgspec.Struct):
    containers: list[list[int]] | None = None
    node: str | None = None


def node_pod(manifest: Mapping[str, Any], resource: str) -> NodePod | None:
    """A pod as parsed JSON that may wait for devices of `resource`; None where it asks for none, has ended, was admitted or makes no sense.

    The kubelet sets the start time once it has admitted a pod, and all its containers then have their devices.
    """
    try:
        metadata, spec, status = manifest["metadata"], manifest["spec"], manifest.get("status") or {}
        if status.get("phase") in ENDED or status.get("startTime"):
            return None
        steps = [_step(one, resource, one.get("restartPolicy") != "Always") for one in spec.get("initContainers") or []]
        steps += [_step(one, resource, False) for one in spec.get("containers") or []]
        created = str(metadata.get("creationTimestamp") or "")
        scheduled = next(
            (str(c.get("lastTransitionTime")) for c in status.get("conditions") or [] if c.get("type") == "PodScheduled"), created
        )
        priority = int(spec.get("priority") or 0)
        uid, kept = str(metadata["uid"]), tuple(step for step in steps if step.size)
        decision = (metadata.get("annotations") or {}).get(DECISION)
        namespace, name = str(metadata.get("namespace") or "default"), str(metadata["name"])
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
    order = (scheduled, -priority, created, f"{namespace}/{name}", uid)
    decided = _decided(decision, kept, spec.get("nodeName"))
    return NodePod(uid, namespace, name, order, kept, decided, recorded_mix(decision)) if kept else None


def _step(container: Mapping[str, Any], resource: str, ends: bool) -> Step:
    resources = container.get("resources") or {}
    asked = (resources.get("requests") or {}).get(resource, (resources.get("limits") or {}).get(resource, 0))
    return Step(str(container["name"]), int(asked), ends)


def _decided(text: object, steps: tuple[Step, ...], node: object) -> tuple[tuple[int, ...], ...] | None:
    """The sets of a decision where they fit what the pod's containers ask for, and are not of another node: templates are copied."""
    if not isinstance(text, str) or len(text) > MOST_DECISION_CHARACTERS:
        return None
    try:
        decision = msgspec.json.decode(text, type=_Containers)
    except (msgspec.DecodeError, RecursionError):
        return None
    if decision.node is not None and node and decision.node != node:
        return None
    found, sizes = decision.containers, [step.size for step in steps if not step.ends]
    return tuple(map(tuple, found)) if found is not None and [len(set(part)) for part in found] == sizes else None


def waiting(pods: Iterable[NodePod], served: Mapping[tuple[str, str], Collection[str]], size: int) -> tuple[Waiting, ...]:
    """The containers that may be the one that asks for `size` devices, in the order in which the kubelet admits their pods.

    `served`: (namespace, name) -> containers that hold devices already, by the kubelet's PodResources. It names no finished init
    container, so each one between the last container that holds devices and the next one that stays may be the one that asks.
    """
    found = []
    for pod in sorted(pods, key=lambda pod: pod.admission_order):
        held, place, reusable = served.get((pod.namespace, pod.name), ()), 0, 0
        next_number = max((number + 1 for number, step in enumerate(pod.steps) if step.container in held), default=0)
        for number, step in enumerate(pod.steps):
            if number < next_number:  # the kubelet serves the containers in order
                place += not step.ends
                continue
            if step.size == size:
                decided = pod.decided[place] if pod.decided is not None and not step.ends else None
                found.append(Waiting(pod, step, decided, reused_within(pod.demand, number), step.size > reusable))
            reusable = max(reusable, step.size)
            if not step.ends:
                break
    return tuple(found)
