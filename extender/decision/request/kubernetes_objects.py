"""The parts of Node and Pod that a decision reads, decoded from the API's JSON; all other fields are skipped.

Objects from JSON contain no cycles, so the garbage collector does not track them (`gc=False`).
"""

from __future__ import annotations

from typing import Any

import msgspec

Quantities = dict[str, Any]


class Owner(msgspec.Struct, frozen=True, gc=False):
    """OwnerReference."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class Meta(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """ObjectMeta."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    owner_references: list[Owner] | None = None


class NodeCondition(msgspec.Struct, frozen=True, gc=False):
    """NodeCondition without its times, which change with every heartbeat."""

    type: str = ""
    status: str = ""


class Taint(msgspec.Struct, frozen=True, gc=False):
    """Taint."""

    key: str = ""
    effect: str = ""
    value: str = ""


class NodeSpec(msgspec.Struct, frozen=True, gc=False):
    """Node.spec."""

    taints: list[Taint] | None = None
    unschedulable: bool = False


class NodeStatus(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Node.status."""

    allocatable: Quantities | None = None
    capacity: Quantities | None = None
    conditions: list[NodeCondition] | None = None


class NodeMeta(msgspec.Struct, frozen=True, gc=False):
    """ObjectMeta of a Node. Its annotations are not read: they are large, and some change with every heartbeat."""

    name: str = ""
    labels: dict[str, str] | None = None


class Node(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """v1 Node."""

    metadata: NodeMeta
    status: NodeStatus | None = None
    spec: NodeSpec | None = None


class ContainerClaim(msgspec.Struct, frozen=True, gc=False):
    """ResourceClaim of a container: an entry of `spec.resourceClaims` that it uses."""

    name: str = ""
    request: str = ""


class Resources(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """ResourceRequirements."""

    requests: Quantities | None = None
    limits: Quantities | None = None
    claims: list[ContainerClaim] | None = None


class EnvVar(msgspec.Struct, frozen=True, gc=False):
    """EnvVar. `value` is None where the value comes from a secret, a config map or a field."""

    name: str = ""
    value: str | None = None


class Container(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Container or init container. A sidecar is an init container with restartPolicy Always."""

    name: str = ""
    resources: Resources | None = None
    restart_policy: str | None = None
    image: str | None = None
    command: list[str] | None = None
    args: list[str] | None = None
    env: list[EnvVar] | None = None


class PodResourceClaim(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """PodResourceClaim: a claim that the pod uses, by its own name or by that of a template."""

    name: str = ""
    resource_claim_name: str | None = None
    resource_claim_template_name: str | None = None


class PodSchedulingGroup(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """PodSchedulingGroup (Kubernetes 1.37): the PodGroup that the pod belongs to."""

    pod_group_name: str | None = None


class PodSpec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Pod.spec."""

    containers: list[Container] | None = None
    init_containers: list[Container] | None = None
    node_name: str | None = None
    scheduler_name: str | None = None
    priority: int | None = None
    resource_claims: list[PodResourceClaim] | None = None
    scheduling_group: PodSchedulingGroup | None = None


class PodResourceClaimStatus(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """PodResourceClaimStatus: the claim made from a template; None where none was needed."""

    name: str = ""
    resource_claim_name: str | None = None


class PodExtendedResourceClaimStatus(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """PodExtendedResourceClaimStatus: the claim that kube-scheduler made for the pod's extended resources."""

    resource_claim_name: str = ""


class DeviceHealth(msgspec.Struct, frozen=True, gc=False):
    """ResourceHealth: one device that a container holds."""

    resource_id: str = msgspec.field(default="", name="resourceID")
    health: str | None = None


class ResourceStatus(msgspec.Struct, frozen=True, gc=False):
    """The devices of one resource that a container holds."""

    name: str = ""
    resources: list[DeviceHealth] | None = None


class ContainerStatus(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """ContainerStatus. It names devices from Kubernetes 1.34 on with a feature gate, from 1.36 on by default."""

    name: str = ""
    allocated_resources_status: list[ResourceStatus] | None = None


class PodCondition(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """PodCondition."""

    last_transition_time: str | None = None
    type: str = ""
    status: str = ""
    message: str | None = None


class PodStatus(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Pod.status."""

    phase: str | None = None
    nominated_node_name: str | None = None
    pod_ip: str | None = msgspec.field(default=None, name="podIP")
    container_statuses: list[ContainerStatus] | None = None
    init_container_statuses: list[ContainerStatus] | None = None
    conditions: list[PodCondition] | None = None
    resource_claim_statuses: list[PodResourceClaimStatus] | None = None
    extended_resource_claim_status: PodExtendedResourceClaimStatus | None = None


class Pod(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """v1 Pod."""

    metadata: Meta
    spec: PodSpec
    status: PodStatus | None = None

    @property
    def key(self) -> str:
        """The uid; namespace/name for an object from a file that has no uid."""
        return self.metadata.uid or f"{self.metadata.namespace or 'default'}/{self.metadata.name}"

    @property
    def group(self) -> str | None:
        """namespace/name of its PodGroup; None where it is in none."""
        name = self.spec.scheduling_group.pod_group_name if self.spec.scheduling_group else None
        return f"{self.metadata.namespace or 'default'}/{name}" if name else None
