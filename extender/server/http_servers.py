"""The servers of one extender: ports, certificates, threads; and how a process that serves is prepared."""

from __future__ import annotations

import ctypes
import gc
import socket
import sys
import threading
import time
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

from extender.server.service import Service
from extender.server.tls import ServerTls
from extender.settings import Tls


def serve_health(service: Service, host: str) -> None:
    """Serve health and metrics over plain HTTP on a port of their own, if the settings name one, until the process ends."""
    port = service.settings.server.health_port
    if port:
        server = uvicorn.Server(uvicorn.Config(service.health, host=host, port=port, log_level="warning", access_log=False))
        threading.Thread(target=server.run, name="health", daemon=True).start()


def serve_debug(service: Service, host: str) -> None:
    """Serve the debug API and the web UI on a port of their own, if the settings name one, until the process ends.

    The server has a thread and an event loop of its own, so that no verb waits for a browser. Raises SettingsError for unusable
    certificates.
    """
    port = service.settings.server.debug_port
    if port:
        server = debug_server_for(service, host, port)
        threading.Thread(target=server.run, name="debug", daemon=True).start()


def server_for(service: Service, host: str, port: int) -> uvicorn.Server:
    """Return a uvicorn server for the service; `run()` blocks, `should_exit` stops it. Raises SettingsError for unusable certificates."""
    return Server(_config(service, service.app, host, port), service)


def debug_server_for(service: Service, host: str, port: int) -> uvicorn.Server:
    """Return a uvicorn server for the debug API and the web UI alone. Raises SettingsError for unusable certificates."""
    return Server(_config(service, service.debug_app, host, port), service)


class Server(uvicorn.Server):
    """A server that keeps the feed of the web UI running, and ends its streams before it waits for open requests."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port."""
        feed = self._service.feed
        if feed.start():
            self._service.supervisor.start("live view", feed.run, feed.stopped)
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port, wait for open requests some seconds, and end the questions that are not answered by then."""
        self._service.feed.close()
        await super().shutdown(sockets)
        self._service.long_work.end_all()


def _config(service: Service, app: ASGIApp, host: str, port: int) -> uvicorn.Config:
    """Return the configuration of a server. Raises SettingsError for unusable certificates."""
    settings = service.settings.server
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level=settings.log_level,
        access_log=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=5,
    )
    if settings.tls != Tls():
        tls = ServerTls(settings.tls)
        config.load()
        config.ssl = tls.context
    return config


SWITCH_SECONDS = 0.0005
"""After this time a verb that arrives while state is folded gets the interpreter; Python's default of 5 ms exceeds a verb's own time."""


def _return_free_memory() -> None:
    """Return the memory that listing has used and freed to the operating system, where the C library is glibc."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def settle_process(service: Service) -> None:
    """Prepare a process that serves, before its source starts: set short thread switches and rare garbage collections.

    A full collection visits every object; with thousands of nodes it pauses a verb for a quarter of a second. So they are rare while the
    cluster is listed. Once it is listed, its objects are frozen, as they live as long as the process anyway; no collection runs before,
    because listing makes hardly any garbage in cycles.
    """

    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(20_000, 20, 50)

    def settle() -> None:
        while not service.store.snapshot.synced:
            time.sleep(0.1)
        gc.freeze()
        _return_free_memory()

    threading.Thread(target=settle, name="settle-memory", daemon=True).start()
