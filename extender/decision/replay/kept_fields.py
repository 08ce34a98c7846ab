"""What a decision reads of each object, with names as a `Naming` has them. All else is left out of a journal, always.

No environment value, argument, annotation, label or resource is kept that no decision reads.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import msgspec
from msgspec import structs

from extender.decision.cycle.assumed_pods import AssumedPod
from extender.decision.evaluate.verdict import Evidence
from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.node.allocation.ended_pods import AdmissionOrder, EndedPod
from extender.decision.node.node_labels import DEVICE_PLUGIN, TOPOLOGY_MANAGER
from extender.decision.replay.named_texts import Names, Naming
from extender.decision.request.annotations import ANNOTATIONS, PREFIX, Annotation, Wishes
from extender.decision.request.kubernetes_objects import (
    Container,
    EnvVar,
    Meta,
    Node,
    NodeMeta,
    NodeStatus,
    Owner,
    Pod,
    PodExtendedResourceClaimStatus,
    PodResourceClaim,
    PodResourceClaimStatus,
    PodSchedulingGroup,
    PodSpec,
    PodStatus,
    Quantities,
)
from extender.decision.request.pod_request import Demand
from extender.decision.request.resource_names import is_slice
from extender.decision.request.workload_classes import WorkloadClass
from extender.decision.state.isolation import SetAside
from extender.decision.state.pods import Pending
from extender.telemetry.conditions import DeviceCondition, EngineCondition, NodeTelemetry
from extender.workload.serving.inference import CommandLine, needed_words
from extender.workload.serving.serving_engines import ENGINES
from topology.gputopology import Allocation, DeviceStatus, TopologyRecord
from topology.machine.hardware import FabricDomain, Gpu, Machine

LABEL_PREFIXES = ("nvidia.com/gpu.", "nvidia.com/mig", "nvidia.com/cuda.", "nvidia.com/sharing.")
LABELS = (TOPOLOGY_MANAGER, DEVICE_PLUGIN)
"""Labels of nodes that decisions read, beside those of the pools of workload classes."""

HIDDEN_TEXT = "hidden"
"""Stands for a text for people where names are hidden."""


def kept_node(node: Node, naming: Naming, resource: str, pool_labels: Collection[str]) -> Node:
    """Return the node as decisions read it. `pool_labels`: keys of the labels that workload classes read."""
    labels = {key: text for key, text in (node.metadata.labels or {}).items() if key.startswith(LABEL_PREFIXES) or key in LABELS}
    labels |= {
        key: naming.name(Names.LABEL, text)
        for key, text in (node.metadata.labels or {}).items()
        if key in pool_labels and key not in labels
    }
    status = node.status
    if status is not None:
        status = NodeStatus(_counted(status.allocatable, resource), _counted(status.capacity, resource))
    return Node(NodeMeta(naming.name(Names.NODE, node.metadata.name), labels or None), status)


def _counted(amounts: Quantities | None, resource: str) -> Quantities | None:
    """Return the amounts of GPUs and of parts of GPUs."""
    return None if amounts is None else {name: amount for name, amount in amounts.items() if name == resource or is_slice(name, resource)}


def pool_labels_of(classes: Mapping[str, WorkloadClass]) -> frozenset[str]:
    """Return the keys of the labels that the classes' pools read."""
    return frozenset(key for each in classes.values() for pool in each.pools for key, _ in pool)


def kept_class(workload_class: WorkloadClass, naming: Naming) -> WorkloadClass:
    """Return a workload class; with hidden names the values of its pools' labels are hidden, unless they are labels of the GPU stack."""
    pools = tuple(
        tuple((key, text if _is_own_label(key) else naming.name(Names.LABEL, text)) for key, text in pool) for pool in workload_class.pools
    )
    return structs.replace(workload_class, description="", pools=pools, tolerations=())


def _is_own_label(key: str) -> bool:
    return key.startswith(LABEL_PREFIXES) or key in LABELS


def kept_pod(pod: Pod, naming: Naming) -> Pod:
    """Return the pod of a request as decisions read it."""
    meta, spec, status = pod.metadata, pod.spec, pod.status
    namespace = _namespace(meta.namespace, naming)
    group = spec.scheduling_group.pod_group_name if spec.scheduling_group else None
    has_model = PREFIX + "model" in (meta.annotations or {})
    return Pod(
        metadata=Meta(
            name=naming.name(Names.POD, meta.name),
            namespace=namespace,
            uid=naming.name(Names.KEY, pod.key) if naming.is_hidden else meta.uid,
            annotations=_annotations(meta.annotations, naming),
            creation_timestamp=meta.creation_timestamp,
        ),
        spec=PodSpec(
            containers=_containers(spec.containers, naming, has_model),
            init_containers=_containers(spec.init_containers, naming, has_model),
            node_name=None,
            scheduler_name=spec.scheduler_name,
            priority=spec.priority,
            resource_claims=[_claim_entry(entry, naming) for entry in spec.resource_claims] if spec.resource_claims is not None else None,
            scheduling_group=PodSchedulingGroup(naming.name(Names.GROUP, group)) if group else None,
        ),
        status=_pod_status(status, naming) if status is not None else None,
    )


def _pod_status(status: PodStatus, naming: Naming) -> PodStatus:
    claims, extended = status.resource_claim_statuses, status.extended_resource_claim_status
    return PodStatus(
        nominated_node_name=_optional(Names.NODE, status.nominated_node_name, naming),
        resource_claim_statuses=None
        if claims is None
        else [PodResourceClaimStatus(each.name, _optional(Names.CLAIM, each.resource_claim_name, naming)) for each in claims],
        extended_resource_claim_status=PodExtendedResourceClaimStatus(naming.name(Names.CLAIM, extended.resource_claim_name))
        if extended is not None and extended.resource_claim_name
        else None,
    )


def _claim_entry(entry: PodResourceClaim, naming: Naming) -> PodResourceClaim:
    return PodResourceClaim(
        entry.name,
        _optional(Names.CLAIM, entry.resource_claim_name, naming),
        _optional(Names.CLAIM, entry.resource_claim_template_name, naming),
    )


def _optional(kind: Names, text: str | None, naming: Naming) -> str | None:
    return naming.name(kind, text) if text else text


def _namespace(text: str | None, naming: Naming) -> str:
    """Return a namespace. With hidden names the absent one is `default` too, because both mean the same."""
    return naming.name(Names.NAMESPACE, text or "default") if naming.is_hidden else text or ""


def _annotations(annotations: Mapping[str, str] | None, naming: Naming) -> dict[str, str] | None:
    """Return the annotations that requests are made by."""
    kept = {row.key: _annotation(row, annotations[row.key], naming) for row in ANNOTATIONS if row.key in annotations} if annotations else {}
    return kept or None


def _annotation(row: Annotation, text: str, naming: Naming) -> str:
    """Return the text of an annotation. With hidden names a malformed one is replaced, and the name of a model is left out."""
    if not naming.is_hidden:
        return text
    try:
        row.read(text)
        if row.field != "model":
            return text
        described = msgspec.json.decode(text)
        return msgspec.json.encode({field: value for field, value in described.items() if field != "name"}).decode()
    except (ValueError, ArithmeticError):
        return "?"


def _containers(containers: list[Container] | None, naming: Naming, has_model: bool) -> list[Container] | None:
    if containers is None:
        return None
    return [_container(container, number, naming, has_model) for number, container in enumerate(containers)]


def _container(container: Container, number: int, naming: Naming, has_model: bool) -> Container:
    """Return a container. `has_model`: whether an annotation describes the pod's model; else decisions read no command line."""
    name = f"c{number}" if naming.is_hidden else container.name
    kept = Container(name=name, resources=container.resources, restart_policy=container.restart_policy)
    if naming.is_hidden and not has_model:
        return kept
    environment = {variable.name: variable.value for variable in container.env or () if variable.value is not None}
    words = (*(container.command or ()), *(container.args or ()))
    needed, values = needed_words(CommandLine(container.name or "?", container.image or "", words, environment, 0))
    image = container.image
    if naming.is_hidden:
        needed = tuple(_without_model(word) for word in needed)
        values = {name: value for name, value in values.items() if _is_harmless(value)}
        image = next((mark for engine in ENGINES for mark in engine.marks if mark in (image or "").lower()), None)
    variables = [EnvVar(name, value) for name, value in sorted(values.items())]
    return structs.replace(kept, image=image, args=list(needed) or None, env=variables or None)


_HARMLESS = re.compile(r"[A-Za-z0-9_.,+-]{0,24}")


def _is_harmless(text: str) -> bool:
    return _HARMLESS.fullmatch(text) is not None


def _without_model(word: str) -> str:
    """Return a word of a command line; one that may be a name, a path or an address is left out, except for engines' own words."""
    flag, equals, value = word.partition("=")
    marks = {mark for engine in ENGINES for mark in engine.marks} | {engine.positional_after for engine in ENGINES}
    if word.rsplit("/", 1)[-1] in marks:
        return word.rsplit("/", 1)[-1]
    if flag.startswith("-"):
        return word if not equals or _is_harmless(value) else f"{flag}={HIDDEN_TEXT}"
    return word if _is_harmless(word) else HIDDEN_TEXT


def kept_pending(pending: Pending, naming: Naming) -> Pending:
    """Return a pending pod: its rank, its demand and the node nominated for it."""
    pod = pending.pod
    meta = Meta(
        name=naming.name(Names.POD, pod.metadata.name),
        namespace=_namespace(pod.metadata.namespace, naming),
        uid=naming.name(Names.KEY, pod.key) if naming.is_hidden else pod.metadata.uid,
        creation_timestamp=pod.metadata.creation_timestamp,
    )
    nominated = _optional(Names.NODE, pending.nominated, naming)
    return Pending(Pod(meta, PodSpec(priority=pod.spec.priority)), pending.demand, nominated, pending.priority, "", pending.refused)


def kept_bound_pod(pod: BoundPod, naming: Naming) -> BoundPod:
    """Return a bound pod."""
    return replace(
        pod,
        key=naming.name(Names.KEY, pod.key),
        namespace=_namespace(pod.namespace, naming),
        name=naming.name(Names.POD, pod.name),
        node=naming.name(Names.NODE, pod.node),
        devices=tuple(tuple(_device_id(device, naming) for device in group) for group in pod.devices),
        extended_claim=claim_key(pod.extended_claim, naming) if pod.extended_claim else None,
    )


def _device_id(text: str, naming: Naming) -> str:
    """Return the id of a device: a uuid, with `::` and a number for a replica."""
    uuid, separator, number = text.partition("::")
    return f"{naming.name(Names.GPU, uuid)}{separator}{number}"


def claim_key(text: str, naming: Naming) -> str:
    """Return namespace/name of a claim."""
    namespace, slash, name = text.rpartition("/")
    return f"{naming.name(Names.NAMESPACE, namespace)}/{naming.name(Names.CLAIM, name)}" if slash else naming.name(Names.CLAIM, name)


def kept_ended_pods(pods: tuple[EndedPod, ...], naming: Naming) -> tuple[EndedPod, ...]:
    """Return the ended pods of a node."""
    return tuple(
        replace(
            pod,
            key=naming.name(Names.KEY, pod.key),
            namespace=_namespace(pod.namespace, naming),
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
    hidden = f"{_namespace(pod.namespace, naming)}/{naming.name(Names.POD, pod.name)}" if full_name else ""
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
        namespace=_namespace(pod.namespace, naming),
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


def kept_record(record: TopologyRecord, naming: Naming) -> TopologyRecord:
    """Return a topology with its status, without the health that is reported to people alone."""
    status = record.status
    if not naming.is_hidden:
        return record if status is None else replace(record, status=replace(status, health=()))
    machine = replace(record.machine, gpus=tuple(_gpu(gpu, naming) for gpu in record.machine.gpus))
    return TopologyRecord(naming.name(Names.NODE, record.node), machine, None if status is None else _device_status(status, naming))


def _gpu(gpu: Gpu, naming: Naming) -> Gpu:
    domain = gpu.fabric_domain
    return replace(
        gpu,
        uuid=_optional(Names.GPU, gpu.uuid, naming),
        mig_instances=tuple(replace(mig, uuid=naming.name(Names.GPU, mig.uuid)) for mig in gpu.mig_instances),
        fabric_domain=None
        if domain is None
        else FabricDomain(naming.name(Names.FABRIC, domain.cluster_uuid), domain.clique_id, domain.state),
    )


def _device_status(status: DeviceStatus, naming: Naming) -> DeviceStatus:
    return replace(
        status,
        allocated=tuple(_allocation(entry, naming) for entry in status.allocated),
        unhealthy=tuple((index, HIDDEN_TEXT) for index, _ in status.unhealthy),
        health=(),
        allocations_unknown=HIDDEN_TEXT if status.allocations_unknown is not None else None,
    )


def _allocation(entry: Allocation, naming: Naming) -> Allocation:
    return Allocation(
        entry.index,
        _optional(Names.KEY, entry.pod_uid, naming),
        _namespace(entry.pod_namespace, naming) if entry.pod_name else None,
        _optional(Names.POD, entry.pod_name, naming),
    )


def without_uuids(machine: Machine) -> Machine:
    """Return the machine that all machines with the same facts except uuids share; the machine itself where there is none."""
    return machine if machine.like is None else machine.like


def kept_telemetry(telemetry: NodeTelemetry, naming: Naming) -> NodeTelemetry:
    """Return the telemetry of a node, without what its source says about itself."""
    devices: dict[tuple[str, int | None], DeviceCondition] = {}
    for (uuid, mig), condition in telemetry.devices.items():
        hidden = naming.name(Names.GPU, uuid)
        reading = structs.replace(condition.reading, uuid=hidden, instance=None, node=None, pods=())
        devices[hidden, mig] = structs.replace(condition, reading=reading, suspicions=())
    engines: dict[str, EngineCondition] = {}
    for key, engine in telemetry.engines.items():
        readings = tuple(structs.replace(reading, model=None, pod=None) for reading in engine.readings)
        engines[naming.name(Names.KEY, key)] = structs.replace(engine, readings=readings)
    return NodeTelemetry(devices, engines, (), telemetry.seen_seconds)


def kept_set_aside(entry: SetAside, naming: Naming) -> SetAside:
    """Return an object that is set aside."""
    kind = {"nodes": Names.NODE, "topologies": Names.NODE, "telemetry": Names.NODE, "pods": Names.KEY}.get(entry.kind, Names.OBJECT)
    why = HIDDEN_TEXT if naming.is_hidden else entry.why
    return replace(entry, name=naming.name(kind, entry.name), why=why, node=_optional(Names.NODE, entry.node, naming))


def kept_meta(meta: Meta, kind: Names | None, naming: Naming) -> Meta:
    """Return the metadata of an object of resource.k8s.io. `kind`: what its name names; None: it is no name of a user's choice."""
    namespace = naming.name(Names.NAMESPACE, meta.namespace) if meta.namespace else ""
    owners = [
        Owner(owner.kind, naming.name(Names.POD, owner.name), naming.name(Names.KEY, owner.uid))
        for owner in meta.owner_references or ()
        if owner.kind == "Pod" and owner.uid
    ]
    return Meta(
        name=meta.name if kind is None else naming.name(kind, meta.name),
        namespace=namespace,
        creation_timestamp=meta.creation_timestamp,
        owner_references=owners or None,
    )


def kept_amount(value: Any) -> Any:
    """Return an amount or an object of amounts; any other value is left out."""
    if isinstance(value, dict):
        return {str(key): kept_amount(each) for key, each in value.items()}
    return value if isinstance(value, str | int | float | bool) else None
