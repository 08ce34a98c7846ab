"""The environment of CEL expressions. Its library takes 12 MiB: `selectors` loads this module when the first expression is evaluated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_bindings, ext_strings

from extender.decision.dra.cel_functions import (
    amount,
    compared,
    integer,
    needed,
    quantity_value,
    semver_value,
    summed,
    version_number,
)

_T = cel.Type
_VALUE = _T.Map(_T.STRING, _T.STRING)


def _function(name: str, returns: Any, parameters: list[Any], run: Callable[..., Any], is_member: bool = True) -> Any:
    overload = cel.Overload(f"fabricwise_{name}", return_type=returns, parameters=parameters, is_member=is_member, impl=run)
    return cel.FunctionDecl(name, [overload])


FUNCTIONS = (
    _function("quantity", _VALUE, [_T.STRING], lambda text: needed(quantity_value(text), text, "quantity"), is_member=False),
    _function("isQuantity", _T.BOOL, [_T.STRING], lambda text: quantity_value(text) is not None, is_member=False),
    _function("semver", _VALUE, [_T.STRING], lambda text: needed(semver_value(text), text, "semantic version"), is_member=False),
    _function("isSemver", _T.BOOL, [_T.STRING], lambda text: semver_value(text) is not None, is_member=False),
    _function("compareTo", _T.INT, [_VALUE, _VALUE], compared),
    _function("isLessThan", _T.BOOL, [_VALUE, _VALUE], lambda left, right: compared(left, right) < 0),
    _function("isGreaterThan", _T.BOOL, [_VALUE, _VALUE], lambda left, right: compared(left, right) > 0),
    _function("sign", _T.INT, [_VALUE], lambda value: int(amount(value) > 0) - int(amount(value) < 0)),
    _function("isInteger", _T.BOOL, [_VALUE], lambda value: amount(value) == amount(value).to_integral_value()),
    _function("asInteger", _T.INT, [_VALUE], integer),
    _function("asApproximateFloat", _T.DOUBLE, [_VALUE], lambda value: float(amount(value))),
    _function("add", _VALUE, [_VALUE, _VALUE], lambda left, right: summed(left, right, 1)),
    _function("sub", _VALUE, [_VALUE, _VALUE], lambda left, right: summed(left, right, -1)),
    _function("major", _T.INT, [_VALUE], lambda value: version_number(value, 1)),
    _function("minor", _T.INT, [_VALUE], lambda value: version_number(value, 2)),
    _function("patch", _T.INT, [_VALUE], lambda value: version_number(value, 3)),
)
"""Declarations for the environment of expressions."""


def environment() -> Any:
    """Return the environment in which expressions are compiled."""
    return cel.NewEnv(
        variables={"device": cel.Type.DYN}, extensions=[ext_bindings.ExtBindings(), ext_strings.ExtStrings()], functions=list(FUNCTIONS)
    )


def is_error(value: Any) -> bool:
    """Whether the value of an expression is an error."""
    return bool(value.type() == cel.Type.ERROR)
