"""CEL selectors of DeviceClasses and claims, evaluated on one device with bounded cost.

Google's CEL implementation parses to a depth of 32 and evaluates at most 10,000 iterations of a comprehension; the length is bounded here.
The functions that Kubernetes adds for quantities and versions are in `cel_functions`. Source: k8s.io/dynamic-resource-allocation v0.36.3
`cel/compile.go`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from extender.decision.dra.cel_functions import quantity_value, semver_value
from extender.decision.dra.expression_bounds import too_costly
from extender.decision.dra.resource_objects import MOST_EXPRESSION_CHARACTERS, Attribute, Device

MOST_REMEMBERED = 512
"""Compiled expressions that are kept."""


@dataclass(frozen=True, slots=True)
class Unevaluated:
    """Why an expression has no answer."""

    why: str


@lru_cache(maxsize=1)
def _environment() -> Any:
    from extender.decision.dra.cel_environment import environment  # a cluster without classes does not load the library

    return environment()


def _is_error(value: Any) -> bool:
    from extender.decision.dra.cel_environment import is_error  # see `_environment`

    return is_error(value)


@lru_cache(maxsize=MOST_REMEMBERED)
def _compiled(expression: str) -> Any:
    """Return the program, or an `Unevaluated`."""
    if len(expression) > MOST_EXPRESSION_CHARACTERS:
        return Unevaluated(f"it has {len(expression)} characters, {MOST_EXPRESSION_CHARACTERS} are the most")
    why = too_costly(expression)
    if why is not None:
        return Unevaluated(why)
    try:
        return _environment().compile(expression)
    except Exception as error:  # the library has no exception of its own
        return Unevaluated(_first_line(error))


def matches(expressions: Iterable[str | None], device: Mapping[str, Any]) -> bool | Unevaluated:
    """Whether a device, as `variables_of` returns it, matches all expressions; the reason where one cannot be evaluated.

    None stands for a selector of a kind other than CEL.
    """
    for expression in expressions:
        if expression is None:
            return Unevaluated("a selector is of a kind other than CEL")
        answer = _answer(expression, device)
        if answer is not True:
            return answer
    return True


def _answer(expression: str, device: Mapping[str, Any]) -> bool | Unevaluated:
    program = _compiled(expression)
    shown = f"CEL {expression[:80]!r}"
    if isinstance(program, Unevaluated):
        return Unevaluated(f"{shown}: {program.why}")
    try:
        value = program.eval(data={"device": _with_named_domains(expression, device)})
        answer = value.value()
    except Exception as error:  # the library has no exception of its own
        return Unevaluated(f"{shown}: {_first_line(error)}")
    if not isinstance(answer, bool):
        return Unevaluated(f"{shown}: {_first_line(answer)}" if _is_error(value) else f"{shown} is not true or false")
    return answer


def _with_named_domains(expression: str, device: Mapping[str, Any]) -> dict[str, Any]:
    """Return the device with an empty map for each domain that the expression looks up and the device does not have, as in Kubernetes."""
    named = _literals(expression)
    known = dict(device)
    for part in ("attributes", "capacity"):
        known[part] = {**{domain: {} for domain in named if domain not in device[part]}, **device[part]}
    return known


@lru_cache(maxsize=MOST_REMEMBERED)
def _literals(expression: str) -> tuple[str, ...]:
    """Return the string literals that are used as an index, such as 'gpu.nvidia.com' in `device.attributes['gpu.nvidia.com']`."""
    literals = []
    for part in expression.split("[")[1:]:
        text = part.lstrip()
        if text[:1] in ("'", '"') and (end := text.find(text[0], 1)) > 0:
            literals.append(text[1:end])
    return tuple(dict.fromkeys(literals))


def variables_of(device: Device, driver: str) -> dict[str, Any]:
    """Return a device as the variable `device` of an expression. An attribute or capacity with a malformed value is left out."""
    attributes: dict[str, dict[str, Any]] = {}
    for name, attribute in (device.attributes or {}).items():
        value = _value_of(attribute)
        if value is not None:
            domain, own = qualified(name, driver)
            attributes.setdefault(domain, {})[own] = value
    capacity: dict[str, dict[str, Any]] = {}
    for name, amount in (device.capacity or {}).items():
        value = quantity_value(amount.value)
        if value is not None:
            domain, own = qualified(name, driver)
            capacity.setdefault(domain, {})[own] = value
    return {
        "driver": driver,
        "allowMultipleAllocations": bool(device.allow_multiple_allocations),
        "attributes": attributes,
        "capacity": capacity,
    }


def _value_of(attribute: Attribute) -> Any:
    if attribute.version is not None:
        return semver_value(attribute.version)
    for value in (attribute.int_, attribute.bool_, attribute.string, attribute.ints, attribute.bools, attribute.strings):
        if value is not None:
            return value
    return None


def qualified(name: str, driver: str) -> tuple[str, str]:
    """Return (domain, name) of an attribute or capacity; one without a domain is the driver's."""
    domain, slash, own = name.rpartition("/")
    return (domain, own) if slash else (driver, name)


def _first_line(error: object) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
