"""Label selectors and node selectors, matched as `k8s.io/apimachinery` and `component-helpers/scheduling/corev1` match them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from extender.decision.kube_filters.pod_objects import LabelSelector, NodeSelector, NodeSelectorTerm, Requirement

_INTEGER = re.compile(r"[+-]?[0-9]+$", re.ASCII)
_INT64 = range(-(1 << 63), 1 << 63)


def requirement_matches(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    """Return whether labels meet a requirement. An unknown operator is never met; NotIn is met where the key is absent."""
    value, values = labels.get(requirement.key), requirement.values or []
    match requirement.operator:
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            have, wanted = _integer(value), _integer(values[0] if len(values) == 1 else None)
            if have is None or wanted is None:
                return False
            return have > wanted if requirement.operator == "Gt" else have < wanted
    return False


def _integer(text: str | None) -> int | None:
    if text is None or len(text) > 20 or not _INTEGER.match(text):
        return None
    number = int(text)
    return number if number in _INT64 else None


def node_selector_matches(selector: NodeSelector, name: str, labels: Mapping[str, str]) -> bool:
    """Return whether any term matches the node; a selector without terms matches no node."""
    return any(_term_matches(term, name, labels) for term in selector.node_selector_terms or ())


def _term_matches(term: NodeSelectorTerm, name: str, labels: Mapping[str, str]) -> bool:
    """Return whether a term matches; a term without requirements matches no node. The only supported field is the node's name."""
    expressions, fields = term.match_expressions or [], term.match_fields or []
    if not expressions and not fields:
        return False
    named = all(
        field.key == "metadata.name" and field.operator in ("In", "NotIn") and requirement_matches(field, {"metadata.name": name})
        for field in fields
    )
    return named and all(requirement_matches(expression, labels) for expression in expressions)


def label_selector_matches(selector: LabelSelector | None, labels: Mapping[str, str]) -> bool:
    """Return whether labels match. No selector (None) matches nothing; an empty selector matches everything."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.match_labels or {}).items()):
        return False
    return all(requirement_matches(requirement, labels) for requirement in selector.match_expressions or ())


def with_label_keys(
    selector: LabelSelector | None, labels: Mapping[str, str], match_keys: list[str] | None, mismatch_keys: list[str] | None = None
) -> LabelSelector | None:
    """Return the selector with the requirements that the API server adds for `matchLabelKeys` and `mismatchLabelKeys`.

    Adding them twice changes nothing.
    """
    added = [Requirement(key, "In", [labels[key]]) for key in match_keys or () if key in labels]
    added += [Requirement(key, "NotIn", [labels[key]]) for key in mismatch_keys or () if key in labels]
    if selector is None or not added:
        return selector
    return LabelSelector(selector.match_labels, [*(selector.match_expressions or ()), *added])


def is_empty(selector: LabelSelector | None) -> bool:
    """Return whether the selector is present and empty, so that it matches everything."""
    return selector is not None and not selector.match_labels and not selector.match_expressions
