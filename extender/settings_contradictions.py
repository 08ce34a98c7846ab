"""CONTRADICTIONS: pairs of settings that make each other ineffective. Pure: a rule is one small function and one row of the table."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from extender.errors import SettingsError
from extender.settings import LEASE_RENEW_SHARE, Settings, Tls, Weights

_RETRY_JITTER = 1.2
"""client-go's JitterFactor (tools/leaderelection): it refuses a renew deadline below the retry period times this factor."""


def _lease_retry(settings: Settings) -> str | None:
    lease = settings.lease
    longest_seconds = lease.duration_seconds * LEASE_RENEW_SHARE / _RETRY_JITTER
    if not lease.enabled or lease.retry_seconds < longest_seconds:
        return None
    return (
        f"lease.retry_seconds ({lease.retry_seconds:g}) must be below {longest_seconds:g}, which lease.duration_seconds "
        f"({lease.duration_seconds:g}) allows: the Lease would expire between two renewals"
    )


def _watch_read_timeout(settings: Settings) -> str | None:
    kube = settings.kube
    if kube.read_timeout_seconds > kube.watch_seconds:
        return None
    return (
        f"kube.read_timeout_seconds ({kube.read_timeout_seconds:g}) must be above kube.watch_seconds ({kube.watch_seconds}): "
        "the client would close a watch without events before the watch ends"
    )


def _telemetry_age(settings: Settings) -> str | None:
    telemetry = settings.telemetry
    if telemetry.source == "off" or telemetry.max_age_seconds > telemetry.interval_seconds:
        return None
    return (
        f"telemetry.max_age_seconds ({telemetry.max_age_seconds:g}) must be above telemetry.interval_seconds "
        f"({telemetry.interval_seconds:g}): every value would be too old before the next scrape"
    )


def _memory_jump(settings: Settings) -> str | None:
    telemetry = settings.telemetry
    if telemetry.jump_share >= telemetry.hold_share:
        return None
    return (
        f"telemetry.jump_share ({telemetry.jump_share:g}) must be at least telemetry.hold_share ({telemetry.hold_share:g}): "
        "a change that is not smoothed would still be ignored as too small"
    )


def _restless_memory(settings: Settings) -> str | None:
    telemetry = settings.telemetry
    shortest_seconds = 2 * telemetry.interval_seconds
    if telemetry.source == "off" or telemetry.restless_seconds == 0 or telemetry.restless_seconds > shortest_seconds:
        return None
    return (
        f"telemetry.restless_seconds ({telemetry.restless_seconds:g}) must be 0 or above {shortest_seconds:g}, two times "
        f"telemetry.interval_seconds ({telemetry.interval_seconds:g}): three jumps cannot occur within a shorter time"
    )


def _prometheus_address(settings: Settings) -> str | None:
    telemetry = settings.telemetry
    if telemetry.source != "prometheus" or telemetry.prometheus.url:
        return None
    return "telemetry.source is prometheus but telemetry.prometheus.url is empty"


def _required_telemetry(settings: Settings) -> str | None:
    if settings.telemetry.source != "off" or not settings.filtering.telemetry_required_for:
        return None
    return "filtering.telemetry_required_for names workload classes, but telemetry.source is off: no node would be feasible for their pods"


def _assumed_pod_ttl(settings: Settings) -> str | None:
    assumed_pods, binding = settings.assumed_pods, settings.binding
    if assumed_pods.ttl_seconds == 0 or assumed_pods.ttl_seconds > binding.timeout_seconds:
        return None
    return (
        f"assumed_pods.ttl_seconds ({assumed_pods.ttl_seconds:g}) must be 0 or above binding.timeout_seconds "
        f"({binding.timeout_seconds:g}): an assumed pod would expire while its binding is still being written"
    )


def _weights(settings: Settings) -> str | None:
    if any(msgspec.structs.astuple(settings.scoring.weights)):
        return None
    names = [f"scoring.weights.{name}" for name in Weights.__struct_fields__]
    return f"{', '.join(names[:-1])} and {names[-1]} are all 0: all nodes would have the same score; set at least one above 0"


def _size_mix(settings: Settings) -> str | None:
    size_mix = settings.scoring.size_mix
    if size_mix is None or any(size_mix.values()):
        return None
    return "every weight in scoring.size_mix is 0; set at least one above 0, or use null to derive the weights from the running pods"


def _certificates(settings: Settings) -> str | None:
    tls = settings.server.tls
    if tls == Tls() or (tls.cert_file and tls.key_file):
        return None
    return "server.tls needs both cert_file and key_file, for TLS and for client_ca_file"


def _ports(settings: Settings) -> str | None:
    server = settings.server
    if not server.debug_port or server.debug_port != server.health_port:
        return None
    return f"server.debug_port and server.health_port are both {server.debug_port}; set one of them to another port"


_HOST_PATTERN = re.compile(r"(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?\.?")
"""A name of ASCII labels, or such a name after `*.`."""


def _debug_hosts(settings: Settings) -> str | None:
    wrong = [host for host in settings.server.debug_hosts if len(host) > 255 or not _HOST_PATTERN.fullmatch(host)]
    if not wrong:
        return None
    return (
        f"server.debug_hosts: {wrong[0][:100]!r} is not a host name: write a name such as fabricwise.example.com, or *.example.com for all "
        "names below it, without scheme, port and path (a name with other than ASCII characters as its xn-- form)"
    )


Contradiction = Callable[[Settings], str | None]
CONTRADICTIONS: tuple[Contradiction, ...] = (
    _lease_retry,
    _watch_read_timeout,
    _telemetry_age,
    _memory_jump,
    _restless_memory,
    _prometheus_address,
    _required_telemetry,
    _assumed_pod_ttl,
    _weights,
    _size_mix,
    _certificates,
    _ports,
    _debug_hosts,
)
"""Each row returns a sentence that names the contradicting settings, or None where they fit together."""


def check_settings(settings: Settings, where: str) -> None:
    """Raise SettingsError with `where` and every contradiction between the settings."""
    contradictions = [text for text in (contradiction(settings) for contradiction in CONTRADICTIONS) if text is not None]
    if contradictions:
        raise SettingsError(f"{where}: {'; '.join(contradictions)}")
