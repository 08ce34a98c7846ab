"""What a decision reads of nodes, topologies, telemetry and workload classes, with names as a `Naming` has them.

No label or resource is kept that no decision reads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from msgspec import structs

from extender.decision.node.node_labels import DEVICE_PLUGIN, TOPOLOGY_MANAGER
from extender.decision.replay.kept_objects.kept_names import HIDDEN_TEXT, kept_name, kept_namespace
from extender.decision.replay.kept_objects.named_texts import Names, Naming
from extender.decision.request.kubernetes_objects import Node, NodeMeta, NodeStatus, Quantities
from extender.decision.request.resource_names import is_slice
from extender.decision.request.workload_classes import WorkloadClass
from extender.decision.state.isolation import SetAside
from extender.telemetry.conditions import DeviceCondition, EngineCondition, NodeTelemetry
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord
from topology.machine.hardware import FabricDomain, Gpu

LABEL_PREFIXES = ("nvidia.com/gpu.", "nvidia.com/mig", "nvidia.com/cuda.", "nvidia.com/sharing.")
LABELS = (TOPOLOGY_MANAGER, DEVICE_PLUGIN)
"""Labels of nodes that decisions read, beside those of the pools of workload classes."""


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
        uuid=kept_name(Names.GPU, gpu.uuid, naming),
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
        kept_name(Names.KEY, entry.pod_uid, naming),
        kept_namespace(entry.pod_namespace, naming) if entry.pod_name else None,
        kept_name(Names.POD, entry.pod_name, naming),
    )


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
    return replace(entry, name=naming.name(kind, entry.name), why=why, node=kept_name(Names.NODE, entry.node, naming))
