"""The server's TLS, with certificates that are rotated while the server runs.

Each new connection uses the files as they are then: the SNI callback of the listening context switches to a context made of the newest
files. Where certificate and key do not match (in the middle of a rotation), the last valid context stays in use.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from extender.errors import SettingsError
from extender.settings import Tls

log = logging.getLogger("fabricwise.tls")


class ServerTls:
    """The TLS context of a server, which follows its files."""

    def __init__(self, settings: Tls) -> None:
        """Raises SettingsError naming a file that cannot be used."""
        if not settings.cert_file or not settings.key_file:
            raise SettingsError("settings: server.tls lacks cert_file or key_file: set both, or remove server.tls")
        self._settings = settings
        self._paths = [Path(path) for path in (settings.cert_file, settings.key_file, settings.client_ca_file) if path]
        self._refused: tuple[tuple[int, int, int], ...] = ()
        try:
            self._read_at = self._marks()
            self._newest = self._context()
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"settings: server.tls: {error}: check that cert_file, key_file and client_ca_file are readable PEM files, "
                "and that the key is the certificate's"
            ) from error
        self.context = self._context()
        """The context that the server listens with."""
        self.context.sni_callback = self._switch_context

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._settings.cert_file, self._settings.key_file)
        if self._settings.client_ca_file:
            context.load_verify_locations(self._settings.client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _marks(self) -> tuple[tuple[int, int, int], ...]:
        """Return what differs between two versions of the files; a mounted Secret is a symbolic link that is replaced."""
        return tuple((info.st_mtime_ns, info.st_ino, info.st_size) for info in (path.stat() for path in self._paths))

    def _switch_context(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current()

    def _current(self) -> ssl.SSLContext:
        """Return the context of the newest valid files."""
        try:
            marks = self._marks()
            if marks not in (self._read_at, self._refused):
                self._newest, self._read_at = self._context(), marks
                log.info("certificates read again from %s", self._settings.cert_file)
        except (OSError, ssl.SSLError) as error:
            self._refused = self._marks_or_none()
            log.warning("certificates not read again, the previous ones stay in use: %s", error)
        return self._newest

    def _marks_or_none(self) -> tuple[tuple[int, int, int], ...]:
        try:
            return self._marks()
        except OSError:
            return ()
