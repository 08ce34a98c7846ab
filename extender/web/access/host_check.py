"""The check of the header `Host`: a web page of another name must not read the cluster through DNS rebinding.

An attacker's page has a name of its own. Once the browser has loaded the page, the attacker's DNS lets that name resolve to the address of
this server. For the browser both are one origin, so the page may read every answer. What remains visible is the name: the browser sends it
as `Host`, and a page cannot change that. So a request whose `Host` is a name that an attacker can register is refused.

Allowed without a setting are hosts that an attacker cannot own: IP addresses, localhost, names without a dot, names of services in the
cluster, the machine's own name. Everything else is named in `server.debug_hosts`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from extender.command_header import COMMAND_HEADER

UNCHECKED = frozenset({"/healthz", "/livez", "/readyz", "/metrics"})
"""Paths for programs, which show no pod and no decision; their clients are configured with any name."""
VERBS = "/scheduler/"
"""Paths that begin so are kube-scheduler's."""

CLUSTER_SUFFIXES = ("localhost", "svc", "cluster.local")
"""Every name below these is the machine itself or is resolved by the cluster's DNS: none of them can be registered."""

MOST_HOST_BYTES = 300
"""A longer header is malformed: a name has at most 253 characters, a port 5."""

_HOST = re.compile(r"(?P<name>[A-Za-z0-9_.-]+|\[(?P<ipv6>[0-9A-Fa-f:.]+)(%[A-Za-z0-9_.~%-]+)?\])(:(?P<port>[0-9]{0,5}))?")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


@dataclass(frozen=True, slots=True)
class HostRefusal:
    """Why a request is not answered: the HTTP status, and a sentence with a remedy."""

    status: int
    error: str


class AllowedNames:
    """The names by which the server may be called, besides those that are always allowed."""

    def __init__(self, patterns: Iterable[str]) -> None:
        """`patterns`: names, and suffixes such as `*.example.com`, which do not allow `example.com` itself."""
        lowered = [pattern.lower().rstrip(".") for pattern in patterns]
        self._names = frozenset(each for each in lowered if not each.startswith("*."))
        self._suffixes = (*(f".{suffix}" for suffix in CLUSTER_SUFFIXES), *(each[1:] for each in lowered if each.startswith("*.")))

    def __contains__(self, name: str) -> bool:
        """Return whether a name in lower case, without a dot at its end, is allowed."""
        return "." not in name or name in self._names or name.endswith(self._suffixes)


def refusal_of(host: bytes, allowed: AllowedNames) -> HostRefusal | None:
    """Return why a request with this value of `Host` is refused; None where it is allowed."""
    text = host.decode("latin-1").strip(" \t")
    found = _HOST.fullmatch(text) if len(text) <= MOST_HOST_BYTES else None
    if found is None or int(found["port"] or 0) > 65535:
        return _MALFORMED
    if found["ipv6"] is not None:
        return None if _is_address(IPv6Address, found["ipv6"]) else _MALFORMED
    name = found["name"].lower().removesuffix(".")
    if _is_address(IPv4Address, name):
        return None
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        return _MALFORMED
    return None if name in allowed else _foreign(name)


_MALFORMED = HostRefusal(400, "the header Host is malformed: send the name or address of this server, such as localhost:8889 or [::1]:8889")


def _foreign(name: str) -> HostRefusal:
    return HostRefusal(
        421,
        f"{name} is not known as a name of this server, and a web page of any name could read the cluster through DNS rebinding. Add the "
        "name to the setting server.debug_hosts if people use it, or set server.debug_auth.mode to kubernetes; or use an IP address or "
        "kubectl port-forward",
    )


def _is_address(kind: type[IPv4Address] | type[IPv6Address], text: str) -> bool:
    try:
        kind(text)
    except AddressValueError:
        return False
    return True


class HostCheck:
    """An ASGI application that answers only requests to hosts that are allowed.

    The status is 421: the request is misdirected (RFC 9110, section 15.5.20), and no other credentials would change that, as 403 suggests.
    A request without `Host` passes, because every browser sends it. So does a request of the project's own commands: through the API
    server's service proxy they come with the API server's name, because the proxy passes `Host` on as it got it (apimachinery's
    UpgradeAwareHandler without UseLocationHost).
    """

    def __init__(self, app: ASGIApp, allowed: AllowedNames) -> None:
        self._app, self._allowed = app, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        response = Response(msgspec.json.encode({"error": refusal.error}), refusal.status, media_type="application/json")
        await response(scope, receive, send)

    def _refusal(self, scope: Scope) -> HostRefusal | None:
        path: str = scope["path"]
        if path in UNCHECKED or path.startswith(VERBS):
            return None
        names = {name for name, _ in scope["headers"]}
        if COMMAND_HEADER.lower().encode() in names or b"host" not in names:
            return None
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        return refusal_of(hosts[0], self._allowed) if len(hosts) == 1 else _MALFORMED
