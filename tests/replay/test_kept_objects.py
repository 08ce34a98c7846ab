"""What a journal contains of each object, and what it never contains."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.decision.dra.dra_state import DraObjectSeen
from extender.decision.dra.inventory import node_devices
from extender.decision.dra.resource_objects import DeviceClass, DraObject, ResourceSlice
from extender.decision.dra.selectors import matches
from extender.decision.replay.kept_objects.kept_dra_objects import kept_dra_object
from extender.decision.replay.kept_objects.kept_nodes import kept_node
from extender.decision.replay.kept_objects.kept_requests import kept_pod
from extender.decision.replay.kept_objects.named_texts import CollectedNames, HiddenNames, Names, Naming, PlainNames, with_crc32
from extender.decision.request.inferred_workload import inferred
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.request.pod_request import demand_of
from extender.decision.state.changes import NodeSeen
from extender.kube.objects.decode import seen
from extender.sources.simulated_dra import class_manifest, slice_manifests
from tests.objects import GPU, pod, pod_struct
from topology.platforms import machine_of

MODEL = (
    '{"layers": 32, "hidden_size": 4096, "attention_heads": 32, "kv_heads": 8, "head_size": 128, "parameters": 8000000000, "name": "acme"}'
)


def names_of(pod: Pod, is_hidden: bool) -> Naming:
    if not is_hidden:
        return PlainNames()
    collected = CollectedNames()
    kept_pod(pod, collected)
    return HiddenNames(collected, 7)


def secret_pod(**more: Any) -> Pod:
    """A pod whose fields that no decision reads are secret."""
    manifest = pod(
        2, 1, annotations={"kubectl.kubernetes.io/last-applied-configuration": "SECRET", "fabricwise.dev/min-busbw": "20", **more}
    )
    for container in manifest["spec"]["containers"]:
        container |= {
            "image": "registry.acme.com/vllm/vllm-openai:v1",
            "command": ["vllm", "serve", "acme/model"],
            "args": ["--api-key", "SECRET", "--token=SECRET", "--tensor-parallel-size=2", "SECRET"],
            "env": [{"name": "HF_TOKEN", "value": "SECRET"}, {"name": "SECRET_NAME", "valueFrom": {}}],
            "volumeMounts": [{"name": "SECRET"}],
        }
    manifest["metadata"] |= {"labels": {"SECRET": "SECRET"}, "ownerReferences": [{"kind": "Job", "name": "SECRET", "uid": "SECRET"}]}
    manifest["spec"] |= {"nodeSelector": {"SECRET": "SECRET"}, "serviceAccountName": "SECRET"}
    manifest["status"] = {"podIP": "10.1.2.3", "conditions": [{"type": "PodScheduled", "message": "SECRET"}]}
    return pod_struct(manifest)


@pytest.mark.parametrize("is_hidden", [False, True], ids=["plain", "hidden"])
def test_pod_has_no_environment_no_foreign_argument_annotation_or_label(is_hidden: bool) -> None:
    wanted = secret_pod(**{"fabricwise.dev/model": MODEL})
    text = repr(kept_pod(wanted, names_of(wanted, is_hidden)))
    assert "SECRET" not in text
    assert "10.1.2.3" not in text
    assert ("acme" in text) is not is_hidden
    assert "tensor-parallel-size=2" in text


@pytest.mark.parametrize("is_hidden", [False, True], ids=["plain", "hidden"])
@pytest.mark.parametrize(
    "annotations",
    [
        {},
        {"fabricwise.dev/model": MODEL},
        {"fabricwise.dev/model": "malformed acme"},
        {"fabricwise.dev/min-busbw": "malformed acme"},
        {"fabricwise.dev/message-size": "decode", "fabricwise.dev/workload-class": "batch"},
    ],
    ids=["none", "model", "malformed model", "malformed number", "others"],
)
def test_kept_pod_has_the_demand_and_the_inferred_memory_of_the_pod(annotations: dict[str, str], is_hidden: bool) -> None:
    wanted = secret_pod(**annotations)
    kept = kept_pod(wanted, names_of(wanted, is_hidden))
    before, after = demand_of(wanted, GPU), demand_of(kept, GPU)
    assert getattr(before, "reason", None) == getattr(after, "reason", None)
    assert getattr(before, "steps", None) == getattr(after, "steps", None)
    assert inferred(wanted, before, GPU).need_bytes == inferred(kept, after, GPU).need_bytes


def test_node_has_the_labels_and_amounts_that_decisions_read_and_no_others() -> None:
    labels = {"nvidia.com/gpu.product": "L4", "kubernetes.io/hostname": "SECRET", "pool": "red", "fabricwise.dev/device-plugin": "uniform"}
    amounts = {GPU: "4", "cpu": "64", "nvidia.com/mig-1g.10gb": "2", "SECRET.com/fpga": "1"}
    manifest = {
        "metadata": {"name": "n", "labels": labels},
        "spec": {"taints": [{"key": "SECRET", "effect": "NoSchedule"}]},
        "status": {"allocatable": amounts, "capacity": amounts},
    }
    change = seen("Node", manifest)
    assert isinstance(change, NodeSeen)
    kept = kept_node(change.node, PlainNames(), GPU, frozenset({"pool"}))
    assert kept.metadata.labels == {key: text for key, text in labels.items() if text != "SECRET"}
    assert kept.status is not None
    assert kept.status.allocatable == {GPU: "4", "nvidia.com/mig-1g.10gb": "2"}
    assert "SECRET" not in repr(kept)


def test_selector_that_names_a_gpu_by_its_uuid_selects_the_same_gpu_with_hidden_names() -> None:
    machine = machine_of("l4", "acme")
    uuid = machine.gpus[0].uuid
    objects = [
        decoded_object("ResourceSlice", slice_manifests("acme-node", machine)[0]),
        decoded_object("DeviceClass", class_manifest(expression=f"device.attributes['gpu.nvidia.com'].uuid == '{uuid}'")),
        decoded_object("DeviceClass", class_manifest(expression='device.attributes["gpu.nvidia.com"].type == "gpu"')),
    ]
    collected = CollectedNames()
    for item in objects:
        kept_dra_object(item, collected)
    hidden = HiddenNames(collected, 5)
    resource_slice, by_uuid, by_type = (kept_dra_object(item, hidden) for item in objects)
    assert isinstance(resource_slice, ResourceSlice)
    assert isinstance(by_uuid, DeviceClass)
    assert "acme" not in repr((resource_slice, by_uuid))
    (first, *others) = node_devices([resource_slice]).devices
    selector = [each.cel.expression for each in by_uuid.spec.selectors or () if each.cel is not None]
    assert matches(selector, first.variables) is True
    assert not any(matches(selector, other.variables) for other in others)
    assert by_type == kept_dra_object(objects[2], PlainNames())


def decoded_object(kind: str, manifest: dict[str, Any]) -> DraObject:
    change = seen(kind, manifest)
    assert isinstance(change, DraObjectSeen)
    return change.item


NAMES = st.text(st.characters(codec="ascii", categories=("Ll", "Nd"), include_characters="-."), min_size=1, max_size=12)


@given(st.sets(NAMES, min_size=2, max_size=30), st.integers(0, (1 << 32) - 1))
def test_hidden_names_sort_as_the_names_and_keep_the_difference_of_their_hashes(texts: set[str], mask: int) -> None:
    collected = CollectedNames()
    for text in texts:
        collected.name(Names.NODE, text)
        collected.name(Names.NAMESPACE, text)
    hidden = HiddenNames(collected, mask)
    order = sorted(texts)
    assert sorted(order, key=lambda text: hidden.name(Names.NODE, text)) == order
    assert all(crc32(hidden.name(Names.NODE, text).encode()) == crc32(text.encode()) ^ mask for text in texts)
    keys = sorted(f"{namespace}/{name}" for namespace in texts for name in texts)
    parts = [key.split("/") for key in keys]
    hidden_keys = [f"{hidden.name(Names.NAMESPACE, namespace)}/{hidden.name(Names.NODE, name)}" for namespace, name in parts]
    assert hidden_keys == sorted(hidden_keys)


@given(st.text(max_size=20), st.integers(0, (1 << 32) - 1))
def test_every_hash_is_reached_by_appended_digits(prefix: str, wanted: int) -> None:
    try:
        prefix.encode()
    except UnicodeEncodeError:
        return
    text = with_crc32(prefix, wanted)
    assert crc32(text.encode()) == wanted
    assert text.startswith(prefix)
    assert text[len(prefix) :].isdigit()
