"""Groups of options: one parameter of a command that stands for the options which several commands have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command as Typer reads it: a parameter whose type is a dataclass is replaced, in its place, by the dataclass's fields.

    Each field is an option, annotated and with a default as a parameter would be; the command receives the dataclass.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    options: list[Parameter] = []
    for name, parameter in signature(command).parameters.items():
        if name in groups:
            options += _options(groups[name])
        else:
            options.append(parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[name]))

    def with_groups(**values: Any) -> None:
        made = {name: kind(**{field.name: values.pop(field.name) for field in fields(kind)}) for name, kind in groups.items()}
        command(**values, **made)

    with_groups.__name__, with_groups.__doc__, with_groups.__module__ = command.__name__, command.__doc__, command.__module__
    with_groups.__annotations__ = {option.name: option.annotation for option in options}
    with_groups.__signature__ = Signature(options)  # type: ignore[attr-defined]  # `inspect.signature` reads it
    return with_groups


def _options(group: Any) -> list[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [Parameter(field.name, Parameter.KEYWORD_ONLY, default=_default(field), annotation=hints[field.name]) for field in fields(group)]


def _default(field: Field[Any]) -> Any:
    return Parameter.empty if field.default is MISSING else field.default
