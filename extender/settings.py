"""Every setting with its unit, default and meaning, as frozen groups. `config/extender.yaml` shows all of them.

`settings_file` reads a file of settings; `settings_contradictions` refuses settings that make each other ineffective.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from extender.telemetry.xids import DEFAULT_FATAL

Share = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[float, Meta(ge=0, le=1000)]
Port = Annotated[int, Meta(ge=1, le=65535)]


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weight of each scorer; only their ratio counts. With the defaults, no gain in packing outweighs a tenth of the bandwidth."""

    link: Weight = 0.90
    fragmentation: Weight = 0.07
    memory: Weight = 0.03
    pressure: Weight = 0.10


class Scoring(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How nodes are scored."""

    weights: Weights = Weights()
    unknown_topology_value: Share = 0.02
    """Value of link and fragmentation on a node of unknown topology: below that of any known link, above 0."""
    unknown_memory_value: Share = 0.5
    """Value of memory where the memory that the pod needs or the memory size of the node's GPUs is unknown."""
    unknown_telemetry_value: Share = 0.5
    """Value of pressure where the devices have no fresh telemetry."""
    messages: Literal["decode", "prefill", "mixed"] = "mixed"
    """Which all-reduce message sizes count for a pod without annotation fabricwise.dev/message-size."""
    size_mix: dict[Annotated[int, Meta(ge=1, le=16)], Weight] | None = None
    """GPUs per container -> weight of this size in future pods; fragmentation is measured against it. None: derived from running pods."""


class Filtering(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is refused although it could fit."""

    refuse_hazards: bool = False
    """Refuse a node on which the device plugin may crash while it serves the pod's request; else the node only carries a note."""
    tolerated_chance: Share = 0.0
    """Largest accepted probability that the device plugin, which chooses the devices, gives the pod a fenced or occupied device."""
    usable_memory_share: Share = 0.85
    """Share of a GPU's memory that must be free for a pod that states no lower need (serving engines allocate most of a GPU's memory)."""
    enforce_inferred: bool = False
    """Refuse GPUs with less memory than estimated for the pod's model (annotation fabricwise.dev/model); else only the score is lower."""
    telemetry_required_for: tuple[str, ...] = ()
    """Workload classes (annotation fabricwise.dev/workload-class) whose pods need nodes with known telemetry; "*": all pods."""


class Nodes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Assumptions about nodes whose labels do not say otherwise."""

    topology_manager: Literal["none", "best-effort", "restricted", "single-numa-node"] = "none"
    """The kubelets' topologyManagerPolicy; label fabricwise.dev/topology-manager-policy overrides it."""
    device_plugin: Literal["nvidia", "uniform"] = "nvidia"
    """NVIDIA's device plugin, or an unknown one that may choose any set; label fabricwise.dev/device-plugin overrides it."""
    max_status_age_seconds: Annotated[float, Meta(gt=0)] = 300.0
    """Age from which the allocations in a GpuTopology's status are ignored; its hardware still counts."""
    assume_from_product: bool = True
    """Evaluate a node without GpuTopology as the bundled platform of its product and GPU count, if exactly one matches."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on what a request or the decision log may cost."""

    max_body_bytes: Annotated[int, Meta(ge=1024)] = 8 << 20
    """A larger request body is answered with an error."""
    decision_log_bytes: Annotated[int, Meta(ge=0)] = 16 << 20
    """Memory for recent decisions on GET /v1/decisions; the oldest are dropped first."""
    replay_bytes: Annotated[int, Meta(ge=0)] = 16 << 20
    """Memory for the states that recent decisions were made from; the oldest are dropped first, and their decisions cannot be replayed."""
    body_seconds: Annotated[float, Meta(gt=0)] = 10.0
    """A request body that takes longer to arrive is answered with an error."""
    evaluation_seconds: Annotated[float, Meta(gt=0)] = 0.25
    """How long filter and prioritize wait for the first evaluation of a request; then kube-scheduler is asked to try again."""


class DecisionFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Decisions on disk, as JSON lines that `fabricwise replay` reads. They contain names of nodes and pods, but no secret."""

    file: str = ""
    """File to which each decision is appended, with the state that it was made from; empty: none. A full file is renamed to FILE.1."""
    max_bytes: Annotated[int, Meta(ge=1 << 20)] = 256 << 20
    """Size from which a new file is begun, with the whole state again."""
    files: Annotated[int, Meta(ge=1, le=1000)] = 4
    """Files that are kept, the present one included."""


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """TLS of the server. Files are read again when they change. All empty: plain HTTP."""

    cert_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""
    """CA of the client certificates that are required; empty: no client certificate is required."""


class DebugAuth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may use the debug API, `/v1`."""

    mode: Literal["none", "kubernetes"] = "none"
    """none: no token is needed; kubernetes: each request needs a bearer token that the API server accepts (TokenReview), whose
    user may do the request's method on its path (SubjectAccessReview of a nonResourceURL)."""
    audiences: tuple[str, ...] = ()
    """Audiences of which a token must have one; empty: those of the API server."""
    kept_seconds: Annotated[float, Meta(ge=0, le=300)] = 10.0
    """How long an answer of the API server about a token counts."""


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP server."""

    keep_alive_seconds: Annotated[int, Meta(ge=1)] = 120
    """Longer than the 90 s after which kube-scheduler's client closes an idle connection (net/http IdleConnTimeout)."""
    log_level: Literal["critical", "error", "warning", "info", "debug"] = "info"
    tls: Tls = Tls()
    health_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """Port that also serves /healthz, /readyz and /metrics over plain HTTP, for the kubelet and Prometheus, which have no client
    certificate; 0: none."""
    debug_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """Port of the web UI and the debug API (/v1, /docs), with the same TLS settings; 0: they are on the port of the verbs."""
    debug_auth: DebugAuth = DebugAuth()
    debug_hosts: tuple[str, ...] = ()
    """Names by which browsers reach the web UI and the debug API while debug_auth.mode is none, or suffixes (*.example.com). Always
    allowed: IP addresses, localhost, names without a dot, services of the cluster, the machine's host name. Any other name gets 421."""
    max_streams: Annotated[int, Meta(ge=0, le=1000)] = 50
    """Clients of GET /v1/stream at the same time; the web UI has one per browser tab."""
    node_metrics: Annotated[int, Meta(ge=0)] = 1000
    """Largest number of nodes with GPUs for which /metrics has values of each node (seven series per node)."""


class Kube(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """List and watch of the API server."""

    page_size: Annotated[int, Meta(ge=1)] = 500
    """Objects per list request."""
    watch_seconds: Annotated[int, Meta(ge=5)] = 300
    """Duration after which the API server is asked to end a watch, which is then resumed."""
    connect_timeout_seconds: Annotated[float, Meta(gt=0)] = 5.0
    read_timeout_seconds: Annotated[float, Meta(gt=0)] = 330.0
    """Time without data after which a watch is considered broken; above watch_seconds."""
    max_backoff_seconds: Annotated[float, Meta(gt=0)] = 10.0
    """Longest pause between two attempts."""
    max_state_age_seconds: Annotated[float, Meta(ge=0)] = 300.0
    """While the API server is unreachable, decisions use the last known state; once it is older than this, filter answers with an error."""


class Dcgm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """dcgm-exporter pods that are scraped directly."""

    selectors: tuple[str, ...] = ("app=nvidia-dcgm-exporter", "app.kubernetes.io/name=dcgm-exporter")
    """Label selectors (key=value, comma = and) of the pods to scrape. Defaults: the labels of the GPU Operator and of the Helm chart."""
    port: Port = 9400
    path: str = "/metrics"


class Prometheus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A Prometheus server that scrapes the exporters and is read by instant queries."""

    url: str = ""
    """For example http://prometheus.monitoring:9090."""
    bearer_token_file: str = ""
    """Read again before each round of queries; empty: no token."""
    selector: str = ""
    """Additional label matchers of every query, for example cluster="a"."""


class Engines(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Serving engines in GPU pods."""

    enabled: bool = True
    """Scrape GPU pods with annotation prometheus.io/scrape: "true" (at prometheus.io/port, path and scheme)."""
    selectors: tuple[str, ...] = ()
    """Label selectors of further GPU pods to scrape, at `port` and `path`."""
    port: Port = 8000
    path: str = "/metrics"


class Telemetry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Live pressure and health of devices."""

    source: Literal["auto", "off", "dcgm-exporter", "prometheus"] = "auto"
    """auto: dcgm-exporter with --cluster kube, else off."""
    interval_seconds: Annotated[float, Meta(ge=0.2)] = 15.0
    """Time between two scrapes of a target."""
    timeout_seconds: Annotated[float, Meta(gt=0)] = 5.0
    """Time for one scrape, from connecting to the last byte."""
    concurrency: Annotated[int, Meta(ge=1, le=1000)] = 64
    """Targets that are scraped at the same time."""
    max_body_bytes: Annotated[int, Meta(ge=1024)] = 16 << 20
    """A longer exposition is not read."""
    max_age_seconds: Annotated[float, Meta(gt=0)] = 60.0
    """An older value is unknown."""
    half_life_seconds: Annotated[float, Meta(gt=0)] = 30.0
    """Half-life of the running mean of a gauge."""
    jump_share: Share = 0.10
    """Share of the GPU's memory; a larger change of its free memory counts at once, a smaller one is smoothed."""
    hold_share: Share = 0.08
    """Share of the GPU's memory by which the mean must change before decisions use the new value of free memory."""
    restless_seconds: Annotated[float, Meta(ge=0)] = 300.0
    """A device whose used memory jumped in alternating directions three times within this time counts with its largest used memory."""
    quiet_seconds: Annotated[float, Meta(ge=0)] = 600.0
    """Time without an error after which a fenced device is used again."""
    fatal_xids: tuple[Annotated[int, Meta(ge=1)], ...] = DEFAULT_FATAL
    """XIDs that fence a device."""
    dcgm: Dcgm = Dcgm()
    prometheus: Prometheus = Prometheus()
    engines: Engines = Engines()


class RequeueSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Requeueing pending pods once telemetry or a GpuTopology, which kube-scheduler does not watch, resolves their rejection."""

    enabled: bool = True
    max_per_second: Annotated[float, Meta(gt=0, le=1000)] = 5.0
    """Pods that are patched per second, in total."""
    pod_pause_seconds: Annotated[float, Meta(ge=0)] = 5.0
    """Time between two patches of a pod; doubled each time the pod is rejected again."""
    max_pods: Annotated[int, Meta(ge=1)] = 5000
    """Rejected pods that are remembered; the oldest are forgotten first."""


class AssumedPodSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Assumed pods: decided, but not yet visible as bound on the watch."""

    ttl_seconds: Annotated[float, Meta(ge=0)] = 30.0
    """Time after which an assumed pod that is not visible as bound expires; 0: no assumed pods."""


class Binding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The bind verb, for a scheduler whose configuration names it (bindVerb: bind)."""

    concurrency: Annotated[int, Meta(ge=1, le=1000)] = 32
    """Bindings in flight; further ones wait."""
    timeout_seconds: Annotated[float, Meta(gt=0)] = 5.0
    """Time for one request to the API server."""


class Lease(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Leader election: only the replica that holds the Lease posts events and requeues pods; every replica serves the verbs."""

    enabled: bool = True
    """false: for a single replica that has no rights to Leases."""
    namespace: str = ""
    """Empty: the namespace of the extender's pod, or fabricwise-system outside a pod."""
    name: str = "fabricwise"
    duration_seconds: Annotated[float, Meta(ge=1)] = 15.0
    """A replica that does not renew for this time loses the Lease."""
    retry_seconds: Annotated[float, Meta(gt=0)] = 2.0
    """Time between two attempts to acquire or renew the Lease."""


class Health(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is done about devices that telemetry has excluded."""

    write_device_taints: bool = False
    """Publish a DeviceTaintRule for each such device that a ResourceSlice names, and remove it when the device recovers. Needs
    manifests/device-taints."""


class SlotGaugeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Gauges of how many more pods of 1, 2, 4 and 8 GPUs fit, per GPU product, and what the missing ones are lost to."""

    enabled: bool = True
    interval_seconds: Annotated[float, Meta(ge=30)] = 60.0
    """Least time between two counts. A count runs in a child process, and only if the cluster has changed."""
    most_products: Annotated[int, Meta(ge=1, le=100)] = 20
    """Products with gauges of their own, those with the most GPUs; all others are counted as "other"."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings."""

    resource: Annotated[str, Meta(min_length=1)] = "nvidia.com/gpu"
    """The extended resource that counts GPUs."""
    scoring: Scoring = msgspec.field(default_factory=Scoring)
    filtering: Filtering = Filtering()
    nodes: Nodes = Nodes()
    limits: Limits = Limits()
    decisions: DecisionFile = DecisionFile()
    server: Server = Server()
    kube: Kube = Kube()
    telemetry: Telemetry = Telemetry()
    requeue: RequeueSettings = RequeueSettings()
    assumed_pods: AssumedPodSettings = AssumedPodSettings()
    binding: Binding = Binding()
    lease: Lease = Lease()
    health: Health = Health()
    slot_gauges: SlotGaugeSettings = SlotGaugeSettings()
    scheduler_names: tuple[str, ...] = ()
    """Pods whose spec.schedulerName is not listed here count as load, but pass the filter unevaluated; empty: every pod is evaluated."""

    def is_foreign(self, scheduler_name: str | None) -> bool:
        """Return whether a pod of this spec.schedulerName (None: the default scheduler) belongs to a scheduler that is not listed."""
        return bool(self.scheduler_names) and (scheduler_name or "default-scheduler") not in self.scheduler_names


LEASE_RENEW_SHARE = 2 / 3
"""Share of the Lease's duration without renewal after which its holder stops leading (client-go's defaults: 10 of 15 s)."""
