"""`fabricwise node NAME` and `fabricwise doctor`: the checks of one node or of all nodes. Exit status 1 if a check fails.

The running extender answers if it can be asked, because it also has telemetry; else the command reads the API by itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import quote

import typer

from extender.cli.asking import answered
from extender.cli.options.cluster_options import NodeArgument
from extender.cli.options.option_groups import with_option_groups
from extender.cli.options.output_options import WatchOptions
from extender.cli.options.question_options import QuestionOptions
from extender.cli.reading import kube_objects, with_source
from extender.cli.rendering.answers.node_cards import card_table, cards_table
from extender.cli.rendering.console.output import print_answer
from extender.cli.rendering.console.watching import watching
from extender.decision.report.checks.node_checks import Status, all_reports, node_report
from extender.errors import FOUND, ClusterSourceError
from extender.kube.smoke_test import Sample, smoke, smoke_priority
from extender.server.from_settings import tuning


@with_option_groups
def node(*, name: NodeArgument, question: QuestionOptions, repeated: WatchOptions) -> None:
    """Show the report card of one node: its checks with evidence and remedy. Exit status 1 if a check fails."""
    settings, target = question.settings(), question.target

    def evaluated() -> dict[str, Any]:
        reading = question.read(settings)
        snapshot = reading.snapshot
        report = node_report(
            name, snapshot, settings.resource, tuning(settings), usable_memory_share=settings.filtering.usable_memory_share
        )
        if report is None:
            raise ClusterSourceError(f"no node {name!r} is known; nodes: {', '.join(sorted(snapshot.nodes)[:20])}")
        return with_source(report, reading)

    def answer() -> dict[str, Any]:
        return answered(target, f"/v1/nodes/{quote(name, safe='')}/report", evaluated)

    if repeated.watch:
        watching(answer, question.output, card_table, names=_names, interval_seconds=repeated.interval_seconds)
        return
    card = answer()
    print_answer(card, question.output, card_table, names=_names)
    _exit_by_status([card])


@with_option_groups
def doctor(
    *,
    question: QuestionOptions,
    repeated: WatchOptions,
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
    if image is not None and not question.server and not question.is_kube:
        raise typer.BadParameter("--smoke runs pods: it goes with --cluster kube or --server, not with a dump or a simulation")
    if image is not None and repeated.watch:
        raise typer.BadParameter("--smoke runs pods once: it does not go with --watch")
    settings, target = question.settings(), question.target

    def evaluated() -> dict[str, Any]:
        reading = question.read(settings)
        nodes = all_reports(reading.snapshot, settings.resource, tuning(settings), settings.filtering.usable_memory_share)
        return with_source({"nodes": nodes}, reading)

    if repeated.watch:
        watching(
            lambda: answered(target, "/v1/reports", evaluated),
            question.output,
            cards_table,
            names=_failed_names,
            interval_seconds=repeated.interval_seconds,
        )
        return
    answer = answered(target, "/v1/reports", evaluated)
    if image is not None:
        sample = Sample("", image, settings.resource, namespace, deadline_seconds, scheduler)
        _run_samples(answer["nodes"], sample, question.kubeconfig, question.context_name)
    print_answer(answer, question.output, cards_table, names=_failed_names)
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
