"""What a pod asks for by ResourceClaims, independent of any node; `dra.claim_requests` reads it from the claims and classes."""

from __future__ import annotations

from dataclasses import dataclass

MOST_RESULTS = 32
"""Devices of one claim (AllocationResultsMaxSize). Source: k8s.io/api v0.36.3 `resource/v1/types.go`."""


@dataclass(frozen=True, slots=True)
class RequestSpec:
    """One request of a claim, or one alternative of a prioritized list."""

    name: str
    """claim/request, for explanations."""
    device_class: str
    """Name of its DeviceClass."""
    expressions: tuple[str, ...] = ()
    """CEL selectors of the class and of the request."""
    count: int | None = 1
    """Devices; None: all that match."""
    tolerations: tuple[tuple[str, str, str, str], ...] = ()
    """(key, operator, value, effect)."""
    group: int = 0
    """Claims that one container uses together have the same group."""
    alike: tuple[tuple[int, str], ...] = ()
    """(number of the constraint, attribute) of the `matchAttribute` constraints on it."""
    beyond: str | None = None
    """Why no prediction is made of it; None where one is."""
    claim: str | None = None
    """namespace/name of its ResourceClaim; None where that does not exist yet, as that of extended resources."""


@dataclass(frozen=True, slots=True)
class PodClaims:
    """All requests of a pod's claims that are not allocated yet."""

    requests: tuple[tuple[RequestSpec, ...], ...] = ()
    """The alternatives of each request, in order of preference; most requests have one."""
    unknown: str | None = None
    """Which claim is not known, and why; None where all are known."""
    named: frozenset[str] = frozenset()
    """namespace/name of all claims that the pod names, allocated ones included."""
    is_lagging: bool = False
    """Whether kube-scheduler must know the claim, and the watch of claims has not shown it yet."""

    @property
    def most_together(self) -> int:
        """The most devices that containers which share claims request; a request for all devices counts as `MOST_RESULTS`."""
        sizes: dict[int, int] = {}
        for alternatives in self.requests:
            most = max((MOST_RESULTS if spec.count is None else spec.count for spec in alternatives), default=0)
            sizes[alternatives[0].group] = sizes.get(alternatives[0].group, 0) + most
        return max(sizes.values(), default=0)
