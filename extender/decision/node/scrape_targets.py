"""What is to be scraped of a pod: a dcgm-exporter's devices, or a GPU pod's serving engine. Pure.

Exporters are found by label. Engines by the usual prometheus.io annotations, or by configured labels; whoever writes such an
annotation has his own pod's address asked, nothing else: host and port are the pod's, the answer is read for known metrics only.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

import msgspec

from extender.decision.request.kubernetes_objects import Pod

DCGM, ENGINE = "dcgm-exporter", "engine"

Selector = tuple[tuple[str, str], ...]
_PATH = re.compile(r"/[A-Za-z0-9._~/%?&=+:,;@!$*()-]*$")


class Target(msgspec.Struct, frozen=True):
    """One thing to ask."""

    kind: str
    key: str
    """The pod's key."""
    pod: str
    """namespace/name."""
    node: str
    url: str


class TargetRules(msgspec.Struct, frozen=True):
    """The operator's word on what is scraped."""

    dcgm: tuple[Selector, ...] = ()
    dcgm_port: int = 9400
    dcgm_path: str = "/metrics"
    annotated_engines: bool = False
    engines: tuple[Selector, ...] = ()
    engine_port: int = 8000
    engine_path: str = "/metrics"


NO_TARGETS = TargetRules()


def selector(text: str) -> Selector:
    """`app=x,tier=y` -> pairs. Raises ValueError."""
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
    """What to ask of a pod; None where there is nothing, or no address yet."""
    status, node = pod.status, pod.spec.node_name
    if status is None or not status.pod_ip or not node or status.phase in ("Succeeded", "Failed"):
        return None
    labels, annotations = pod.metadata.labels or {}, pod.metadata.annotations or {}
    if any(_fits(one, labels) for one in policy.dcgm):
        return _target(DCGM, pod, node, status.pod_ip, "http", policy.dcgm_port, policy.dcgm_path)
    if not has_gpus:
        return None
    if policy.annotated_engines and annotations.get("prometheus.io/scrape") == "true":
        scheme, port = annotations.get("prometheus.io/scheme", "http"), annotations.get("prometheus.io/port", str(policy.engine_port))
        path = annotations.get("prometheus.io/path", "/metrics")
        if scheme in ("http", "https") and port.isdigit() and 0 < int(port) < 65536:
            return _target(ENGINE, pod, node, status.pod_ip, scheme, int(port), path)
        return None
    if any(_fits(one, labels) for one in policy.engines):
        return _target(ENGINE, pod, node, status.pod_ip, "http", policy.engine_port, policy.engine_path)
    return None


def _fits(one: Selector, labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in one)


def _target(kind: str, pod: Pod, node: str, address: str, scheme: str, port: int, path: str) -> Target | None:
    try:
        host = ipaddress.ip_address(address)
    except ValueError:
        return None
    path = path if path.startswith("/") else f"/{path}"
    if not _PATH.match(path):
        return None
    name = f"{pod.metadata.namespace or 'default'}/{pod.metadata.name}"
    return Target(kind, pod.key, name, node, f"{scheme}://{f'[{host}]' if host.version == 6 else host}:{port}{path}")
