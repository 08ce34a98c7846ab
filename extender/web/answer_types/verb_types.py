"""The types of the verbs' bodies where `extender.web.wire`, which leaves parts undecoded, does not state them."""

from __future__ import annotations

from typing import Any

import msgspec

from extender.decision.request.kubernetes_objects import Pod


class NodeName(msgspec.Struct, frozen=True):
    """The metadata of a Node, of which the name is read."""

    name: str


class SentNode(msgspec.Struct, frozen=True):
    """A whole v1 Node, which filter echoes unchanged."""

    metadata: NodeName
    spec: dict[str, Any] | None = None
    status: dict[str, Any] | None = None


class SentNodes(msgspec.Struct, frozen=True):
    """A v1 NodeList."""

    items: list[SentNode] | None = None


class ExtenderArgs(msgspec.Struct, frozen=True, rename="pascal"):
    """Arguments of filter and prioritize: `NodeNames` with nodeCacheCapable, `Nodes` without."""

    pod: Pod
    nodes: SentNodes | None = None
    node_names: list[str] | None = None
