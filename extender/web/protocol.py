"""The extender's wire format: Go structs without JSON tags, so capitalised keys and explicit nulls.

Source: kubernetes 1.36 `staging/src/k8s.io/kube-scheduler/extender/v1/types.go`. Unknown fields are accepted.
"""

from __future__ import annotations

import msgspec

from extender.decision.objects import Pod
from extender.errors import RequestError


class NodeList(msgspec.Struct, frozen=True):
    """v1 NodeList, items kept as they came, to be echoed."""

    items: list[msgspec.Raw] | None = None


class ExtenderArgs(msgspec.Struct, frozen=True, rename="pascal"):
    """Arguments of filter and prioritize. `node_names` with nodeCacheCapable, `nodes` without."""

    pod: Pod
    nodes: NodeList | None = None
    node_names: list[str] | None = None


class EchoedNodes(msgspec.Struct, frozen=True):
    """A NodeList to send back."""

    items: list[msgspec.Raw]
    metadata: dict[str, str] = {}


class ExtenderFilterResult(msgspec.Struct, frozen=True, rename="pascal"):
    """Result of filter; every field always present."""

    nodes: EchoedNodes | None = None
    node_names: list[str] | None = None
    failed_nodes: dict[str, str] = {}
    failed_and_unresolvable_nodes: dict[str, str] = {}
    error: str = ""


class HostPriority(msgspec.Struct, frozen=True, rename="pascal", gc=False):
    """One entry of prioritize's bare array; the score is an integer 0..10. Thousands per answer, none in a cycle: no GC."""

    host: str
    score: int


class _ItemMeta(msgspec.Struct, frozen=True):
    name: str


class _Item(msgspec.Struct, frozen=True):
    metadata: _ItemMeta


_ARGS = msgspec.json.Decoder(ExtenderArgs)
_ITEM = msgspec.json.Decoder(_Item)
encode = msgspec.json.Encoder().encode


def decode_args(body: bytes) -> ExtenderArgs:
    """Raises RequestError naming the field."""
    try:
        return _ARGS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"request body is not ExtenderArgs: {error}") from error


def named_nodes(args: ExtenderArgs) -> dict[str, msgspec.Raw | None]:
    """Candidate name -> the Node to echo (None where only names came), in order, each name once."""
    if args.node_names is not None:
        return dict.fromkeys(args.node_names)
    named: dict[str, msgspec.Raw | None] = {}
    for place, item in enumerate(args.nodes.items or [] if args.nodes else []):
        try:
            named.setdefault(_ITEM.decode(item).metadata.name, item)
        except (msgspec.DecodeError, RecursionError) as error:
            raise RequestError(f"request body: Nodes.items[{place}]: {error}") from error
    return named
