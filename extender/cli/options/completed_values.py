"""The values that a shell completes: clusters, contexts, nodes, namespaces, pods and machines.

A completion that fails or takes too long returns nothing, so that it does not disturb the command line that is being typed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import typer

from extender.cli.reading import read_cluster
from extender.kube.api_client import api_client, context_of, contexts
from extender.kube.api_requests import ApiRequests
from extender.kube.listing import items_of
from extender.kube.objects.resources import RESOURCES, Resource
from extender.settings import Settings
from extender.sources.simulated import DEMO_CLUSTER, cluster_machines
from topology.platforms import platforms

COMPLETION_SECONDS = 3.0
"""Time for one request of a completion to the API server."""
MOST_COMPLETIONS = 1_000
NAMESPACES = Resource("Namespace", "namespaces", "/api/v1/namespaces")
MOST_COMPLETION_BYTES = 64 << 20
"""A larger dump is not read for a completion."""


def complete_cluster(incomplete: str) -> list[str]:
    """Return `kube`, `simulated`, and the dump files in the folder that is being typed."""
    words = [word for word in ("kube", "simulated") if word.startswith(incomplete)]
    typed = Path(incomplete)
    folder = typed if incomplete.endswith("/") else typed.parent
    try:
        files = [path for path in sorted(folder.iterdir()) if path.is_dir() or path.suffix in (".json", ".yaml", ".yml")]
    except OSError:
        return words
    names = [f"{path}/" if path.is_dir() else str(path) for path in files[:MOST_COMPLETIONS] if not path.name.startswith(".")]
    return words + [name for name in names if name.startswith(incomplete)]


def complete_node(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the nodes of the cluster that the command line names so far."""
    cluster = str(ctx.params.get("cluster") or "kube")
    try:
        names = [name for name in _node_names(cluster, *_connection(ctx)) if name.startswith(incomplete)]
    except Exception:  # the command itself will report the error
        return []
    return sorted(names)[:MOST_COMPLETIONS]


def _connection(ctx: typer.Context) -> tuple[str | None, str | None]:
    """Return (kubeconfig, context) that the command line names so far."""
    return ctx.params.get("kubeconfig"), ctx.params.get("context_name")


def _node_names(cluster: str, kubeconfig: str | None, context: str | None) -> Iterator[str]:
    if cluster == "kube":
        yield from _object_names(next(resource for resource in RESOURCES if resource.kind == "Node"), kubeconfig, context)
    elif cluster == "simulated":
        yield from cluster_machines(DEMO_CLUSTER)
    elif Path(cluster).stat().st_size <= MOST_COMPLETION_BYTES:
        yield from read_cluster(cluster, Settings()).snapshot.nodes


def _object_names(resource: Resource, kubeconfig: str | None, context: str | None) -> Iterator[str]:
    api = ApiRequests(api_client(kubeconfig, context), COMPLETION_SECONDS)
    yield from (str(item["metadata"]["name"]) for item in items_of(api, resource))


def complete_namespace(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the namespaces of the cluster that the command line names so far."""
    if ctx.params.get("cluster") not in (None, "kube"):
        return []
    try:
        return sorted(name for name in _object_names(NAMESPACES, *_connection(ctx)) if name.startswith(incomplete))[:MOST_COMPLETIONS]
    except Exception:  # the command itself will report the error
        return []


def complete_pod(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the pods of the namespace that the command line names so far, by default that of the kubeconfig's context."""
    if ctx.params.get("cluster") not in (None, "kube"):
        return []
    try:
        usual = context_of(*_connection(ctx))
        namespace = ctx.params.get("namespace") or (usual[1] if usual is not None else "default")
        pods = Resource("Pod", "pods", f"/api/v1/namespaces/{quote(namespace, safe='')}/pods")
        return sorted(name for name in _object_names(pods, *_connection(ctx)) if name.startswith(incomplete))[:MOST_COMPLETIONS]
    except Exception:  # the command itself will report the error
        return []


def complete_context(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the contexts of the kubeconfig that the command line names so far."""
    return [name for name in contexts(ctx.params.get("kubeconfig")) if name.startswith(incomplete)][:MOST_COMPLETIONS]


def complete_machine(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the bundled platforms, or the nodes if the command line names a cluster."""
    if ctx.params.get("cluster"):
        return complete_node(ctx, incomplete)
    return [name for name in platforms() if name.startswith(incomplete)]
