"""Checks of a node's hardware: its topology and NVLinks, the telemetry of its GPUs, and their faults. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from extender.decision.dra.dra_node import DraNode
from extender.decision.report.checks.node_subject import Check, Status, Subject
from topology.contradictions import contradictions
from topology.gputopology.topology_record import TopologyRecord
from topology.nvlink_faults import LinkFault, generation_contradictions, link_faults

PASS, UNKNOWN, WARN, FAIL = Status.PASS, Status.UNKNOWN, Status.WARN, Status.FAIL


def topology(subject: Subject) -> Check:
    """The topology is known and fresh, the agent knows the allocations, and no NVLink is down."""
    record, view, name = subject.record, subject.view, "topology"
    if record is None:
        return Check(name, UNKNOWN, "no GpuTopology", "run the agent: kubectl apply -k manifests/agent")
    if view.problem is not None:
        return Check(name, FAIL, view.problem, "is the agent's object old, or the label?")
    assert isinstance(record, TopologyRecord)
    faults = link_faults(record.machine)
    if faults:
        return Check(name, FAIL, f"NVLinks down: {_link_evidence(faults)}", LINK_REMEDY)
    if view.stale_since_seconds is not None:
        return Check(name, WARN, "the agent has not renewed its status", f"see the log of the fabricwise-agent pod on {subject.name}")
    unknown = record.status.allocations_unknown if record.status else None
    if unknown is not None:
        evidence = f"the agent does not know which pod holds which GPU: {unknown}"
        return Check(name, WARN, evidence, "does the kubelet run, and does the agent's pod mount its PodResources socket?")
    generations = generation_contradictions(record.machine)
    if generations:
        remedy = "update the driver and the agent; bandwidths are computed with the driver's generation"
        return Check(name, WARN, "; ".join(generations), remedy)
    contradicting = contradictions(record.machine)
    if contradicting:
        remedy = f"fabricwise topo show {view.name} --cluster kube: bandwidths in both readings"
        return Check(name, WARN, "; ".join(contradiction.says for contradiction in contradicting), remedy)
    return Check(name, PASS, view.state.note)


LINK_REMEDY = "nvidia-smi nvlink -s; on NVSwitch boards: is the fabric manager running? Else reset the GPU, then reseat or replace it"


def _link_evidence(faults: Sequence[LinkFault]) -> str:
    """Return the faults as text, GPUs with equal faults together."""
    gpus_by_fault: dict[tuple[int, int, str], list[int]] = {}
    for fault in faults:
        gpus_by_fault.setdefault((fault.up, fault.expected, fault.witness), []).append(fault.index)
    return "; ".join(
        f"GPU {', '.join(map(str, indices))}: {up} of {expected} up, {witness}"
        for (up, expected, witness), indices in gpus_by_fault.items()
    )


def measured(subject: Subject) -> Check:
    """Telemetry of every GPU is present and fresh."""
    telemetry = subject.telemetry
    if not subject.snapshot.telemetry:
        return Check("measured", UNKNOWN, "no telemetry of any node", "telemetry.source in the settings; dcgm-exporter")
    if telemetry is None or not telemetry.devices:
        problems = f": {'; '.join(telemetry.problems)}" if telemetry and telemetry.problems else ""
        return Check("measured", FAIL, f"no telemetry of this node{problems}", "is dcgm-exporter running here? GET /v1/telemetry")
    now = subject.snapshot.monotonic_seconds
    oldest = min(device.seen_seconds for device in telemetry.devices.values())
    if now is not None and now - oldest > subject.tuning.max_age_seconds:
        return Check(
            "measured", FAIL, f"stale: {'; '.join(telemetry.problems) or 'not heard of lately'}", "fabricwise telemetry URL of the exporter"
        )
    seen = {uuid for uuid, _ in telemetry.devices}
    missing = [gpu.index for gpu in (subject.machine.gpus if subject.machine else ()) if gpu.uuid and gpu.uuid not in seen]
    if missing:
        return Check("measured", FAIL, f"no telemetry of GPU {', '.join(map(str, missing))}", "dcgmi discovery -l on the node")
    return Check("measured", PASS, f"{len(seen)} GPUs")


def healthy(subject: Subject) -> Check:
    """No GPU is fenced or unhealthy."""
    faults = [f"GPU {index}: {text}" for index, text, _ in subject.view.state.faults]
    record = subject.record
    if isinstance(record, TopologyRecord) and record.status is not None:
        faults += [f"GPU {index}: {reason}" for index, reason in record.status.unhealthy]
    faults += _tainted(subject.view.dra)
    telemetry = subject.telemetry
    if telemetry is not None and not faults:
        faults = sorted({f"{device.reading.uuid}: {device.fault.text}" for device in telemetry.devices.values() if device.fault})
    if faults:
        remedy = f"kubectl drain {subject.name} --ignore-daemonsets; reset the GPU or reboot; replace it when the error comes back"
        return Check("healthy", FAIL, "; ".join(faults), remedy)
    suspicions = sorted({text for device in (telemetry.devices.values() if telemetry else ()) for text in device.suspicions})
    if suspicions:
        return Check("healthy", WARN, "; ".join(suspicions), "watch it; reset the GPU in the next maintenance")
    if (telemetry is None or not telemetry.devices) and subject.machine is None:
        return Check("healthy", UNKNOWN, "neither agent nor telemetry tells of its GPUs")
    return Check("healthy", PASS, "no fatal XID, ECC or remapping error is known")


def _tainted(dra: DraNode | None) -> list[str]:
    """One line per tainted device."""
    devices = dra.devices.devices if dra is not None else ()
    return [
        f"device {device.name}: taint {', '.join(f'{key}={value}:{effect}' for key, value, effect in device.taints)}"
        for device in devices
        if device.taints
    ]
