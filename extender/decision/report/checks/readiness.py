"""The questions that a node's report answers as text: eight of its baseline, eight of its readiness to serve models. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from extender.decision.node.devices.gpu_sharing import Sharing
from extender.decision.node.node_state import NodeState
from extender.decision.report.checks.engine_support import engine_support
from extender.decision.report.checks.node_subject import Check, Status, Subject, few, plural
from extender.decision.report.live.device_states import GpuState, GpuStates, gpu_states
from extender.workload.memory import memory_class
from topology.bandwidth.fabric import fabric_name

Checks = Mapping[str, Check]
BATCH_WORDS = ("batch", "notebook", "fine-tuning", "tuning", "dev", "research")
"""Words in the names of workload classes that do not serve production."""


def baseline(subject: Subject, checks: Checks) -> dict[str, str]:
    """Return question -> answer about driver, advertising, labels, isolation, telemetry, sharing, validation and allowed workloads."""
    deploy, pod = subject.labels.get("nvidia.com/gpu.deploy.driver"), subject.component("driver")
    if pod is not None:
        owner = f"the GPU Operator ({pod.full_name})"
    elif deploy == "pre-installed":
        owner = "the host's image"
    else:
        owner = "unknown: no driver pod, no label"
    return {
        "who owns the driver": f"{owner}; {checks['driver'].evidence}",
        "how are GPUs advertised": checks["advertised"].evidence,
        "how are they labelled": checks["labelled"].evidence,
        "how are they isolated": checks["isolated"].evidence,
        "how are they measured": checks["measured"].evidence,
        "how are they shared": checks["sharing"].evidence,
        "how were they validated": checks["validated"].evidence,
        "which workloads are allowed": _workloads(subject),
    }


def _workloads(subject: Subject) -> str:
    if not subject.snapshot.classes:
        return "any: no workload classes are defined"
    return ", ".join(sorted(subject.view.state.pools)) or "of no workload class"


def readiness(subject: Subject, checks: Checks) -> dict[str, str]:
    """Return question -> answer, for a pod that will serve a model on the node."""
    return {question: answer(subject, checks) for question, answer in QUESTIONS.items()}


def _can_start(subject: Subject, checks: Checks) -> str:
    failing = [name for name in ("ready", "components", "advertised", "sharing", "healthy") if checks[name].status is Status.FAIL]
    if failing:
        return f"no: check {', '.join(failing)} fails"
    state = subject.view.state
    if state.slices:
        return "yes"
    states = gpu_states(subject.view, (), subject.usable_memory_share)
    in_use = [f"GPU {state.indices[place]}: {why}" for place, why in states.why.items() if _is_in_use(state, states, place)]
    return "; ".join([f"{plural(state.free_count - len(in_use), 'GPU')} of {state.allocatable} free", *in_use])


def _is_in_use(state: NodeState, states: GpuStates, position: int) -> bool:
    """Whether a GPU on offer has no pod and too little free memory."""
    return states.states[position] is GpuState.EXCLUDED and bool(state.usable >> position & 1)


def _memory(subject: Subject, _checks: Checks) -> str:
    state = subject.view.state
    slices = [f"{part.resource} {_gib(part.memory_bytes)}" for part in state.slices]
    if state.gpu_memory_bytes is None:
        return "; ".join(slices) or "unknown: neither agent nor label nvidia.com/gpu.memory tells"
    device = "MIG device" if state.sharing is Sharing.MIG else "GPU"
    shared = ", shared by all its replicas" if state.sharing is not None and state.sharing.replicated else ""
    size = memory_class(state.gpu_memory_bytes)
    words = [f"{_gib(state.gpu_memory_bytes)} per {device}{shared}{f', class {size} GB' if size else ''}", *slices]
    free = [load.free_bytes for load in state.device_telemetry.device_loads if load is not None and load.free_bytes is not None]
    if free:
        words.append(f"at least {_gib(min(free))} of it not in use on each GPU by telemetry")
    return "; ".join(words)


def _gib(amount: int | None) -> str:
    return "of unknown memory" if amount is None else f"{amount / 2**30:.0f} GiB"


def _engines(subject: Subject, _checks: Checks) -> str:
    capability = subject.view.state.facts.compute_capability
    return "unknown: neither agent nor GFD tells the compute capability" if capability is None else engine_support(capability)


def _cuda(subject: Subject, _checks: Checks) -> str:
    driver = f"driver {subject.driver}" if subject.driver else "unknown driver"
    return f"images of CUDA {subject.cuda} and older ({driver})" if subject.cuda else f"unknown: {driver}, no CUDA version is reported"


def _together(subject: Subject, _checks: Checks) -> str:
    state = subject.view.state
    if state.sharing is Sharing.MIG or (state.slices and not state.allocatable):
        return "not at all: MIG devices have no NVLink and no peer access to one another"
    if state.sharing is not None and state.sharing.replicated:
        return "not at all: replicas may be of one GPU"
    if state.table is None or subject.view.machine is None:
        return f"unknown: {state.note}"
    count, every = state.table.size, (1 << state.table.size) - 1
    if count < 2:
        return "it has one GPU"
    words = []
    for size in sorted({size for size in (2, 4, 8, count) if size <= count}):
        extremes = state.table.extremes(every, size)
        speeds = [placement.busbw_gbps for placement in extremes or () if placement.busbw_gbps is not None]
        if speeds:
            least = f"{min(speeds):.3g} to " if min(speeds) < max(speeds) else ""
            words.append(f"{size}: {least}{max(speeds):.3g} GB/s")
    return f"{fabric_name(subject.view.machine)}; all-reduce of {', '.join(words)}"


def _whole(_subject: Subject, checks: Checks) -> str:
    return checks["sharing"].evidence if checks["sharing"].evidence != Sharing.NONE else "yes: each GPU is given to one container"


def _beside(subject: Subject, checks: Checks) -> str:
    """Return whether batch or notebook pods may run on the node beside production pods, and what isolates them."""
    state = subject.view.state
    untainted = checks["isolated"].evidence.startswith("no GPU taint")
    words = ["nothing keeps them away: no GPU taint" if untainted else "kept away unless they tolerate the GPU taint"]
    if state.sharing is not None and state.sharing.replicated:
        words.append(f"they would share GPUs with production by {state.sharing}, without limits on memory")
    elif state.sharing is Sharing.MIG or state.slices:
        words.append("MIG keeps memory and compute of each device apart")
    else:
        words.append("a GPU has one owner, but links, CPUs and memory of the host are shared")
    if subject.snapshot.classes:
        others = sorted(name for name in state.pools if any(word in name for word in BATCH_WORDS))
        words.append(f"workload classes that may use it: {', '.join(others)}" if others else "no batch or notebook class may use it")
    else:
        words.append("no workload classes are defined")
    if subject.view.pods:
        words.append(f"GPU pods now: {few(sorted(pod.full_name for pod in subject.view.pods))}")
    return "; ".join(words)


def _watched(_subject: Subject, checks: Checks) -> str:
    words = {Status.PASS: "yes", Status.WARN: "in part", Status.FAIL: "no", Status.UNKNOWN: "unknown"}
    return ", ".join(f"{name}: {words[checks[name].status]}" for name in ("measured", "healthy", "validated"))


QUESTIONS: dict[str, Callable[[Subject, Checks], str]] = {
    "can a GPU pod start now": _can_start,
    "how much memory has a GPU": _memory,
    "which engines support the GPU": _engines,
    "which CUDA images run": _cuda,
    "how fast do several GPUs work together": _together,
    "does a container get a GPU for itself": _whole,
    "may batch or notebook pods run beside production": _beside,
    "is it measured, healthy and validated": _watched,
}
