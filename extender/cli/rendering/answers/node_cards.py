"""Report cards of nodes as tables: problems first, and a problem of several nodes only once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from extender.cli.rendering.console.cells import few
from extender.cli.rendering.console.fitted_tables import Column, FittedTable

STYLES = {"pass": "green", "unknown": "dim", "warn": "yellow", "fail": "bold red"}
WORST_FIRST = ("fail", "warn", "unknown", "pass")
MOST_NAMED = 8
"""Most nodes named in a finding and in the command of its remedy."""
ONE_NODE = (Column("check", 0), Column("", 0), Column("evidence", 0, least_width=14), Column("what to do", 1, least_width=14))
NODES = (
    Column("node", 0, least_width=16),
    Column("status", 4),
    Column("fail", 3, least_width=10),
    Column("warn", 2, least_width=10),
    Column("unknown", 1, least_width=10),
)


@dataclass(slots=True)
class Finding:
    """A check that did not pass, with all nodes that have the same status and remedy."""

    check: str
    status: str
    remedy: str
    """The remedy, with `NODES_HERE` in place of the nodes' names."""
    evidence: dict[str, list[str]] = field(default_factory=dict)
    """Evidence -> its nodes."""

    @property
    def nodes(self) -> list[str]:
        """Return all nodes, each once, in order."""
        return list(dict.fromkeys(node for nodes in self.evidence.values() for node in nodes))


NODES_HERE = "\0"


def findings(cards: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Return the checks that did not pass, grouped by check, status and remedy; worst status first, then most nodes first."""
    groups: dict[tuple[str, str, str], Finding] = {}
    for card in cards:
        for check in card["checks"]:
            if check["status"] != "pass":
                remedy, evidence = (_without_name(check[part], card["node"]) for part in ("remedy", "evidence"))
                finding = groups.setdefault((check["check"], check["status"], remedy), Finding(check["check"], check["status"], remedy))
                finding.evidence.setdefault(evidence, []).append(card["node"])
    return sorted(groups.values(), key=lambda finding: (WORST_FIRST.index(finding.status), -len(finding.nodes), finding.check))


def _without_name(text: str, node: str) -> str:
    """Return the text with `NODES_HERE` in place of the node's name, where it is not a part of another name."""
    return re.sub(rf"(?<![\w./-]){re.escape(node)}(?![\w./=:-])", NODES_HERE, text)


def card_table(answer: Mapping[str, Any]) -> RenderableType:
    """Return the card of one node: its checks, worst first, then further answers that the checks do not contain."""
    table = FittedTable(ONE_NODE, title=f"{answer['node']}: {answer['status']}")
    for check in sorted(answer["checks"], key=lambda check: WORST_FIRST.index(check["status"])):
        table.add((check["check"], Text(check["status"], style=STYLES[check["status"]]), check["evidence"], check["remedy"]))
    parts: list[RenderableType] = [table]
    if not answer.get("gpus", True):
        parts.append(Text("the node has no GPUs, by its resources, its labels and its agent"))
    evidence = {check["evidence"] for check in answer["checks"]}
    answers = {**answer["baseline"], **answer.get("readiness", {})}
    questions = [Text(f"  {question}? {text}") for question, text in answers.items() if text not in evidence]
    if questions:
        parts += [Text("what the checks do not say", style="bold"), *questions]
    return Group(*parts, *_cluster(answer))


def cards_table(answer: Mapping[str, Any]) -> RenderableType:
    """Return the findings of all cards, then a table with a row per node, worst status first."""
    cards = sorted(answer["nodes"], key=lambda card: (WORST_FIRST.index(card["status"]), card["node"]))
    if not cards:
        return Group(Text("no node has GPUs"), *_cluster(answer))
    counts = ", ".join(f"{count} {status}" for status in WORST_FIRST if (count := sum(card["status"] == status for card in cards)))
    parts: list[RenderableType] = [Text(f"{len(cards)} nodes with GPUs: {counts}", style="bold")]
    for finding in findings(cards):
        parts += _finding_lines(finding, len(cards))
    table = FittedTable(NODES)
    for card in cards:
        by_status = {status: [check["check"] for check in card["checks"] if check["status"] == status] for status in WORST_FIRST}
        status = Text(card["status"], style=STYLES[card["status"]])
        table.add((card["node"], status, *(", ".join(by_status[name]) for name in ("fail", "warn", "unknown"))))
    return Group(*parts, table, *_cluster(answer))


def _finding_lines(finding: Finding, total: int) -> list[Text]:
    """Return a finding of `total` nodes as lines: its nodes, the evidence, and the remedy with the nodes' names in its command."""
    nodes = finding.nodes
    where = f"all {total} nodes" if len(nodes) == total > 1 else few(nodes, MOST_NAMED)
    lines = [Text(f"{finding.status} {finding.check}: {where}", style=STYLES[finding.status])]
    for evidence, with_evidence in list(finding.evidence.items())[:MOST_NAMED]:
        suffix = f" ({few(with_evidence)})" if len(finding.evidence) > 1 else ""
        lines.append(Text(f"  {evidence.replace(NODES_HERE, few(with_evidence))}{suffix}"))
    if len(finding.evidence) > MOST_NAMED:
        lines.append(Text(f"  and {len(finding.evidence) - MOST_NAMED} more (-o json has all)"))
    if finding.remedy:
        names = " ".join(nodes) if len(nodes) <= MOST_NAMED else f"{' '.join(nodes[:MOST_NAMED])} ... ({len(nodes)} nodes)"
        lines.append(Text(f"  -> {finding.remedy.replace(NODES_HERE, names)}"))
    return lines


def _cluster(answer: Mapping[str, Any]) -> list[Text]:
    return [Text(f"cluster: {answer['cluster']}")] if answer.get("cluster") else []
