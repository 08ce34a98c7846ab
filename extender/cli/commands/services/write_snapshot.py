"""`fabricwise snapshot`: what recent decisions were made from, as an archive for `fabricwise replay`, on standard output."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import httpx
import typer

from extender.cli.asking import NO_EXTENDER, Target
from extender.cli.client import token_of
from extender.cli.options.cluster_options import (
    ClassesOption,
    ClusterOption,
    ConfigOption,
    ContextOption,
    ExtenderOption,
    KubeconfigOption,
    ServerOption,
    TokenFileOption,
)
from extender.cli.reading import read_cluster
from extender.cli.rendering.console.output import print_note, print_warning
from extender.cli.rendering.console.progress import progress
from extender.command_header import COMMAND_HEADERS
from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS
from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.replay.journal_lines import MOST_DECISIONS
from extender.decision.replay.journal_writer import Contents, archive_lines
from extender.decision.replay.snapshot_archive import MOST_ARCHIVE_BYTES, ZIP, zipped
from extender.errors import ClusterSourceError
from extender.kube.api_client import api_client
from extender.kube.service_proxy import ServiceRequest, Unreached, ask_service
from extender.server.from_settings import decision_settings, policy
from extender.server.program_version import program_version
from extender.settings import Settings
from extender.settings_file import load_settings

_SECONDS = 90.0
ROUTE = "/v1/snapshot"


def snapshot(
    server: ServerOption = None,
    cluster: ClusterOption = None,
    hash_names: Annotated[bool, typer.Option("--hash-names", help="Replace names of nodes, pods, namespaces and GPUs.")] = False,
    decisions: Annotated[int, typer.Option("--decisions", min=0, max=MOST_DECISIONS, help="The newest so many decisions.")] = 1000,
    config: ConfigOption = None,
    kubeconfig: KubeconfigOption = None,
    context_name: ContextOption = None,
    workload_classes: ClassesOption = None,
    extender: ExtenderOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Write an archive with everything that decisions are made from: fabricwise snapshot > s.zip

    It is that of the running extender, with its recent decisions; without one, or with --extender none, the cluster is read once, and there
    are no decisions in it. It contains no environment value and no secret.
    """
    target = Target(cluster, server, kubeconfig, context_name, extender, token_file)
    if sys.stdout.isatty():
        raise typer.BadParameter("the archive is not written to a terminal: redirect it, as in `fabricwise snapshot > s.zip`")
    query = {"hash_names": str(hash_names).lower(), "decisions": str(decisions)}
    if server:
        parts = _served(server, query, token_file)
    else:
        parts = _from_service(target, query) or _from_cluster(target, config, workload_classes, hash_names)
    with progress("writing the snapshot"):
        for part in parts:
            sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()


def _from_service(target: Target, query: Mapping[str, str]) -> Iterator[bytes] | None:
    """Return the archive of the running extender of the cluster; None where none answers."""
    if target.cluster not in (None, "kube") or target.extender == NO_EXTENDER:
        return None
    service = target.service
    token = None if target.token_file is None else token_of(target.token_file)
    with progress(f"asking the extender {service}"):
        client = api_client(target.kubeconfig, target.context_name)
        reply = ask_service(client, service, ServiceRequest(ROUTE, tuple(query.items()), None, token))
    if isinstance(reply, Unreached):
        why = reply.why
    elif reply.status == 200 and reply.body.startswith(ZIP):
        print_note(f"the snapshot of the extender {service}, {reply.way}")
        return iter([reply.body])
    else:
        why = f"the extender {service} answered {reply.status}: {reply.body[:300].decode(errors='replace')}"
    print_note(f"read from the API server alone, without decisions: {why}")
    return None


def _from_cluster(target: Target, config: Path | None, classes: Path | None, hash_names: bool) -> Iterator[bytes]:
    """Return an archive of the state that is read once. Raises ClusterSourceError."""
    settings = load_settings(config)
    reading = read_cluster(target.cluster or "kube", settings, target.kubeconfig, classes, context=target.context_name)
    for warning in reading.warnings:
        print_warning(warning)
    contents = _contents(Moment(reading.snapshot, NO_ASSUMED_PODS, reading.snapshot.monotonic_seconds or 0.0), settings)
    return zipped(archive_lines(contents, secrets.randbits(32) if hash_names else None))


def _contents(newest: Moment, settings: Settings) -> Contents:
    evaluator = Evaluator(policy(settings))
    evaluator.learn(newest.snapshot)
    return Contents(
        fabricwise=program_version(),
        created_seconds=time.time(),
        resource=settings.resource,
        settings=decision_settings(settings),
        decisions=(),
        newest=newest,
        mix=evaluator.size_mix,
    )


def _served(server: str, query: Mapping[str, str], token_file: Path | None) -> Iterator[bytes]:
    """Yield the archive of the extender at a URL. Raises ClusterSourceError."""
    headers = COMMAND_HEADERS | ({} if token_file is None else {"Authorization": f"Bearer {token_of(token_file)}"})
    size = 0
    try:
        with httpx.stream("GET", f"{server.rstrip('/')}{ROUTE}", params=query, headers=headers, timeout=_SECONDS) as response:
            if response.status_code != 200 or response.headers.get("content-type") != "application/zip":
                detail = response.read()[:500].decode(errors="replace")
                raise ClusterSourceError(f"{server} answered {response.status_code}: {detail}. Give the address of `fabricwise serve`")
            for part in response.iter_bytes():
                size += len(part)
                if size > MOST_ARCHIVE_BYTES:
                    raise ClusterSourceError(
                        f"{server} sends more than {MOST_ARCHIVE_BYTES >> 20} MiB: give a smaller number of --decisions"
                    )
                yield part
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ClusterSourceError(
            f"{server}: {error or type(error).__name__}. Check the address, and that `fabricwise serve` runs there "
            "(`kubectl port-forward` makes a pod's port local)"
        ) from error
