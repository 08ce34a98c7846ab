"""`fabricwise top`: nodes and pods live in a terminal; without a terminal, one table of nodes or of pods."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

import typer
from rich.table import Table

from extender.cli.asking import Answer, Target, asked
from extender.cli.client import token_of
from extender.cli.options.cluster_options import (
    ClusterOption,
    ConfigOption,
    ContextOption,
    ExtenderOption,
    KubeconfigOption,
    ServerOption,
    TokenFileOption,
)
from extender.cli.reading import changes_of
from extender.cli.rendering.console.output import console, print_note
from extender.cli.top.live_data import LiveData, OwnData, ProxyData, ServerData, Unanswered
from extender.cli.top.rows import NODE_COLUMNS, POD_COLUMNS, Arrangement, Row, arranged, name_of_pod
from extender.cli.top.top_app import TopApp, all_pods
from extender.errors import ClusterSourceError
from extender.kube.api_client import api_client
from extender.kube.service_proxy import ask_service
from extender.scheduling.ports import Cluster
from extender.server.service import build_service
from extender.settings import Settings
from extender.settings_file import load_settings

OWN_EVERY_SECONDS = 30.0
"""How often a whole cluster is listed where no extender is asked."""


def top(
    server: ServerOption = None,
    cluster: ClusterOption = None,
    pods: Annotated[bool, typer.Option("--pods", help="Begin with the pods.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Print one table and end; the default without a terminal.")] = False,
    every_seconds: Annotated[float, typer.Option("--every", min=0.5, max=3600, help="Seconds between updates.")] = 2.0,
    config: ConfigOption = None,
    kubeconfig: KubeconfigOption = None,
    context_name: ContextOption = None,
    extender: ExtenderOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Watch nodes and pods: GPUs free, taken and excluded, pressure, bandwidth; open a node's GPUs, or why a pod waits.

    It shows what the running extender knows, telemetry and assumed pods included. Where none answers, it lists the cluster itself.
    """
    target = Target(cluster, server, kubeconfig, context_name, extender, token_file)
    data = _data(target, load_settings(config))
    if once or not console.is_terminal:
        _print_once(data, pods)
    else:
        TopApp(data, every_seconds, first="pods" if pods else "nodes").run()


def _data(target: Target, settings: Settings) -> LiveData:
    """Return the running extender where it answers, else an extender inside this process, which writes to no cluster."""
    token = None if target.token_file is None else token_of(target.token_file)
    if target.server is not None:
        return ServerData(target.server, None if token is None else {"Authorization": f"Bearer {token}"})
    reply = asked(target, "/v1/cluster")
    if isinstance(reply, Answer):
        client = api_client(target.kubeconfig, target.context_name)
        return ProxyData(target.service, partial(ask_service, client, target.service), token)
    if reply.why is not None:
        print_note(f"lists the cluster by itself: {reply.why}")
    cluster = target.cluster or "kube"
    names = {"kube": "the cluster", "simulated": "the simulated cluster"}
    service = build_service(settings, Cluster(names.get(cluster, f"the dump {cluster}")))
    read = partial(changes_of, cluster, settings, target.kubeconfig, target.context_name)
    return OwnData(service, read, f"--cluster {cluster}", OWN_EVERY_SECONDS)


def _print_once(data: LiveData, pods: bool) -> None:
    """Print one table. Raises ClusterSourceError."""
    rows = asyncio.run(_rows(data, pods))
    if isinstance(rows, Unanswered):
        raise ClusterSourceError(rows.why)
    columns, key = (POD_COLUMNS, name_of_pod) if pods else (NODE_COLUMNS, lambda row: str(row["name"]))
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.title, no_wrap=True)
    for row in arranged(rows, columns, Arrangement(), key):
        table.add_row(*(column.cell(row) for column in columns))
    console.print(table)


async def _rows(data: LiveData, pods: bool) -> list[Row] | Unanswered:
    try:
        if pods:
            return await all_pods(data)
        answer = await data.get("/v1/cluster")
        return answer if isinstance(answer, Unanswered) else list(answer["nodes"])
    finally:
        await data.close()
