"""The functions that Kubernetes adds to CEL for quantities and semantic versions.

Both are maps with one entry, in canonical form so that equal amounts are equal: `{"quantity": "42949672960"}` and
`{"semver": "1.2.3"}`. Source: k8s.io/apiserver v0.36.3 `pkg/cel/library/{quantity,semver}.go`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from cel_expr_python import cel

from extender.decision.request.quantity import quantity

_SEMVER = re.compile(
    r"(0|[1-9]\d{0,18})\.(0|[1-9]\d{0,18})\.(0|[1-9]\d{0,18})(?:-([0-9A-Za-z.-]{1,64}))?(?:\+([0-9A-Za-z.-]{1,64}))?$", re.ASCII
)

_T = cel.Type
_VALUE = _T.Map(_T.STRING, _T.STRING)


def quantity_value(text: object) -> dict[str, str] | None:
    """Return a quantity as the value that CEL computes with; None where the text is no quantity."""
    try:
        amount = quantity(text)
    except ValueError:
        return None
    return {"quantity": format(amount.normalize(), "f")}


def semver_value(text: str) -> dict[str, str] | None:
    """Return a version as the value that CEL computes with; None where it is no semantic version (three numbers, as in 1.2.3)."""
    return {"semver": text} if _SEMVER.match(text) else None


def _amount(value: dict[str, str]) -> Decimal:
    return Decimal(value["quantity"])


def _rank(value: dict[str, str]) -> tuple[Any, ...]:
    """Return a sort key in the order of semver.org: a pre-release comes before its release, numbers before words; build metadata does
    not count."""
    match = _SEMVER.match(value["semver"])
    assert match is not None
    parts = [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in (match[4] or "").split(".") if part]
    return int(match[1]), int(match[2]), int(match[3]), not parts, tuple(parts)


def _compared(left: dict[str, str], right: dict[str, str]) -> int:
    key: Callable[[dict[str, str]], Any] = _amount if "quantity" in left else _rank
    return int(key(left) > key(right)) - int(key(left) < key(right))


def _needed(value: dict[str, str] | None, text: str, kind: str) -> dict[str, str]:
    if value is None:
        raise ValueError(f"{text[:40]!r} is not a {kind}")
    return value


def _summed(left: dict[str, str], right: dict[str, str], sign: int) -> dict[str, str]:
    return {"quantity": format((_amount(left) + sign * _amount(right)).normalize(), "f")}


def _integer(value: dict[str, str]) -> int:
    amount = _amount(value)
    if amount != amount.to_integral_value() or abs(amount) >= 1 << 63:
        raise ValueError("the quantity is not an integer")
    return int(amount)


def _number(value: dict[str, str], place: int) -> int:
    match = _SEMVER.match(value["semver"])
    assert match is not None
    return int(match[place])


def _function(name: str, returns: Any, parameters: list[Any], run: Callable[..., Any], is_member: bool = True) -> Any:
    overload = cel.Overload(f"fabricwise_{name}", return_type=returns, parameters=parameters, is_member=is_member, impl=run)
    return cel.FunctionDecl(name, [overload])


FUNCTIONS = (
    _function("quantity", _VALUE, [_T.STRING], lambda text: _needed(quantity_value(text), text, "quantity"), is_member=False),
    _function("isQuantity", _T.BOOL, [_T.STRING], lambda text: quantity_value(text) is not None, is_member=False),
    _function("semver", _VALUE, [_T.STRING], lambda text: _needed(semver_value(text), text, "semantic version"), is_member=False),
    _function("isSemver", _T.BOOL, [_T.STRING], lambda text: semver_value(text) is not None, is_member=False),
    _function("compareTo", _T.INT, [_VALUE, _VALUE], _compared),
    _function("isLessThan", _T.BOOL, [_VALUE, _VALUE], lambda left, right: _compared(left, right) < 0),
    _function("isGreaterThan", _T.BOOL, [_VALUE, _VALUE], lambda left, right: _compared(left, right) > 0),
    _function("sign", _T.INT, [_VALUE], lambda value: int(_amount(value) > 0) - int(_amount(value) < 0)),
    _function("isInteger", _T.BOOL, [_VALUE], lambda value: _amount(value) == _amount(value).to_integral_value()),
    _function("asInteger", _T.INT, [_VALUE], _integer),
    _function("asApproximateFloat", _T.DOUBLE, [_VALUE], lambda value: float(_amount(value))),
    _function("add", _VALUE, [_VALUE, _VALUE], lambda left, right: _summed(left, right, 1)),
    _function("sub", _VALUE, [_VALUE, _VALUE], lambda left, right: _summed(left, right, -1)),
    _function("major", _T.INT, [_VALUE], lambda value: _number(value, 1)),
    _function("minor", _T.INT, [_VALUE], lambda value: _number(value, 2)),
    _function("patch", _T.INT, [_VALUE], lambda value: _number(value, 3)),
)
"""Declarations for the environment of expressions."""
