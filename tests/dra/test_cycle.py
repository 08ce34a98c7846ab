"""One scheduling cycle over HTTP where Dynamic Resource Allocation serves the node."""

from __future__ import annotations

from typing import Any

import pytest

from extender.kube.objects.decode import gone, seen
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
    store = served.service.store
    held = allocated(claim_manifest("held", [exact_request()], "team"), "n", ["gpu-0"], [("uid-other", "other")])
    store.apply([seen(one["kind"], one) for one in (*dra_node("n"), *dra_node("m"), class_manifest(), held)])
    ask(served, "filter", pod(2), "n", "m")
    store.apply([gone("ResourceClaim", held)])  # freed after kube-scheduler has chosen
    ask(served, "prioritize", pod(2), "n", "m")
    assert predicted(served, "n") == [[1, 2]]
    ask(served, "filter", pod(2), "n", "m")
    assert predicted(served, "n") == [[0, 1]]


def test_pod_with_a_claim_alone_is_assumed_until_its_claim_is_seen(served: Served) -> None:
    store = served.service.store
    wanted = claim_manifest("mine", [exact_request(2)], "team")
    store.apply([seen(one["kind"], one) for one in (*dra_node("n"), class_manifest(), wanted)])
    assert ask(served, "filter", claim_pod("mine"), "n")["NodeNames"] == ["n"]
    ask(served, "filter", pod(1, name="next"), "n")
    assert predicted(served, "n") == [[2]]
    store.apply([seen("ResourceClaim", allocated(wanted, "n", ["gpu-0", "gpu-1"], [("uid-llm", "llm")]))])
    ask(served, "filter", pod(1, name="next"), "n")
    assert predicted(served, "n") == [[2]], "the assumed pod and its claim are not both counted"


def test_of_an_assumed_pod_with_two_claims_the_claim_that_is_not_seen_yet_still_counts(served: Served) -> None:
    store = served.service.store
    first, second = (claim_manifest(name, [exact_request(2)], "team") for name in ("first", "second"))
    store.apply([seen(one["kind"], one) for one in (*dra_node("n"), class_manifest(), first, second)])
    ask(served, "filter", claim_pod("first", "second"), "n")
    ask(served, "filter", pod(1, name="next"), "n")
    assert predicted(served, "n") == [[4]]
    store.apply([seen("ResourceClaim", allocated(first, "n", ["gpu-0", "gpu-1"], [("uid-llm", "llm")]))])
    ask(served, "filter", pod(1, name="next"), "n")
    assert predicted(served, "n") == [[4]]


def test_pod_with_claims_that_is_seen_bound_before_its_claim_stays_assumed(served: Served) -> None:
    store = served.service.store
    wanted = claim_manifest("mine", [exact_request(2)], "team")
    store.apply([seen(one["kind"], one) for one in (*dra_node("n"), class_manifest(), wanted)])
    ask(served, "filter", claim_pod("mine"), "n")
    store.apply([seen("Pod", claim_pod("mine", node="n"))])
    ask(served, "filter", pod(1, name="next"), "n")
    assert predicted(served, "n") == [[2]]
    store.apply([seen("ResourceClaim", allocated(wanted, "n", ["gpu-0", "gpu-1"], [("uid-llm", "llm")]))])
    assert "uid-llm" not in store.assumed_pods.by_pod
    ask(served, "filter", pod(1, name="next"), "n")
    assert predicted(served, "n") == [[2]]


@pytest.mark.parametrize("is_one_batch", [True, False])
def test_assumed_pod_with_claims_ends_when_it_was_bound_and_is_gone_before_its_claim_is_seen(served: Served, is_one_batch: bool) -> None:
    store = served.service.store
    wanted = claim_manifest("mine", [exact_request(2)], "team")
    store.apply([seen(one["kind"], one) for one in (*dra_node("n"), class_manifest(), wanted, claim_pod("mine"))])
    ask(served, "filter", claim_pod("mine"), "n")
    changes = [seen("Pod", claim_pod("mine", node="n")), gone("Pod", claim_pod("mine", node="n"))]
    for batch in (changes,) if is_one_batch else ([change] for change in changes):
        store.apply(batch)
    assert "uid-llm" not in store.assumed_pods.by_pod


def test_pod_whose_claims_are_for_no_gpu_on_any_node_is_not_ranked(served: Served) -> None:
    store = served.service.store
    nic = class_manifest("nic.example.com", None, "device.driver == 'nic.example.com'")
    wanted = claim_manifest("mine", [exact_request(1, device_class="nic.example.com")], "team")
    store.apply([seen(one["kind"], one) for one in (*dra_node("n"), *dra_node("m"), class_manifest(), nic, wanted)])
    assert ask(served, "filter", claim_pod("mine"), "n", "m")["NodeNames"] == ["n", "m"]
    assert {entry["Score"] for entry in ask(served, "prioritize", claim_pod("mine"), "n", "m")} == {0}
