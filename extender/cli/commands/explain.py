"""`fabricwise explain`: where a pod would go, and for every other node why not. Exit status 1 where no node is feasible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from extender.cli.client import ask
from extender.cli.cluster_options import ClassesOption, ClusterOption, KubeconfigOption, ServerOption
from extender.cli.reading import Reading, kube_objects, read_cluster, with_source
from extender.cli.rendering import answer_tables
from extender.cli.rendering.output import ConfigOption, Output, OutputOption, print_answer
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.kube_filters.evaluate import evaluate
from extender.decision.kube_filters.pod_objects import KubePod, PersistentVolume, PersistentVolumeClaim
from extender.decision.kube_filters.surroundings import ClaimKey, Surroundings
from extender.decision.report import serializers
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.state.reducer import Change, PodGone, TopologySeen, fold_all
from extender.decision.state.snapshot import Snapshot
from extender.errors import FOUND, ClusterSourceError, RequestError
from extender.kube.api_client import context_of
from extender.loading import load_documents
from extender.pod_templates import BY_KIND, BY_NAME, REMEDY, Templates, templates_of
from extender.server.from_settings import node_defaults, policy
from extender.server.from_settings import ranker as ranker_of
from extender.settings import Settings
from extender.settings_file import load_settings
from extender.sources.collected_objects import CollectedObjects, ObjectName
from extender.sources.dump import STANDARD_INPUT, read_text
from extender.web.debug_api import pods_from
from topology.agent.publisher import ApiError
from topology.gputopology import Allocation, DeviceStatus, TopologyRecord

WHAT = "A manifest (YAML or JSON, - is standard input) of a pod or a workload; or NAMESPACE/POD or KIND/NAME of one in the cluster."
FILE_SUFFIXES = (".yaml", ".yml", ".json")


def explain(
    what: Annotated[str, typer.Argument(metavar="FILE|NAMESPACE/POD|KIND/NAME", help=WHAT)],
    cluster: ClusterOption = None,
    server: ServerOption = None,
    namespace: Annotated[str | None, typer.Option("-n", "--namespace", help="Of KIND/NAME, and of manifests that state none.")] = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
    kubeconfig: KubeconfigOption = None,
    workload_classes: ClassesOption = None,
) -> None:
    """Where would this pod go, and why not elsewhere? Exit status 1 where no node is feasible.

    Reasons are kube-scheduler's own and those of Fabricwise, each named as such; what was not checked is listed. A workload with several
    pod templates (LeaderWorkerSet, JobSet, RayCluster ...) is answered template by template.
    """
    if cluster and server:
        raise typer.BadParameter("give --cluster or --server, not both")
    if what == cluster == STANDARD_INPUT:
        raise typer.BadParameter("standard input can be the pod or the cluster, not both")
    settings = load_settings(config)
    wanted = None if _is_file(what) else _object_name(what, namespace or _current_namespace(cluster, kubeconfig))
    templates = templates_of(load_documents(read_text(Path(what)), what), what, namespace) if wanted is None else None
    if server:
        answer = _asked(server, templates)
    else:
        collected = CollectedObjects(wanted)
        reading = read_cluster(cluster or "kube", settings, kubeconfig, workload_classes, collected)
        question = _Question(reading, collected, settings, cluster in (None, "kube"), kubeconfig)
        answer = with_source(_explained(question, templates or question.templates(), what), reading)
    print_answer(answer, output, answer_tables.explanations)
    if any(one["chosen"] is None for one in answer.get("explanations") or [answer]):
        raise typer.Exit(FOUND)


def _is_file(what: str) -> bool:
    return what == STANDARD_INPUT or Path(what).is_file() or what.endswith(FILE_SUFFIXES)


def _current_namespace(cluster: str | None, kubeconfig: str | None) -> str:
    context = context_of(kubeconfig) if cluster in (None, "kube") else None
    return context[1] if context is not None else "default"


def _object_name(what: str, namespace: str) -> ObjectName:
    """`kind/name` or `namespace/pod`. Raises RequestError."""
    left, slash, name = what.partition("/")
    if not slash or not left or not name or "/" in name:
        raise RequestError(f"{what!r} is neither a file nor NAMESPACE/POD nor KIND/NAME, such as deployment/llm; {REMEDY}")
    workload = BY_NAME.get(left.lower())
    return ObjectName(workload.kind, namespace, name) if workload is not None else ObjectName("Pod", left, name)


def _asked(server: str, templates: Templates | None) -> dict[str, Any]:
    """The answers of a running extender, pod by pod."""
    if templates is None:
        raise RequestError("--server takes a manifest: kubectl get KIND NAME -o yaml | fabricwise explain - --server URL")
    found = []
    for one in templates.pods:
        answer = ask(server, "/v1/explain", "nodes", one.manifest)
        found.append({**answer, "of": one.source, "not_checked": [*answer.get("not_checked", ()), *one.not_known]})
    known = f"{found[0].get('cluster') or 'a cluster that it does not name'}, by the extender at {server}"
    return _together(found) | {"cluster": known}


def _together(found: list[dict[str, Any]]) -> dict[str, Any]:
    """A single answer as it is; several under `explanations`."""
    return found[0] if len(found) == 1 else {"explanations": found}


@dataclass(frozen=True, slots=True)
class _Question:
    """What answers are made of: the cluster as it was read, and where more of it can be had."""

    reading: Reading
    collected: CollectedObjects
    settings: Settings
    is_kube: bool
    kubeconfig: str | None

    def templates(self) -> Templates:
        """The pods of the object in the cluster that was asked for. Raises ClusterSourceError where there is none."""
        wanted, manifest = self.collected.wanted, self.collected.manifest
        assert wanted is not None
        if manifest is None and self.is_kube:
            manifest = self._get(f"{BY_KIND[wanted.kind].path}/namespaces/{wanted.namespace}/{BY_KIND[wanted.kind].plural}/{wanted.name}")
        if manifest is None:
            hint = "" if wanted.kind == "Pod" or self.is_kube else "; a dump holds nodes and pods: give the workload's manifest as a file"
            raise ClusterSourceError(f"{self.reading.cluster} has no {wanted}{hint}; name its namespace with -n, or NAMESPACE/POD")
        return templates_of([{**manifest, "kind": wanted.kind}], str(wanted), wanted.namespace)

    def _get(self, path: str) -> dict[str, Any] | None:
        """An object; None where there is none. Raises ClusterSourceError."""
        try:
            return kube_objects(self.kubeconfig)[0].get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise ClusterSourceError(f"{error}; see kubectl get --raw {path}") from error

    def surroundings(self, pod: KubePod, others: tuple[dict[str, Any], ...]) -> Surroundings:
        """The cluster as kube-scheduler's filters see it, without the pod itself."""
        collected = self.collected
        pods = {node: tuple(one for one in there if not _same(one, pod)) for node, there in collected.pods.items()}
        claims, volumes = self._volumes(pod, others)
        known = "pods" not in self.reading.unread or bool(pods)
        return Surroundings(self.reading.snapshot.nodes, pods if known else None, claims, volumes)

    def _volumes(
        self, pod: KubePod, others: tuple[dict[str, Any], ...]
    ) -> tuple[Mapping[ClaimKey, PersistentVolumeClaim] | None, Mapping[str, PersistentVolume] | None]:
        """The claims that the pod names and their volumes, from the dump or one by one from the API server; claims beside it in its file
        exist, too. None where they cannot be known."""
        beside = CollectedObjects()
        for manifest in others:
            told = manifest.get("metadata")
            metadata = {"namespace": pod.namespace, **told} if isinstance(told, dict) else told
            beside(str(manifest.get("kind")), {**manifest, "metadata": metadata})
        if all((pod.namespace, name) in beside.claims for name in pod.claims):
            return beside.claims, beside.volumes
        found = CollectedObjects(claims=dict(self.collected.claims), volumes=dict(self.collected.volumes))
        if self.is_kube:
            try:
                self._fetch_volumes(pod, found)
            except ClusterSourceError:
                return None, None
        elif "PersistentVolumeClaim" not in self.collected.seen_kinds:
            return None, None
        return {**beside.claims, **found.claims}, {**beside.volumes, **found.volumes}

    def _fetch_volumes(self, pod: KubePod, found: CollectedObjects) -> None:
        for name in pod.claims:
            claim = self._get(f"/api/v1/namespaces/{pod.namespace}/persistentvolumeclaims/{name}")
            if claim is not None:
                found("PersistentVolumeClaim", claim)
                volume_name = (claim.get("spec") or {}).get("volumeName")
                volume = self._get(f"/api/v1/persistentvolumes/{volume_name}") if volume_name else None
                if volume is not None:
                    found("PersistentVolume", volume)


def _same(one: KubePod, other: KubePod) -> bool:
    uid = one.metadata.uid
    return (uid != "" and uid == other.metadata.uid) or (one.namespace, one.metadata.name) == (other.namespace, other.metadata.name)


def _explained(question: _Question, templates: Templates, what: str) -> dict[str, Any]:
    settings, snapshot = question.settings, question.reading.snapshot
    evaluator, ranker = Evaluator(policy(settings)), ranker_of(settings.scoring)
    evaluator.learn(snapshot)
    found = []
    for one in templates.pods:
        pod, kube_pod = pods_from(one.manifest, f"{what}: {one.source}")
        bound_to, before = None, snapshot
        if question.collected.wanted is not None and question.collected.wanted.kind == "Pod" and pod.spec.node_name:
            bound_to, before = pod.spec.node_name, _without(snapshot, pod, settings)
            pod = msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, node_name=None))
            kube_pod = msgspec.structs.replace(kube_pod, spec=msgspec.structs.replace(kube_pod.spec, node_name=None))
        kube = evaluate(kube_pod, question.surroundings(kube_pod, templates.others))
        answer = serializers.explain(evaluator, ranker, before, pod, settings.resource, kube=kube)
        answer["not_checked"] += one.not_known
        found.append({**answer, "of": one.source, **({"bound_to": bound_to} if bound_to else {})})
    return _together(found)


def _without(snapshot: Snapshot, pod: Pod, settings: Settings) -> Snapshot:
    """The cluster as if a pod had not been bound: neither the API nor the node's agent says that it holds GPUs."""
    changes: list[Change] = [PodGone(pod.key)]
    for node, record in snapshot.topologies.items():
        status = record.status if isinstance(record, TopologyRecord) else None
        if isinstance(record, TopologyRecord) and status is not None and any(_assumed_pods(pod, one) for one in status.allocated):
            changes.append(TopologySeen(node, replace(record, status=_released(status, pod))))
    return fold_all(snapshot, changes, settings.resource, node_defaults(settings))


def _released(status: DeviceStatus, pod: Pod) -> DeviceStatus:
    released = [one.index for one in status.allocated if _assumed_pods(pod, one)]
    free = None if status.free is None else tuple(sorted({*status.free, *released}))
    return replace(status, free=free, allocated=tuple(one for one in status.allocated if not _assumed_pods(pod, one)))


def _assumed_pods(pod: Pod, allocation: Allocation) -> bool:
    """Whether the agent says that this pod has the GPU; an agent may know the pod's name alone."""
    if allocation.pod_uid:
        return allocation.pod_uid == pod.key
    return (allocation.pod_namespace, allocation.pod_name) == (pod.metadata.namespace or "default", pod.metadata.name)
