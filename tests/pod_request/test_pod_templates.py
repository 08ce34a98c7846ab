"""Every kind of workload: the pods that are found in it, by name and GPUs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from extender.errors import FabricwiseError, RequestError
from extender.pod_templates import BY_NAME, WORKLOADS, templates_of
from tests.cli.output.test_plain_text import JSON


def spec(gpus: int, **more: Any) -> dict[str, Any]:
    return {"containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": gpus}}}], **more}


def template(gpus: int) -> dict[str, Any]:
    return {"metadata": {"labels": {"gpus": str(gpus)}, "annotations": {"fabricwise.dev/min-link": "nvlink"}}, "spec": spec(gpus)}


def of(kind: str, spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "x", "namespace": "team", "annotations": {"owner": "yes"}}, "spec": spec, **more}


RAY = {
    "headGroupSpec": {"template": template(0)},
    "workerGroupSpecs": [{"groupName": "gpu", "template": template(4)}, {"groupName": "big", "template": template(8)}],
}
REPLICAS = {"Master": {"template": template(1)}, "Worker": {"template": template(8)}}
MODEL = {"modelFormat": {"name": "huggingface"}, "storageUri": "s3://x", "resources": {"limits": {"nvidia.com/gpu": 2}}}
# name -> (manifest, [(source, GPUs)])
KINDS: dict[str, tuple[dict[str, Any], list[tuple[str, int]]]] = {
    "Pod": (of("Pod", spec(2)), [("pod/x", 2)]),
    "no kind": ({"metadata": {"name": "x"}, "spec": spec(2)}, [("pod/x", 2)]),
    "Deployment": (of("Deployment", {"template": template(2)}), [("deployment/x", 2)]),
    "StatefulSet": (of("StatefulSet", {"template": template(2)}), [("statefulset/x", 2)]),
    "Job": (of("Job", {"template": template(2)}), [("job/x", 2)]),
    "Volcano's Job": (
        of("Job", {"tasks": [{"name": "ps", "template": template(0)}, {"name": "w", "template": template(4)}]}),
        [("job/x ps", 0), ("job/x w", 4)],
    ),
    "CronJob": (of("CronJob", {"jobTemplate": {"spec": {"template": template(2)}}}), [("cronjob/x", 2)]),
    "LeaderWorkerSet": (
        of("LeaderWorkerSet", {"leaderWorkerTemplate": {"leaderTemplate": template(4), "workerTemplate": template(8)}}),
        [("leaderworkerset/x leader", 4), ("leaderworkerset/x worker", 8)],
    ),
    "LeaderWorkerSet with one template": (
        of("LeaderWorkerSet", {"leaderWorkerTemplate": {"workerTemplate": template(8)}}),
        [("leaderworkerset/x leader and worker", 8)],
    ),
    "JobSet": (
        of(
            "JobSet",
            {
                "replicatedJobs": [
                    {"name": "a", "template": {"spec": {"template": template(1)}}},
                    {"name": "b", "template": {"spec": {"template": template(8)}}},
                ]
            },
        ),
        [("jobset/x a", 1), ("jobset/x b", 8)],
    ),
    "RayCluster": (of("RayCluster", RAY), [("raycluster/x head", 0), ("raycluster/x gpu", 4), ("raycluster/x big", 8)]),
    "RayJob": (of("RayJob", {"rayClusterSpec": RAY}), [("rayjob/x head", 0), ("rayjob/x gpu", 4), ("rayjob/x big", 8)]),
    "RayService": (
        of("RayService", {"rayClusterConfig": RAY}),
        [("rayservice/x head", 0), ("rayservice/x gpu", 4), ("rayservice/x big", 8)],
    ),
    "InferenceService of a model": (
        of("InferenceService", {"predictor": {"model": MODEL, "minReplicas": 1}}),
        [("inferenceservice/x predictor", 2)],
    ),
    "InferenceService of a framework": (
        of("InferenceService", {"predictor": {"triton": {"storageUri": "s3://x", "resources": {"limits": {"nvidia.com/gpu": 1}}}}}),
        [("inferenceservice/x predictor", 1)],
    ),
    "InferenceService of containers": (
        of("InferenceService", {"predictor": spec(4), "transformer": spec(0)}),
        [("inferenceservice/x predictor", 4), ("inferenceservice/x transformer", 0)],
    ),
    "InferenceService over nodes": (
        of("InferenceService", {"predictor": {"model": MODEL, "workerSpec": spec(8)}}),
        [("inferenceservice/x predictor", 2), ("inferenceservice/x predictor-worker", 8)],
    ),
    "ServingRuntime": (of("ServingRuntime", {**spec(1), "supportedModelFormats": []}), [("servingruntime/x", 1)]),
    "LLMInferenceService": (
        of("LLMInferenceService", {"template": spec(2), "prefill": {"template": spec(4)}}),
        [("llminferenceservice/x", 2), ("llminferenceservice/x prefill", 4)],
    ),
    "PyTorchJob": (of("PyTorchJob", {"pytorchReplicaSpecs": REPLICAS}), [("pytorchjob/x master", 1), ("pytorchjob/x worker", 8)]),
    "MPIJob": (
        of("MPIJob", {"mpiReplicaSpecs": {"Launcher": {"template": template(0)}, "Worker": {"template": template(8)}}}),
        [("mpijob/x launcher", 0), ("mpijob/x worker", 8)],
    ),
    "an unknown kind with a template": (of("Notebook", {"template": template(1)}), [("notebook/x", 1)]),
    "List": ({"kind": "List", "items": [of("Service", {}), of("Deployment", {"template": template(2)})]}, [("deployment/x", 2)]),
    "DeploymentList": (
        {"kind": "DeploymentList", "items": [{"metadata": {"name": "x"}, "spec": {"template": template(2)}}]},
        [("deployment/x", 2)],
    ),
}


def gpus(manifest: dict[str, Any]) -> int:
    return sum(int(one["resources"]["limits"]["nvidia.com/gpu"]) for one in manifest["spec"]["containers"])


@pytest.mark.parametrize("name", KINDS)
def test_the_pods_of_a_workload_are_found_and_named(name: str) -> None:
    manifest, expected = KINDS[name]
    found = templates_of([manifest], "x.yaml").pods
    assert [(one.source, gpus(one.manifest)) for one in found] == expected


def test_a_pod_has_its_templates_labels_and_annotations_and_its_owners_namespace() -> None:
    metadata = templates_of([of("Deployment", {"template": template(2)})], "x").pods[0].manifest["metadata"]
    assert metadata == {
        "name": "x",
        "namespace": "team",
        "labels": {"gpus": "2"},
        "annotations": {"fabricwise.dev/min-link": "nvlink"},
    }


def test_given_namespace_applies_to_objects_without_a_namespace() -> None:
    documents = [{"kind": "Pod", "metadata": {"name": "a"}, "spec": spec(1)}, of("Pod", spec(1))]
    found = templates_of(documents, "x", "given").pods
    assert [one.manifest["metadata"]["namespace"] for one in found] == ["given", "team"]


def test_objects_without_pod_templates_are_returned_as_others() -> None:
    claim = of("PersistentVolumeClaim", {})
    found = templates_of([claim, of("Deployment", {"template": template(2)})], "x")
    assert (len(found.pods), found.others) == (1, (claim,))


def test_without_any_pod_the_error_names_what_was_found_and_every_supported_kind() -> None:
    with pytest.raises(RequestError, match="expected a Pod, got a ConfigMap and a Service") as raised:
        templates_of([of("Service", {}), of("ConfigMap", {})], "x.yaml")
    assert str(raised.value).startswith("x.yaml: ")
    assert all(workload.kind in str(raised.value) for workload in WORKLOADS)


def test_names_and_paths_of_kinds_are_unique() -> None:
    assert len({(workload.path, workload.plural) for workload in WORKLOADS}) == len(WORKLOADS)
    assert sum(len(workload.names) for workload in WORKLOADS) == len(BY_NAME), "no name stands for two kinds"


@given(JSON)
def test_any_documents_give_pods_or_one_error(value: Any) -> None:
    for kind in ("Pod", "Job", "RayCluster", "InferenceService", "LeaderWorkerSet", "JobSet", "PyTorchJob", "List"):
        for manifest in (value, {"kind": kind, "spec": value}, {"kind": kind, "items": value}, {"kind": kind, "metadata": value}):
            try:
                found = templates_of([manifest], "x")
            except FabricwiseError:
                continue
            assert all(isinstance(one.manifest["spec"], dict) for one in found.pods), json.dumps(manifest)


def image(gpus: int) -> dict[str, Any]:
    return {"name": "c", "image": "x", "resources": {"limits": {"nvidia.com/gpu": gpus}}}


# name -> (spec of a kind that is in no table, [(source, GPUs)])
UNKNOWN: dict[str, tuple[dict[str, Any], list[tuple[str, int]]]] = {
    "roles with templates": (
        {
            "roles": [
                {"name": "prefill", "template": {"spec": {"containers": [image(1)]}}},
                {"name": "decode", "template": {"spec": {"containers": [image(4)]}}},
            ]
        },
        [("other/x prefill", 1), ("other/x decode", 4)],
    ),
    "a template of a template": (
        {"template": {"spec": {"headGroupSpec": {"template": {"spec": {"containers": [image(8)]}}}}}},
        [("other/x headGroupSpec", 8)],
    ),
    "OME's runners": (
        {"engineConfig": {"leader": {"runner": image(8)}, "worker": {"runner": image(4)}}},
        [("other/x engineConfig leader", 8), ("other/x engineConfig worker", 4)],
    ),
    "beside the spec": ({}, [("other/x inference", 2)]),
    "a schema is no pod": ({"versions": [{"schema": {"properties": {"containers": {"type": "array"}}}}]}, []),
    "containers without an image are a patch": ({"patch": {"containers": [{"name": "c"}]}}, []),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_in_an_unknown_kind_every_nested_pod_spec_is_found_and_named_by_its_place(name: str) -> None:
    described, expected = UNKNOWN[name]
    beside = {"inference": {"template": {"spec": {"containers": [image(2)]}}}} if name == "beside the spec" else {}
    found = templates_of([of("Other", described, **beside), of("Pod", spec(1))], "x").pods
    assert all(("controller of Other" in " ".join(one.not_known)) == one.source.startswith("other") for one in found)
    assert [(one.source, gpus(one.manifest)) for one in found] == [*expected, ("pod/x", 1)]
