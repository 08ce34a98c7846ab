"""What is scraped from a pod: the devices of a dcgm-exporter, or the serving engine of a GPU pod.

Exporters are found by label, engines by the usual prometheus.io annotations or by configured labels. An annotation can only cause a scrape
of its own pod: the host is the pod's address, and only known metrics are read from the answer.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

import msgspec

from extender.decision.request.kubernetes_objects import Pod

DCGM, ENGINE = "dcgm-exporter", "engine"

Selector = tuple[tuple[str, str], ...]
"""(label, value) pairs that a pod must all have."""

_PATH = re.compile(r"/[A-Za-z0-9._~/%?&=+:,;@!$*()-]*$")


class Target(msgspec.Struct, frozen=True):
    """One endpoint that is scraped."""

    kind: str
    """`DCGM` or `ENGINE`."""
    key: str
    """The pod's key."""
    pod: str
    """namespace/name."""
    node: str
    url: str


class TargetRules(msgspec.Struct, frozen=True):
    """The settings on what is scraped."""

    dcgm: tuple[Selector, ...] = ()
    dcgm_port: int = 9400
    dcgm_path: str = "/metrics"
    annotated_engines: bool = False
    engines: tuple[Selector, ...] = ()
    engine_port: int = 8000
    engine_path: str = "/metrics"


NO_TARGETS = TargetRules()


def selector(text: str) -> Selector:
    """Return the pairs of a label selector such as `app=x,tier=y`. Raise ValueError where it is malformed."""
    pairs = []
    for part in text.split(","):
        key, equals, value = part.strip().partition("=")
        if not equals or not key or value.startswith("="):
            raise ValueError(
                f"{text!r} is not a label selector: write key=value pairs with commas, such as app=nvidia-dcgm-exporter,tier=gpu"
            )
        pairs.append((key, value))
    return tuple(pairs)


def target_of(pod: Pod, has_gpus: bool, policy: TargetRules) -> Target | None:
    """Return what to scrape from a pod; None where there is nothing, or the pod has no address yet.

    `has_gpus`: whether the pod requests GPUs.
    """
    status, node = pod.status, pod.spec.node_name
    if status is None or not status.pod_ip or not node or status.phase in ("Succeeded", "Failed"):
        return None
    labels, annotations = pod.metadata.labels or {}, pod.metadata.annotations or {}
    if any(_matches(each, labels) for each in policy.dcgm):
        return _target(DCGM, pod, node, status.pod_ip, scheme="http", port=policy.dcgm_port, path=policy.dcgm_path)
    if not has_gpus:
        return None
    if policy.annotated_engines and annotations.get("prometheus.io/scrape") == "true":
        scheme, port = annotations.get("prometheus.io/scheme", "http"), annotations.get("prometheus.io/port", str(policy.engine_port))
        path = annotations.get("prometheus.io/path", "/metrics")
        if scheme in ("http", "https") and port.isdigit() and 0 < int(port) < 65536:
            return _target(ENGINE, pod, node, status.pod_ip, scheme=scheme, port=int(port), path=path)
        return None
    if any(_matches(each, labels) for each in policy.engines):
        return _target(ENGINE, pod, node, status.pod_ip, scheme="http", port=policy.engine_port, path=policy.engine_path)
    return None


def _matches(pairs: Selector, labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in pairs)


def _target(kind: str, pod: Pod, node: str, address: str, *, scheme: str, port: int, path: str) -> Target | None:
    """Return the target; None where address or path are malformed."""
    try:
        host = ipaddress.ip_address(address)
    except ValueError:
        return None
    path = path if path.startswith("/") else f"/{path}"
    if not _PATH.match(path):
        return None
    name = f"{pod.metadata.namespace or 'default'}/{pod.metadata.name}"
    return Target(kind, pod.key, name, node, f"{scheme}://{f'[{host}]' if host.version == 6 else host}:{port}{path}")
