"""A node's report card: the truth about it before a pod starts, check by check, each with its evidence and what to do. Pure.

CHECKS is a table of small functions. A check that lacks what it needs says unknown; it never guesses well or ill.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from extender.decision.cluster import NodeView, Snapshot
from extender.decision.components import Resident
from extender.decision.dra.node import DraNode
from extender.decision.isolation import described
from extender.decision.objects import Node, Taint
from extender.decision.sharing import Sharing
from extender.telemetry.conditions import NodeTelemetry, Tuning
from topology.contradictions import contradictions
from topology.hardware import Machine
from topology.nvlink_faults import LinkFault, generation_contradictions, link_faults
from topology.products import same_product
from topology.record import TopologyRecord


class Status(StrEnum):
    """How a check came out, best first."""

    PASS = "pass"  # noqa: S105 - a word, no secret
    UNKNOWN = "unknown"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One check of one node."""

    name: str
    status: Status
    evidence: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Survey:
    """What checks compare a node with, gathered once for all nodes."""

    by_node: Mapping[str, tuple[Resident, ...]]
    components: frozenset[str]
    """Parts of the GPU stack that run anywhere."""
    drivers: Mapping[str | None, Counter[tuple[int, ...]]]
    """Product -> driver versions (major, minor) -> nodes."""


def survey(snapshot: Snapshot) -> Survey:
    """The cluster at a glance."""
    by_node: dict[str, list[Resident]] = {}
    for one in snapshot.residents.values():
        by_node.setdefault(one.node, []).append(one)
    drivers: dict[str | None, Counter[tuple[int, ...]]] = {}
    for view in snapshot.views.values():
        if view.state.facts.driver:
            drivers.setdefault(view.state.product, Counter())[view.state.facts.driver[:2]] += 1
    kinds = frozenset(one.component for one in snapshot.residents.values() if one.component)
    return Survey({name: tuple(found) for name, found in by_node.items()}, kinds, drivers)


@dataclass(frozen=True, slots=True)
class Subject:
    """All that is known of the node under check."""

    name: str
    node: Node
    view: NodeView
    snapshot: Snapshot
    resource: str
    tuning: Tuning
    survey: Survey

    @property
    def labels(self) -> dict[str, str]:
        return self.node.metadata.labels or {}

    @property
    def record(self) -> TopologyRecord | str | None:
        return self.snapshot.topologies.get(self.name)

    @property
    def machine(self) -> Machine | None:
        return self.record.machine if isinstance(self.record, TopologyRecord) else None

    @property
    def residents(self) -> tuple[Resident, ...]:
        return self.survey.by_node.get(self.name, ())

    @property
    def telemetry(self) -> NodeTelemetry | None:
        return self.snapshot.telemetry.get(self.name)

    def component(self, name: str) -> Resident | None:
        """Its pod on the node, a ready one first."""
        found = [one for one in self.residents if one.component == name]
        return max(found, key=lambda one: one.ready, default=None)


PASS, UNKNOWN, WARN, FAIL = Status.PASS, Status.UNKNOWN, Status.WARN, Status.FAIL


def ready(subject: Subject) -> Check:
    conditions = {one.type: one.status for one in (subject.node.status.conditions or () if subject.node.status else ())}
    spec = subject.node.spec
    if conditions.get("Ready") is None:
        return Check("ready", UNKNOWN, "the node says nothing of its readiness")
    if conditions["Ready"] != "True":
        return Check("ready", FAIL, f"condition Ready is {conditions['Ready']}", "see kubectl describe node: kubelet, network, disk")
    if spec is not None and spec.unschedulable:
        return Check("ready", WARN, "cordoned", "kubectl uncordon, when its maintenance is over")
    return Check("ready", PASS, "condition Ready is True")


def components(subject: Subject) -> Check:
    """What the GPU stack needs on the node, runs there."""
    if not subject.survey.components:
        return Check("components", UNKNOWN, "no pod of the GPU Operator or its parts is seen in the cluster", "installed on the hosts?")
    needed = ["toolkit", "device-plugin", "gfd", "dcgm-exporter", "validator"]
    if subject.view.dra is not None:  # the GPU Operator's DRA mode runs no device plugin, GFD, validator or MIG manager there
        needed = ["toolkit", "dra-driver", "dcgm-exporter"]
    if subject.labels.get("nvidia.com/gpu.deploy.driver", "pre-installed") == "true":
        needed.append("driver")
    if subject.labels.get("nvidia.com/gpu.deploy.mig-manager") == "true" and subject.view.state.slices and subject.view.dra is None:
        needed.append("mig-manager")
    wanted = [name for name in needed if name in subject.survey.components]
    missing = [name for name in wanted if subject.component(name) is None]
    sick = [one for name in wanted if (one := subject.component(name)) is not None and not one.ready]
    if sick:
        return Check("components", FAIL, f"not ready: {', '.join(one.full_name for one in sick)}", "kubectl logs of that pod")
    if missing:
        remedy = "do its taints and labels keep the DaemonSet away? nvidia.com/gpu.deploy.* labels, tolerations"
        return Check("components", FAIL, f"run on other nodes, not here: {', '.join(missing)}", remedy)
    return Check("components", PASS, f"ready: {', '.join(wanted)}")


def advertised(subject: Subject) -> Check:
    """The device plugin offers what the hardware has."""
    state, name = subject.view.state, "advertised"
    if subject.view.dra is not None:
        return _published(subject, subject.view.dra)
    offered, counted = state.allocatable, subject.labels.get("nvidia.com/gpu.count", "")
    have = len(subject.machine.gpus) if subject.machine else int(counted) if counted.isdigit() else None
    if state.slices and not offered:
        return Check(name, PASS, f"slices: {', '.join(f'{one.allocatable} {one.resource}' for one in state.slices)}")
    if have is None:
        status = UNKNOWN if offered else FAIL
        return Check(name, status, f"{offered} {subject.resource} on offer, nobody says how many GPUs there are", "run the agent or GFD")
    said = f"{offered} {subject.resource} on offer, {have} GPUs {'by the agent' if subject.machine else 'by GFD'}"
    if state.sharing in (Sharing.TIME_SLICING, Sharing.MPS, Sharing.MIG):
        return Check(
            name, PASS if offered else FAIL, f"{said}, shared by {state.sharing}", "" if offered else "see the device plugin's log"
        )
    if offered == have:
        return Check(name, PASS, said)
    if offered > have:
        return Check(name, FAIL, said, "an old GpuTopology or label; else sharing without GFD's labels")
    return Check(name, FAIL, said, "the device plugin took GPUs for unhealthy, or does not see them: its log, nvidia-smi")


def _published(subject: Subject, dra: DraNode) -> Check:
    """The DRA driver's ResourceSlices name what the hardware has, and a DeviceClass stands for the resource."""
    name, count = "advertised", subject.view.state.allocatable
    if dra.unknown is not None:
        return Check(name, FAIL, dra.unknown, "kubectl get resourceslices,deviceclasses -o yaml; the DRA driver's log")
    have = len(subject.machine.gpus) if subject.machine and dra.source == "GpuTopology" else None
    said = f"ResourceSlices name {count} GPUs{f', the agent {have}' if have is not None else ''}"
    if have is not None and count != have:
        return Check(name, FAIL, said, "the DRA driver does not see all GPUs, or its slices are old: its log, nvidia-smi")
    if not dra.order:
        remedy = "set extendedResourceName in the DeviceClass, or let pods use ResourceClaims"
        return Check(name, WARN, f"{said}; no DeviceClass stands for {subject.resource}", remedy)
    if dra.notes:
        return Check(name, WARN, f"{said}; {'; '.join(dra.notes)}", "kubectl get resourceclaims -A; kubectl get resourceslices")
    return Check(name, PASS, said)


def labelled(subject: Subject) -> Check:
    """GFD's labels are there, and true."""
    if subject.view.dra is not None:
        said = f"{subject.view.state.allocatable} x {subject.view.state.product or 'GPU of an unknown product'} by ResourceSlices"
        return Check("labelled", PASS, f"{said}; labels of GFD are not needed")
    product, counted = subject.labels.get("nvidia.com/gpu.product"), subject.labels.get("nvidia.com/gpu.count")
    if not product or not counted:
        missing = [name for name, value in (("gpu.product", product), ("gpu.count", counted)) if not value]
        return Check("labelled", FAIL, f"no label nvidia.com/{', nvidia.com/'.join(missing)}", "run GPU feature discovery")
    if subject.machine is None or not subject.machine.gpus:
        return Check("labelled", UNKNOWN, f"labels say {counted} x {product}; no agent to hold them against", "run the agent")
    own = subject.machine.gpus[0].product
    if own and not same_product(own, product.replace("-SHARED", "").partition("-MIG-")[0]):
        return Check("labelled", FAIL, f"label says {product}, the hardware {own}", "labels are old: restart GPU feature discovery")
    if subject.view.state.sharing is not Sharing.MIG and counted != str(len(subject.machine.gpus)):
        said = f"label says {counted} GPUs, the hardware has {len(subject.machine.gpus)}"
        return Check("labelled", FAIL, said, "labels are old: restart GPU feature discovery")
    return Check("labelled", PASS, f"{counted} x {product}, as the hardware")


def driver(subject: Subject) -> Check:
    """Driver and CUDA are known, and the same as on the other nodes of that product."""
    facts, product = subject.view.state.facts, subject.view.state.product
    if facts.driver is None:
        return Check("driver", UNKNOWN, "no driver version by agent or GFD", "run the agent or GFD")
    peers = subject.survey.drivers[product]
    usual, many = peers.most_common(1)[0]
    said = f"driver {_dotted(facts.driver)}, CUDA {_dotted(facts.cuda) if facts.cuda else 'unknown'}"
    if facts.driver[:2] != usual and many > 1:
        return Check(
            "driver", WARN, f"{said}; {many} other nodes with {product} run {_dotted(usual)}", "roll the driver out, or keep pools apart"
        )
    return Check("driver", PASS, said)


def _dotted(parts: Sequence[int]) -> str:
    return ".".join(map(str, parts))


def isolated(subject: Subject) -> Check:
    """A taint keeps pods away that ask for no GPU; who is there all the same."""
    taints = [one for one in (subject.node.spec.taints or () if subject.node.spec else ()) if _keeps_away(one)]
    guests = sorted(one.full_name for one in subject.residents if one.component is None and not one.daemon)
    if not taints:
        said = f"no GPU taint{f'; {len(guests)} pods without GPUs run here: {_few(guests)}' if guests else ''}"
        return Check("isolated", WARN, said, "kubectl taint node NODE nvidia.com/gpu=present:NoSchedule")
    said = f"taint {', '.join(f'{one.key}:{one.effect}' for one in taints)}"
    if guests:
        return Check(
            "isolated", WARN, f"{said}; yet {len(guests)} pods without GPUs run here: {_few(guests)}", "do they tolerate it for a reason?"
        )
    return Check("isolated", PASS, said)


def _keeps_away(taint: Taint) -> bool:
    return taint.effect in ("NoSchedule", "NoExecute") and ("gpu" in taint.key.lower() or taint.key.startswith("nvidia.com/"))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def sharing(subject: Subject) -> Check:
    """The sharing mode is explicit."""
    state, labels = subject.view.state, subject.labels
    if state.sharing is None:
        return Check("sharing", UNKNOWN, "nobody says what one unit is", "run GPU feature discovery")
    failed = labels.get("nvidia.com/mig.config.state")
    if failed == "failed":
        return Check("sharing", FAIL, "nvidia.com/mig.config.state is failed", "kubectl logs of nvidia-mig-manager on this node")
    told = labels.get("nvidia.com/gpu.product", "").endswith("-SHARED") or labels.get("nvidia.com/gpu.sharing-strategy", "none") != "none"
    told = told or labels.get("nvidia.com/sharing.mps.enabled") == "true"
    if state.sharing.replicated and not told:
        said = f"{state.allocatable} on offer of {state.physical} GPUs, but no label says they are shared"
        return Check("sharing", WARN, said, "let the device plugin and GFD read the same sharing config")
    return Check("sharing", PASS, f"{state.sharing}{', '.join(['', *(one.resource for one in state.slices)])}")


def topology(subject: Subject) -> Check:
    """Topology is known and fresh, the agent knows the allocations, and all links are up that should be."""
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
        return Check(name, WARN, "the agent has not renewed its status", "is the agent's pod running on the node?")
    unknown = record.status.allocations_unknown if record.status else None
    if unknown is not None:
        said = f"the agent does not know which pod holds which GPU: {unknown}"
        return Check(name, WARN, said, "does the kubelet run, and does the agent's pod mount its PodResources socket?")
    generations = generation_contradictions(record.machine)
    if generations:
        remedy = "update the driver and the agent; bandwidths are computed with the driver's generation"
        return Check(name, WARN, "; ".join(generations), remedy)
    doubtful = contradictions(record.machine)
    if doubtful:
        remedy = f"fabricwise topo show {view.name} --cluster kube: bandwidths in both readings"
        return Check(name, WARN, "; ".join(one.says for one in doubtful), remedy)
    return Check(name, PASS, view.state.note)


LINK_REMEDY = "nvidia-smi nvlink -s; on NVSwitch boards: is the fabric manager running? Else reset the GPU, then reseat or replace it"


def _link_evidence(faults: Sequence[LinkFault]) -> str:
    alike: dict[tuple[int, int, str], list[int]] = {}
    for fault in faults:
        alike.setdefault((fault.up, fault.expected, fault.witness), []).append(fault.index)
    return "; ".join(
        f"GPU {', '.join(map(str, indices))}: {up} of {expected} up, {witness}" for (up, expected, witness), indices in alike.items()
    )


def measured(subject: Subject) -> Check:
    """DCGM reports on every GPU, and lately."""
    telemetry = subject.telemetry
    if not subject.snapshot.telemetry:
        return Check("measured", UNKNOWN, "no telemetry of any node", "telemetry.source in the settings; dcgm-exporter")
    if telemetry is None or not telemetry.devices:
        problems = f": {'; '.join(telemetry.problems)}" if telemetry and telemetry.problems else ""
        return Check("measured", FAIL, f"no telemetry of this node{problems}", "is dcgm-exporter running here? GET /v1/telemetry")
    now = subject.snapshot.steady_seconds
    oldest = min(one.seen_seconds for one in telemetry.devices.values())
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
    """No GPU is fenced or sick."""
    faults = [f"GPU {index}: {text}" for index, text, _ in subject.view.state.faults]
    record = subject.record
    if isinstance(record, TopologyRecord) and record.status is not None:
        faults += [f"GPU {index}: {reason}" for index, reason in record.status.unhealthy]
    faults += _tainted(subject.view.dra)
    telemetry = subject.telemetry
    if telemetry is not None and not faults:
        faults = sorted({f"{one.reading.uuid}: {one.fault.text}" for one in telemetry.devices.values() if one.fault})
    if faults:
        return Check("healthy", FAIL, "; ".join(faults), "drain the node; reset the GPU or reboot; RMA when it comes back")
    suspicions = sorted({text for one in (telemetry.devices.values() if telemetry else ()) for text in one.suspicions})
    if suspicions:
        return Check("healthy", WARN, "; ".join(suspicions), "watch it; reset the GPU in the next maintenance")
    if (telemetry is None or not telemetry.devices) and subject.machine is None:
        return Check("healthy", UNKNOWN, "neither agent nor telemetry speaks of it")
    return Check("healthy", PASS, "no fatal XID, ECC or remapping error is known")


def _tainted(dra: DraNode | None) -> list[str]:
    """One line per tainted device."""
    devices = dra.devices.devices if dra is not None else ()
    return [
        f"device {device.name}: taint {', '.join(f'{key}={value}:{effect}' for key, value, effect in device.taints)}"
        for device in devices
        if device.taints
    ]


def validated(subject: Subject) -> Check:
    """The GPU Operator's validator has run through."""
    if subject.view.dra is not None and subject.component("validator") is None:
        return Check("validated", UNKNOWN, "the GPU Operator's DRA mode runs no validator", "fabricwise doctor --smoke IMAGE")
    found = subject.component("validator")
    if found is None:
        return Check("validated", UNKNOWN, "no operator-validator on the node", "fabricwise doctor --smoke IMAGE")
    if not found.ready:
        return Check("validated", FAIL, f"{found.full_name} is not ready", "kubectl logs of it, container by container")
    return Check("validated", PASS, f"{found.full_name} is ready")


CHECKS: tuple[Callable[[Subject], Check], ...] = (
    ready, components, advertised, labelled, driver, isolated, sharing, topology, measured, healthy, validated,
)  # fmt: skip


def has_gpus(node: Node, view: NodeView) -> bool:
    """Whether a node is one that reports are about."""
    labels = node.metadata.labels or {}
    offered = view.state.allocatable or view.state.slices or view.machine is not None or view.dra is not None
    return bool(offered) or labels.get("nvidia.com/gpu.present") == "true" or "nvidia.com/gpu.count" in labels


def _checked(check: Callable[[Subject], Check], subject: Subject) -> Check:
    """One check; one that raises says so, and hides neither the others nor other nodes."""
    try:
        return check(subject)
    except Exception as error:
        return Check(check.__name__, Status.WARN, f"the check itself failed: {described(error)}", "report this with the node's objects")


def report(subject: Subject) -> dict[str, Any]:
    """All checks of a node, the worst of them, and the eight questions of a baseline."""
    found = [_checked(check, subject) for check in CHECKS]
    worst = max((check.status for check in found), key=list(Status).index)
    checks = [{"check": one.name, "status": one.status.value, "evidence": one.evidence, "remedy": one.remedy} for one in found]
    return {"node": subject.name, "status": worst.value, "checks": checks, "baseline": _baseline(subject, {one.name: one for one in found})}


def _baseline(subject: Subject, found: dict[str, Check]) -> dict[str, str]:
    deploy = subject.labels.get("nvidia.com/gpu.deploy.driver")
    pod = subject.component("driver")
    owner = (
        f"the GPU Operator ({pod.full_name})"
        if pod
        else "the host's image"
        if deploy == "pre-installed"
        else "unknown: no driver pod, no label"
    )
    classes = sorted(subject.view.state.pools)
    return {
        "who owns the driver": f"{owner}; {found['driver'].evidence}",
        "how are GPUs advertised": found["advertised"].evidence,
        "how are they labelled": found["labelled"].evidence,
        "how are they isolated": found["isolated"].evidence,
        "how are they measured": found["measured"].evidence,
        "how are they shared": found["sharing"].evidence,
        "how were they validated": found["validated"].evidence,
        "which workloads are allowed": ", ".join(classes) if classes else "any: no workload classes are defined"
        if not subject.snapshot.classes else "of no workload class",
    }  # fmt: skip


def node_report(name: str, snapshot: Snapshot, resource: str, tuning: Tuning, at_a_glance: Survey | None = None) -> dict[str, Any] | None:
    """A node's report card; None where there is no such node."""
    node, view = snapshot.nodes.get(name), snapshot.views.get(name)
    if node is None or view is None:
        return None
    return report(Subject(name, node, view, snapshot, resource, tuning, at_a_glance or survey(snapshot)))


def all_reports(snapshot: Snapshot, resource: str, tuning: Tuning) -> list[dict[str, Any]]:
    """The report cards of all nodes with GPUs, by name."""
    at_a_glance = survey(snapshot)
    names = [name for name, view in sorted(snapshot.views.items()) if name in snapshot.nodes and has_gpus(snapshot.nodes[name], view)]
    found = (node_report(name, snapshot, resource, tuning, at_a_glance) for name in names)
    return [one for one in found if one is not None]
