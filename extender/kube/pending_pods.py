"""The manifests of the pods that wait for a node, read from an API server on demand. It cannot write."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from extender.kube.listing import ListApi, items_of, refusal
from extender.kube.objects.resources import Resource
from extender.scheduling.ports import PendingManifests
from topology.agent.publisher import ApiError

PENDING = Resource("Pod", "pods", "/api/v1/pods", "spec.nodeName=,status.phase=Pending")
MOST_PODS = 10_000
"""Waiting pods that are read for one answer."""
SECONDS = 5.0
"""Time for all pages of one answer."""


class KubePendingPods:
    """Implements `extender.scheduling.ports.PendingReader` with `list` on pods."""

    def __init__(self, api: ListApi, clock: Callable[[], float] = time.monotonic) -> None:
        self._api, self._clock = api, clock

    def read(self) -> PendingManifests:
        """Return the manifests, as many as can be read in time."""
        until_seconds = self._clock() + SECONDS
        found: list[Any] = []
        try:
            for manifest in items_of(self._api, PENDING):
                if len(found) >= MOST_PODS or self._clock() >= until_seconds:
                    return PendingManifests(tuple(found), f"only {len(found)} waiting pods were read in time")
                found.append(manifest)
        except ApiError as error:
            return PendingManifests(tuple(found), refusal(PENDING, error))
        return PendingManifests(tuple(found))
