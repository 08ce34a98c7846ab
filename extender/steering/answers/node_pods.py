"""The pods of one node, followed at the API server: a list, then a watch, both by the node's name."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import urlencode

import msgspec
import urllib3

from extender.kube.small_connection import Connection
from extender.steering.choice.waiting_pods import DECISION, ENDED, NodePod, node_pod
from topology.devices.size_mix import MOST_DECISION_CHARACTERS

log = logging.getLogger("fabricwise.steering")

MOST_PODS = 1_024
"""Pods of one node that are kept; the kubelet's own default is 110."""

_WATCH_SECONDS = 240
_SHORT_WATCH_SECONDS = 1.0
"""A watch that ends sooner, as behind a proxy that keeps none, is followed by a pause up to this: every node has a steerer."""
_MOST_PAUSE_SECONDS = 10.0
_MOST_LINE_BYTES = 4 << 20
_PAGE_PODS, _MOST_PAGE_BYTES = 128, 16 << 20
"""Pods of one answer to a list, and most bytes of it: a pod has some 10 KB, at most some 1.5 MB."""

_jitter = random.Random()
"""Its own, because a thread that draws from the shared one changes what others draw from it, such as Hypothesis."""


class NodePods:
    """The pods of a node that may wait for devices, as far as they are known. Follows the API server in a daemon thread."""

    def __init__(self, connect: Callable[[], Connection], node: str) -> None:
        """`connect` gives the connection to the API server; it is called in the thread: a start waits for no file of credentials."""
        self._connect, self._node = connect, node
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._pods: dict[str, dict[str, Any]] = {}
        self.error: str | None = "the pods of the node are not listed yet"
        """Why the pods may be unknown or old; None while they are followed."""

    @property
    def are_followed(self) -> bool:
        """Whether a new pod will be known in a moment."""
        return self.error is None

    def start(self) -> None:
        """Begin to follow; returns at once."""
        threading.Thread(target=self._follow, name="node-pods", daemon=True).start()

    def asking_for(self, resource: str) -> tuple[NodePod, ...]:
        """The pods that may wait for devices of the resource: neither ended nor, by their status, admitted."""
        with self._lock:
            manifests = list(self._pods.values())
        return tuple(pod for manifest in manifests if (pod := node_pod(manifest, resource)) is not None)

    def _follow(self) -> None:
        failures = 0
        while True:
            try:
                self._connection = self._connection or self._connect()
                version = self._list()
                self.error, failures = None, 0
                until = time.monotonic() + _SHORT_WATCH_SECONDS
                self._watch(version)
                threading.Event().wait(max(0.0, until - time.monotonic()))
            except Exception as error:  # whatever it is: without the pods the answer is the function's
                failures += 1
                if self.error is None:
                    log.warning("the pods of node %s are not followed: %s", self._node, error)
                self.error = f"{type(error).__name__}: {error}"
                pause = min(_MOST_PAUSE_SECONDS, 0.1 * 2 ** min(failures, 10)) * _jitter.uniform(0.5, 1.0)
                threading.Event().wait(pause)

    def _list(self) -> str:
        """Take all pods anew, page by page; the version from which to watch. Raises what the client raises."""
        pods: dict[str, dict[str, Any]] = {}
        query = {"limit": str(_PAGE_PODS)}
        while True:
            with closing(self._get(query)) as response:
                document = response.read(_MOST_PAGE_BYTES + 1)
            if len(document) > _MOST_PAGE_BYTES:
                raise ValueError(f"a list of {_PAGE_PODS} pods has more than {_MOST_PAGE_BYTES} bytes")
            page = msgspec.json.decode(document)
            for item in page.get("items") or []:
                if len(pods) < MOST_PODS and _may_wait(item):
                    pods[item["metadata"]["uid"]] = kept_of(item)
            token = page["metadata"].get("continue")
            if not token:
                break
            query["continue"] = token
        with self._lock:
            self._pods = pods
        return str(page["metadata"]["resourceVersion"])

    def _watch(self, version: str) -> None:
        """Until the server ends it; the next list then begins anew. Raises what the client raises."""
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(_WATCH_SECONDS), "allowWatchBookmarks": "true"}
        rest = b""
        with closing(self._get(query)) as response:
            while chunk := response.read1():
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > _MOST_LINE_BYTES:
                    raise ValueError(f"an event has more than {_MOST_LINE_BYTES} bytes")
                for line in lines:
                    if line.strip():
                        self._take(msgspec.json.decode(line))

    def _take(self, event: dict[str, Any]) -> None:
        if event["type"] == "ERROR":
            raise ValueError(f"the watch ended: {event['object'].get('message')}")
        if event["type"] == "BOOKMARK":
            return
        uid = event["object"]["metadata"]["uid"]
        with self._lock:
            if event["type"] == "DELETED" or not _may_wait(event["object"]):
                self._pods.pop(uid, None)
            elif uid in self._pods or len(self._pods) < MOST_PODS:
                self._pods[uid] = kept_of(event["object"])

    def _get(self, query: dict[str, str]) -> urllib3.BaseHTTPResponse:
        assert self._connection is not None
        # pods that have ended stay at the API server, and may be many
        query = {**query, "fieldSelector": f"spec.nodeName={self._node},status.phase!=Succeeded,status.phase!=Failed"}
        response = self._connection.pool.request(
            "GET",
            f"{self._connection.url}/api/v1/pods?{urlencode(query)}",
            headers={"Accept": "application/json", **self._connection.headers()},
            preload_content=False,
            timeout=urllib3.Timeout(connect=5, read=_WATCH_SECONDS + 30),
            retries=False,
        )
        if response.status != 200:
            text = response.data[:300].decode(errors="replace")
            raise ValueError(f"the API server answered {response.status} to a list of the node's pods: {text}")
        return response


def _may_wait(manifest: dict[str, Any]) -> bool:
    """Whether a pod may wait for devices: neither ended nor, by its status, admitted. Others must take no room from those that may."""
    status = manifest.get("status") or {}
    return status.get("phase") not in ENDED and not status.get("startTime")


def kept_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """What `node_pod` reads of a manifest, and no more: of the annotations the decision alone, because others may be large."""
    metadata, spec, status = manifest["metadata"], manifest.get("spec") or {}, manifest.get("status") or {}
    kept = {name: metadata.get(name) for name in ("uid", "namespace", "name", "creationTimestamp")}
    decision = (metadata.get("annotations") or {}).get(DECISION)
    kept["annotations"] = {DECISION: decision} if isinstance(decision, str) and len(decision) <= MOST_DECISION_CHARACTERS else None

    def containers(name: str) -> list[dict[str, Any]]:
        return [{key: one.get(key) for key in ("name", "resources", "restartPolicy")} for one in spec.get(name) or []]

    return {
        "metadata": kept,
        "spec": {
            "nodeName": spec.get("nodeName"),
            "priority": spec.get("priority"),
            **{name: containers(name) for name in ("initContainers", "containers")},
        },
        "status": {name: status.get(name) for name in ("phase", "startTime", "conditions")},
    }
