"""Reading settings from a YAML file: decode, fill in defaults, check types and ranges, then check for contradictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from extender.errors import SettingsError
from extender.loading import load_documents
from extender.settings import Settings
from extender.settings_contradictions import check_settings


def load_settings(path: Path | None) -> Settings:
    """Return the settings of a YAML file, with defaults for absent keys; all defaults for None.

    Raises SettingsError or DocumentError that names the file, and the invalid key or the contradicting keys.
    """
    if path is None:
        return Settings()
    try:
        documents = load_documents(path.read_bytes(), f"settings file {path}")
    except OSError as error:
        raise SettingsError(f"settings file {path}: {error.strerror or error}: give a readable file, or omit --config") from error
    if len(documents) > 1:
        raise SettingsError(f"settings file {path}: expected one document, found {len(documents)}: remove the lines with ---")
    try:
        settings = msgspec.convert(_with_source_as_text(documents[0]) if documents else {}, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"settings file {path}: {error}. config/extender.yaml has every setting with its default") from error
    check_settings(settings, f"settings file {path}")
    return settings


def _with_source_as_text(document: Any) -> Any:
    """Return the document with `telemetry.source: off` as the string "off", because YAML 1.1 reads `off` as false."""
    telemetry = document.get("telemetry") if isinstance(document, dict) else None
    if isinstance(telemetry, dict) and telemetry.get("source") is False:
        return {**document, "telemetry": {**telemetry, "source": "off"}}
    return document
