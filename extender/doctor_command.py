"""`fabricwise node NAME` and `fabricwise doctor`: report cards on the command line. Exit status 1 where a check fails, else 0."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from extender.adapters.smoke import Sample, smoke, smoke_priority
from extender.asking import ask
from extender.decision.answers import tuning
from extender.decision.report import Status, all_reports, node_report
from extender.errors import ClusterSourceError
from extender.printing import ConfigOption, Output, OutputOption, print_answer
from extender.reading import kube_objects, read_cluster, with_source
from extender.settings import load_settings

ClusterOption = Annotated[str | None, typer.Option("--cluster", help="kube, simulated, or a dump file. Telemetry only a server has.")]
ServerOption = Annotated[str | None, typer.Option("--server", help="Ask a running extender at this URL instead.")]
KubeconfigOption = Annotated[str | None, typer.Option("--kubeconfig", help="For --cluster kube outside a cluster.")]
STYLES = {"pass": "green", "unknown": "dim", "warn": "yellow", "fail": "bold red"}


def node(
    name: Annotated[str, typer.Argument(help="The node.")],
    cluster: ClusterOption = None,
    server: ServerOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """One node's report card: what it claims, held against what is known. Exit status 1 where a check fails."""
    if server:
        answer = ask(server, f"/v1/nodes/{name}/report", "checks")
    else:
        settings = load_settings(config)
        reading = read_cluster(cluster or "kube", settings, kubeconfig)
        snapshot = reading.snapshot
        found = node_report(name, snapshot, settings.resource, tuning(settings))
        if found is None:
            raise ClusterSourceError(f"no node {name!r} is known; nodes: {', '.join(sorted(snapshot.nodes)[:20])}")
        answer = with_source(found, reading)
    print_answer(answer, output, _card)
    _leave([answer])


def doctor(
    cluster: ClusterOption = None,
    server: ServerOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
    kubeconfig: KubeconfigOption = None,
    image: Annotated[str | None, typer.Option("--smoke", metavar="IMAGE", help="Also run this CUDA sample where a GPU is free.")] = None,
    namespace: Annotated[str, typer.Option("--smoke-namespace")] = "default",
    deadline_seconds: Annotated[float, typer.Option("--smoke-deadline", min=1, help="Seconds per node.")] = 180.0,
    scheduler: Annotated[str, typer.Option("--smoke-scheduler", help="schedulerName of the sample's pods.")] = "default-scheduler",
) -> None:
    """The report cards of all nodes with GPUs. Exit status 1 where a check fails."""
    if image is not None and not server and cluster not in (None, "kube"):
        raise typer.BadParameter("--smoke runs pods: it goes with --cluster kube or --server, not with a dump or a simulation")
    settings = load_settings(config)
    if server:
        answer = ask(server, "/v1/reports", "nodes")
    else:
        reading = read_cluster(cluster or "kube", settings, kubeconfig)
        answer = with_source({"nodes": all_reports(reading.snapshot, settings.resource, tuning(settings))}, reading)
    if image is not None:
        _run_samples(answer["nodes"], Sample("", image, settings.resource, namespace, deadline_seconds, scheduler), kubeconfig)
    print_answer(answer, output, _cards)
    _leave(answer["nodes"])


def _run_samples(cards: list[dict[str, Any]], sample: Sample, kubeconfig: str | None) -> None:
    """Run the sample on each card's node, one after another, and add its outcome to the card."""
    api, _ = kube_objects(kubeconfig)
    with smoke_priority(api):
        for card in cards:
            check = smoke(api, replace(sample, node=card["node"]))
            card["checks"].append({"check": check.name, "status": check.status, "evidence": check.evidence, "remedy": check.remedy})
            card["status"] = Status.FAIL if check.status is Status.FAIL else card["status"]


def _leave(cards: list[dict[str, Any]]) -> None:
    if any(card["status"] == "fail" for card in cards):
        raise typer.Exit(1)


def _card(answer: dict[str, Any]) -> RenderableType:
    table = Table(title_justify="left", title=f"{answer['node']}: {answer['status']}")
    for name in ("check", "", "evidence", "what to do"):
        table.add_column(name, no_wrap=name in ("check", ""))
    for one in answer["checks"]:
        table.add_row(one["check"], Text(one["status"], style=STYLES[one["status"]]), one["evidence"], one["remedy"])
    questions = [Text(f"  {question}? {words}") for question, words in answer["baseline"].items()]
    return Group(table, Text("baseline", style="bold"), *questions)


def _cards(answer: dict[str, Any]) -> RenderableType:
    """A row per node, a column per check; then what is wrong, in words."""
    cards = answer["nodes"]
    if not cards:
        return Text("no node has GPUs")
    table = Table(title=f"{len(cards)} nodes with GPUs", title_justify="left")
    table.add_column("node", no_wrap=True)
    for one in cards[0]["checks"]:
        table.add_column(one["check"][:10])
    words = []
    for card in cards:
        table.add_row(card["node"], *(Text(one["status"], style=STYLES[one["status"]]) for one in card["checks"]))
        for one in card["checks"]:
            if one["status"] in ("fail", "warn") or (one["check"] == "smoke" and one["status"] == "unknown"):
                remedy = f" -> {one['remedy']}" if one["remedy"] else ""
                words.append(Text(f"{card['node']} {one['check']} {one['status']}: {one['evidence']}{remedy}", style=STYLES[one["status"]]))
    return Group(table, *words)
