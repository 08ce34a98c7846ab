"""Asking the running extender, which knows more than a command that reads the API once: telemetry, assumed pods, decisions.

A command for `--cluster kube` asks it through the API server's service proxy, else through a port-forward that it opens; if neither works,
the command evaluates what it reads from the API by itself. A line on standard error says which of the two answered. With `--server` only
the extender at that URL is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import typer

from extender.cli.client import ask, token_of
from extender.cli.rendering.console.output import print_note
from extender.cli.rendering.console.progress import progress
from extender.errors import ClusterSourceError
from extender.kube.api_client import api_client
from extender.kube.service_proxy import ServiceName, ServiceReply, ServiceRequest, Unreached, ask_service

EXTENDER = ServiceName("fabricwise-system", "fabricwise")
"""The service of manifests/base."""
NO_EXTENDER = "none"
"""`--extender none`: the running extender is not asked."""
_SERVICE = re.compile(r"(?P<https>https:)?(?P<namespace>[a-z0-9-]{1,63})/(?P<name>[a-z0-9-]{1,63})(:(?P<port>[a-z0-9-]{1,63}))?")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a command asks: its options `--cluster`, `--server`, `--extender`, `--token-file`, `--kubeconfig` and `--context`."""

    cluster: str | None = None
    server: str | None = None
    kubeconfig: str | None = None
    context_name: str | None = None
    extender: str | None = None
    token_file: Path | None = None

    def __post_init__(self) -> None:
        """Raises typer.BadParameter for options that exclude one another."""
        if self.server and (self.cluster or self.extender):
            raise typer.BadParameter(f"give --{'cluster' if self.cluster else 'extender'} or --server, not both")
        if self.extender and self.cluster not in (None, "kube"):
            raise typer.BadParameter("--extender is a service of the cluster: it goes with --cluster kube")

    @property
    def service(self) -> ServiceName:
        """Return the service to ask. Raises typer.BadParameter."""
        if self.extender is None:
            return EXTENDER
        found = _SERVICE.fullmatch(self.extender)
        if found is None:
            raise typer.BadParameter(f"--extender {self.extender!r} is neither [https:]NAMESPACE/NAME[:PORT] of a service nor none")
        return ServiceName(found["namespace"], found["name"], found["port"] or EXTENDER.port, found["https"] is not None)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a running extender."""

    content: dict[str, Any]
    by: str
    """Description of the extender and of the way to it, for people."""


@dataclass(frozen=True, slots=True)
class NotAsked:
    """Why no running extender answered."""

    why: str | None
    """None: none was to be asked, because the cluster is a file or a simulation, or the options say so."""


def asked(target: Target, path: str, body: Any = None, query: Mapping[str, str] | None = None) -> Answer | NotAsked:
    """Return the running extender's answer at a path; with a body, the request is a POST.

    Raises ClusterSourceError if the extender says that the request is wrong, or if `--server` does not answer.
    """
    if target.server is not None:
        content = ask(target.server, path, None, body, query=dict(query or {}), token_file=target.token_file)
        return Answer(content, f"the extender at {target.server}")
    if target.cluster not in (None, "kube") or target.extender == NO_EXTENDER:
        return NotAsked(None)
    service = target.service
    token = None if target.token_file is None else token_of(target.token_file)
    encoded = None if body is None else msgspec.json.encode(body)
    request = ServiceRequest(path, tuple((query or {}).items()), encoded, token)
    with progress(f"asking the extender {service}"):
        reply = ask_service(api_client(target.kubeconfig, target.context_name), service, request)
    return NotAsked(reply.why) if isinstance(reply, Unreached) else _answer(service, path, reply)


def _answer(service: ServiceName, path: str, reply: ServiceReply) -> Answer | NotAsked:
    try:
        content = msgspec.json.decode(reply.body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        return NotAsked(f"{service} answered {reply.status} with something other than a JSON object: is it fabricwise?")
    if reply.status == 200:
        return Answer(content, f"the extender {service}, {reply.way}")
    error = content.get("error")
    if reply.status in (401, 403):
        return NotAsked(f"the extender {service} wants a token of its own ({str(error or reply.status)[:300]}): give it with --token-file")
    if reply.status == 503 or error is None:  # not ready or busy; or a route that an extender of another version does not have
        return NotAsked(f"the extender {service} answered {reply.status} to {path}: {str(error or content)[:300]}")
    raise ClusterSourceError(f"the extender {service} refuses the request; correct it: {str(error)[:500]}")


def answered(
    target: Target, path: str, by_itself: Callable[[], dict[str, Any]], *, body: Any = None, query: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the running extender's answer, else the result of `by_itself`, and print a line on standard error that says which.

    The field `cluster` of an extender's answer also names the extender.
    """
    reply = asked(target, path, body, query)
    if isinstance(reply, Answer):
        if target.server is None:
            print_note(f"answered by {reply.by}")
        return {**reply.content, "cluster": f"{reply.content.get('cluster') or 'an unnamed cluster'}, by {reply.by}"}
    if reply.why is not None:
        print_note(f"evaluated from the API server alone: {reply.why}")
    return by_itself()
