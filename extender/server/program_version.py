"""The version of this program."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def program_version() -> str:
    """Return the version of the installed package; `unknown` where it is run from a checkout that is not installed."""
    try:
        return version("fabricwise")
    except PackageNotFoundError:
        return "unknown"
