"""Every setting: its unit, its default, what it does. Read once, frozen; `config/extender.yaml` shows them all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from extender.documents import load_documents
from extender.errors import SettingsError

Share = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[float, Meta(ge=0, le=1000)]


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weight of each scorer; their ratio counts. Links lead by far: no packing wish may cost a tenth of bandwidth."""

    link: Weight = 0.90
    fragmentation: Weight = 0.07
    memory: Weight = 0.03


class Scoring(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How nodes are scored."""

    weights: Weights = Weights()
    unknown_topology_value: Share = 0.02
    """Value of link and fragmentation where topology is unknown: below any known link, above nothing."""
    unknown_memory_value: Share = 0.5
    """Value of memory where the pod states no need or the node no size."""
    messages: Literal["decode", "prefill", "mixed"] = "mixed"
    """Which all-reduce sizes count for a pod that does not say (annotation fabricwise.dev/message-size)."""
    size_mix: dict[Annotated[int, Meta(ge=1, le=16)], Weight] | None = None
    """How often later pods ask for so many GPUs: what fragmentation is measured against. None: learnt from the pods that run."""


class Filtering(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is refused beyond what cannot fit."""

    refuse_hazards: bool = False
    """Refuse a node on which the device plugin may crash over the pod's request; else such a node only carries a note."""


class Nodes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is taken for granted of nodes that do not say otherwise by label."""

    topology_manager: Literal["none", "best-effort", "restricted", "single-numa-node"] = "none"
    """The kubelets' topologyManagerPolicy; label fabricwise.dev/topology-manager-policy."""
    device_plugin: Literal["nvidia", "uniform"] = "nvidia"
    """NVIDIA's device plugin, or one that is unknown; label fabricwise.dev/device-plugin."""
    max_status_age_seconds: Annotated[float, Meta(gt=0)] = 300.0
    """Age from which a GpuTopology's status no longer says who holds what; its hardware still counts."""
    assume_from_product: bool = True
    """Judge a node without GpuTopology as the known platform of its product and GPU count, where there is just one."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on what a caller or history may cost."""

    max_body_bytes: Annotated[int, Meta(ge=1024)] = 8 << 20
    """A larger request body is answered with an error."""
    decision_log_bytes: Annotated[int, Meta(ge=0)] = 16 << 20
    """Memory for recent decisions on GET /v1/decisions; the oldest go first."""


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP server."""

    keep_alive_seconds: Annotated[int, Meta(ge=1)] = 120
    """Longer than the 90 s after which kube-scheduler's client drops an idle connection."""
    log_level: Literal["critical", "error", "warning", "info", "debug"] = "info"


class Kube(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """List and watch of the API server."""

    page_size: Annotated[int, Meta(ge=1)] = 500
    """Objects per list request."""
    watch_seconds: Annotated[int, Meta(ge=5)] = 300
    """A watch is asked to end after so long, then resumed."""
    connect_timeout_seconds: Annotated[float, Meta(gt=0)] = 5.0
    read_timeout_seconds: Annotated[float, Meta(gt=0)] = 330.0
    """Silence on a watch after which it is taken for dead; above watch_seconds."""
    max_backoff_seconds: Annotated[float, Meta(gt=0)] = 10.0


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings."""

    resource: Annotated[str, Meta(min_length=1)] = "nvidia.com/gpu"
    """The extended resource that counts GPUs."""
    scoring: Scoring = msgspec.field(default_factory=Scoring)
    filtering: Filtering = Filtering()
    nodes: Nodes = Nodes()
    limits: Limits = Limits()
    server: Server = Server()
    kube: Kube = Kube()


def load_settings(path: Path | None) -> Settings:
    """Defaults, overridden by a YAML file. Raises SettingsError or DocumentError naming the file and key."""
    if path is None:
        return Settings()
    try:
        documents = load_documents(path.read_bytes(), f"settings file {path}")
    except OSError as error:
        raise SettingsError(f"settings file {path}: {error.strerror or error}") from error
    if len(documents) > 1:
        raise SettingsError(f"settings file {path}: expected one document, found {len(documents)}")
    try:
        return msgspec.convert(documents[0] if documents else {}, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"settings file {path}: {error}") from error
