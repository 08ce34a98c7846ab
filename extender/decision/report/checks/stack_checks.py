"""Checks of the software on a node: its kubelet, the parts of the GPU stack, its driver, and pods without GPUs. Pure."""

from __future__ import annotations

from collections import Counter

from extender.decision.report.checks.node_subject import Check, Status, Subject, few
from extender.decision.report.checks.reported_versions import branch
from extender.decision.request.kubernetes_objects import Taint

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
