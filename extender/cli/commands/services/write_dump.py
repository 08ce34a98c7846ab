"""`fabricwise dump`: a cluster as a file for `--cluster FILE`. It only reads, from any cluster."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO

import typer

from extender.cli.options.cluster_options import ContextOption, KubeconfigOption
from extender.cli.reading import kube_objects
from extender.cli.rendering.console.output import print_warning
from extender.decision.dra.dra_state import DRA_KINDS
from extender.errors import ClusterSourceError
from extender.kube.listing import ListApi, items_of, refusal
from extender.kube.objects.resources import BUDGET_RESOURCE, RESOURCES, Resource
from extender.plain_text import plain
from extender.sources.dump import STANDARD_INPUT, UNREAD
from extender.sources.dump_fields import dump_fields
from topology.agent.publisher import ApiError


def dump(
    file: Annotated[Path | None, typer.Argument(help="The file to write. Default, and with -: standard output.")] = None,
    old_file: Annotated[Path | None, typer.Option("-o", "--output-file", hidden=True, help="Older name of FILE.")] = None,
    kubeconfig: KubeconfigOption = None,
    context_name: ContextOption = None,
) -> None:
    """Write the cluster's nodes, pods, GpuTopologies and objects of resource.k8s.io, and its PodDisruptionBudgets, to a file for
    --cluster FILE.

    It has the fields that Fabricwise uses.

    Environment values, command-line arguments and annotations that Fabricwise does not use are left out; Secrets are never read.
    """
    if file is not None and old_file is not None:
        raise typer.BadParameter("name the file once")
    path = file or old_file
    output_file = None if path == Path(STANDARD_INPUT) else path
    api, cluster = kube_objects(kubeconfig, context_name)
    _print_status(f"reading nodes, pods and gputopologies of {cluster}")
    with _opened(output_file) as opened:
        counts = write_dump(api, opened)
    read = ", ".join(f"{count} {name}" for name, count in counts.items() if count or name not in (*DRA_KINDS, BUDGET_RESOURCE.listed_as))
    _print_status(f"{read} -> {output_file or 'standard output'}")


def write_dump(api: ListApi, file: TextIO) -> dict[str, int]:
    """Write a List, one object per line, page by page. Returns kind -> number of objects.

    Raises ClusterSourceError if nodes cannot be listed or there are none.
    """
    counts, unread, separator = dict[str, int](), dict[str, str](), ""
    for resource in (*RESOURCES, BUDGET_RESOURCE):
        counts[resource.listed_as] = 0
        try:
            for line in _lines(api, resource):
                file.write(f"{separator}\n{line}" if separator else f'{{"apiVersion": "v1", "kind": "List", "items": [\n{line}')
                separator = ","
                counts[resource.listed_as] += 1
        except ApiError as error:
            why = refusal(resource, error)
            if resource.kind == "Node":
                raise ClusterSourceError(why) from error
            unread[resource.listed_as] = why
            print_warning(why)
        if not separator:
            raise ClusterSourceError("the cluster has no nodes: there is nothing to dump")
    file.write(f"\n], {json.dumps(UNREAD)}: {json.dumps(unread)}}}\n")
    return counts


def _lines(api: ListApi, resource: Resource) -> Iterator[str]:
    version = resource.path.removeprefix("/apis/").removeprefix("/api/").rsplit("/", 1)[0]
    for item in items_of(api, resource, _progress):
        if isinstance(item, dict):
            yield json.dumps(dump_fields(resource.kind, version, item))


def _progress(kind: str, read: int, left: int | None) -> None:
    if left != 0:
        _print_status(f"{kind}: {read} read{f', {left} left' if left is not None else ''}")


def _print_status(line: str) -> None:
    typer.echo(plain(line), err=True)


@contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    """Open the file to write, readable only by its owner; it gets its name once it is complete. Raises ClusterSourceError."""
    if path is None:
        yield sys.stdout
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            yield file
        partial.replace(path)
    except OSError as error:
        raise ClusterSourceError(f"{path}: {error.strerror or error}; name a file in a folder that can be written") from error
    finally:
        partial.unlink(missing_ok=True)
