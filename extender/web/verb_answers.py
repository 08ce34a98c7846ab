"""The answers of filter and prioritize about thousands of nodes, encoded without an object per node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress

import numpy as np

from extender.decision.evaluate.by_name.node_names import NodeNames
from extender.decision.evaluate.by_name.node_verdicts import FEASIBLE, NodeVerdicts, reason_of
from extender.web import wire


def filter_answer(named: wire.NamedNodes, verdicts: NodeVerdicts) -> tuple[bytes, NodeNames, bytes]:
    """Return (the encoded result of filter, the names that pass, these as JSON). `verdicts`: one per name, in order."""
    names, feasible = named.names, verdicts.feasible
    passed, passed_json = names, named.json
    if not feasible.all():
        passed = names.chosen(feasible)
        passed_json = wire.encode(passed.texts)
    reasons = [(reason_of(code), list(compress(names.texts, (verdicts.codes == code).tolist()))) for code in _codes(verdicts)]
    if named.nodes is not None or not named.is_plain:
        return wire.encode(_typed(named, passed, reasons)), passed, passed_json
    failed, unresolvable = (_object((group, text) for (text, able), group in reasons if able is wanted) for wanted in (True, False))
    answer = b'{"Nodes":null,"NodeNames":%b,"FailedNodes":%b,"FailedAndUnresolvableNodes":%b,"Error":""}'
    return answer % (passed_json, failed, unresolvable), passed, passed_json


def every_node_passes(named: wire.NamedNodes) -> bytes:
    """Return the encoded result of filter where every node passes."""
    return wire.encode(_typed(named, named.names, ()))


def prioritize_answer(names: Sequence[str], scores: Iterable[int]) -> bytes:
    """Return the encoded result of prioritize: `scores` has one per name."""
    return wire.encode(list(map(wire.HostPriority, names, scores)))


def _codes(verdicts: NodeVerdicts) -> list[int]:
    """Return the codes of the rejections that occur."""
    counts = np.bincount(verdicts.codes)
    counts[FEASIBLE : FEASIBLE + 1] = 0
    codes: list[int] = np.flatnonzero(counts).tolist()
    return codes


def _typed(named: wire.NamedNodes, passed: NodeNames, reasons: Iterable[tuple[tuple[str, bool], list[str]]]) -> wire.ExtenderFilterResult:
    """Return the result of filter as an object, in the field that the request used: Nodes or NodeNames."""
    failed: dict[str, str] = {}
    unresolvable: dict[str, str] = {}
    for (text, resolvable), names in reasons:
        (failed if resolvable else unresolvable).update(dict.fromkeys(names, text))
    if named.nodes is None:
        return wire.ExtenderFilterResult(None, list(passed.texts), failed, unresolvable)
    return wire.ExtenderFilterResult(wire.EchoedNodes([named.nodes[name] for name in passed.texts]), None, failed, unresolvable)


def _object(groups: Iterable[tuple[list[str], str]]) -> bytes:
    """Return the JSON object from each name of a group to the text of the group. Names and texts must need no escape in JSON."""
    parts = [('":"' + text + '","').join(names) + '":"' + text for names, text in groups]
    return ('{"' + '","'.join(parts) + '"}').encode() if parts else b"{}"
