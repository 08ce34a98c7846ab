"""The names of this machine, and the suffix of services in the cluster that it runs in."""

from __future__ import annotations

import socket
from pathlib import Path

RESOLVER_FILE = Path("/etc/resolv.conf")
MOST_RESOLVER_BYTES = 64 << 10
_SERVICES = "svc."


def own_names(resolver_file: Path = RESOLVER_FILE) -> tuple[str, ...]:
    """Return the machine's host name, and `*.svc.DOMAIN` for each cluster domain that the file names.

    The kubelet writes the search domains of a pod as NAMESPACE.svc.DOMAIN, svc.DOMAIN, DOMAIN (resolv.conf(5), option `search`).
    """
    return (*filter(None, (socket.gethostname(),)), *(f"*.{domain}" for domain in _service_domains(resolver_file)))


def _service_domains(resolver_file: Path) -> tuple[str, ...]:
    try:
        with resolver_file.open("rb") as file:
            text = file.read(MOST_RESOLVER_BYTES).decode("latin-1")
    except OSError:
        return ()
    searched = [words[1:] for line in text.splitlines() if (words := line.split()) and words[0] == "search"]
    return tuple(domain.lower().rstrip(".") for domain in (searched[-1] if searched else ()) if domain.lower().startswith(_SERVICES))
