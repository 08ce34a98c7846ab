"""Every setting: its unit, its default, what it does. Read once, frozen; `config/extender.yaml` shows them all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from extender.documents import load_documents
from extender.errors import SettingsError
from extender.telemetry.xids import DEFAULT_FATAL

Share = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[float, Meta(ge=0, le=1000)]
Port = Annotated[int, Meta(ge=1, le=65535)]


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weight of each scorer; their ratio counts. Links lead by far: no packing wish may cost a tenth of bandwidth."""

    link: Weight = 0.90
    fragmentation: Weight = 0.07
    memory: Weight = 0.03
    pressure: Weight = 0.10


class Scoring(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How nodes are scored."""

    weights: Weights = Weights()
    unknown_topology_value: Share = 0.02
    """Value of link and fragmentation where topology is unknown: below any known link, above nothing."""
    unknown_memory_value: Share = 0.5
    """Value of memory where the pod states no need or the node no size."""
    unknown_telemetry_value: Share = 0.5
    """Value of pressure where nothing fresh is known of the devices: neither calm nor pressed."""
    messages: Literal["decode", "prefill", "mixed"] = "mixed"
    """Which all-reduce sizes count for a pod that does not say (annotation fabricwise.dev/message-size)."""
    size_mix: dict[Annotated[int, Meta(ge=1, le=16)], Weight] | None = None
    """How often later pods ask for so many GPUs: what fragmentation is measured against. None: learnt from the pods that run."""


class Filtering(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is refused beyond what cannot fit."""

    refuse_hazards: bool = False
    """Refuse a node on which the device plugin may crash over the pod's request; else such a node only carries a note."""
    tolerated_chance: Share = 0.0
    """Chance of getting a fenced or occupied device up to which a node is still taken: the device plugin chooses, not we."""
    usable_memory_share: Share = 0.85
    """Of a GPU's memory, what must be free on it for a pod that states no lower need (serving engines take most of a card)."""
    enforce_inferred: bool = False
    """Refuse GPUs with less memory than a pod's model is reckoned to need (annotation fabricwise.dev/model); else that is a score."""
    telemetry_required_for: tuple[str, ...] = ()
    """Workload classes (annotation fabricwise.dev/workload-class) whose pods go only where telemetry knows the devices; "*": all."""


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
    body_seconds: Annotated[float, Meta(gt=0)] = 10.0
    """A request body that takes longer to arrive is answered with an error."""


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """TLS of the server. Files are read again when they change. All empty: plain HTTP."""

    cert_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""
    """Clients must show a certificate of this CA; empty: anybody may ask."""


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP server."""

    keep_alive_seconds: Annotated[int, Meta(ge=1)] = 120
    """Longer than the 90 s after which kube-scheduler's client drops an idle connection."""
    log_level: Literal["critical", "error", "warning", "info", "debug"] = "info"
    tls: Tls = Tls()
    health_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """Where /healthz, /readyz and /metrics are served over plain HTTP too, for the kubelet and Prometheus, who have no certificate; 0:
    nowhere."""


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
    max_state_age_seconds: Annotated[float, Meta(ge=0)] = 300.0
    """While the API server cannot be reached decisions go on from the last state; once that is older, filter answers with an error."""


class Dcgm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """dcgm-exporter pods, scraped directly."""

    selectors: tuple[str, ...] = ("app=nvidia-dcgm-exporter", "app.kubernetes.io/name=dcgm-exporter")
    """Label selectors (key=value, comma = and); a pod that fits one is scraped. The GPU Operator's labels, and the Helm chart's."""
    port: Port = 9400
    path: str = "/metrics"


class Prometheus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One Prometheus server that scrapes the exporters, asked by instant queries."""

    url: str = ""
    """Such as http://prometheus.monitoring:9090."""
    bearer_token_file: str = ""
    """Read anew for each round; empty: no token."""
    selector: str = ""
    """Further label matchers of every query, such as cluster="a"."""


class Engines(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Serving engines in GPU pods."""

    enabled: bool = True
    """Scrape GPU pods that carry prometheus.io/scrape: "true" (with prometheus.io/port, path and scheme)."""
    selectors: tuple[str, ...] = ()
    """Label selectors of further GPU pods to scrape, at `port` and `path`."""
    port: Port = 8000
    path: str = "/metrics"


class Telemetry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Live pressure and health of devices."""

    source: Literal["auto", "off", "dcgm-exporter", "prometheus"] = "auto"
    """auto: dcgm-exporter with --cluster kube, else off."""
    interval_seconds: Annotated[float, Meta(ge=0.2)] = 15.0
    timeout_seconds: Annotated[float, Meta(gt=0)] = 5.0
    """For one target, from connecting to the last byte."""
    concurrency: Annotated[int, Meta(ge=1, le=1000)] = 64
    """Targets asked at the same time."""
    max_body_bytes: Annotated[int, Meta(ge=1024)] = 16 << 20
    """A longer exposition is not read."""
    max_age_seconds: Annotated[float, Meta(gt=0)] = 60.0
    """An older value is unknown."""
    half_life_seconds: Annotated[float, Meta(gt=0)] = 30.0
    """Of the running mean of a gauge."""
    jump_share: Share = 0.10
    """A change of free memory by so much of the card is taken at once; less is smoothed."""
    hold_share: Share = 0.08
    """Free memory as decisions see it moves only when its mean has moved by so much of the card."""
    restless_seconds: Annotated[float, Meta(ge=0)] = 300.0
    """A device whose memory jumped to and fro three times within so long is taken at its fullest."""
    quiet_seconds: Annotated[float, Meta(ge=0)] = 600.0
    """A fenced device is free again when no reading has shown an error for so long."""
    fatal_xids: tuple[Annotated[int, Meta(ge=1)], ...] = DEFAULT_FATAL
    """XIDs after which a device is fenced."""
    dcgm: Dcgm = Dcgm()
    prometheus: Prometheus = Prometheus()
    engines: Engines = Engines()


class Waking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Waking pending pods when telemetry or topology has cured their rejection, of which kube-scheduler does not hear."""

    enabled: bool = True
    max_per_second: Annotated[float, Meta(gt=0, le=1000)] = 5.0
    """Pods patched, over all."""
    pod_pause_seconds: Annotated[float, Meta(ge=0)] = 5.0
    """Between two patches of the same pod; doubled each time it is rejected all the same."""
    max_pods: Annotated[int, Meta(ge=1)] = 5000
    """Rejected pods remembered; the oldest are forgotten first."""


class Holding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Reckoning with pods that are decided and not yet visible on the watch."""

    ttl_seconds: Annotated[float, Meta(ge=0)] = 30.0
    """A hold whose pod has not been seen bound by then ends; 0: no holds."""


class Binding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The bind verb, for a scheduler whose configuration names it (bindVerb: bind)."""

    concurrency: Annotated[int, Meta(ge=1, le=1000)] = 32
    """Bindings in flight; more wait their turn."""
    timeout_seconds: Annotated[float, Meta(gt=0)] = 5.0
    """For one request to the API server."""


class Lease(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must be done once (events, waking pods) is done by the replica that has the Lease; every replica answers the verbs."""

    enabled: bool = True
    """false: for a single replica without rights to Leases."""
    namespace: str = ""
    """Empty: that of the extender's own pod, or fabricwise-system where it is none."""
    name: str = "fabricwise"
    duration_seconds: Annotated[float, Meta(ge=1)] = 15.0
    """A replica that has not renewed for so long has lost it."""
    retry_seconds: Annotated[float, Meta(gt=0)] = 2.0
    """Between two attempts to take or renew it."""


class Health(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is done about devices that telemetry has excluded."""

    write_device_taints: bool = False
    """Publish a DeviceTaintRule for each such device that a ResourceSlice names, and remove it when the device recovers. Needs
    manifests/device-taints."""


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
    telemetry: Telemetry = Telemetry()
    waking: Waking = Waking()
    holds: Holding = Holding()
    binding: Binding = Binding()
    lease: Lease = Lease()
    health: Health = Health()
    scheduler_names: tuple[str, ...] = ()
    """Pods of other schedulers (spec.schedulerName) count as load but are passed through unjudged; empty: all that we are asked about
    are judged."""

    def is_foreign(self, scheduler_name: str | None) -> bool:
        """Whether another scheduler answers for a pod of that schedulerName."""
        return bool(self.scheduler_names) and (scheduler_name or "default-scheduler") not in self.scheduler_names


LEASE_RENEW_SHARE = 2 / 3
"""Of the Lease's duration: a holder that could not renew for so long stops leading (client-go: 10 of 15 s)."""
_RETRY_JITTER = 1.2
"""client-go refuses a renewal deadline below its retry period times this."""


def _lease_retry(settings: Settings) -> str | None:
    lease = settings.lease
    longest = lease.duration_seconds * LEASE_RENEW_SHARE / _RETRY_JITTER
    if not lease.enabled or lease.retry_seconds < longest:
        return None
    return (
        f"lease.retry_seconds ({lease.retry_seconds:g}) must be below {longest:g}, which lease.duration_seconds "
        f"({lease.duration_seconds:g}) allows: the Lease would be lost between two renewals"
    )


def _silence_on_a_watch(settings: Settings) -> str | None:
    kube = settings.kube
    if kube.read_timeout_seconds > kube.watch_seconds:
        return None
    return (
        f"kube.read_timeout_seconds ({kube.read_timeout_seconds:g}) must be above kube.watch_seconds ({kube.watch_seconds}): "
        "a quiet watch would be taken for dead before it ends"
    )


def _age_of_telemetry(settings: Settings) -> str | None:
    said = settings.telemetry
    if said.source == "off" or said.max_age_seconds > said.interval_seconds:
        return None
    return (
        f"telemetry.max_age_seconds ({said.max_age_seconds:g}) must be above telemetry.interval_seconds ({said.interval_seconds:g}): "
        "every value would be too old before the next one comes"
    )


def _jump_of_memory(settings: Settings) -> str | None:
    said = settings.telemetry
    if said.jump_share >= said.hold_share:
        return None
    return (
        f"telemetry.jump_share ({said.jump_share:g}) must be at least telemetry.hold_share ({said.hold_share:g}): "
        "a change that is taken at once would be held back"
    )


def _turns_of_memory(settings: Settings) -> str | None:
    said = settings.telemetry
    shortest = 2 * said.interval_seconds
    if said.source == "off" or said.restless_seconds == 0 or said.restless_seconds > shortest:
        return None
    return (
        f"telemetry.restless_seconds ({said.restless_seconds:g}) must be 0 or above {shortest:g}, two times telemetry.interval_seconds "
        f"({said.interval_seconds:g}): three jumps could never be seen within it"
    )


def _address_of_prometheus(settings: Settings) -> str | None:
    said = settings.telemetry
    if said.source != "prometheus" or said.prometheus.url:
        return None
    return "telemetry.source is prometheus but telemetry.prometheus.url is empty"


def _telemetry_that_is_required(settings: Settings) -> str | None:
    if settings.telemetry.source != "off" or not settings.filtering.telemetry_required_for:
        return None
    return "filtering.telemetry_required_for names workload classes, but telemetry.source is off: their pods would fit nowhere"


def _end_of_a_hold(settings: Settings) -> str | None:
    holds, binding = settings.holds, settings.binding
    if holds.ttl_seconds == 0 or holds.ttl_seconds > binding.timeout_seconds:
        return None
    return (
        f"holds.ttl_seconds ({holds.ttl_seconds:g}) must be 0 or above binding.timeout_seconds ({binding.timeout_seconds:g}): "
        "a hold would end while its binding is still being written"
    )


def _weights(settings: Settings) -> str | None:
    if any(msgspec.structs.astuple(settings.scoring.weights)):
        return None
    names = [f"scoring.weights.{name}" for name in Weights.__struct_fields__]
    return f"{', '.join(names[:-1])} and {names[-1]} are all 0: no node could be preferred; one must be above 0"


def _size_mix(settings: Settings) -> str | None:
    mix = settings.scoring.size_mix
    if mix is None or any(mix.values()):
        return None
    return "scoring.size_mix weighs no size; give one of its sizes a weight above 0, or null to learn them from the pods that run"


def _certificates(settings: Settings) -> str | None:
    tls = settings.server.tls
    if tls == Tls() or (tls.cert_file and tls.key_file):
        return None
    return "server.tls needs cert_file and key_file, both, for TLS and for client_ca_file"


Contradiction = Callable[[Settings], str | None]
CONTRADICTIONS: tuple[Contradiction, ...] = (
    _lease_retry, _silence_on_a_watch, _age_of_telemetry, _jump_of_memory, _turns_of_memory, _address_of_prometheus,
    _telemetry_that_is_required, _end_of_a_hold, _weights, _size_mix, _certificates,
)  # fmt: skip
"""Settings that make one another ineffective: settings -> what is wrong, naming each of them; None where nothing is."""


def check_settings(settings: Settings, where: str) -> None:
    """Raises SettingsError naming `where` and every contradiction."""
    found = [text for text in (contradiction(settings) for contradiction in CONTRADICTIONS) if text is not None]
    if found:
        raise SettingsError(f"{where}: {'; '.join(found)}")


def _with_words(document: Any) -> Any:
    """The document with telemetry's source `off` as the word: YAML 1.1 reads it as false."""
    telemetry = document.get("telemetry") if isinstance(document, dict) else None
    if isinstance(telemetry, dict) and telemetry.get("source") is False:
        return {**document, "telemetry": {**telemetry, "source": "off"}}
    return document


def load_settings(path: Path | None) -> Settings:
    """Defaults, overridden by a YAML file. Raises SettingsError or DocumentError naming the file, and the key or contradicting keys."""
    if path is None:
        return Settings()
    try:
        documents = load_documents(path.read_bytes(), f"settings file {path}")
    except OSError as error:
        raise SettingsError(
            f"settings file {path}: {error.strerror or error}: give a file that can be read, or leave out --config"
        ) from error
    if len(documents) > 1:
        raise SettingsError(f"settings file {path}: expected one document, found {len(documents)}: remove the lines with ---")
    try:
        settings = msgspec.convert(_with_words(documents[0]) if documents else {}, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"settings file {path}: {error}. config/extender.yaml has every setting with its default") from error
    check_settings(settings, f"settings file {path}")
    return settings
