"""The extender's wire format: Go structs without JSON tags, so capitalised keys and explicit nulls.

Source: kubernetes 1.36 `staging/src/k8s.io/kube-scheduler/extender/v1/types.go`. Unknown fields are accepted.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import msgspec

from extender.decision.cycle.preemption import Candidate
from extender.decision.evaluate.by_name.node_names import NodeNames
from extender.decision.request.kubernetes_objects import Node, Pod
from extender.errors import RequestError

MOST_SENT_NODES = 1_000
"""Whole Nodes of one call that are evaluated although the watch does not know them; further ones are refused as unknown."""


class NodeList(msgspec.Struct, frozen=True):
    """A v1 NodeList; its items stay undecoded, because filter echoes them."""

    items: list[msgspec.Raw] | None = None


class ExtenderArgs(msgspec.Struct, frozen=True, rename="pascal"):
    """Arguments of filter and prioritize: `node_names` with nodeCacheCapable, `nodes` without."""

    pod: Pod
    nodes: NodeList | None = None
    node_names: msgspec.Raw = msgspec.Raw(b"null")
    """A list of strings or null, not decoded; see `named_nodes`."""


class EchoedNodes(msgspec.Struct, frozen=True):
    """A NodeList in an answer."""

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
    """One entry of prioritize's bare array; the score is an integer from 0 to 10.

    Not tracked by the garbage collector: an answer has thousands, and none is part of a reference cycle.
    """

    host: str
    score: int


class MetaPod(msgspec.Struct, frozen=True):
    """A pod by its uid alone."""

    uid: str = msgspec.field(default="", name="UID")


class MetaVictims(msgspec.Struct, frozen=True):
    """The pods that preemption would evict from a node, by uid: kube-scheduler sends them with nodeCacheCapable."""

    pods: list[MetaPod] | None = msgspec.field(default=None, name="Pods")
    pdb_violations: int = msgspec.field(default=0, name="NumPDBViolations")


class Victims(msgspec.Struct, frozen=True):
    """The pods that preemption would evict from a node, as whole pods: kube-scheduler sends them without nodeCacheCapable."""

    pods: list[Pod] | None = msgspec.field(default=None, name="Pods")
    pdb_violations: int = msgspec.field(default=0, name="NumPDBViolations")


class ExtenderPreemptionArgs(msgspec.Struct, frozen=True, rename="pascal"):
    """Arguments of preempt: kube-scheduler sends one of the two maps."""

    pod: Pod
    node_name_to_victims: dict[str, Victims | None] | None = None
    node_name_to_meta_victims: dict[str, MetaVictims | None] | None = None


class ExtenderPreemptionResult(msgspec.Struct, frozen=True, rename="pascal"):
    """Result of preempt, for both maps. Empty: no pod is to be evicted."""

    node_name_to_meta_victims: dict[str, MetaVictims] = {}


class ExtenderBindingArgs(msgspec.Struct, frozen=True, rename="pascal"):
    """Arguments of bind."""

    pod_name: str
    node: str
    pod_namespace: str = ""
    pod_uid: str = msgspec.field(default="", name="PodUID")


class ExtenderBindingResult(msgspec.Struct, frozen=True, rename="pascal"):
    """Result of bind; an empty error: the pod is bound."""

    error: str = ""


class _ItemMeta(msgspec.Struct, frozen=True):
    name: str


class _Item(msgspec.Struct, frozen=True):
    metadata: _ItemMeta


_ARGS = msgspec.json.Decoder(ExtenderArgs)
_PREEMPTION = msgspec.json.Decoder(ExtenderPreemptionArgs)
_BINDING = msgspec.json.Decoder(ExtenderBindingArgs)
_NAMES: msgspec.json.Decoder[list[str] | None] = msgspec.json.Decoder(list[str] | None)
_ITEM = msgspec.json.Decoder(_Item)
_NODE = msgspec.json.Decoder(Node, strict=False)
encode = msgspec.json.Encoder().encode


def _not_a(kind: str, problem: object) -> str:
    return f"request body is not {kind}: {problem}; /docs has an example, k8s.io/kube-scheduler/extender/v1 the type"


def decode_args(body: bytes) -> ExtenderArgs:
    """Return the decoded arguments. Raises RequestError naming the field."""
    try:
        return _ARGS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(_not_a("ExtenderArgs", error)) from error


def decode_preemption(body: bytes) -> ExtenderPreemptionArgs:
    """Return the decoded arguments. Raises RequestError naming the field."""
    try:
        return _PREEMPTION.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(_not_a("ExtenderPreemptionArgs", error)) from error


def decode_binding(body: bytes) -> ExtenderBindingArgs:
    """Return the decoded arguments. Raises RequestError naming the field."""
    try:
        args = _BINDING.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(_not_a("ExtenderBindingArgs", error)) from error
    for name, value in (("PodName", args.pod_name), ("PodUID", args.pod_uid), ("Node", args.node)):
        if not value:
            raise RequestError(_not_a("ExtenderBindingArgs", f"{name} is empty"))
    return args


def candidates_of(args: ExtenderPreemptionArgs) -> list[Candidate]:
    """Return the candidate nodes with the uids of their victims, in order; without nodes that have no victims."""
    victims: dict[str, tuple[list[str], int]] = {}
    for node, meta in (args.node_name_to_meta_victims or {}).items():
        victims[node] = ([pod.uid for pod in meta.pods or ()], meta.pdb_violations) if meta else ([], 0)
    for node, whole in (args.node_name_to_victims or {}).items():
        victims.setdefault(node, ([pod.metadata.uid for pod in whole.pods or ()], whole.pdb_violations) if whole else ([], 0))
    return [Candidate(node, tuple(dict.fromkeys(uids)), violations) for node, (uids, violations) in victims.items() if uids]


def preemption_result(candidates: Sequence[Candidate]) -> ExtenderPreemptionResult:
    """Return the result that names these candidates and their victims."""
    return ExtenderPreemptionResult(
        {one.node: MetaVictims([MetaPod(uid) for uid in one.victims], one.pdb_violations) for one in candidates}
    )


@dataclass(frozen=True, slots=True)
class NamedNodes:
    """The candidate nodes of a request."""

    names: NodeNames
    """Each once, in order."""
    json: bytes
    """The names as a JSON array."""
    is_plain: bool
    """Whether no name needs an escape in JSON."""
    nodes: dict[str, msgspec.Raw] | None = None
    """Name -> the Node to echo; None where only names were sent."""


def named_nodes(args: ExtenderArgs) -> NamedNodes:
    """Return the candidate nodes of a request. Raises RequestError naming the field."""
    encoded = bytes(args.node_names)
    texts = _names(encoded)
    if texts is None:
        nodes = _sent_nodes(args)
        return NamedNodes(NodeNames(list(nodes)), b"[]", False, nodes if args.nodes is not None else None)
    if len(set(texts)) != len(texts):
        texts = list(dict.fromkeys(texts))
        encoded = encode(texts)
    return NamedNodes(NodeNames(texts), encoded, b"\\" not in encoded)


def _names(encoded: bytes) -> list[str] | None:
    try:
        return _NAMES.decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        where = str(error).replace("`$", "`$.NodeNames") if "`$" in str(error) else f"{error} - at `$.NodeNames`"
        raise RequestError(_not_a("ExtenderArgs", where)) from error


def _sent_nodes(args: ExtenderArgs) -> dict[str, msgspec.Raw]:
    """Return name -> Node, each once and in order."""
    nodes: dict[str, msgspec.Raw] = {}
    for index, item in enumerate(args.nodes.items or [] if args.nodes else []):
        try:
            nodes.setdefault(_ITEM.decode(item).metadata.name, item)
        except (msgspec.DecodeError, RecursionError) as error:
            raise RequestError(
                f"request body: Nodes.items[{index}]: {error}: send whole Nodes, or NodeNames (nodeCacheCapable: true)"
            ) from error
    return nodes


def unknown_nodes(named: NamedNodes, known: Container[str]) -> dict[str, Node]:
    """Return the Nodes of a request that are not known, at most `MOST_SENT_NODES`; those that cannot be decoded are left out.

    `known`: names of the nodes that the watch knows.
    """
    nodes: dict[str, Node] = {}
    for name, item in (named.nodes or {}).items():
        if name not in known and len(nodes) < MOST_SENT_NODES:
            try:
                nodes[name] = _NODE.decode(item)
            except (msgspec.DecodeError, RecursionError):
                continue
    return nodes
