"""The registrations of plugins in a file of the shared folder: the next steerer reads there what it has to register."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from extender.steering.device_plugin_api import Registration

log = logging.getLogger("fabricwise.steering")

_NAME = "registrations.json"
_MOST_FILE_BYTES = 1 << 16


class _Saved(msgspec.Struct, frozen=True):
    resource: str
    endpoint: str
    options: str
    """Base64."""
    socket_made: tuple[int, int] | None = None


def save_registrations(shared: Path, registrations: Iterable[Registration]) -> None:
    """Write the file."""
    saved = [_Saved(one.resource, one.endpoint, base64.b64encode(one.options).decode(), one.socket_made) for one in registrations]
    replace_file(shared / _NAME, msgspec.json.encode(saved))


def saved_registrations(shared: Path) -> list[Registration]:
    """What the file says; nothing where there is no file, or one that cannot be read."""
    try:
        with (shared / _NAME).open("rb") as file:
            saved = msgspec.json.decode(file.read(_MOST_FILE_BYTES), type=list[_Saved])
        return [Registration(one.resource, one.endpoint, base64.b64decode(one.options, validate=True), one.socket_made) for one in saved]
    except (OSError, ValueError, RecursionError, msgspec.DecodeError):
        return []


def replace_file(path: Path, document: bytes) -> None:
    """Replace a file as a whole. A full disk is logged: the agent then takes the steerer for ended."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(document)
        partial.replace(path)
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error)
        with contextlib.suppress(OSError):  # half a file takes what is left of a full disk, and each process has a name of its own
            partial.unlink()
