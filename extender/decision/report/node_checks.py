"""A node's report: checks of the node before a pod starts on it, each with status, evidence and remedy. Pure.

CHECKS is a table of small functions. A check whose inputs are missing has the status unknown; it never guesses. The docstring of a check
states when it passes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from extender.decision.dra.dra_node import DraNode
from extender.decision.node.devices.gpu_sharing import Sharing
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
    """The kubelet reports the node as ready, and the node is not cordoned."""
    status = subject.node.status
    conditions = {condition.type: condition.status for condition in (status.conditions or () if status else ())}
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
    """The components of the GPU stack that the node needs run on it and are ready."""
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
    not_ready = [pod.full_name for name in wanted if (pod := subject.component(name)) is not None and not pod.ready]
    if not_ready:
        logs = "; ".join(f"kubectl logs -n {namespace} {name}" for namespace, name in (pod.split("/", 1) for pod in not_ready[:3]))
        return Check("components", FAIL, f"not ready: {', '.join(not_ready)}", logs)
    if missing:
        remedy = "do its taints and labels keep the DaemonSet away? nvidia.com/gpu.deploy.* labels, tolerations"
        return Check("components", FAIL, f"run on other nodes, not here: {', '.join(missing)}", remedy)
    return Check("components", PASS, f"ready: {', '.join(wanted)}")


def advertised(subject: Subject) -> Check:
    """The device plugin offers as many GPUs as the hardware has."""
    state, name = subject.view.state, "advertised"
    if subject.view.dra is not None:
        return _published(subject, subject.view.dra)
    offered, gpu_count = state.allocatable, subject.labels.get("nvidia.com/gpu.count", "")
    have = len(subject.machine.gpus) if subject.machine else int(gpu_count) if gpu_count.isdigit() else None
    plugin_status, plugin_remedy = (PASS, "") if offered else (FAIL, "see the device plugin's log")
    if state.slices and not offered:
        kinds = "MIG devices" if all(part.sharing is Sharing.MIG for part in state.slices) else "slices"
        return Check(name, PASS, f"{kinds}: {', '.join(f'{part.allocatable} {part.resource}' for part in state.slices)}")
    if state.sharing is Sharing.MIG:  # GFD then counts MIG devices, so only the agent knows the number of GPUs
        of = f" of {plural(len(subject.machine.gpus), 'GPU')} by the agent" if subject.machine else ""
        evidence = f"{plural(offered, 'MIG device')} offered as {subject.resource}{of}"
        return Check(name, plugin_status, evidence, plugin_remedy)
    if have is None:
        status = UNKNOWN if offered else FAIL
        evidence = f"{offered} {subject.resource} on offer; neither agent nor GFD counts the GPUs"
        return Check(name, status, evidence, "run the agent or GFD")
    evidence = f"{offered} {subject.resource} on offer, {plural(have, 'GPU')} {'by the agent' if subject.machine else 'by GFD'}"
    if state.sharing in (Sharing.TIME_SLICING, Sharing.MPS):
        return Check(name, plugin_status, f"{evidence}, shared by {state.sharing}", plugin_remedy)
    if offered == have:
        return Check(name, PASS, evidence)
    if offered > have:
        return Check(name, FAIL, evidence, "an old GpuTopology or label; else sharing without GFD's labels")
    return Check(name, FAIL, evidence, "the device plugin took GPUs for unhealthy, or does not see them: its log, nvidia-smi")


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
    """GFD's labels are present and agree with the hardware."""
    if subject.view.dra is not None:
        devices = f"{subject.view.state.allocatable} x {subject.view.state.product or 'GPU of an unknown product'} by ResourceSlices"
        return Check("labelled", PASS, f"{devices}; labels of GFD are not needed")
    product, gpu_count = subject.labels.get("nvidia.com/gpu.product"), subject.labels.get("nvidia.com/gpu.count")
    if not product or not gpu_count:
        missing = [name for name, value in (("gpu.product", product), ("gpu.count", gpu_count)) if not value]
        return Check("labelled", FAIL, f"no label nvidia.com/{', nvidia.com/'.join(missing)}", "run GPU feature discovery")
    if subject.machine is None or not subject.machine.gpus:
        return Check("labelled", UNKNOWN, f"labels say {gpu_count} x {product}; no agent's word to compare them with", "run the agent")
    hardware_product = subject.machine.gpus[0].product
    if hardware_product and not same_product(hardware_product, product.replace("-SHARED", "").partition("-MIG-")[0]):
        evidence = f"label says {product}, the hardware {hardware_product}"
        return Check("labelled", FAIL, evidence, "labels are old: restart GPU feature discovery")
    if subject.view.state.sharing is not Sharing.MIG and gpu_count != str(len(subject.machine.gpus)):
        evidence = f"label says {gpu_count} GPUs, the hardware has {len(subject.machine.gpus)}"
        return Check("labelled", FAIL, evidence, "labels are old: restart GPU feature discovery")
    return Check("labelled", PASS, f"{gpu_count} x {product}, as the hardware")


def driver(subject: Subject) -> Check:
    """The driver version is known and has the same branch as on most other nodes with the product."""
    product = subject.view.state.product
    reported = subject.driver
    if reported is None:
        return Check("driver", UNKNOWN, "no driver version by agent or GFD", "run the agent or GFD")
    branches = Counter[str]()
    for version, nodes in subject.survey.drivers[product].items():
        branches[branch(version)] += nodes
    usual_branch, node_count = branches.most_common(1)[0]
    evidence = f"driver {reported}, CUDA {subject.cuda or 'unknown'}"
    if branch(reported) != usual_branch and node_count > 1:
        usual_version = next(version for version, _ in subject.survey.drivers[product].most_common() if branch(version) == usual_branch)
        evidence = f"{evidence}; {node_count} other nodes with {product} run {usual_version}"
        return Check("driver", WARN, evidence, "roll the driver out, or keep pools apart")
    return Check("driver", PASS, evidence)


def isolated(subject: Subject) -> Check:
    """A taint keeps pods without GPUs away, and no such pod runs on the node."""
    taints = [taint for taint in (subject.node.spec.taints or () if subject.node.spec else ()) if _keeps_away(taint)]
    pods = sorted(pod.full_name for pod in subject.non_gpu_pods if pod.component is None)
    pods_text = f"{len(pods)} pods without GPUs run here: {few(pods)}"
    if not taints:
        evidence = f"no GPU taint; {pods_text}" if pods else "no GPU taint"
        remedy = (
            "first give GPU pods and the DaemonSets of the GPU stack the toleration {key: nvidia.com/gpu, operator: Exists}, then "
            f"kubectl taint node {subject.name} nvidia.com/gpu=present:NoSchedule"
        )
        return Check("isolated", WARN, evidence, remedy)
    evidence = f"taint {', '.join(f'{taint.key}:{taint.effect}' for taint in taints)}"
    if pods:
        keys = ", ".join(sorted({taint.key for taint in taints}))
        evidence = f"{evidence}; yet {pods_text}"
        return Check("isolated", WARN, evidence, f"remove their toleration of {keys}, unless they need this node; then delete them")
    return Check("isolated", PASS, evidence)


def _keeps_away(taint: Taint) -> bool:
    return taint.effect in ("NoSchedule", "NoExecute") and ("gpu" in taint.key.lower() or taint.key.startswith("nvidia.com/"))


def sharing(subject: Subject) -> Check:
    """The node's way of sharing GPUs is known, and its labels state it."""
    state, labels = subject.view.state, subject.labels
    mig = [part for part in state.slices if part.sharing is Sharing.MIG]
    if state.sharing is None and not state.slices:
        return Check("sharing", UNKNOWN, "neither agent nor GFD says what one unit is", "run GPU feature discovery")
    if labels.get("nvidia.com/mig.config.state") == "failed":
        remedy = f"see the log of the nvidia-mig-manager pod on {subject.name}"
        return Check("sharing", FAIL, "nvidia.com/mig.config.state is failed", remedy)
    is_labelled = (
        labels.get("nvidia.com/gpu.product", "").endswith("-SHARED")
        or labels.get("nvidia.com/gpu.sharing-strategy", "none") != "none"
        or labels.get("nvidia.com/sharing.mps.enabled") == "true"
    )
    if state.sharing is not None and state.sharing.replicated and not is_labelled:
        evidence = f"{state.allocatable} on offer of {state.physical} GPUs, but no label says they are shared"
        return Check("sharing", WARN, evidence, "let the device plugin and GFD read the same sharing config")
    if mig:
        devices = ", ".join(f"{part.allocatable} x {part.resource}" for part in mig)
        whole = f", and {plural(state.allocatable, 'whole GPU')}" if state.allocatable else ""
        return Check("sharing", PASS, f"divided by MIG (mixed strategy): {devices}{whole}")
    if state.sharing is Sharing.MIG:
        return Check("sharing", PASS, "divided by MIG (single strategy)")
    return Check("sharing", PASS, f"{state.sharing}{', '.join(['', *(part.resource for part in state.slices)])}")


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


def validated(subject: Subject) -> Check:
    """The pod of the GPU Operator's validator is ready."""
    if subject.view.dra is not None and subject.component("validator") is None:
        return Check("validated", UNKNOWN, "the GPU Operator's DRA mode runs no validator", "fabricwise doctor --smoke IMAGE")
    validator = subject.component("validator")
    if validator is None:
        return Check("validated", UNKNOWN, "no operator-validator on the node", "fabricwise doctor --smoke IMAGE")
    if not validator.ready:
        namespace, pod = validator.full_name.split("/", 1)
        return Check("validated", FAIL, f"{validator.full_name} is not ready", f"kubectl logs -n {namespace} {pod} --all-containers")
    return Check("validated", PASS, f"{validator.full_name} is ready")


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
"""In the order of a report. A function's name is the name of its check."""


GPU_LABELS = (
    "nvidia.com/gpu.present",
    "nvidia.com/gpu.count",
    "nvidia.com/gpu.product",
    "feature.node.kubernetes.io/pci-10de.present",
    "cloud.google.com/gke-accelerator",
    "kubernetes.azure.com/accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
)
"""Labels of nodes with NVIDIA GPUs, set by GFD, Node Feature Discovery, GKE, AKS and Karpenter."""


def has_gpus(node: Node, view: NodeView, resource: str) -> bool:
    """Return whether a node has NVIDIA GPUs by its allocatable resources, its capacity, its agent or its labels."""
    labels = labels_of(node)
    offered = view.state.allocatable or view.state.slices or (view.machine is not None and view.machine.gpus) or view.dra is not None
    capacity = (node.status.capacity if node.status else None) or {}
    return bool(offered) or resource in capacity or any(labels.get(key, "false") not in ("false", "0", "") for key in GPU_LABELS)


def _checked(check: Callable[[Subject], Check], subject: Subject) -> Check:
    """Return the result of one check; a check that raises gives a warning, so that the other checks and nodes are still reported."""
    try:
        return check(subject)
    except Exception as error:
        return Check(check.__name__, Status.WARN, f"the check itself failed: {described(error)}", "report this with the node's objects")


def report(subject: Subject) -> dict[str, Any]:
    """Return a node's checks, its worst status, and the answers of its baseline and readiness, as plain data.

    A node without GPUs has the check `ready` only.
    """
    gpus = has_gpus(subject.node, subject.view, subject.resource)
    results = [_checked(check, subject) for check in (CHECKS if gpus else (ready,))]
    worst = max((check.status for check in results), key=list(Status).index)
    checks = [{"check": check.name, "status": check.status.value, "evidence": check.evidence, "remedy": check.remedy} for check in results]
    by_name = {check.name: check for check in results}
    answers = {"baseline": baseline(subject, by_name) if gpus else {}, "readiness": readiness(subject, by_name) if gpus else {}}
    return {"node": subject.name, "status": worst.value, "gpus": gpus, "checks": checks, **answers}


def node_report(
    name: str, snapshot: Snapshot, resource: str, tuning: Tuning, cluster_survey: Survey | None = None
) -> dict[str, Any] | None:
    """Return a node's report, see `report`; None if there is no node of that name.

    `cluster_survey`: the survey of the snapshot, if it is already computed.
    """
    node, view = snapshot.nodes.get(name), snapshot.views.get(name)
    if node is None or view is None:
        return None
    return report(
        Subject(
            name=name,
            node=node,
            view=view,
            snapshot=snapshot,
            resource=resource,
            tuning=tuning,
            survey=cluster_survey or survey(snapshot),
        )
    )


def all_reports(snapshot: Snapshot, resource: str, tuning: Tuning) -> list[dict[str, Any]]:
    """Return the reports of all nodes with GPUs, sorted by name."""
    cluster_survey = survey(snapshot)
    known = [(name, view) for name, view in sorted(snapshot.views.items()) if name in snapshot.nodes]
    names = [name for name, view in known if has_gpus(snapshot.nodes[name], view, resource)]
    reports = (node_report(name, snapshot, resource, tuning, cluster_survey) for name in names)
    return [data for data in reports if data is not None]
