"""`fabricwise dump`: a cluster as a file that every command reads with `--cluster FILE`. It reads only, and needs nothing installed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO

import typer

from extender.adapters.dump_fields import dump_fields
from extender.adapters.dump_file import UNREAD
from extender.adapters.kube_list import ListApi, items_of, refusal
from extender.adapters.kube_resources import RESOURCES, Resource
from extender.decision.dra.state import DRA_KINDS
from extender.errors import ClusterSourceError
from extender.plain_text import plain
from extender.printing import print_warning
from extender.reading import kube_objects
from topology.agent.publisher import ApiError


def dump(
    output_file: Annotated[Path | None, typer.Option("-o", "--output-file", help="Where to; without, standard output.")] = None,
    kubeconfig: Annotated[str | None, typer.Option("--kubeconfig", help="Whose current context is read; without, the usual one.")] = None,
) -> None:
    """Write the cluster's nodes, pods, GpuTopologies and objects of resource.k8s.io to a file, as far as they are read, for --cluster FILE.

    Environment values, command-line words and annotations that Fabricwise does not read are left out; Secrets are never read.
    """
    api, address = kube_objects(kubeconfig)
    _say(f"reading nodes, pods and gputopologies of {address}")
    with _opened(output_file) as file:
        counts = write_dump(api, file)
    read = ", ".join(f"{count} {name}" for name, count in counts.items() if count or name not in DRA_KINDS)
    _say(f"{read} -> {output_file or 'standard output'}")


def write_dump(api: ListApi, file: TextIO) -> dict[str, int]:
    """Write a List, one object a line, as the pages come; objects per kind. Raises ClusterSourceError where nodes cannot be listed."""
    counts, unread, separator = dict[str, int](), dict[str, str](), ""
    for resource in RESOURCES:
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
        _say(f"{kind}: {read} read{f', {left} left' if left is not None else ''}")


def _say(line: str) -> None:
    typer.echo(plain(line), err=True)


@contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    """The file to write, readable for its owner alone; it appears under its name once it is whole. Raises ClusterSourceError."""
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
