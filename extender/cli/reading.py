"""`--cluster kube|simulated|FILE` -> one reading of the cluster, for a command that answers one question and ends.

Nothing here can write to the cluster: import-linter forbids imports of the modules that can (see pyproject.toml). The server uses
`extender.server.cluster_source` instead.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from extender.cli.rendering.console.output import print_warning
from extender.cli.rendering.console.progress import progress
from extender.decision.state.changes import Change, ClassesSeen, ClockTicked
from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from extender.errors import ClusterSourceError
from extender.kube.api_client import api_client, cluster_name
from extender.kube.api_requests import ApiRequests
from extender.kube.listing import Collect, Listing, Progress, list_once
from extender.server.from_settings import node_defaults
from extender.settings import Settings
from extender.sources.class_file import load_classes
from extender.sources.dump import STANDARD_INPUT, read_dump
from extender.sources.simulated import simulated

REQUEST_SECONDS = 30.0
"""Time for one page of a list."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The state of a cluster at one time."""

    cluster: str
    """Description of the cluster, for people."""
    snapshot: Snapshot
    unread: Mapping[str, str] = field(default_factory=dict)
    """Kind -> why it, or a part of it, could not be read."""

    @property
    def warnings(self) -> list[str]:
        """Return a sentence per kind that was not read completely, with the consequence for the answer."""
        return [f"{why}. {CONSEQUENCES[kind]}" for kind, why in self.unread.items()]


CONSEQUENCES = {
    "nodes": "The answer leaves these nodes out",
    "pods": "GPUs of unread pods are counted as free",
    "topologies": "Nodes are evaluated by their labels, without what their agents publish",
    "resourceslices": "GPUs that Dynamic Resource Allocation serves are not seen",
    "deviceclasses": "GPUs that Dynamic Resource Allocation serves are not seen",
    "resourceclaims": "GPUs of unread claims are counted as free",
    "resourceclaimtemplates": "Pods whose claims come from an unread template are not ranked",
    "devicetaintrules": "GPUs that an unread rule taints are counted as usable",
}
"""Kind -> the consequence for an answer if the kind is not read completely."""


def read_cluster(
    cluster: str,
    settings: Settings,
    kubeconfig: str | None = None,
    classes: Path | None = None,
    collect: Collect | None = None,
    context: str | None = None,
) -> Reading:
    """Read the cluster once; `collect` is called with every manifest that is read. `context`: of the kubeconfig, None: its current one.

    Raises ClusterSourceError, or SettingsError for an invalid file of workload classes.
    """
    with progress(f"reading {'the cluster' if cluster == 'kube' else cluster}") as shown:
        name, listing = _listing(cluster, settings, kubeconfig, context, collect, shown.listed)
    changes: list[Change] = [*listing.listed, *_clock(cluster)]
    if classes is not None:
        changes.append(ClassesSeen(load_classes(classes)))
    return Reading(name, fold_all(Snapshot(), changes, settings.resource, node_defaults(settings)), listing.unread)


def changes_of(cluster: str, settings: Settings, kubeconfig: str | None = None, context: str | None = None) -> list[Change]:
    """Return the whole cluster as changes, for a state that is read again and again. Raises ClusterSourceError."""
    _, listing = _listing(cluster, settings, kubeconfig, context)
    return [*listing.listed, *_clock(cluster)]


def _clock(cluster: str) -> list[Change]:
    """Return the current time where time passes: a status can be too old to count; the states of files and simulations have no age."""
    return [ClockTicked(time.time(), time.monotonic())] if cluster == "kube" else []


def kube_objects(kubeconfig: str | None, context: str | None = None) -> tuple[ApiRequests, str]:
    """Return the configured API server and its description for people. Raises ClusterSourceError."""
    client = api_client(kubeconfig, context)
    return ApiRequests(client, REQUEST_SECONDS), cluster_name(client, kubeconfig, context)


def _listing(
    cluster: str,
    settings: Settings,
    kubeconfig: str | None,
    context: str | None,
    collect: Collect | None = None,
    progress: Progress | None = None,
) -> tuple[str, Listing]:
    if cluster == "kube":
        api, named = kube_objects(kubeconfig, context)
        return named, list_once(api, progress, collect)
    if cluster == "simulated":
        return "the simulated cluster", Listing(tuple(simulated(settings.resource).listing()))
    path = Path(cluster)
    if cluster != STANDARD_INPUT and not path.exists():
        raise ClusterSourceError(f"--cluster {cluster!r} is neither `kube` nor `simulated` nor a file; make one with: fabricwise dump FILE")
    return "the dump on standard input" if cluster == STANDARD_INPUT else f"the dump {path}", read_dump(path, collect)


def with_source(answer: dict[str, Any], reading: Reading) -> dict[str, Any]:
    """Return an answer with the fields `cluster` and `unread`, its warnings, which are also printed to standard error."""
    for warning in reading.warnings:
        print_warning(warning)
    return {**answer, "cluster": reading.cluster, "unread": reading.warnings}
