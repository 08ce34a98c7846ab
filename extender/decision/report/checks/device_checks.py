"""Checks of what a node offers: its devices, its labels and its way of sharing GPUs, compared with the hardware. Pure."""

from __future__ import annotations

from extender.decision.dra.dra_node import DraNode
from extender.decision.node.devices.gpu_sharing import Sharing
from extender.decision.report.checks.node_subject import Check, Status, Subject, plural
from topology.machine.products import same_product

PASS, UNKNOWN, WARN, FAIL = Status.PASS, Status.UNKNOWN, Status.WARN, Status.FAIL


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
