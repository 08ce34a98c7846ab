"""The record of a decision as it is left on the pod: node, predicted sets, bandwidths, id. As JSON for machines, as a sentence for people.

The id is made of what was decided, so that whoever decides alike, whichever replica it is, writes the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec

from extender.decision.verdict import Evidence

MOST_SETS = 4
"""Predicted sets that are written down, likeliest first."""

_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class Record:
    """A decision about one pod."""

    id: str
    node: str
    evidence: Evidence

    def as_json(self) -> str:
        """For the annotation."""
        return _encode(self.as_data()).decode()

    def as_data(self) -> dict[str, Any]:
        """Plain data."""
        evidence = self.evidence
        sets = evidence.prospects[:MOST_SETS]
        return {
            "id": self.id,
            "node": self.node,
            "expectedGbps": evidence.expected_gbps,
            "worstGbps": min((one.busbw_gbps for one in evidence.prospects if one.busbw_gbps is not None), default=None),
            "predicted": [{"gpus": list(one.gpus), "probability": one.probability, "gbps": one.busbw_gbps} for one in sets],
            "notes": list(evidence.notes),
        }

    def as_sentence(self) -> str:
        """For an event."""
        evidence = self.evidence
        if not evidence.prospects:
            return f"placed on {self.node}: {'; '.join(evidence.notes) or 'topology unknown'} (decision {self.id})"
        sets = ", ".join(f"{{{','.join(map(str, one.gpus))}}} {one.probability:.0%}" for one in evidence.prospects[:MOST_SETS])
        more = f" and {len(evidence.prospects) - MOST_SETS} more" if len(evidence.prospects) > MOST_SETS else ""
        speed = "one GPU" if evidence.expected_gbps is None else f"{evidence.expected_gbps:.1f} GB/s expected"
        return f"placed on {self.node}: GPUs {sets}{more}, {speed} (decision {self.id})"


def record_of(key: str, node: str, evidence: Evidence) -> Record:
    """The record of a pod's placement."""
    told = [(one.gpus, one.probability, one.busbw_gbps) for one in evidence.prospects]
    return Record(sha256(repr((key, node, told, evidence.notes)).encode()).hexdigest()[:12], node, evidence)
