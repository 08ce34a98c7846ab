"""The steerer of one node: it follows restarts of the kubelet and of the plugins, and keeps every resource registered.

What can happen, and what is done about it:

- The kubelet starts: it deletes all sockets and creates its own anew. All proxies are closed and the link is created anew, so that the
  plugins, whose sockets are gone too, restart and register.
- A plugin starts: it registers. Its resource gets a new proxy, which is registered with the kubelet.
- A plugin dies: its stream ends, and with it ours, so the kubelet sees what it would see without the steerer. One that starts anew makes
  its socket anew: it is served only once it registers here, because it may be pointed at the kubelet again.
- The kubelet does not listen although the plugin lives: the resource is registered again, with growing pauses.
- The kubelet counts no healthy device although it listens: up to Kubernetes 1.36 the late end of an older stream takes the newest one's
  devices away (kubernetes/kubernetes 121994). The resource is registered again.
- This process starts: it goes on with the connections of the process before it, where they are kept; see
  `extender.steering.kubelet_side`. Else the registrations of that process are read from a file, and registered with the kubelet at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc

from extender.steering.answers.chooser import Chooser
from extender.steering.device_plugin_api import KUBELET_SOCKET, Registration
from extender.steering.end_request import EndRequest
from extender.steering.kubelet_side.keeper import Keeper
from extender.steering.kubelet_side.kept_connections import KeptEndpoint
from extender.steering.kubelet_side.kubelet_registration import register_with_kubelet
from extender.steering.plugin_side.registration_server import OWN_ENDPOINTS, RegistrationServer
from extender.steering.proxies.counts import Counts
from extender.steering.proxies.plugin_proxy import PluginProxy
from extender.steering.proxies.saved_registrations import replace_file, save_registrations, saved_registrations
from topology.agent.pod_resources import PodResources, PodResourcesError

log = logging.getLogger("fabricwise.steering")

LOOK_SECONDS = 0.1
"""Pause between two looks at the sockets."""

REPORT_SECONDS = 2.0
"""The agent takes a report that is older than some of these for that of a steerer that has ended."""

_FIRST_PAUSE_SECONDS, _MOST_PAUSE_SECONDS = 0.1, 5.0
_UNHEARD_SECONDS = 1.0
"""So long after a registration the kubelet listens; else it is registered again."""

_CHECK_SECONDS, _CHECKS = 0.5, 6
"""How often, and how many times after a registration, the kubelet is asked whether it counts the devices."""

_MOST_RESOURCES = 32

_MOST_ARRIVED = 256
"""Registrations that wait for the loop; more are refused, and a plugin registers again."""

Identity = tuple[int, int]


@dataclass(slots=True)
class _Served:
    proxy: PluginProxy
    register_at: float
    """Monotonic time of the next registration, where the kubelet does not listen."""
    failures: int = 0
    check_at: float = 0.0
    """Monotonic time at which the kubelet is asked whether it counts the devices."""
    checks: int = 0
    """How often it is still asked after the last registration."""


@dataclass(slots=True)
class SteererState:
    """For health and metrics."""

    stop: EndRequest = field(default_factory=EndRequest)
    looked_at: float | None = None
    """Monotonic time of the last look."""


class Steerer:
    """One loop owns all state; other threads only hand registrations to it."""

    def __init__(
        self,
        folder: Path,
        shared: Path,
        chooser: Chooser,
        counts: Counts,
        version: str,
        monotonic: Callable[[], float] = time.monotonic,
        healthy: Callable[[str], int | None] = lambda _resource: None,
        keeper: Keeper | None = None,
    ) -> None:
        """`folder`: the kubelet's folder of device plugins. `shared`: the folder that the agent and this process share. `healthy`: how
        many devices of a resource the kubelet counts as healthy, None where it does not say. `keeper`: the kubelet's connections to a
        process before this one."""
        self._healthy = healthy
        self._keeper = keeper or Keeper()
        self._folder, self._shared, self._chooser, self._counts, self._version = folder, shared, chooser, counts, version
        self._monotonic = monotonic
        self._arrived: queue.Queue[Registration] = queue.Queue(_MOST_ARRIVED)
        self._served: dict[str, _Served] = {}
        self._unserved: dict[str, tuple[Registration, float]] = {}
        """Registrations that could not be served, as where the disk is full, and the monotonic time of the next try."""
        self._number = 0
        self._kubelet: Identity | None = None
        self._reported_at, self._report = float("-inf"), b""
        self.state = SteererState()

    def run(self) -> None:
        """Until `state.stop` is made. Raises OSError where the folders cannot be used."""
        self._shared.mkdir(parents=True, exist_ok=True)
        for left_behind in self._folder.glob(f"{OWN_ENDPOINTS}*.sock"):
            if left_behind.name not in self._keeper.kept.endpoints:
                left_behind.unlink(missing_ok=True)
        self._kubelet = _identity(self._folder / KUBELET_SOCKET)
        server = RegistrationServer(self._folder, self._arrives)
        try:
            self._restore()
            if not server.is_linked:
                server.link()
            while not self.state.stop.is_made:
                self._look(server)
                self.state.looked_at = self._monotonic()
                self._wait()
        finally:
            server.close(unlink=False)
            if not self._keeper.is_kept_elsewhere:
                for served in self._served.values():
                    served.proxy.close()

    def _arrives(self, registration: Registration) -> bool:
        """Whether a registration is taken."""
        try:
            self._arrived.put_nowait(registration)
        except queue.Full:
            return False
        return True

    def _wait(self) -> None:
        """Until the next look, or until a plugin registers."""
        with contextlib.suppress(queue.Empty):
            self._take(self._arrived.get(timeout=LOOK_SECONDS))

    def _look(self, server: RegistrationServer) -> None:
        identity = _identity(self._folder / KUBELET_SOCKET)
        if identity is not None and (identity != self._kubelet or not server.is_linked):
            log.info("the kubelet started anew: the plugins are to register again")
            self._kubelet = identity
            for served in self._served.values():
                served.proxy.close()
            self._served.clear()
            self._unserved.clear()
            server.link()
        arrived = [self._arrived.get_nowait() for _ in range(self._arrived.qsize())]  # not those that arrive meanwhile
        for registration in {one.resource: one for one in arrived}.values():
            self._take(registration)
        self._serve_unserved()
        if identity is not None:
            self._register_unheard()
            self._register_uncounted()
        self._write_report()

    def _take(self, registration: Registration) -> None:
        """Serve a plugin that registers, in place of the one before it, and register with the kubelet."""
        log.info("plugin %s registered for %s", registration.endpoint, registration.resource)
        registration = replace(registration, socket_made=_identity(self._folder / registration.endpoint))
        before = self._served.pop(registration.resource, None)
        if before is not None:
            before.proxy.close()
        elif registration.resource not in self._unserved and len(self._served) + len(self._unserved) >= _MOST_RESOURCES:
            log.error("more than %d resources: %s is not served", _MOST_RESOURCES, registration.resource)
            return
        self._serve(registration)
        kept = [served.proxy.registration for served in self._served.values()] + [one for one, _ in self._unserved.values()]
        save_registrations(self._shared, kept)

    def _serve(self, registration: Registration) -> None:
        self._number += 1
        self._unserved.pop(registration.resource, None)
        # never a name again: a server that ends late removes the socket of its name; short: 107 characters are the most for a whole path
        endpoint = f"{OWN_ENDPOINTS}{os.getpid()}-{self._number}.sock"
        try:
            proxy = PluginProxy(registration, self._folder, endpoint, self._chooser, self._counts, self._keeper)
        except OSError as error:
            log.error("%s is not served, next try in %.1f s: %s", registration.resource, _MOST_PAUSE_SECONDS, error)
            self._unserved[registration.resource] = registration, self._monotonic() + _MOST_PAUSE_SECONDS
            return
        self._served[registration.resource] = served = _Served(proxy, self._monotonic())
        self._register(served)

    def _serve_unserved(self) -> None:
        now = self._monotonic()
        for registration, next_try in list(self._unserved.values()):
            if now >= next_try:
                self._serve(registration)

    def _register_unheard(self) -> None:
        now = self._monotonic()
        for served in self._served.values():
            if not served.proxy.is_listened_to and now >= served.register_at and self._still_answers(served.proxy.registration):
                self._register(served)

    def _register_uncounted(self) -> None:
        now = self._monotonic()
        for resource, served in list(self._served.items()):
            if not served.checks or now < served.check_at or not served.proxy.is_listened_to:
                continue
            served.checks, served.check_at = served.checks - 1, now + _CHECK_SECONDS
            if served.proxy.healthy and self._healthy(resource) == 0:
                log.warning("the kubelet counts no healthy device of %s although the plugin lists %d", resource, served.proxy.healthy)
                del self._served[resource]
                served.proxy.close()
                self._serve(served.proxy.registration)

    def _register(self, served: _Served) -> None:
        registration, now = served.proxy.registration, self._monotonic()
        try:
            register_with_kubelet(self._folder, registration, served.proxy.endpoint)
        except grpc.RpcError as error:
            pause = min(_MOST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(served.failures, 10))
            log.warning("%s is not registered with the kubelet, next try in %.1f s: %s", registration.resource, pause, error)
        else:
            pause = min(_MOST_PAUSE_SECONDS, _UNHEARD_SECONDS * 2.0 ** min(served.failures, 10))
            self._counts.registered(registration.resource)
            served.checks, served.check_at = _CHECKS, now + _CHECK_SECONDS
            log.info("registered %s with the kubelet", registration.resource)
        served.failures = 0 if served.proxy.is_listened_to else served.failures + 1
        served.register_at = now + pause

    def _restore(self) -> None:
        """Serve the plugins that registered with the process before this one, and still answer: on its connections, where they are kept."""
        for name, kept in list(self._keeper.kept.endpoints.items()):
            self._go_on(name, kept)
        for registration in saved_registrations(self._shared)[:_MOST_RESOURCES]:
            if registration.resource in self._served:
                continue
            if "/" not in registration.endpoint and self._still_answers(registration):
                log.info("plugin %s registered before for %s", registration.endpoint, registration.resource)
                self._serve(registration)

    def _go_on(self, name: str, kept: KeptEndpoint) -> None:
        """Serve an endpoint of the process before this one: the kubelet notices nothing."""
        registration = Registration(kept.listens.resource, kept.listens.plugin, kept.listens.options, kept.listens.plugin_socket_made)
        # a kubelet that started meanwhile has deleted the socket, and knows nothing of the endpoint
        is_known = (self._folder / name).is_socket() and registration.resource not in self._served
        if not is_known or not self._still_answers(registration):
            self._keeper.end(name)
            return
        log.info("plugin %s registered before for %s, and the kubelet listens", registration.endpoint, registration.resource)
        proxy = PluginProxy(registration, self._folder, name, self._chooser, self._counts, self._keeper, kept)
        self._served[registration.resource] = _Served(proxy, self._monotonic() + _UNHEARD_SECONDS)

    def _still_answers(self, registration: Registration) -> bool:
        """Whether the plugin that registered listens, and not one that was started after it and has not registered here."""
        path = self._folder / registration.endpoint
        return registration.socket_made in (None, _identity(path)) and _answers(path)

    def _write_report(self) -> None:
        now = self._monotonic()
        report = self._counts.report(self._version, time.time())
        told = report.partition(b'"resources"')[2]
        if told != self._report or now >= self._reported_at + REPORT_SECONDS:
            replace_file(self._shared / "steering.json", report)
            self._reported_at, self._report = now, told


def healthy_devices(kubelet: PodResources, resource: str) -> int | None:
    """How many devices of a resource the kubelet counts as healthy; None where it does not answer."""
    try:
        return sum(len(one.device_ids) for one in kubelet.allocatable() if one.resource == resource)
    except PodResourcesError:
        return None


def _identity(path: Path) -> Identity | None:
    """What tells a socket from the next one of its name; None while there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_ctime_ns


def _answers(path: Path) -> bool:
    """Whether a process listens on a socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
