"""Label selectors and node selectors, matched as `k8s.io/apimachinery` and `component-helpers/scheduling/corev1` match them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from extender.decision.kube_filters.pod_objects import LabelSelector, NodeSelector, NodeSelectorTerm, Requirement

_INTEGER = re.compile(r"[+-]?[0-9]+$", re.ASCII)
_INT64 = range(-(1 << 63), 1 << 63)


def requirement_matches(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    """Whether labels meet a requirement; one with an operator that is none meets nothing. NotIn matches where the key is absent."""
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
    """Whether any term matches the node; a selector without terms matches none."""
    return any(_term_matches(term, name, labels) for term in selector.node_selector_terms or ())


def _term_matches(term: NodeSelectorTerm, name: str, labels: Mapping[str, str]) -> bool:
    """A term without requirements matches nothing. The only field is the node's name."""
    expressions, fields = term.match_expressions or [], term.match_fields or []
    if not expressions and not fields:
        return False
    named = all(
        field.key == "metadata.name" and field.operator in ("In", "NotIn") and requirement_matches(field, {"metadata.name": name})
        for field in fields
    )
    return named and all(requirement_matches(expression, labels) for expression in expressions)


def label_selector_matches(selector: LabelSelector | None, labels: Mapping[str, str]) -> bool:
    """Whether labels match; no selector matches nothing, an empty one everything."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.match_labels or {}).items()):
        return False
    return all(requirement_matches(requirement, labels) for requirement in selector.match_expressions or ())


def with_label_keys(
    selector: LabelSelector | None, labels: Mapping[str, str], match_keys: list[str] | None, mismatch_keys: list[str] | None = None
) -> LabelSelector | None:
    """The selector with what the API server adds to it for `matchLabelKeys` and `mismatchLabelKeys`; adding it twice changes nothing."""
    added = [Requirement(key, "In", [labels[key]]) for key in match_keys or () if key in labels]
    added += [Requirement(key, "NotIn", [labels[key]]) for key in mismatch_keys or () if key in labels]
    if selector is None or not added:
        return selector
    return LabelSelector(selector.match_labels, [*(selector.match_expressions or ()), *added])


def is_empty(selector: LabelSelector | None) -> bool:
    """Whether a selector is given and matches everything."""
    return selector is not None and not selector.match_labels and not selector.match_expressions
