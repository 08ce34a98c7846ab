"""The fields of Pod, PersistentVolumeClaim and PersistentVolume that kube-scheduler's filters read; other fields are skipped."""

from __future__ import annotations

import msgspec

from extender.decision.request.kubernetes_objects import Meta, Quantities, Resources

Labels = dict[str, str]


class Requirement(msgspec.Struct, frozen=True):
    """One expression of a node selector term or of a label selector."""

    key: str = ""
    operator: str = ""
    values: list[str] | None = None


class NodeSelectorTerm(msgspec.Struct, frozen=True, rename="camel"):
    """Matches if all its requirements are met."""

    match_expressions: list[Requirement] | None = None
    match_fields: list[Requirement] | None = None


class NodeSelector(msgspec.Struct, frozen=True, rename="camel"):
    """Matches if any of its terms matches."""

    node_selector_terms: list[NodeSelectorTerm] | None = None


class NodeAffinity(msgspec.Struct, frozen=True, rename="camel"):
    """NodeAffinity. Preferences never refuse a node and are not read."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None


class LabelSelector(msgspec.Struct, frozen=True, rename="camel"):
    """LabelSelector."""

    match_labels: Labels | None = None
    match_expressions: list[Requirement] | None = None


class PodAffinityTerm(msgspec.Struct, frozen=True, rename="camel"):
    """PodAffinityTerm."""

    topology_key: str = ""
    label_selector: LabelSelector | None = None
    namespaces: list[str] | None = None
    namespace_selector: LabelSelector | None = None
    match_label_keys: list[str] | None = None
    mismatch_label_keys: list[str] | None = None


class PodAffinity(msgspec.Struct, frozen=True, rename="camel"):
    """PodAffinity or PodAntiAffinity."""

    required_during_scheduling_ignored_during_execution: list[PodAffinityTerm] | None = None


class Affinity(msgspec.Struct, frozen=True, rename="camel"):
    """Affinity."""

    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


class Toleration(msgspec.Struct, frozen=True):
    """Toleration, without `tolerationSeconds`."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""


class ContainerPort(msgspec.Struct, frozen=True, rename="camel"):
    """ContainerPort."""

    container_port: int = 0
    host_port: int = 0
    host_ip: str = msgspec.field(default="", name="hostIP")
    protocol: str = "TCP"


class KubeContainer(msgspec.Struct, frozen=True, rename="camel"):
    """Container or init container."""

    name: str = ""
    resources: Resources | None = None
    restart_policy: str | None = None
    ports: list[ContainerPort] | None = None

    @property
    def is_sidecar(self) -> bool:
        """Whether an init container keeps running beside the containers."""
        return self.restart_policy == "Always"


class ClaimSource(msgspec.Struct, frozen=True, rename="camel"):
    """PersistentVolumeClaimVolumeSource."""

    claim_name: str = ""


class Volume(msgspec.Struct, frozen=True, rename="camel"):
    """Volume. Sources of other kinds never refuse a node here."""

    name: str = ""
    persistent_volume_claim: ClaimSource | None = None
    ephemeral: dict[str, object] | None = None


class SpreadConstraint(msgspec.Struct, frozen=True, rename="camel"):
    """TopologySpreadConstraint."""

    max_skew: int = 1
    topology_key: str = ""
    when_unsatisfiable: str = "DoNotSchedule"
    label_selector: LabelSelector | None = None
    min_domains: int | None = None
    node_affinity_policy: str | None = None
    node_taints_policy: str | None = None
    match_label_keys: list[str] | None = None


class KubePodSpec(msgspec.Struct, frozen=True, rename="camel"):
    """Pod.spec."""

    containers: list[KubeContainer] | None = None
    init_containers: list[KubeContainer] | None = None
    node_name: str | None = None
    priority: int | None = None
    node_selector: Labels | None = None
    affinity: Affinity | None = None
    tolerations: list[Toleration] | None = None
    overhead: Quantities | None = None
    resources: Resources | None = None
    host_network: bool = False
    volumes: list[Volume] | None = None
    topology_spread_constraints: list[SpreadConstraint] | None = None
    runtime_class_name: str | None = None
    resource_claims: list[dict[str, object]] | None = None
    scheduling_gates: list[dict[str, object]] | None = None


class KubeContainerStatus(msgspec.Struct, frozen=True, rename="camel"):
    """Resources of a running container, which differ from the spec during a resize."""

    name: str = ""
    resources: Resources | None = None
    allocated_resources: Quantities | None = None


class KubePodCondition(msgspec.Struct, frozen=True):
    """PodCondition."""

    type: str = ""
    reason: str | None = None


class KubePodStatus(msgspec.Struct, frozen=True, rename="camel"):
    """Pod.status."""

    phase: str | None = None
    conditions: list[KubePodCondition] | None = None
    container_statuses: list[KubeContainerStatus] | None = None
    init_container_statuses: list[KubeContainerStatus] | None = None


class KubePod(msgspec.Struct, frozen=True, rename="camel"):
    """v1 Pod."""

    metadata: Meta
    spec: KubePodSpec
    status: KubePodStatus | None = None

    @property
    def namespace(self) -> str:
        """The pod's namespace; `default` for a manifest without one."""
        return self.metadata.namespace or "default"

    @property
    def labels(self) -> Labels:
        """The pod's labels."""
        return self.metadata.labels or {}

    @property
    def claims(self) -> tuple[str, ...]:
        """Names of the PersistentVolumeClaims of the pod's volumes."""
        sources = (volume.persistent_volume_claim for volume in self.spec.volumes or ())
        return tuple(source.claim_name for source in sources if source is not None)

    @property
    def has_ended(self) -> bool:
        """Whether the pod's phase is Succeeded or Failed, so that it occupies nothing on its node."""
        return self.status is not None and self.status.phase in ("Succeeded", "Failed")


class VolumeNodeAffinity(msgspec.Struct, frozen=True):
    """VolumeNodeAffinity."""

    required: NodeSelector | None = None


class PersistentVolumeSpec(msgspec.Struct, frozen=True, rename="camel"):
    """PersistentVolume.spec."""

    node_affinity: VolumeNodeAffinity | None = None


class PersistentVolume(msgspec.Struct, frozen=True):
    """v1 PersistentVolume."""

    metadata: Meta
    spec: PersistentVolumeSpec


class ClaimSpec(msgspec.Struct, frozen=True, rename="camel"):
    """PersistentVolumeClaim.spec."""

    volume_name: str | None = None


class PersistentVolumeClaim(msgspec.Struct, frozen=True):
    """v1 PersistentVolumeClaim."""

    metadata: Meta
    spec: ClaimSpec
