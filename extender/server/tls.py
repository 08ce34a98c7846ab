"""The server's TLS: certificates that are rotated under a running server.

Every new connection is met with the files as they are then: the context it begins with hands over to one made of the newest files.
A pair of files that does not fit together (caught halfway through a rotation) leaves the last good one in place.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from extender.errors import SettingsError
from extender.settings import Tls

log = logging.getLogger("fabricwise.tls")


class ServerTls:
    """Makes the context for a server, and keeps it up with its files."""

    def __init__(self, settings: Tls) -> None:
        """Raises SettingsError naming a file that cannot be used."""
        if not settings.cert_file or not settings.key_file:
            raise SettingsError("settings: server.tls has not both cert_file and key_file: set both, or remove server.tls")
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
        """What a server listens with."""
        self.context.sni_callback = self._hand_over

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._settings.cert_file, self._settings.key_file)
        if self._settings.client_ca_file:
            context.load_verify_locations(self._settings.client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _marks(self) -> tuple[tuple[int, int, int], ...]:
        """What tells one edition of the files from the next; a mounted Secret is a link that is moved."""
        return tuple((info.st_mtime_ns, info.st_ino, info.st_size) for info in (path.stat() for path in self._paths))

    def _hand_over(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current()

    def _current(self) -> ssl.SSLContext:
        """The context of the newest files that fit together."""
        try:
            marks = self._marks()
            if marks not in (self._read_at, self._refused):
                self._newest, self._read_at = self._context(), marks
                log.info("certificates read anew from %s", self._settings.cert_file)
        except (OSError, ssl.SSLError) as error:
            self._refused = self._marks_or_none()
            log.warning("certificates not read anew, the old ones stay: %s", error)
        return self._newest

    def _marks_or_none(self) -> tuple[tuple[int, int, int], ...]:
        try:
            return self._marks()
        except OSError:
            return ()
