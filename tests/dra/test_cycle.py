"""One scheduling cycle over HTTP where Dynamic Resource Allocation serves the node."""

from __future__ import annotations

from typing import Any

from extender.kube.decode import gone, seen
from extender.sources.simulated_dra import allocated, claim_manifest, class_manifest, exact_request
from tests.conftest import Served
from tests.dra.dra_objects import claim_pod, dra_node
from tests.objects import pod


def ask(served: Served, verb: str, manifest: dict[str, Any], *names: str) -> Any:
    return served.client.post(f"/scheduler/{verb}", json={"Pod": manifest, "NodeNames": list(names)}).json()


def predicted(served: Served, node: str) -> list[list[int]]:
    """The sets that the newest decision predicts for a node."""
    (row,) = [row for row in served.client.get("/v1/decisions").json()["decisions"][0]["nodes"] if row["node"] == node]
    return [one["gpus"] for one in row["predicted"]]


def test_prioritize_predicts_by_the_state_that_the_allocator_chose_devices_by(served: Served) -> None:
    live = served.service.store
    held = allocated(claim_manifest("held", [exact_request()], "team"), "n", ["gpu-0"], [("uid-other", "other")])
    live.apply([seen(one["kind"], one) for one in (*dra_node("n"), *dra_node("m"), class_manifest(), held)])
    ask(served, "filter", pod(2), "n", "m")
    live.apply([gone("ResourceClaim", held)])  # freed after kube-scheduler has chosen
    ask(served, "prioritize", pod(2), "n", "m")
    assert predicted(served, "n") == [[1, 2]]
    ask(served, "filter", pod(2), "n", "m")
    assert predicted(served, "n") == [[0, 1]]


def test_pod_with_a_claim_alone_is_held_until_its_claim_is_seen(served: Served) -> None:
    live = served.service.store
    wanted = claim_manifest("mine", [exact_request(2)], "team")
    live.apply([seen(one["kind"], one) for one in (*dra_node("n"), class_manifest(), wanted)])
    assert ask(served, "filter", claim_pod("mine"), "n")["NodeNames"] == ["n"]
    ask(served, "filter", pod(1, name="next"), "n")
    assert predicted(served, "n") == [[2]]
    live.apply([seen("ResourceClaim", allocated(wanted, "n", ["gpu-0", "gpu-1"], [("uid-llm", "llm")]))])
    ask(served, "filter", pod(1, name="next"), "n")
    assert predicted(served, "n") == [[2]], "its hold and its claim are not counted both"
