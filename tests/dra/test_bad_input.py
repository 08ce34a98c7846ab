"""Objects of resource.k8s.io that are incomplete, contradict each other or are hostile: a note, and nothing else is affected."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.decision.dra.inventory import node_devices
from extender.decision.dra.resource_objects import ResourceSlice
from extender.decision.dra.selectors import Unevaluated, matches
from extender.decision.request.reasons import Reason
from extender.decision.state.changes import Listed
from extender.decision.state.fold.reducer import fold, fold_all
from extender.decision.state.isolation import SetAside
from extender.kube.objects.decode import gone, seen, seen_or_set_aside
from extender.sources.simulated_dra import allocated, claim_manifest, class_manifest, exact_request, slice_manifests
from tests.dra.dra_objects import bare_node, claim_pod, cluster, dra_node, sets, topology_of, verdict
from tests.objects import GPU, pod, snapshot
from topology.platforms import machine_of

DEVICE = {
    "driver": "gpu.nvidia.com",
    "allowMultipleAllocations": False,
    "attributes": {"gpu.nvidia.com": {"type": "gpu", "cudaComputeCapability": {"semver": "9.0.0"}, "models": ["llm-1", "llm-2"]}},
    "capacity": {"gpu.nvidia.com": {"memory": {"quantity": "85899345920"}}},
}


def slices(*manifests: dict[str, Any]) -> list[ResourceSlice]:
    """The manifests as a decision sees them."""
    found = [seen("ResourceSlice", manifest).item for manifest in manifests]  # type: ignore[union-attr]
    assert all(isinstance(one, ResourceSlice) for one in found)
    return found  # type: ignore[return-value]


def test_only_the_newest_generation_of_a_pool_counts() -> None:
    machine = machine_of("hgx-h100", "n")
    old, new = slice_manifests("n", machine, [0, 1, 2, 3], 2), slice_manifests("n", machine, [7, 6], generation=2)
    assert [device.name for device in node_devices(slices(*old, *new)).devices] == ["gpu-7", "gpu-6"]


def test_node_whose_pool_is_being_updated_is_unknown_and_not_refused() -> None:
    machine = machine_of("hgx-h100", "n")
    first, _ = slice_manifests("n", machine, per_slice=4, generation=2)
    state = snapshot(bare_node("n"), topology_of("n", machine), *slice_manifests("n", machine), first, class_manifest())
    found = verdict(state, pod(8))
    assert found.feasible
    assert any("1 of 2 slices of generation 2" in note for note in found.evidence.notes)


def test_pool_with_repeated_device_names_gives_a_note_and_harms_no_other_pool() -> None:
    machine = machine_of("hgx-h100", "n")
    bad = slice_manifests("n", machine, [0, 0])[0]
    bad["metadata"]["name"], bad["spec"]["pool"]["name"] = "bad", "other-pool"
    state = snapshot(*dra_node("n"), bad, class_manifest())
    found = verdict(state, pod(8))
    assert found.feasible
    assert any("names device gpu-0 more than once" in note for note in found.evidence.notes)
    assert verdict(snapshot(*dra_node("n"), *dra_node("m"), bad, class_manifest()), pod(9), "m").reason == Reason.TOO_FEW_GPUS


def test_pool_of_another_driver_that_is_being_updated_leaves_the_gpus_known() -> None:
    nic = slice_manifests("n", machine_of("hgx-h100", "n"))[0]
    nic["metadata"]["name"] = "nic"
    nic["spec"] |= {"driver": "nic.example.com", "pool": {"name": "n", "generation": 1, "resourceSliceCount": 2}}
    nic["spec"]["devices"] = [{"name": "nic-0", "attributes": {"type": {"string": "nic"}}}]
    wanted = claim_manifest("mine", [exact_request(9)], "team")
    state = snapshot(*dra_node("n"), nic, class_manifest(), wanted)
    assert verdict(state, pod(9)).reason == Reason.TOO_FEW_GPUS
    assert verdict(state, claim_pod("mine")).reason == Reason.TOO_FEW_GPUS
    assert sets(verdict(state, pod(8))) == [(tuple(range(8)), 1.0)]
    assert state.views["n"].dra is not None
    assert any("1 of 2 slices of generation 1" in note for note in state.views["n"].dra.notes)


def test_device_that_vanishes_while_allocated_is_named_and_the_others_stay_usable() -> None:
    machine = machine_of("hgx-h100", "n")
    held = allocated(claim_manifest("held", [exact_request(2)], "team"), "n", ["gpu-0", "gpu-1"], [("uid-other", "other")])
    left = slice_manifests("n", machine, [1, 2, 3, 4, 5, 6, 7], generation=2)
    state = snapshot(bare_node("n"), topology_of("n", machine), *left, class_manifest(), held)
    assert state.views["n"].dra is not None
    assert state.views["n"].dra.notes == ("claim team/held holds gpu-0 of pool n, which no current slice names",)
    assert verdict(state, pod(6)).feasible
    assert verdict(state, pod(7)).reason == Reason.TOO_FEW_FREE


def test_slices_that_are_gone_leave_a_node_without_gpus_whatever_claims_say() -> None:
    held = allocated(claim_manifest("held", [exact_request()], "team"), "n", ["gpu-0"], [("uid-other", "other")])
    (one,) = slice_manifests("n", machine_of("hgx-h100", "n"))
    state = fold(snapshot(*dra_node("n"), class_manifest(), held), gone("ResourceSlice", one), GPU)
    assert state.views["n"].dra is None
    assert verdict(state, pod(1)).reason == Reason.TOO_FEW_GPUS


def test_class_deleted_while_in_use_leaves_allocated_devices_held() -> None:
    held = allocated(claim_manifest("held", [exact_request()], "team"), "n", ["gpu-0"], [("uid-other", "other")])
    state = fold(snapshot(*dra_node("n"), class_manifest(), held), gone("DeviceClass", class_manifest()), GPU)
    assert verdict(state, pod(1)).reason == Reason.TOO_FEW_GPUS
    again = fold(state, seen("DeviceClass", class_manifest()), GPU)
    assert sets(verdict(again, pod(1))) == [((1,), 1.0)]


def test_claim_of_a_class_that_does_not_exist_passes_with_a_note() -> None:
    state = cluster(claim_manifest("mine", [exact_request(device_class="nowhere")], "team"))
    found = verdict(state, claim_pod("mine"))
    assert found.feasible
    assert any("DeviceClass nowhere does not exist" in note for note in found.evidence.notes)


def test_claim_that_is_not_known_passes_with_a_note() -> None:
    found = verdict(cluster(), claim_pod("absent"))
    assert found.feasible
    assert any("ResourceClaim team/absent is not known" in note for note in found.evidence.notes)


@pytest.mark.parametrize("expression", ["device.attributes['gpu.nvidia.com'].missing == 'x'", "1 +", "'text'", "nothing(device)"])
def test_class_that_cannot_be_evaluated_makes_the_node_unknown_instead_of_refused(expression: str) -> None:
    state = snapshot(*dra_node("n"), class_manifest(expression=expression))
    found = verdict(state, pod(8))
    assert found.feasible
    assert any("DeviceClass gpu.nvidia.com" in note for note in found.evidence.notes)


MANY = "[" + ",".join(["1"] * 100) + "]"
DOUBLED = [f"cel.bind(v{number}, v{number - 1} + v{number - 1}, " for number in range(1, 25)]
HOSTILE = {
    "too long": "true || " * 2_000 + "true",
    "too deep": "(" * 500 + "true" + ")" * 500,
    "nested comprehensions": f"{MANY}.all(a, {MANY}.all(b, {MANY}.all(c, {MANY}.all(d, a + b + c + d > 0))))",
    "a list that grows by itself": f"{MANY}.map(a, {MANY}.map(b, {MANY}.map(c, {MANY}))).size() > 0",
    "a string doubled by each of many names": "cel.bind(v0, 'a' + 'a', " + "".join(DOUBLED) + "v24.size() > 0" + ")" * 25,
    "a string multiplied by replace": "'aaaaaaaaaa'" + ".replace('a', 'aaaaaaaaaa')" * 12 + ".size() > 0",
    "a string doubled by each of many maps": "['a']" + ".map(x, x + x + x + x)" * 20 + ".size() > 0",
    "a number with a million digits": "'%.999999f'.format([1.0]).size() > 0",
    "not a boolean": "device",
    "an unknown variable": "node.name == 'x'",
    "a function's argument that makes no sense": "quantity('a lot').sign() > 0",
    "empty": "",
    "nul": "\0",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_expression_has_a_bounded_cost_and_a_reason(name: str) -> None:
    found = matches([HOSTILE[name]], DEVICE)
    assert isinstance(found, Unevaluated)
    assert 0 < len(found.why) < 400


@given(st.text(max_size=200))
def test_any_text_is_evaluated_or_has_a_reason(expression: str) -> None:
    assert isinstance(matches([expression], DEVICE), bool | Unevaluated)


TRUE = (
    "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'gpu'",
    "cel.bind(own, device.attributes['gpu.nvidia.com'], own.type.startsWith('g'))",
    "device.capacity['gpu.nvidia.com'].memory == quantity('80Gi')",
    "device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('79Gi')) > 0",
    "device.capacity['gpu.nvidia.com'].memory.isLessThan(quantity('81Gi'))",
    "quantity('1Gi').add(quantity('1Gi')).asInteger() == 2147483648",
    "device.attributes['gpu.nvidia.com'].cudaComputeCapability.isGreaterThan(semver('8.9.0'))",
    "semver('1.2.3').compareTo(semver('1.2.3-rc.1')) == 1",
    "semver('1.2.3').major() == 1 && isSemver('1.0.0') && !isSemver('1.0')",
    "!has(device.attributes['other.example.com'].name)",
    "!device.allowMultipleAllocations",
    "device.attributes['gpu.nvidia.com'].models.exists(name, name.startsWith('llm'))",
    "'llm-1' in device.attributes['gpu.nvidia.com'].models",
    "['gpu', 'vfio'].map(kind, kind + '!').exists(kind, kind == device.attributes['gpu.nvidia.com'].type + '!')",
    "device.attributes['gpu.nvidia.com'].type.replace('g', 'c') == 'cpu'",
)


@pytest.mark.parametrize("expression", TRUE)
def test_functions_of_kubernetes_are_known(expression: str) -> None:
    assert matches([expression], DEVICE) is True


def test_object_that_is_none_of_its_kind_is_set_aside_by_name() -> None:
    bad = {"kind": "ResourceSlice", "metadata": {"name": "bad"}, "spec": {"driver": 7}}
    aside = seen_or_set_aside("ResourceSlice", bad)
    assert isinstance(aside, SetAside)
    state = fold_all(cluster(), [Listed("resourceslices", (aside,))], GPU)
    assert state.set_aside["resourceslices/bad"].stage == "decode"
    cured = fold_all(state, [Listed("resourceslices", tuple(seen("ResourceSlice", one) for one in dra_node("n")[2:]))], GPU)
    assert not cured.set_aside
    assert verdict(cured, pod(8)).feasible


def test_slice_with_more_devices_than_the_api_allows_is_set_aside() -> None:
    manifest = slice_manifests("n", machine_of("hgx-h100", "n"))[0]
    manifest["spec"]["devices"] = [{"name": f"gpu-{number}"} for number in range(129)]
    assert isinstance(seen_or_set_aside("ResourceSlice", manifest), SetAside)
