"""The manifests of some pods and of all disruption budgets, read from an API server on demand. It cannot write."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.slots.disruption_facts import MAY_BE_EXCEEDED
from extender.kube.listing import ListApi, items_of, refusal
from extender.kube.objects.resources import BUDGET_RESOURCE
from extender.scheduling.ports import DisruptionManifests
from topology.agent.publisher import ApiError

MOST_PODS = 100
"""Pods that are read for one answer."""
MOST_BUDGETS = 10_000
SECONDS = 5.0
"""Time for all requests of one answer; pods that are not read by then are not moved."""


class KubeDisruptions:
    """Implements `extender.scheduling.ports.DisruptionReader` with `list` on pods and poddisruptionbudgets."""

    def __init__(self, api: ListApi, clock: Callable[[], float] = time.monotonic) -> None:
        self._api, self._clock = api, clock

    def read(self, pods: Sequence[BoundPod]) -> DisruptionManifests:
        """Return the manifests of these pods, one request each, and all disruption budgets."""
        until_seconds = self._clock() + SECONDS
        unread: list[str] = []
        budgets = self._budgets(unread)
        found: list[Any] = []
        for number, pod in enumerate(pods):
            if number >= MOST_PODS or self._clock() >= until_seconds:
                unread.append(f"{len(pods) - number} of {len(pods)} pods were not read in time, and are not moved")
                break
            try:
                found += self._pod(pod)
            except ApiError as error:
                unread.append(f"pods cannot be read: {error}; a pod that was not read is not moved")
                break
        return DisruptionManifests(tuple(found), budgets, tuple(unread))

    def _budgets(self, unread: list[str]) -> tuple[Any, ...]:
        try:
            return tuple(islice(items_of(self._api, BUDGET_RESOURCE), MOST_BUDGETS))
        except ApiError as error:
            unread.append(f"{refusal(BUDGET_RESOURCE, error)}. {MAY_BE_EXCEEDED}")
            return ()

    def _pod(self, pod: BoundPod) -> list[Any]:
        """Return the manifest of a pod, or nothing if it is gone. Raises ApiError.

        A list with a field selector needs no right besides that of the watch.
        """
        path = f"/api/v1/namespaces/{pod.namespace}/pods"
        items = self._api.get(path, (("fieldSelector", f"metadata.name={pod.name}"), ("limit", "1"))).get("items")
        return items if isinstance(items, list) else []
