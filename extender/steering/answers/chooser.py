"""The choice of devices within its time limit: facts from the agent's file, pods from the API server, allocations from the kubelet."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Protocol

from extender.steering.choice.device_choice import Answer, Reason, Request, choose, not_for_us
from extender.steering.choice.waiting_pods import NodePod, Waiting, waiting
from topology.agent.pod_resources import PodResources, PodResourcesError
from topology.devices.facts_file import DeviceFacts

log = logging.getLogger("fabricwise.steering")

LIMIT_SECONDS = 0.1
"""After so long NVIDIA's answer is forwarded: the kubelet has no time limit of its own, and admits one pod after another."""

POD_SECONDS = 0.05
"""So long a pod is waited for that the kubelet has seen and this process has not: both follow the API server, in no order."""


class Pods(Protocol):
    """The pods of this node."""

    @property
    def are_followed(self) -> bool:
        """Whether a new pod will be known in a moment."""

    def asking_for(self, resource: str) -> tuple[NodePod, ...]:
        """Those that may wait for devices of the resource: neither ended nor, by their status, admitted."""


class Chooser:
    """Answers requests. Called from several threads at once."""

    def __init__(self, facts: Callable[[], DeviceFacts | Reason], pods: Pods | None, kubelet: PodResources | None) -> None:
        """`pods` None: no decision is known, and the answer is always the function's. So it is where `kubelet` does not answer."""
        self._facts, self._pods, self._kubelet = facts, pods, kubelet
        self._waited_in_vain: tuple[NodePod, ...] | None = None
        """The pods that were known when one was waited for and did not come: while there are no others, none is waited for."""
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="choose")

    def choose(self, resource: str, request: Request, limit_seconds: float = LIMIT_SECONDS) -> Answer | Reason:
        """The answer, or why NVIDIA's is to be forwarded. Raises nothing."""
        other = not_for_us(request)
        if other is not None:
            return other
        choice = self._threads.submit(self._choose, resource, request)
        try:
            return choice.result(timeout=limit_seconds)
        except FutureTimeoutError:
            choice.cancel()  # one that is not begun would take its time from the next request
            return Reason.TIMEOUT
        except Exception:
            log.exception("the choice failed, NVIDIA's answer is forwarded")
            return Reason.ERROR

    def _choose(self, resource: str, request: Request) -> Answer | Reason:
        facts = self._facts()
        return facts if isinstance(facts, Reason) else choose(request, facts, self._candidates(resource, request.size))

    def _candidates(self, resource: str, size: int) -> tuple[Waiting, ...]:
        """The containers that may be the one that asks. Some is waited for; see `POD_SECONDS`."""
        if self._pods is None or self._kubelet is None:
            return ()
        until, seen = time.monotonic() + POD_SECONDS, None
        found: tuple[Waiting, ...] = ()
        while True:
            pods = self._pods.asking_for(resource)
            if pods != seen:
                found, seen = self._candidates_among(pods, self._kubelet, resource, size), pods
            if found or not self._pods.are_followed or pods == self._waited_in_vain:
                return found
            if time.monotonic() > until:
                self._waited_in_vain = pods
                return found
            time.sleep(0.002)

    def _candidates_among(self, pods: tuple[NodePod, ...], kubelet: PodResources, resource: str, size: int) -> tuple[Waiting, ...]:
        """The same of the pods that are known now."""
        if not any(step.size == size for pod in pods for step in pod.steps):
            return ()
        try:
            allocated = kubelet.list()
        except PodResourcesError as error:
            log.warning("%s: decisions about pods are not used", error)
            return ()
        served: dict[tuple[str, str], set[str]] = {}
        for devices in allocated:
            if devices.resource == resource and devices.device_ids:
                served.setdefault((devices.namespace, devices.pod), set()).add(devices.container)
        return waiting(pods, served, size)
