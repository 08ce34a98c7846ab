"""A node's report card: the truth about it before a pod starts, check by check, each with its evidence and what to do. Pure.

CHECKS is a table of small functions. A check that lacks what it needs says unknown; it never guesses well or ill.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from extender.decision.node.gpu_sharing import Sharing
from extender.decision.node.node_state import NodeView
from extender.decision.report.node_subject import Check, Status, Subject, Survey, few, labels_of, plural, survey
from extender.decision.report.readiness import baseline, readiness
from extender.decision.report.reported_versions import branch
from extender.decision.request.kubernetes_objects import Node, Taint
from extender.decision.state.isolation import described
from extender.decision.state.snapshot import Snapshot
from extender.telemetry.conditions import Tuning
from topology.contradictions import contradictions
from topology.gputopology import TopologyRecord
from topology.machine.products import same_product
from topology.nvlink_faults import LinkFault, generation_contradictions, link_faults

__all__ = ["CHECKS", "Check", "Status", "all_reports", "has_gpus", "node_report", "report"]
PASS, UNKNOWN, WARN, FAIL = Status.PASS, Status.UNKNOWN, Status.WARN, Status.FAIL


def ready(subject: Subject) -> Check:
    conditions = {one.type: one.status for one in (subject.node.status.conditions or () if subject.node.status else ())}
    spec = subject.node.spec
    if conditions.get("Ready") is None:
        return Check("ready", UNKNOWN, "the node says nothing of its readiness")
    if conditions["Ready"] != "True":
        remedy = f"kubectl describe node {subject.name}: kubelet, network, disk"
        return Check("ready", FAIL, f"condition Ready is {conditions['Ready']}", remedy)
    if spec is not None and spec.unschedulable:
        return Check("ready", WARN, "cordoned", f"once its maintenance is over: kubectl uncordon {subject.name}")
    return Check("ready", PASS, "condition Ready is True")


def components(subject: Subject) -> Check:
    """What the GPU stack needs on the node, runs there."""
    if not subject.survey.components:
        return Check("components", UNKNOWN, "no pod of the GPU Operator or its parts is seen in the cluster", "installed on the hosts?")
    needed = ["toolkit", "device-plugin", "gfd", "dcgm-exporter", "validator"]
    if subject.labels.get("nvidia.com/gpu.deploy.driver", "pre-installed") == "true":
        needed.append("driver")
    if subject.labels.get("nvidia.com/gpu.deploy.mig-manager") == "true" and subject.view.state.slices:
        needed.append("mig-manager")
    wanted = [name for name in needed if name in subject.survey.components]
    missing = [name for name in wanted if subject.component(name) is None]
    sick = [one for name in wanted if (one := subject.component(name)) is not None and not one.ready]
    if sick:
        logs = "; ".join(f"kubectl logs -n {namespace} {pod}" for namespace, pod in (one.full_name.split("/", 1) for one in sick[:3]))
        return Check("components", FAIL, f"not ready: {', '.join(one.full_name for one in sick)}", logs)
    if missing:
        remedy = "do its taints and labels keep the DaemonSet away? nvidia.com/gpu.deploy.* labels, tolerations"
        return Check("components", FAIL, f"run on other nodes, not here: {', '.join(missing)}", remedy)
    return Check("components", PASS, f"ready: {', '.join(wanted)}")


def advertised(subject: Subject) -> Check:
    """The device plugin offers what the hardware has."""
    state, name = subject.view.state, "advertised"
    offered, counted = state.allocatable, subject.labels.get("nvidia.com/gpu.count", "")
    have = len(subject.machine.gpus) if subject.machine else int(counted) if counted.isdigit() else None
    if state.slices and not offered:
        kinds = "MIG devices" if all(one.sharing is Sharing.MIG for one in state.slices) else "slices"
        return Check(name, PASS, f"{kinds}: {', '.join(f'{one.allocatable} {one.resource}' for one in state.slices)}")
    if state.sharing is Sharing.MIG:  # GFD then counts MIG devices: only an agent tells how many GPUs they are of
        of = f" of {plural(len(subject.machine.gpus), 'GPU')} by the agent" if subject.machine else ""
        said = f"{plural(offered, 'MIG device')} offered as {subject.resource}{of}"
        return Check(name, PASS if offered else FAIL, said, "" if offered else "see the device plugin's log")
    if have is None:
        status = UNKNOWN if offered else FAIL
        said = f"{offered} {subject.resource} on offer; neither agent nor GFD counts the GPUs"
        return Check(name, status, said, "run the agent or GFD")
    said = f"{offered} {subject.resource} on offer, {plural(have, 'GPU')} {'by the agent' if subject.machine else 'by GFD'}"
    if state.sharing in (Sharing.TIME_SLICING, Sharing.MPS):
        return Check(
            name, PASS if offered else FAIL, f"{said}, shared by {state.sharing}", "" if offered else "see the device plugin's log"
        )
    if offered == have:
        return Check(name, PASS, said)
    if offered > have:
        return Check(name, FAIL, said, "an old GpuTopology or label; else sharing without GFD's labels")
    return Check(name, FAIL, said, "the device plugin took GPUs for unhealthy, or does not see them: its log, nvidia-smi")


def labelled(subject: Subject) -> Check:
    """GFD's labels are there, and true."""
    product, counted = subject.labels.get("nvidia.com/gpu.product"), subject.labels.get("nvidia.com/gpu.count")
    if not product or not counted:
        missing = [name for name, value in (("gpu.product", product), ("gpu.count", counted)) if not value]
        return Check("labelled", FAIL, f"no label nvidia.com/{', nvidia.com/'.join(missing)}", "run GPU feature discovery")
    if subject.machine is None or not subject.machine.gpus:
        return Check("labelled", UNKNOWN, f"labels say {counted} x {product}; no agent's word to compare them with", "run the agent")
    own = subject.machine.gpus[0].product
    if own and not same_product(own, product.replace("-SHARED", "").partition("-MIG-")[0]):
        return Check("labelled", FAIL, f"label says {product}, the hardware {own}", "labels are old: restart GPU feature discovery")
    if subject.view.state.sharing is not Sharing.MIG and counted != str(len(subject.machine.gpus)):
        said = f"label says {counted} GPUs, the hardware has {len(subject.machine.gpus)}"
        return Check("labelled", FAIL, said, "labels are old: restart GPU feature discovery")
    return Check("labelled", PASS, f"{counted} x {product}, as the hardware")


def driver(subject: Subject) -> Check:
    """Driver and CUDA are known, and the same as on the other nodes of that product."""
    product = subject.view.state.product
    reported = subject.driver
    if reported is None:
        return Check("driver", UNKNOWN, "no driver version by agent or GFD", "run the agent or GFD")
    branches = Counter[str]()
    for version, nodes in subject.survey.drivers[product].items():
        branches[branch(version)] += nodes
    usual, many = branches.most_common(1)[0]
    said = f"driver {reported}, CUDA {subject.cuda or 'unknown'}"
    if branch(reported) != usual and many > 1:
        text = next(version for version, _ in subject.survey.drivers[product].most_common() if branch(version) == usual)
        said = f"{said}; {many} other nodes with {product} run {text}"
        return Check("driver", WARN, said, "roll the driver out, or keep pools apart")
    return Check("driver", PASS, said)


def isolated(subject: Subject) -> Check:
    """A taint keeps pods away that ask for no GPU; those that are there all the same are named."""
    taints = [one for one in (subject.node.spec.taints or () if subject.node.spec else ()) if _keeps_away(one)]
    extra_pods = sorted(one.full_name for one in subject.non_gpu_pods if one.component is None and not one.daemon)
    there = f"{len(extra_pods)} pods without GPUs run here: {few(extra_pods)}"
    if not taints:
        said = f"no GPU taint; {there}" if extra_pods else "no GPU taint"
        remedy = (
            "first give GPU pods and the DaemonSets of the GPU stack the toleration {key: nvidia.com/gpu, operator: Exists}, then "
            f"kubectl taint node {subject.name} nvidia.com/gpu=present:NoSchedule"
        )
        return Check("isolated", WARN, said, remedy)
    said = f"taint {', '.join(f'{one.key}:{one.effect}' for one in taints)}"
    if extra_pods:
        keys = ", ".join(sorted({one.key for one in taints}))
        said = f"{said}; yet {there}"
        return Check("isolated", WARN, said, f"remove their toleration of {keys}, unless they need this node; then delete them")
    return Check("isolated", PASS, said)


def _keeps_away(taint: Taint) -> bool:
    return taint.effect in ("NoSchedule", "NoExecute") and ("gpu" in taint.key.lower() or taint.key.startswith("nvidia.com/"))


def sharing(subject: Subject) -> Check:
    """The sharing mode is explicit."""
    state, labels = subject.view.state, subject.labels
    mig = [one for one in state.slices if one.sharing is Sharing.MIG]
    if state.sharing is None and not state.slices:
        return Check("sharing", UNKNOWN, "neither agent nor GFD says what one unit is", "run GPU feature discovery")
    failed = labels.get("nvidia.com/mig.config.state")
    if failed == "failed":
        remedy = f"see the log of the nvidia-mig-manager pod on {subject.name}"
        return Check("sharing", FAIL, "nvidia.com/mig.config.state is failed", remedy)
    told = labels.get("nvidia.com/gpu.product", "").endswith("-SHARED") or labels.get("nvidia.com/gpu.sharing-strategy", "none") != "none"
    told = told or labels.get("nvidia.com/sharing.mps.enabled") == "true"
    if state.sharing is not None and state.sharing.replicated and not told:
        said = f"{state.allocatable} on offer of {state.physical} GPUs, but no label says they are shared"
        return Check("sharing", WARN, said, "let the device plugin and GFD read the same sharing config")
    if mig:
        devices = ", ".join(f"{one.allocatable} x {one.resource}" for one in mig)
        whole = f", and {plural(state.allocatable, 'whole GPU')}" if state.allocatable else ""
        return Check("sharing", PASS, f"divided by MIG (mixed strategy): {devices}{whole}")
    if state.sharing is Sharing.MIG:
        return Check("sharing", PASS, "divided by MIG (single strategy)")
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
        return Check(name, WARN, "the agent has not renewed its status", f"see the log of the fabricwise-agent pod on {subject.name}")
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
    now = subject.snapshot.monotonic_seconds
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
    telemetry = subject.telemetry
    if telemetry is not None and not faults:
        faults = sorted({f"{one.reading.uuid}: {one.fault.text}" for one in telemetry.devices.values() if one.fault})
    if faults:
        remedy = f"kubectl drain {subject.name} --ignore-daemonsets; reset the GPU or reboot; replace it when the error comes back"
        return Check("healthy", FAIL, "; ".join(faults), remedy)
    suspicions = sorted({text for one in (telemetry.devices.values() if telemetry else ()) for text in one.suspicions})
    if suspicions:
        return Check("healthy", WARN, "; ".join(suspicions), "watch it; reset the GPU in the next maintenance")
    if (telemetry is None or not telemetry.devices) and subject.machine is None:
        return Check("healthy", UNKNOWN, "neither agent nor telemetry tells of its GPUs")
    return Check("healthy", PASS, "no fatal XID, ECC or remapping error is known")


def validated(subject: Subject) -> Check:
    """The GPU Operator's validator has run through."""
    found = subject.component("validator")
    if found is None:
        return Check("validated", UNKNOWN, "no operator-validator on the node", "fabricwise doctor --smoke IMAGE")
    if not found.ready:
        namespace, pod = found.full_name.split("/", 1)
        return Check("validated", FAIL, f"{found.full_name} is not ready", f"kubectl logs -n {namespace} {pod} --all-containers")
    return Check("validated", PASS, f"{found.full_name} is ready")


CHECKS: tuple[Callable[[Subject], Check], ...] = (
    ready,
    components,
    advertised,
    labelled,
    driver,
    isolated,
    sharing,
    topology,
    measured,
    healthy,
    validated,
)


GPU_LABELS = (
    "nvidia.com/gpu.present",
    "nvidia.com/gpu.count",
    "nvidia.com/gpu.product",
    "feature.node.kubernetes.io/pci-10de.present",
    "cloud.google.com/gke-accelerator",
    "kubernetes.azure.com/accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
)
"""Labels of a node with NVIDIA GPUs: of GFD, Node Feature Discovery, GKE, AKS and Karpenter."""


def has_gpus(node: Node, view: NodeView, resource: str) -> bool:
    """Whether anything tells of GPUs on a node: what it offers or has, its agent, its labels."""
    labels = labels_of(node)
    offered = view.state.allocatable or view.state.slices or (view.machine is not None and view.machine.gpus)
    capacity = (node.status.capacity if node.status else None) or {}
    return bool(offered) or resource in capacity or any(labels.get(key, "false") not in ("false", "0", "") for key in GPU_LABELS)


def _checked(check: Callable[[Subject], Check], subject: Subject) -> Check:
    """One check; one that raises says so, and hides neither the others nor other nodes."""
    try:
        return check(subject)
    except Exception as error:
        return Check(check.__name__, Status.WARN, f"the check itself failed: {described(error)}", "report this with the node's objects")


def report(subject: Subject) -> dict[str, Any]:
    """All checks of a node, the worst of them, the eight questions of a baseline and the eight of readiness.

    A node without GPUs is asked only whether it is ready.
    """
    gpus = has_gpus(subject.node, subject.view, subject.resource)
    found = [_checked(check, subject) for check in (CHECKS if gpus else (ready,))]
    worst = max((check.status for check in found), key=list(Status).index)
    checks = [{"check": one.name, "status": one.status.value, "evidence": one.evidence, "remedy": one.remedy} for one in found]
    by_name = {one.name: one for one in found}
    answers = {"baseline": baseline(subject, by_name) if gpus else {}, "readiness": readiness(subject, by_name) if gpus else {}}
    return {"node": subject.name, "status": worst.value, "gpus": gpus, "checks": checks, **answers}


def node_report(name: str, snapshot: Snapshot, resource: str, tuning: Tuning, at_a_glance: Survey | None = None) -> dict[str, Any] | None:
    """A node's report card; None where there is no such node."""
    node, view = snapshot.nodes.get(name), snapshot.views.get(name)
    if node is None or view is None:
        return None
    return report(Subject(name, node, view, snapshot, resource, tuning, at_a_glance or survey(snapshot)))


def all_reports(snapshot: Snapshot, resource: str, tuning: Tuning) -> list[dict[str, Any]]:
    """The report cards of all nodes with GPUs, by name."""
    at_a_glance = survey(snapshot)
    known = [(name, view) for name, view in sorted(snapshot.views.items()) if name in snapshot.nodes]
    names = [name for name, view in known if has_gpus(snapshot.nodes[name], view, resource)]
    found = (node_report(name, snapshot, resource, tuning, at_a_glance) for name in names)
    return [one for one in found if one is not None]
