"""The manifests of some pods, of the groups that restart with them and of all disruption budgets, read on demand. It cannot write."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import msgspec

from extender.decision.disruption.disruption_facts import MAY_BE_EXCEEDED
from extender.decision.disruption.restart_groups import RestartGroup, restart_group_of
from extender.decision.request.kubernetes_objects import Meta
from extender.kube.listing import ListApi, items_of, refusal
from extender.kube.objects.resources import BUDGET_RESOURCE
from extender.scheduling.ports import DisruptionManifests, NamedPod
from topology.agent.publisher import ApiError

MOST_PODS = 100
"""Pods that are read for one answer."""
MOST_GROUPS = 20
"""Groups whose pods are listed for one answer."""
MOST_MEMBERS = 500
"""Pods of one group that are read; one request."""
MOST_BUDGETS = 10_000
SECONDS = 5.0
"""Time for all requests of one answer; nothing is known of pods that are not read by then."""


class KubeDisruptions:
    """Implements `extender.scheduling.ports.DisruptionReader` with `list` on pods and poddisruptionbudgets."""

    def __init__(self, api: ListApi, clock: Callable[[], float] = time.monotonic) -> None:
        self._api, self._clock = api, clock

    def read(self, pods: Sequence[NamedPod]) -> DisruptionManifests:
        """Return the manifests of these pods, one request each, of the pods of their groups, and all disruption budgets."""
        until_seconds = self._clock() + SECONDS
        unread: list[str] = []
        budgets = self._budgets(unread)
        found: list[Any] = []
        for number, pod in enumerate(pods):
            if number >= MOST_PODS or self._clock() >= until_seconds:
                unread.append(f"{len(pods) - number} of {len(pods)} pods were not read in time: nothing is known of their owners")
                break
            try:
                # A list with a field selector needs no right besides that of the watch.
                found += self._listed(pod.namespace, "fieldSelector", f"metadata.name={pod.name}", 1)[0]
            except ApiError as error:
                remedy = f"see kubectl auth can-i list pods -n {pod.namespace}"
                unread.append(f"pods cannot be read: {error}; {remedy}. Nothing is known of the owners of pods that were not read")
                break
        members, unlisted = self._members(found, until_seconds, unread)
        return DisruptionManifests((*found, *members), budgets, tuple(unread), unlisted)

    def _budgets(self, unread: list[str]) -> tuple[Any, ...] | None:
        try:
            return tuple(islice(items_of(self._api, BUDGET_RESOURCE), MOST_BUDGETS))
        except ApiError as error:
            unread.append(f"{refusal(BUDGET_RESOURCE, error)}. {MAY_BE_EXCEEDED}")
            return None

    def _members(self, pods: Sequence[Any], until_seconds: float, unread: list[str]) -> tuple[list[Any], frozenset[RestartGroup]]:
        """Return the pods of the groups that restart with these pods, and the groups of which not all pods were read."""
        groups = list(dict.fromkeys(group for pod in pods if (group := _group(pod)) is not None))
        members: list[Any] = []
        unlisted: set[RestartGroup] = set()
        for number, group in enumerate(groups):
            if number >= MOST_GROUPS or self._clock() >= until_seconds:
                unread.append(f"{len(groups) - number} of {len(groups)} groups that restart as a whole were not counted in time")
                unlisted |= set(groups[number:])
                break
            try:
                listed, is_complete = self._listed(group.namespace, "labelSelector", group.selector, MOST_MEMBERS)
            except ApiError as error:
                remedy = f"see kubectl auth can-i list pods -n {group.namespace}"
                unread.append(f"the pods of a group that restarts as a whole cannot be counted: {error}; {remedy}")
                unlisted |= set(groups[number:])
                break
            members += listed
            if not is_complete:
                unlisted.add(group)
        return members, frozenset(unlisted)

    def _listed(self, namespace: str, selector: str, value: str, most: int) -> tuple[list[Any], bool]:
        """Return the manifests of the pods that a selector selects, at most `most`, and whether those are all. Raises ApiError."""
        page = self._api.get(f"/api/v1/namespaces/{namespace}/pods", ((selector, value), ("limit", str(most))))
        items, metadata = page.get("items"), page.get("metadata")
        is_complete = not (isinstance(metadata, dict) and metadata.get("continue"))
        return items[:most] if isinstance(items, list) else [], is_complete


class _Labelled(msgspec.Struct, frozen=True):
    metadata: Meta


def _group(manifest: Any) -> RestartGroup | None:
    """Return the group that restarts with a pod; None where it has none, and for an invalid manifest, which `facts_of` reports."""
    try:
        return restart_group_of(msgspec.convert(manifest, _Labelled, strict=False).metadata)
    except msgspec.ValidationError:
        return None
