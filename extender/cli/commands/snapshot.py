"""`fabricwise snapshot`: what recent decisions were made from, as an archive for `fabricwise replay`, on standard output."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterator
from typing import Annotated

import httpx
import typer

from extender.cli.cluster_options import ClassesOption, ClusterOption, KubeconfigOption
from extender.cli.reading import read_cluster
from extender.cli.rendering.output import ConfigOption, print_warning
from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS
from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.replay.journal_lines import MOST_DECISIONS
from extender.decision.replay.journal_writer import Contents, archive_lines
from extender.decision.replay.snapshot_archive import MOST_ARCHIVE_BYTES, zipped
from extender.errors import ClusterSourceError
from extender.server.from_settings import decision_settings, policy
from extender.server.program_version import program_version
from extender.settings import Settings
from extender.settings_file import load_settings

SERVER = "Take the snapshot of a running extender at this URL: with its recent decisions."
_SECONDS = 90.0


def snapshot(
    server: Annotated[str | None, typer.Option("--server", help=SERVER)] = None,
    cluster: ClusterOption = None,
    hash_names: Annotated[bool, typer.Option("--hash-names", help="Replace names of nodes, pods, namespaces and GPUs.")] = False,
    decisions: Annotated[int, typer.Option("--decisions", min=0, max=MOST_DECISIONS, help="The newest so many decisions.")] = 1000,
    config: ConfigOption = None,
    kubeconfig: KubeconfigOption = None,
    workload_classes: ClassesOption = None,
) -> None:
    """Write an archive with everything that decisions are made from: fabricwise snapshot --server URL > s.zip

    It contains no environment value and no secret. Without --server the cluster is read once, and there are no decisions in it.
    """
    if cluster and server:
        raise typer.BadParameter("give --cluster or --server, not both")
    if sys.stdout.isatty():
        raise typer.BadParameter("the archive is not written to a terminal: redirect it, as in `fabricwise snapshot > s.zip`")
    if server:
        parts = _served(server, hash_names, decisions)
    else:
        settings = load_settings(config)
        reading = read_cluster(cluster or "kube", settings, kubeconfig, workload_classes)
        for warning in reading.warnings:
            print_warning(warning)
        contents = _contents(Moment(reading.snapshot, NO_ASSUMED_PODS, reading.snapshot.monotonic_seconds or 0.0), settings)
        parts = zipped(archive_lines(contents, secrets.randbits(32) if hash_names else None))
    for part in parts:
        sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()


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


def _served(server: str, hash_names: bool, decisions: int) -> Iterator[bytes]:
    """Yield the archive of a running extender. Raises ClusterSourceError."""
    url, parameters = f"{server.rstrip('/')}/v1/snapshot", {"hash_names": str(hash_names).lower(), "decisions": str(decisions)}
    size = 0
    try:
        with httpx.stream("GET", url, params=parameters, timeout=_SECONDS) as response:
            if response.status_code != 200 or response.headers.get("content-type") != "application/zip":
                detail = response.read()[:500].decode(errors="replace")
                raise ClusterSourceError(f"{server} answered {response.status_code}: {detail}. Give the address of `fabricwise serve`")
            for part in response.iter_bytes():
                size += len(part)
                if size > MOST_ARCHIVE_BYTES:
                    raise ClusterSourceError(f"{server} sends more than {MOST_ARCHIVE_BYTES >> 20} MiB: ask for fewer with --decisions")
                yield part
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ClusterSourceError(
            f"{server}: {error or type(error).__name__}. Check the address, and that `fabricwise serve` runs there "
            "(`kubectl port-forward` makes a pod's port local)"
        ) from error
