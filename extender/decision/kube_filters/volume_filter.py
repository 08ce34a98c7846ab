"""VolumeBinding, for bound claims only: the node matches the node affinity of the PersistentVolumes of the pod's claims."""

from __future__ import annotations

from extender.decision.kube_filters.label_matching import node_selector_matches
from extender.decision.kube_filters.pod_objects import KubePod, PersistentVolume
from extender.decision.kube_filters.surroundings import NOTHING_TO_CHECK, KubeRefusal, NodeCheck, Prepared, Surroundings, labels_of
from extender.decision.request.kubernetes_objects import Node

PLUGIN = "VolumeBinding"


def volume_binding(pod: KubePod, around: Surroundings) -> Prepared:
    """Check bound claims. An unbound claim is not checked, because that needs its StorageClass."""
    if not pod.claims:
        return NOTHING_TO_CHECK
    if around.claims is None:
        return Prepared(None, (f"{PLUGIN}: PersistentVolumeClaims were not read ({', '.join(pod.claims)})",))
    bound, not_checked, missing = list[PersistentVolume](), list[str](), list[str]()
    for name in pod.claims:
        claim = around.claims.get((pod.namespace, name))
        if claim is None:
            missing.append(name)
        elif not claim.spec.volume_name:
            not_checked.append(f"{PLUGIN}: PersistentVolumeClaim {name} is not bound yet; its StorageClass is not read")
        elif around.volumes is None or claim.spec.volume_name not in around.volumes:
            not_checked.append(f"{PLUGIN}: PersistentVolume {claim.spec.volume_name} of claim {name} was not read")
        else:
            bound.append(around.volumes[claim.spec.volume_name])
    if missing:
        return Prepared(_missing(missing), tuple(not_checked))
    return Prepared(_affinity(bound) if bound else None, tuple(not_checked))


def _missing(names: list[str]) -> NodeCheck:
    refusal = KubeRefusal(PLUGIN, f'persistentvolumeclaim "{names[0]}" not found', "create the claim in the pod's namespace", False)
    return lambda _node: (refusal,)


def _affinity(bound: list[PersistentVolume]) -> NodeCheck:
    def check(node: Node) -> tuple[KubeRefusal, ...]:
        for volume in bound:
            required = volume.spec.node_affinity.required if volume.spec.node_affinity else None
            if required is not None and not node_selector_matches(required, node.metadata.name, labels_of(node)):
                reason = "node(s) didn't match PersistentVolume's node affinity"
                return (KubeRefusal(PLUGIN, reason, f"PersistentVolume {volume.metadata.name} is elsewhere", False),)
        return ()

    return check
