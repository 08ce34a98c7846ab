"""What the dashboards and the alert rules ask Prometheus, and which metrics and labels that needs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from tests.checkout import ROOT

FOLDER = ROOT / "manifests/observability"

_SELECTOR = re.compile(r"(fabricwise_[a-z0-9_]+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_OF_SCRAPES = {"instance", "job", "namespace", "pod"}
"""Labels that Prometheus adds to each series."""


@dataclass(frozen=True)
class Need:
    """One metric that an expression uses."""

    where: str
    metric: str
    labels: frozenset[str]
    """Of its matchers, and those that results are grouped by."""
    values: tuple[tuple[str, str], ...]
    """(label, value) of its matchers; alternatives are separate."""


def dashboards() -> dict[str, dict[str, Any]]:
    """File name -> dashboard."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").glob("*.json"))}


def rules() -> list[dict[str, Any]]:
    """All alert rules."""
    rule = yaml.safe_load((FOLDER / "prometheus-rule.yaml").read_text())
    return [each for group in rule["spec"]["groups"] for each in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    """Yield (where it is, expression) of every panel, variable and alert."""
    for name, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                yield f"{name}: {panel['title']}", target["expr"]
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{name}: ${variable['name']}", variable["query"]["query"]
    for rule in rules():
        yield rule["alert"], rule["expr"]


def needs() -> Iterator[Need]:
    """Yield what every expression needs. Labels that an expression groups by count for each of its metrics that can have them."""
    for where, expression in expressions():
        grouped = {label.strip() for group in _GROUPING.findall(expression) for label in group.split(",") if label.strip()}
        grouped |= set(re.findall(r"label_values\([^,]+,\s*([a-z_]+)\)", expression))
        selectors = _SELECTOR.findall(expression)
        for metric, matchers in selectors:
            found = _MATCHER.findall(matchers)
            values = tuple((label, value) for label, _, text in found for value in text.split("|") if not value.startswith("$"))
            # `a / on () b` groups both sides by nothing; with one metric alone, all groupings are its own.
            own = grouped if len(selectors) == 1 else set()
            labels = frozenset({label for label, _, _ in found} | own) - _OF_SCRAPES
            yield Need(where, metric, labels, values)
