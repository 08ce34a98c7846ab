"""How the changes of pods alter the draft: what pods request, where they are bound, and which ended lately."""

from __future__ import annotations

from collections.abc import Mapping

from extender.decision.node.allocation.allocations import BoundPod, allocations_of, indices_named
from extender.decision.node.allocation.ended_pods import UNSURE_SECONDS, EndedPod, deleted, remembered, still_needed
from extender.decision.node.gpu_stack import non_gpu_pod
from extender.decision.node.node_telemetry import as_left
from extender.decision.node.scrape_targets import target_of
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.request.pod_request import Demand, asks_for_slices
from extender.decision.state.fold.draft import Draft
from extender.decision.state.pods import Pending, bound_pod, has_ended, held_demand, pending_pod
from extender.decision.tables import add, discard
from extender.telemetry.conditions import vacated
from topology.gputopology.topology_record import TopologyRecord
from topology.machine.hardware import union_of


def pod_seen(draft: Draft, pod: Pod) -> None:
    """Take over a pod. All of it is read before any of it is written: where reading raises, what was known of the pod stays."""
    demand = held_demand(pod, draft.resource)
    target = target_of(pod, demand is not None, draft.defaults.targets)
    without_gpu = None if demand is not None or asks_for_slices(pod, draft.resource) else non_gpu_pod(pod)
    pending, bound = pending_pod(pod, draft.resource, demand), bound_pod(pod, demand, draft.resource)
    _count_sizes(draft, pod.key, demand.groups if demand else ())
    draft.targets.put(pod.key, target)
    draft.non_gpu_pods.put(pod.key, without_gpu)
    set_pending(draft, pod.key, pending)
    _set_bound(draft, pod, demand, bound)


def pod_gone(draft: Draft, key: str) -> None:
    """Remove a pod that was deleted."""
    _count_sizes(draft, key, ())
    draft.targets.put(key, None)
    draft.non_gpu_pods.put(key, None)
    set_pending(draft, key, None)
    _end(draft, key, is_deleted=True)


def known_pods(draft: Draft) -> set[str]:
    """Return the keys of the pods of which anything is kept."""
    return {key for table in _tables_by_pod(draft) for key in table}


def is_known_pod(draft: Draft, key: str) -> bool:
    """Whether anything is kept of a pod."""
    return any(key in table for table in _tables_by_pod(draft))


def _tables_by_pod(draft: Draft) -> tuple[Mapping[str, object], ...]:
    return draft.pods.now, draft.asked.now, draft.targets.now, draft.non_gpu_pods.now, draft.pending.now


def _count_sizes(draft: Draft, key: str, groups: tuple[int, ...]) -> None:
    """Update `sizes` and `asked`. `groups`: GPUs per container of the pod."""
    known = draft.asked.now.get(key, ())
    if known == groups:
        return
    sizes = draft.sizes.writable()
    for size in known:
        sizes[size] -= 1
        if not sizes[size]:
            del sizes[size]
    for size in groups:
        sizes[size] = sizes.get(size, 0) + 1
    draft.asked.put(key, groups or None)


def set_pending(draft: Draft, key: str, pending: Pending | None) -> None:
    """Update `pending` and `nominated`. No view depends on them: a verdict reads the nominated pods for each pod anew."""
    before = draft.pending.now.get(key)
    was, now = before.nominated if before else None, pending.nominated if pending else None
    if was is not None and was != now:
        discard(draft.nominated, was, key)
    if now is not None and was != now:
        add(draft.nominated, now, key)
    if draft.pending.put(key, pending):
        draft.moved_pods.add(key)


def _set_bound(draft: Draft, pod: Pod, demand: Demand | None, bound: BoundPod | None) -> None:
    if bound is None and not has_ended(pod):
        _vacate(draft, pod.key)
        _unbind(draft, pod.key)
    elif bound is None:
        _end(draft, pod.key)
        if demand is not None and pod.spec.node_name:
            ended = EndedPod(pod.key, pod.metadata.namespace or "default", pod.metadata.name)
            _remember_end(draft, pod.spec.node_name, ended)
    elif draft.pods.now.get(bound.key) != bound:
        _unbind(draft, bound.key)
        draft.pods.set(bound.key, bound)
        draft.moved_pods.add(bound.key)
        add(draft.by_node, bound.node, bound.key)
        draft.touched.add(bound.node)


def _unbind(draft: Draft, key: str) -> None:
    bound = draft.pods.pop(key)
    if bound is None:
        return
    draft.moved_pods.add(key)
    discard(draft.by_node, bound.node, key)
    draft.touched.add(bound.node)


def _vacate(draft: Draft, key: str) -> None:
    """Tell telemetry that a pod leaves: memory that was in use on its devices was its own, not that of an unknown process."""
    bound = draft.pods.now.get(key)
    if bound is None:
        return
    telemetry, view = draft.telemetry.now.get(bound.node), draft.before.views.get(bound.node)
    if telemetry is not None and view is not None:
        draft.telemetry.set(bound.node, as_left(telemetry, view, {key}, vacated))
        draft.measured.add(bound.node)


def _end(draft: Draft, key: str, is_deleted: bool = False) -> None:
    """End a pod: it is deleted, or its phase is Succeeded or Failed."""
    bound = draft.pods.now.get(key)
    if bound is None:
        if is_deleted:
            _no_longer_unsure(draft, key)
        return
    if not bound.demand.total:  # its claims state what it held, and until when
        _unbind(draft, key)
        return
    record = draft.topologies.now.get(bound.node)
    pod = EndedPod(key, bound.namespace, bound.name)
    if isinstance(record, TopologyRecord):
        pod = _ended_with_devices(draft, bound, record, is_deleted)
    _vacate(draft, key)
    _unbind(draft, key)
    _remember_end(draft, bound.node, pod)


def _ended_with_devices(draft: Draft, bound: BoundPod, record: TopologyRecord, is_deleted: bool) -> EndedPod:
    """Return a bound pod as one that ends now, with the devices that it is known to hold."""
    allocations = allocations_of(
        record,
        draft.pods_of(bound.node),
        draft.is_stale(bound.node, record, draft.times),
        ended=draft.ended.now.get(bound.node, ()),
    )
    devices = union_of(allocations.known.get(bound.key, ()))
    overlapping = frozenset(pod.key for pod in allocations.predicted if pod.key != bound.key and pod.key not in allocations.known)
    if not devices and record.status is None:
        overlapping = frozenset()  # where no source names devices, only the number of bound pods counts
    now = draft.times.monotonic_seconds
    return EndedPod(
        key=bound.key,
        namespace=bound.namespace,
        name=bound.name,
        devices=devices,
        named=indices_named(record, EndedPod(bound.key, bound.namespace, bound.name)),
        overlapping=overlapping,
        steps=bound.demand.steps,
        admission_order=bound.admission_order,
        unsure_until_seconds=None if is_deleted or now is None else now + UNSURE_SECONDS,
    )


def _no_longer_unsure(draft: Draft, key: str) -> None:
    """A pod that has ended before is deleted now: the kubelet deletes it after it has freed the devices."""
    node = draft.unsure.now.get(key)
    if node is not None:
        draft.put_ended(node, deleted(draft.ended.now.get(node, ()), key))
        draft.touched.add(node)


def _remember_end(draft: Draft, node: str, pod: EndedPod) -> None:
    before = draft.ended.now.get(node, ())
    after = remembered(before, pod)
    if after is not before:
        draft.put_ended(node, after)
        draft.touched.add(node)


def forget_ended(draft: Draft, node: str) -> None:
    """Drop the ended pods that no prediction on the node depends on. Before topologies are listed that is not known, and all are kept."""
    ended, record = draft.ended.now.get(node), draft.topologies.now.get(node)
    if not ended or "topologies" not in draft.listed:
        return
    known: Mapping[str, tuple[int, ...]] = {}
    if isinstance(record, TopologyRecord):
        known = allocations_of(record, draft.pods_of(node), draft.is_stale(node, record, draft.times), ended=ended).known
    unknown = (key for key in draft.by_node.now.get(node, ()) if key not in known)
    has_status = isinstance(record, TopologyRecord) and record.status is not None
    draft.put_ended(node, still_needed(ended, has_status, unknown, draft.times.monotonic_seconds))
