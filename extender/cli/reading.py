"""`--cluster kube|simulated|FILE` -> one reading of the cluster, for a command that answers one question and ends.

Nothing here can write, lead or post events, and pyproject.toml keeps the adapters that can out of its imports. `sources` feeds a
server, which does all of that.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from extender.cli.rendering.output import print_warning
from extender.decision.state.changes import Change, ClassesSeen, ClockTicked
from extender.decision.state.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from extender.errors import ClusterSourceError
from extender.kube.api_client import api_client, cluster_name
from extender.kube.api_requests import KubeObjects
from extender.kube.listing import Collect, Listing, Progress, list_once
from extender.server.from_settings import node_defaults
from extender.settings import Settings
from extender.sources.class_file import load_classes
from extender.sources.dump import STANDARD_INPUT, read_dump
from extender.sources.simulated import simulated

REQUEST_SECONDS = 30.0
"""For one page of a list."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A cluster as it was read once."""

    cluster: str
    """Which one, for people."""
    snapshot: Snapshot
    unread: Mapping[str, str] = field(default_factory=dict)
    """Kind -> why it could not be read, or not all of it."""

    @property
    def warnings(self) -> list[str]:
        """A sentence per kind that was not read in full, with what that means for the answer."""
        return [f"{why}. {CONSEQUENCES[kind]}" for kind, why in self.unread.items()]


CONSEQUENCES = {
    "nodes": "The answer leaves these nodes out",
    "pods": "GPUs that unread pods hold are counted as free",
    "topologies": "Nodes are judged by their labels, without what their agents publish",
}
"""Kind -> what is missing from an answer without it."""


def read_cluster(
    cluster: str, settings: Settings, kubeconfig: str | None = None, classes: Path | None = None, collect: Collect | None = None
) -> Reading:
    """One listing of the cluster, folded; `collect` is called with every manifest that is read.

    Raises ClusterSourceError, or SettingsError for a bad file of workload classes.
    """
    name, listing = _listing(cluster, settings, kubeconfig, collect)
    changes: list[Change] = [*listing.listed]
    if cluster == "kube":  # a status may be too old to count; in a file or a simulation time does not pass
        changes.append(ClockTicked(time.time(), time.monotonic()))
    if classes is not None:
        changes.append(ClassesSeen(load_classes(classes)))
    return Reading(name, fold_all(Snapshot(), changes, settings.resource, node_defaults(settings)), listing.unread)


def kube_objects(kubeconfig: str | None) -> tuple[KubeObjects, str]:
    """The configured API server, and which cluster that is, for people. Raises ClusterSourceError."""
    client = api_client(kubeconfig)
    return KubeObjects(client, REQUEST_SECONDS), cluster_name(client, kubeconfig)


def _listing(
    cluster: str, settings: Settings, kubeconfig: str | None, collect: Collect | None = None, progress: Progress | None = None
) -> tuple[str, Listing]:
    if cluster == "kube":
        api, named = kube_objects(kubeconfig)
        return named, list_once(api, progress, collect)
    if cluster == "simulated":
        return "the simulated cluster", Listing(tuple(simulated(settings.resource).listing()))
    path = Path(cluster)
    if cluster != STANDARD_INPUT and not path.exists():
        raise ClusterSourceError(f"--cluster {cluster!r} is neither `kube` nor `simulated` nor a file; make one with: fabricwise dump FILE")
    return "the dump on standard input" if cluster == STANDARD_INPUT else f"the dump {path}", read_dump(path, collect)


def with_source(answer: dict[str, Any], reading: Reading) -> dict[str, Any]:
    """An answer with the cluster it is about, and warnings of what could not be read there; those go to standard error as well."""
    for warning in reading.warnings:
        print_warning(warning)
    return {**answer, "cluster": reading.cluster, "unread": reading.warnings}
