"""`fabricwise node NAME` and `fabricwise doctor`: the checks of one node or of all nodes. Exit status 1 if a check fails.

The running extender answers if it can be asked, because it also has telemetry; else the command reads the API by itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import quote

import typer

from extender.cli.asking import Target, answered
from extender.cli.cluster_options import (
    ClusterOption,
    ContextOption,
    ExtenderOption,
    KubeconfigOption,
    NodeArgument,
    ServerOption,
    TokenFileOption,
)
from extender.cli.reading import kube_objects, read_cluster, with_source
from extender.cli.rendering.answers.node_cards import card_table, cards_table
from extender.cli.rendering.console.output import ConfigOption, Output, OutputOption, print_answer
from extender.cli.rendering.console.watching import INTERVAL_SECONDS, IntervalOption, WatchOption, watching
from extender.decision.report.checks.node_checks import Status, all_reports, node_report
from extender.errors import FOUND, ClusterSourceError
from extender.kube.smoke_test import Sample, smoke, smoke_priority
from extender.server.from_settings import tuning
from extender.settings_file import load_settings


def node(
    name: NodeArgument,
    cluster: ClusterOption = None,
    server: ServerOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
    kubeconfig: KubeconfigOption = None,
    context_name: ContextOption = None,
    extender: ExtenderOption = None,
    token_file: TokenFileOption = None,
    watch: WatchOption = False,
    interval_seconds: IntervalOption = INTERVAL_SECONDS,
) -> None:
    """Show the report card of one node: its checks with evidence and remedy. Exit status 1 if a check fails."""
    settings = load_settings(config)
    target = Target(cluster, server, kubeconfig, context_name, extender, token_file)

    def evaluated() -> dict[str, Any]:
        reading = read_cluster(cluster or "kube", settings, kubeconfig, context=context_name)
        snapshot = reading.snapshot
        report = node_report(name, snapshot, settings.resource, tuning(settings))
        if report is None:
            raise ClusterSourceError(f"no node {name!r} is known; nodes: {', '.join(sorted(snapshot.nodes)[:20])}")
        return with_source(report, reading)

    def answer() -> dict[str, Any]:
        return answered(target, f"/v1/nodes/{quote(name, safe='')}/report", evaluated)

    if watch:
        watching(answer, output, card_table, names=_names, interval_seconds=interval_seconds)
        return
    card = answer()
    print_answer(card, output, card_table, names=_names)
    _exit_by_status([card])


def doctor(
    cluster: ClusterOption = None,
    server: ServerOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
    kubeconfig: KubeconfigOption = None,
    context_name: ContextOption = None,
    extender: ExtenderOption = None,
    token_file: TokenFileOption = None,
    watch: WatchOption = False,
    interval_seconds: IntervalOption = INTERVAL_SECONDS,
    image: Annotated[
        str | None, typer.Option("--smoke", metavar="IMAGE", help="Also run this CUDA sample on every node with a free GPU.")
    ] = None,
    namespace: Annotated[str, typer.Option("--smoke-namespace")] = "default",
    deadline_seconds: Annotated[float, typer.Option("--smoke-deadline", min=1, help="Seconds per node.")] = 180.0,
    scheduler: Annotated[str, typer.Option("--smoke-scheduler", help="schedulerName of the sample's pods.")] = "default-scheduler",
) -> None:
    """Show the report cards of all nodes with GPUs. Exit status 1 if a check fails.

    -o name prints the nodes on which a check fails.
    """
    if image is not None and not server and cluster not in (None, "kube"):
        raise typer.BadParameter("--smoke runs pods: it goes with --cluster kube or --server, not with a dump or a simulation")
    if image is not None and watch:
        raise typer.BadParameter("--smoke runs pods once: it does not go with --watch")
    settings = load_settings(config)
    target = Target(cluster, server, kubeconfig, context_name, extender, token_file)

    def evaluated() -> dict[str, Any]:
        reading = read_cluster(cluster or "kube", settings, kubeconfig, context=context_name)
        return with_source({"nodes": all_reports(reading.snapshot, settings.resource, tuning(settings))}, reading)

    if watch:
        watching(
            lambda: answered(target, "/v1/reports", evaluated),
            output,
            cards_table,
            names=_failed_names,
            interval_seconds=interval_seconds,
        )
        return
    answer = answered(target, "/v1/reports", evaluated)
    if image is not None:
        _run_samples(
            answer["nodes"], Sample("", image, settings.resource, namespace, deadline_seconds, scheduler), kubeconfig, context_name
        )
    print_answer(answer, output, cards_table, names=_failed_names)
    _exit_by_status(answer["nodes"])


def _run_samples(cards: list[dict[str, Any]], sample: Sample, kubeconfig: str | None, context_name: str | None) -> None:
    """Run the sample on each card's node, one after another, and add its check to the card."""
    api, _ = kube_objects(kubeconfig, context_name)
    with smoke_priority(api):
        for card in cards:
            check = smoke(api, replace(sample, node=card["node"]))
            card["checks"].append({"check": check.name, "status": check.status, "evidence": check.evidence, "remedy": check.remedy})
            card["status"] = Status.FAIL if check.status is Status.FAIL else card["status"]


def _exit_by_status(cards: list[dict[str, Any]]) -> None:
    if any(card["status"] == "fail" for card in cards):
        raise typer.Exit(FOUND)


def _names(card: dict[str, Any]) -> list[str]:
    return [f"node/{card['node']}"]


def _failed_names(answer: dict[str, Any]) -> list[str]:
    return [f"node/{card['node']}" for card in answer["nodes"] if card["status"] == "fail"]
