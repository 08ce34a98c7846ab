"""What a steerer keeps of the pods of its node."""

from __future__ import annotations

import msgspec
import pytest

from extender.steering.answers.node_pods import kept_of
from extender.steering.choice.waiting_pods import DECISION, node_pod
from tests.objects import GPU, pod
from topology.devices.size_mix import MOST_DECISION_CHARACTERS

DECIDED = '{"containers": [[4, 5]], "sizeMix": {"2": 1}}'


def test_pod_is_read_from_what_is_kept_as_from_the_whole_manifest() -> None:
    manifest = pod(2, node="a", annotations={DECISION: DECIDED, "other": "x"})
    found = node_pod(kept_of(manifest), GPU)
    assert found == node_pod(manifest, GPU)
    assert found is not None
    assert (found.decided, found.size_mix) == (((4, 5),), ((1, 0.0), (2, 1.0), (4, 0.0), (8, 0.0)))


@pytest.mark.parametrize(
    "annotations",
    [{"kubectl.kubernetes.io/last-applied-configuration": "x" * 200_000}, {DECISION: " " * (MOST_DECISION_CHARACTERS + 1)}],
    ids=["of another program", "decision that is too long"],
)
def test_large_annotation_is_not_kept(annotations: dict[str, str]) -> None:
    assert len(msgspec.json.encode(kept_of(pod(2, node="a", annotations=annotations)))) < 2_000
