"""The record of a decision as it is left on the pod: node, predicted sets, bandwidths, id. As JSON for machines, as a sentence for people.

The id is made of what was decided, so that whoever decides alike, whichever replica it is, writes the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec

from extender.decision.evaluate.verdict import Evidence, Prospect

MOST_SETS = 4
"""Predicted sets that are written down, likeliest first."""

RECONSTRUCTED = ", reconstructed after the binding: pods that ended in between are not known"

_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class PlacementRecord:
    """A decision about one pod."""

    id: str
    node: str
    evidence: Evidence
    is_reconstructed: bool = False
    """Whether it was made after the binding, of what was known then: pods that had ended in between are not reckoned with."""

    def as_json(self) -> str:
        """For the annotation."""
        return _encode(self.as_data()).decode()

    def as_data(self) -> dict[str, Any]:
        """Plain data."""
        evidence = self.evidence
        sets = evidence.prospects[:MOST_SETS]
        further, further_probability = further_sets(evidence, MOST_SETS)
        containers = {} if evidence.containers is None else {"containers": [list(gpus) for gpus in evidence.containers]}
        return {
            **containers,
            "id": self.id,
            "node": self.node,
            "expectedGbps": evidence.expected_gbps,
            "worstGbps": min((one.busbw_gbps for one in evidence.prospects if one.busbw_gbps is not None), default=None),
            "predicted": [_set_data(prospect) for prospect in sets],
            "furtherSets": further,
            "furtherProbability": further_probability,
            "notes": list(evidence.notes),
        }

    def as_sentence(self) -> str:
        """For an event."""
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
    """How many sets the pod may get beside the first `shown`, and the chance that it gets one of them."""
    hidden = evidence.prospects[shown:]
    return len(hidden) + evidence.further_sets, round(sum(prospect.probability for prospect in hidden) + evidence.further_probability, 6)


def _set_data(prospect: Prospect) -> dict[str, Any]:
    data: dict[str, Any] = {"gpus": list(prospect.gpus), "probability": prospect.probability, "gbps": prospect.busbw_gbps}
    return data if prospect.most_busbw_gbps is None else {**data, "mostGbps": prospect.most_busbw_gbps}


def _set_text(prospect: Prospect) -> str:
    """One set with its chance, and its speeds where they depend on which container gets which of its GPUs."""
    text = f"{{{','.join(map(str, prospect.gpus))}}} {prospect.probability:.0%}"
    if prospect.most_busbw_gbps is None:
        return text
    return f"{text} ({prospect.busbw_gbps:.1f} to {prospect.most_busbw_gbps:.1f} GB/s)"


def placement_record_of(key: str, node: str, evidence: Evidence) -> PlacementRecord:
    """The record of a pod's placement."""
    sets = [(one.gpus, one.probability, one.busbw_gbps, one.most_busbw_gbps) for one in evidence.prospects]
    return PlacementRecord(sha256(repr((key, node, sets, evidence.further_sets, evidence.notes)).encode()).hexdigest()[:12], node, evidence)
