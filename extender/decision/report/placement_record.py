"""The record of a decision that is written to the pod: node, predicted sets, bandwidths and id, as JSON and as a sentence.

The id is a hash of the decision, so that replicas of the extender that decide the same write the same record.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec

from extender.decision.evaluate.verdict import Evidence, Prospect
from topology.devices.size_mix import as_recorded

MOST_SETS = 4
"""Predicted sets in a record, most probable first."""

RECONSTRUCTED = ", reconstructed after the binding: pods that ended in between are not known"

_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class PlacementRecord:
    """A decision about one pod."""

    id: str
    node: str
    evidence: Evidence
    is_reconstructed: bool = False
    """Whether the record was made after the binding, from the state at that time: pods that ended in between do not count."""

    def as_json(self) -> str:
        """Return the record as JSON, for the annotation."""
        return _encode(self.as_data()).decode()

    def as_data(self) -> dict[str, Any]:
        """Return the record as plain data."""
        evidence = self.evidence
        sets = evidence.prospects[:MOST_SETS]
        further, further_probability = further_sets(evidence, MOST_SETS)
        steered: dict[str, Any] = {}
        if evidence.containers is not None:
            steered = {"containers": [list(gpus) for gpus in evidence.containers], "messages": evidence.steered_for}
        if evidence.size_mix is not None:
            steered["sizeMix"] = as_recorded(evidence.size_mix)
        return {
            **steered,
            "id": self.id,
            "node": self.node,
            "expectedGbps": evidence.expected_gbps,
            "worstGbps": min((prospect.busbw_gbps for prospect in evidence.prospects if prospect.busbw_gbps is not None), default=None),
            "predicted": [_set_data(prospect) for prospect in sets],
            "furtherSets": further,
            "furtherProbability": further_probability,
            "notes": list(evidence.notes),
        }

    def as_sentence(self) -> str:
        """Return the record as a sentence, for an event."""
        evidence = self.evidence
        end = f"(decision {self.id}{RECONSTRUCTED if self.is_reconstructed else ''})"
        if not evidence.prospects:
            return f"placed on {self.node}: {'; '.join(evidence.notes) or 'topology unknown'} {end}"
        sets = ", ".join(map(_set_text, evidence.prospects[:MOST_SETS]))
        further, further_probability = further_sets(evidence, MOST_SETS)
        more = f" and {further} more ({further_probability:.0%})" if further else ""
        speed = "one GPU" if evidence.expected_gbps is None else f"{evidence.expected_gbps:.1f} GB/s expected"
        return f"placed on {self.node}: GPUs {sets}{more}, {speed} {end}"


def further_sets(evidence: Evidence, shown: int) -> tuple[int, float]:
    """Return the number of sets after the first `shown` prospects, and the probability that the pod gets one of them."""
    hidden = evidence.prospects[shown:]
    return len(hidden) + evidence.further_sets, round(sum(prospect.probability for prospect in hidden) + evidence.further_probability, 6)


def _set_data(prospect: Prospect) -> dict[str, Any]:
    data: dict[str, Any] = {"gpus": list(prospect.gpus), "probability": prospect.probability, "gbps": prospect.busbw_gbps}
    return data if prospect.most_busbw_gbps is None else {**data, "mostGbps": prospect.most_busbw_gbps}


def _set_text(prospect: Prospect) -> str:
    """Return one set with its probability, and its lowest and highest GB/s where they depend on the division between containers."""
    text = f"{{{','.join(map(str, prospect.gpus))}}} {prospect.probability:.0%}"
    if prospect.most_busbw_gbps is None:
        return text
    return f"{text} ({prospect.busbw_gbps:.1f} to {prospect.most_busbw_gbps:.1f} GB/s)"


def placement_record_of(key: str, node: str, evidence: Evidence) -> PlacementRecord:
    """Return the record of the decision that the pod with uid `key` goes to `node`."""
    sets = [(prospect.gpus, prospect.probability, prospect.busbw_gbps, prospect.most_busbw_gbps) for prospect in evidence.prospects]
    return PlacementRecord(sha256(repr((key, node, sets, evidence.further_sets, evidence.notes)).encode()).hexdigest()[:12], node, evidence)
