"""WORKLOADS: the kinds of objects that create pods, and where each has its pod templates. Pure.

Sources: the API of each kind (Kubernetes 1.36; LeaderWorkerSet v1, JobSet v1alpha2, Ray v1, KServe v1beta1 and v1alpha1, Kubeflow v1 and
v2beta1, Volcano v1alpha1, Argo Rollouts v1alpha1, Knative v1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from extender.errors import RequestError

MOST_TEMPLATES = 200
"""Most pod templates in one answer."""
Found = Iterator[tuple[str, Any]]
"""Pairs of (role in the workload, PodTemplateSpec)."""


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """A pod that a workload creates."""

    source: str
    """The workload, such as `deployment/llm`, followed by the role if it has several."""
    manifest: dict[str, Any]
    """A Pod manifest."""
    not_known: tuple[str, ...] = ()
    """What the workload's controller may add to the pod, unknown here."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A kind that creates pods."""

    kind: str
    path: str
    """Path of the API group and version."""
    plural: str
    find: Callable[[Mapping[str, Any]], Found]
    """Yields the templates of an object."""
    short_names: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the kind that are accepted in `KIND/NAME`."""
        return (self.kind.lower(), self.plural, *self.short_names)


def at(manifest: Any, *keys: str) -> Any:
    """Return the value at a path of keys; None if there is none."""
    for key in keys:
        manifest = manifest.get(key) if isinstance(manifest, dict) else None
    return manifest


def _under(*keys: str) -> Callable[[Mapping[str, Any]], Found]:
    """Return a function that yields the single template at a path of keys."""

    def find(manifest: Mapping[str, Any]) -> Found:
        yield "", at(manifest, *keys)

    return find


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _pod(manifest: Mapping[str, Any]) -> Found:
    yield "", manifest


def _job(manifest: Mapping[str, Any]) -> Found:
    """Yield the template of a Kubernetes Job, or those of a Volcano Job's tasks."""
    yield "", at(manifest, "spec", "template")
    for task in _items(at(manifest, "spec", "tasks")):
        yield str(at(task, "name") or "task"), at(task, "template")


def _leader_worker_set(manifest: Mapping[str, Any]) -> Found:
    """Yield leader and worker; without a leader template, leaders are created from the worker template."""
    group = at(manifest, "spec", "leaderWorkerTemplate")
    leader = at(group, "leaderTemplate")
    yield "leader", leader
    yield "worker" if leader else "leader and worker", at(group, "workerTemplate")


def _job_set(manifest: Mapping[str, Any]) -> Found:
    for job in _items(at(manifest, "spec", "replicatedJobs")):
        yield str(at(job, "name") or "job"), at(job, "template", "spec", "template")


def _ray(*keys: str) -> Callable[[Mapping[str, Any]], Found]:
    def find(manifest: Mapping[str, Any]) -> Found:
        cluster = at(manifest, *keys)
        yield "head", at(cluster, "headGroupSpec", "template")
        for group in _items(at(cluster, "workerGroupSpecs")):
            yield str(at(group, "groupName") or "worker"), at(group, "template")

    return find


def _replica_specs(manifest: Mapping[str, Any]) -> Found:
    """Yield the templates of Kubeflow's training jobs, in fields such as `pytorchReplicaSpecs` and `mpiReplicaSpecs`."""
    spec = at(manifest, "spec")
    for key in spec if isinstance(spec, dict) else ():
        if key.endswith("ReplicaSpecs"):
            roles = at(spec, key)
            for role in roles if isinstance(roles, dict) else ():
                yield role.lower(), at(roles, role, "template")


_NOT_OF_PODS = (
    "workerSpec",
    "minReplicas",
    "maxReplicas",
    "scaleTarget",
    "scaleMetric",
    "containerConcurrency",
    "timeout",
    "logger",
    "batcher",
    "canaryTrafficPercent",
    "labels",
    "annotations",
    "deploymentStrategy",
)
_OF_FRAMEWORKS = {"storageUri", "storage", "runtimeVersion", "modelFormat"}
"""Fields that distinguish the container of a model from the fields of a pod spec."""


def _component(spec: Any) -> dict[str, Any] | None:
    """Return a component of an InferenceService as a template; None if it has no container.

    Its fields are those of a pod spec, except `model` or a field named after a framework, which is the container.
    """
    if not isinstance(spec, dict):
        return None
    pod_fields = {key: value for key, value in spec.items() if key not in _NOT_OF_PODS}
    frameworks = [key for key, value in pod_fields.items() if isinstance(value, dict) and _OF_FRAMEWORKS & value.keys()]
    containers = [{**pod_fields[key], "name": "kserve-container"} for key in frameworks] + _items(pod_fields.get("containers"))
    kept = {key: value for key, value in pod_fields.items() if key not in frameworks}
    metadata = {"labels": spec.get("labels"), "annotations": spec.get("annotations")}
    return {"metadata": metadata, "spec": {**kept, "containers": containers}} if containers else None


def _inference_service(manifest: Mapping[str, Any]) -> Found:
    annotations = at(manifest, "metadata", "annotations")
    for role in ("predictor", "transformer", "explainer"):
        for name, spec in ((role, at(manifest, "spec", role)), (f"{role}-worker", at(manifest, "spec", role, "workerSpec"))):
            template = _component(spec)
            if template is not None:  # KServe copies the service's annotations to its pods
                template["metadata"]["annotations"] = {**(annotations or {}), **(template["metadata"]["annotations"] or {})}
            yield name, template


def _pod_spec(*roles: tuple[str, tuple[str, ...]]) -> Callable[[Mapping[str, Any]], Found]:
    """Return a function that yields pod specs without a template around them, at the path of keys of each role."""

    def find(manifest: Mapping[str, Any]) -> Found:
        for role, keys in roles:
            spec = at(manifest, "spec", *keys)
            yield role, {"spec": spec} if isinstance(spec, dict) and spec.get("containers") else None

    return find


def _anywhere(manifest: Mapping[str, Any]) -> Found:
    """Yield every pod spec in an object of a kind that is not in `WORKLOADS`: a field whose containers all have an image.

    The role is the name of the list item that contains it, else the path of its fields.
    """
    for field, value in manifest.items():
        if field not in ("metadata", "status"):
            yield from _specs_in(value, () if field in _GENERIC_FIELDS else (field,))


def _specs_in(value: Any, path: tuple[str, ...]) -> Found:
    if isinstance(value, list):
        for item in value:
            name = at(item, "name") or at(item, "groupName")
            yield from _specs_in(item, (name,) if isinstance(name, str) else path)
    elif isinstance(value, dict):
        runner = value.get("runner")  # OME's field for the only container of a pod spec without `containers`
        containers = _items(value.get("containers")) or ([runner] if isinstance(runner, dict) else [])
        if containers and all(isinstance(at(container, "image"), str) for container in containers):
            yield " ".join(path), {"spec": {**value, "containers": containers}}
            return
        template = value.get("template")
        if isinstance(template, dict) and _is_spec(template.get("spec")):
            yield " ".join(path), template
            value = {key: inner for key, inner in value.items() if key != "template"}
        for key, inner in value.items():
            yield from _specs_in(inner, path if key in _GENERIC_FIELDS else (*path, key))


def _is_spec(value: Any) -> bool:
    containers = _items(at(value, "containers"))
    return bool(containers) and all(isinstance(at(container, "image"), str) for container in containers)


_GENERIC_FIELDS = ("spec", "template", "podTemplate", "podSpec")
"""Field names that do not describe a role."""
_RUNTIME = _pod_spec(("", ()), ("worker", ("workerSpec",)))
_PREFILL = (("prefill", ("prefill", "template")), ("prefill-worker", ("prefill", "worker")))
_LLM_SERVICE = _pod_spec(("", ("template",)), ("worker", ("worker",)), *_PREFILL)
WORKLOADS: tuple[Workload, ...] = (
    Workload("Pod", "/api/v1", "pods", _pod, ("po",)),
    Workload("Deployment", "/apis/apps/v1", "deployments", _under("spec", "template"), ("deploy",)),
    Workload("StatefulSet", "/apis/apps/v1", "statefulsets", _under("spec", "template"), ("sts",)),
    Workload("DaemonSet", "/apis/apps/v1", "daemonsets", _under("spec", "template"), ("ds",)),
    Workload("ReplicaSet", "/apis/apps/v1", "replicasets", _under("spec", "template"), ("rs",)),
    Workload("ReplicationController", "/api/v1", "replicationcontrollers", _under("spec", "template"), ("rc",)),
    Workload("PodTemplate", "/api/v1", "podtemplates", _under("template")),
    Workload("Job", "/apis/batch/v1", "jobs", _job),
    Workload("CronJob", "/apis/batch/v1", "cronjobs", _under("spec", "jobTemplate", "spec", "template"), ("cj",)),
    Workload("LeaderWorkerSet", "/apis/leaderworkerset.x-k8s.io/v1", "leaderworkersets", _leader_worker_set, ("lws",)),
    Workload("JobSet", "/apis/jobset.x-k8s.io/v1alpha2", "jobsets", _job_set),
    Workload("RayCluster", "/apis/ray.io/v1", "rayclusters", _ray("spec")),
    Workload("RayJob", "/apis/ray.io/v1", "rayjobs", _ray("spec", "rayClusterSpec")),
    Workload("RayService", "/apis/ray.io/v1", "rayservices", _ray("spec", "rayClusterConfig")),
    Workload("InferenceService", "/apis/serving.kserve.io/v1beta1", "inferenceservices", _inference_service, ("isvc",)),
    Workload("ServingRuntime", "/apis/serving.kserve.io/v1alpha1", "servingruntimes", _RUNTIME),
    Workload("ClusterServingRuntime", "/apis/serving.kserve.io/v1alpha1", "clusterservingruntimes", _RUNTIME),
    Workload("LLMInferenceService", "/apis/serving.kserve.io/v1alpha1", "llminferenceservices", _LLM_SERVICE),
    Workload("PyTorchJob", "/apis/kubeflow.org/v1", "pytorchjobs", _replica_specs),
    Workload("MPIJob", "/apis/kubeflow.org/v2beta1", "mpijobs", _replica_specs),
    Workload("TFJob", "/apis/kubeflow.org/v1", "tfjobs", _replica_specs),
    Workload("Rollout", "/apis/argoproj.io/v1alpha1", "rollouts", _under("spec", "template")),
)
BY_KIND = {workload.kind: workload for workload in WORKLOADS}
BY_NAME = {name: workload for workload in WORKLOADS for name in workload.names}
KINDS = ", ".join(workload.kind for workload in WORKLOADS)
REMEDY = f"give one of the supported kinds: {KINDS}, any other kind whose spec holds pod templates, or a List of them"


@dataclass(frozen=True, slots=True)
class Templates:
    """The pods of some manifests, and the other objects in them."""

    pods: tuple[PodTemplate, ...]
    others: tuple[dict[str, Any], ...] = ()
    """Objects that create no pods, such as Services and PersistentVolumeClaims."""


def templates_of(documents: Sequence[Any], where: str, namespace: str | None = None) -> Templates:
    """Return every pod template in manifests; `namespace` is for objects without a namespace.

    Raises RequestError naming `where`, the kinds that were found and the supported kinds, if there is no template.
    """
    pods, others = list[PodTemplate](), list[dict[str, Any]]()
    for manifest in _objects(documents, where):
        templates = _templates(manifest, namespace)
        pods += templates
        if not templates:
            others.append(manifest)
        if len(pods) > MOST_TEMPLATES:
            raise RequestError(f"{where}: more than {MOST_TEMPLATES} pod templates; explain them in smaller files")
    if not pods:
        kinds = " and ".join(sorted({_kind_text(manifest) for manifest in others})[:5]) or "nothing"
        raise RequestError(f"{where}: expected a Pod, got {kinds}; {REMEDY}")
    return Templates(tuple(pods), tuple(others))


def _kind_text(manifest: dict[str, Any]) -> str:
    """Return the kind of an object without a pod template, for an error."""
    kind = str(manifest.get("kind") or "nameless kind")[:60]
    return "a Pod without a spec" if kind == "Pod" else f"a {kind}"


def _objects(documents: Sequence[Any], where: str) -> Iterator[dict[str, Any]]:
    for document in documents:
        if not isinstance(document, dict):
            raise RequestError(f"{where}: a Pod manifest is an object with metadata and spec, not {type(document).__name__}; {REMEDY}")
        items = document.get("items")
        if str(document.get("kind") or "").endswith("List") and isinstance(items, list):
            kind = str(document["kind"]).removesuffix("List")
            yield from _objects([{"kind": kind, **item} if kind and isinstance(item, dict) else item for item in items], where)
        else:
            yield document


def _templates(manifest: dict[str, Any], namespace: str | None) -> list[PodTemplate]:
    kind = str(manifest.get("kind") or "Pod")
    workload = BY_KIND.get(kind)
    usable = _usable(workload.find(manifest)) if workload is not None else _usable(_under("spec", "template")(manifest), True)
    not_known: tuple[str, ...] = ()
    if not usable and kind != "Pod":
        usable = _usable(_anywhere(manifest))
        not_known = (f"what the controller of {kind} makes of this pod spec, which was found by its containers (references, patches)",)
    metadata = manifest.get("metadata") if isinstance(manifest.get("metadata"), dict) else {}
    assert isinstance(metadata, dict)
    name = str(metadata.get("name") or metadata.get("generateName") or "unnamed")
    templates = []
    for role, template in usable:
        source = f"{kind.lower()}/{name}{f' {role}' if role else ''}"
        pod = template if kind == "Pod" else _as_pod(template, metadata, "-".join([name, *role.split()]))
        templates.append(PodTemplate(source, pod if namespace is None else _in_namespace(pod, namespace), not_known))
    return templates


def _usable(found: Found, with_containers: bool = False) -> list[tuple[str, dict[str, Any]]]:
    """Return the templates that are objects with a spec (and containers); at most one more than `MOST_TEMPLATES`."""
    return [
        (role, template)
        for role, template in islice(found, MOST_TEMPLATES + 1)
        if isinstance(template, dict)
        and isinstance(template.get("spec"), dict)
        and (not with_containers or isinstance(template["spec"].get("containers"), list))
    ]


def _as_pod(template: Mapping[str, Any], owner: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the Pod that a controller creates from a template: labels and annotations are the template's, the namespace is the owner's."""
    stated = template.get("metadata")
    of_template = stated if isinstance(stated, dict) else {}
    metadata = {
        "name": name,
        "namespace": owner.get("namespace"),
        "labels": of_template.get("labels"),
        "annotations": of_template.get("annotations"),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {key: value for key, value in metadata.items() if value is not None},
        "spec": template["spec"],
    }


def _in_namespace(manifest: dict[str, Any], namespace: str) -> dict[str, Any]:
    stated = manifest.get("metadata")
    metadata = stated if isinstance(stated, dict) else {}
    return manifest if metadata.get("namespace") else {**manifest, "metadata": {**metadata, "namespace": namespace}}
