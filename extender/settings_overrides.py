"""Single settings changed by dotted keys such as `scoring.weights.link`, for questions about what other settings would decide."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from extender.errors import SettingsError
from extender.settings import Settings
from extender.settings_contradictions import check_settings

GROUPS = ("scoring", "filtering", "nodes")
"""Groups of settings that have an effect on where a pod goes."""
MOST_OVERRIDES = 100
MOST_KEY_LENGTH = 200


def with_overrides(settings: Settings, overrides: Mapping[str, Any], where: str) -> Settings:
    """Return the settings with some of them replaced. Raises SettingsError naming `where` and the key.

    `overrides`: dotted key -> value; a text is read as the type of the setting.
    """
    if len(overrides) > MOST_OVERRIDES:
        raise SettingsError(f"{where}: {len(overrides)} settings, at most {MOST_OVERRIDES} are changed at once: give fewer")
    document: dict[str, Any] = msgspec.to_builtins(settings, str_keys=True)
    for key, value in overrides.items():
        _set(document, key, value, where)
    try:
        changed = msgspec.convert(document, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{where}: {', '.join(overrides)}: {error}. docs/configuration.md has every setting with its range") from error
    check_settings(changed, where)
    return changed


def _set(document: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Replace one value in nested dictionaries, in place."""
    *groups, name = key[:MOST_KEY_LENGTH].split(".")
    if not groups or groups[0] not in GROUPS:
        raise SettingsError(
            f"{where}: setting {key[:MOST_KEY_LENGTH]!r} has no effect on where a pod goes: give one of {', '.join(GROUPS)}"
        )
    group: Any = document
    for part in groups:
        group = group.get(part) if isinstance(group, dict) else None
    if not isinstance(group, dict) or (name not in group and groups[-1] != "size_mix"):
        near = get_close_matches(key, known_keys(document), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "docs/configuration.md has every setting"
        raise SettingsError(f"{where}: no setting {key[:MOST_KEY_LENGTH]!r}: correct it; {hint}")
    group[name] = value


def known_keys(document: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted keys of the settings in `GROUPS`."""
    keys = []
    for name, value in document.items():
        if prefix or name in GROUPS:
            keys += known_keys(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}"]
    return keys
