"""What decisions on other pods read of a pod: pending, bound, ended or assumed; with names as a `Naming` has them."""

from __future__ import annotations

from dataclasses import replace

from extender.decision.cycle.assumed_pods import AssumedPod
from extender.decision.evaluate.verdict import Evidence
from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.node.allocation.ended_pods import AdmissionOrder, EndedPod
from extender.decision.replay.kept_objects.kept_names import HIDDEN_TEXT, claim_key, kept_name, kept_namespace
from extender.decision.replay.kept_objects.named_texts import Names, Naming
from extender.decision.request.annotations import Wishes
from extender.decision.request.kubernetes_objects import Meta, Pod, PodSpec
from extender.decision.request.pod_request import Demand
from extender.decision.state.pods import Pending


def kept_pending(pending: Pending, naming: Naming) -> Pending:
    """Return a pending pod: its rank, its demand and the node nominated for it."""
    pod = pending.pod
    meta = Meta(
        name=naming.name(Names.POD, pod.metadata.name),
        namespace=kept_namespace(pod.metadata.namespace, naming),
        uid=naming.name(Names.KEY, pod.key) if naming.is_hidden else pod.metadata.uid,
        creation_timestamp=pod.metadata.creation_timestamp,
    )
    nominated = kept_name(Names.NODE, pending.nominated, naming)
    return Pending(Pod(meta, PodSpec(priority=pod.spec.priority)), pending.demand, nominated, pending.priority, "", pending.refused)


def kept_bound_pod(pod: BoundPod, naming: Naming) -> BoundPod:
    """Return a bound pod."""
    return replace(
        pod,
        key=naming.name(Names.KEY, pod.key),
        namespace=kept_namespace(pod.namespace, naming),
        name=naming.name(Names.POD, pod.name),
        node=naming.name(Names.NODE, pod.node),
        devices=tuple(tuple(_device_id(device, naming) for device in group) for group in pod.devices),
        extended_claim=claim_key(pod.extended_claim, naming) if pod.extended_claim else None,
    )


def _device_id(text: str, naming: Naming) -> str:
    """Return the id of a device: a uuid, with `::` and a number for a replica."""
    uuid, separator, number = text.partition("::")
    return f"{naming.name(Names.GPU, uuid)}{separator}{number}"


def kept_ended_pods(pods: tuple[EndedPod, ...], naming: Naming) -> tuple[EndedPod, ...]:
    """Return the ended pods of a node."""
    return tuple(
        replace(
            pod,
            key=naming.name(Names.KEY, pod.key),
            namespace=kept_namespace(pod.namespace, naming),
            name=naming.name(Names.POD, pod.name),
            overlapping=frozenset(naming.name(Names.KEY, key) for key in pod.overlapping),
            admission_order=_admission_order(pod, naming),
        )
        for pod in pods
    )


def _admission_order(pod: EndedPod, naming: Naming) -> AdmissionOrder:
    """Return the sort key of an ended pod, which has its names too."""
    bound, priority, created, full_name, key = pod.admission_order
    if not key:
        return pod.admission_order
    hidden = f"{kept_namespace(pod.namespace, naming)}/{naming.name(Names.POD, pod.name)}" if full_name else ""
    return bound, priority, created, hidden, naming.name(Names.KEY, key)


def kept_assumed_pod(pod: AssumedPod, naming: Naming) -> AssumedPod:
    """Return an assumed pod, without its prediction, which no later decision reads."""
    group = pod.group
    if group is not None and naming.is_hidden:
        namespace, _, name = group.partition("/")
        group = f"{naming.name(Names.NAMESPACE, namespace)}/{naming.name(Names.GROUP, name)}"
    return replace(
        pod,
        key=naming.name(Names.KEY, pod.key),
        namespace=kept_namespace(pod.namespace, naming),
        name=naming.name(Names.POD, pod.name),
        node=naming.name(Names.NODE, pod.node),
        demand=_kept_demand(pod.demand, naming),
        evidence=Evidence(),
        group=group,
    )


def _kept_demand(demand: Demand, naming: Naming) -> Demand:
    """Return the demand of a pod as other pods' decisions read it: what it holds, not what it asks of a node."""
    demand = replace(demand, wishes=Wishes(messages=demand.wishes.messages), workload=None, inferred_memory_bytes=None)
    claims = demand.claims
    if claims is None or not naming.is_hidden:
        return demand
    requests = tuple(
        tuple(replace(spec, claim=claim_key(spec.claim, naming) if spec.claim else None) for spec in alternatives)
        for alternatives in claims.requests
    )
    named = frozenset(claim_key(key, naming) for key in claims.named)
    unknown = HIDDEN_TEXT if claims.unknown is not None else None
    return replace(demand, claims=replace(claims, requests=requests, named=named, unknown=unknown))
