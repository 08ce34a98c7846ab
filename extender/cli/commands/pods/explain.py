"""`fabricwise explain`: where a pod would go, and why each other node is refused. Exit status 1 if no node is feasible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from extender.cli.asking import Answer, NotAsked, Target, asked
from extender.cli.options.cluster_options import ClassesOption, NamespaceOption
from extender.cli.options.option_groups import with_option_groups
from extender.cli.options.output_options import WatchOptions
from extender.cli.options.question_options import QuestionOptions
from extender.cli.reading import Reading, kube_objects, with_source
from extender.cli.rendering.answers import explanation_tables
from extender.cli.rendering.console.output import print_answer, print_note
from extender.cli.rendering.console.watching import watching
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.kube_filters.evaluate import evaluate
from extender.decision.kube_filters.pod_objects import KubePod, PersistentVolume, PersistentVolumeClaim
from extender.decision.kube_filters.surroundings import ClaimKey, Surroundings
from extender.decision.report import serializers
from extender.decision.state.without_bound_pod import without_bound_pod
from extender.errors import FOUND, ClusterSourceError, RequestError
from extender.kube.api_client import context_of
from extender.loading import load_documents
from extender.pod_templates import BY_KIND, BY_NAME, REMEDY, Templates, templates_of
from extender.server.from_settings import node_defaults, policy
from extender.server.from_settings import ranker as ranker_of
from extender.settings import Settings
from extender.sources.collected_objects import CollectedObjects, ObjectName
from extender.sources.dump import STANDARD_INPUT, read_text
from extender.web.pod_manifests import pods_from
from topology.agent.publisher import ApiError

WHAT = "Manifest file (YAML or JSON, - is standard input) of a pod or workload; or NAMESPACE/POD or KIND/NAME in the cluster."
FILE_SUFFIXES = (".yaml", ".yml", ".json")


@with_option_groups
def explain(
    *,
    what: Annotated[str, typer.Argument(metavar="FILE|NAMESPACE/POD|KIND/NAME", help=WHAT)],
    namespace: NamespaceOption = None,
    question: QuestionOptions,
    workload_classes: ClassesOption = None,
    repeated: WatchOptions,
) -> None:
    """Show where a pod would go, and why each other node is refused. Exit status 1 if no node is feasible.

    Each reason is marked as one of kube-scheduler or of Fabricwise; what was not checked is listed. A workload with several pod templates
    (LeaderWorkerSet, JobSet, RayCluster ...) has one answer per template. -o name prints the feasible nodes, the best first.

    The command reads the API by itself, because it then also has what kube-scheduler's filters read of volumes and other pods. With
    --extender or --server the running extender answers, which has telemetry and the pods that it has just decided.
    """
    target = question.target
    if what == question.cluster == STANDARD_INPUT:
        raise typer.BadParameter("standard input can be the pod or the cluster, not both")
    settings = question.settings()
    wanted = None if _is_file(what) else _object_name(what, namespace or _current_namespace(question))
    templates = templates_of(load_documents(read_text(Path(what)), what), what, namespace) if wanted is None else None

    def answer() -> dict[str, Any]:
        by_extender = _asked(target, templates) if question.server or question.extender else None
        if by_extender is not None:
            return by_extender
        collected = CollectedObjects(wanted)
        reading = question.read(settings, workload_classes, collected)
        read = _ReadCluster(reading, collected, settings, question.is_kube, question.kubeconfig, question.context_name)
        return with_source(_explained(read, templates or read.templates(), what), reading)

    if repeated.watch:
        watching(
            answer, question.output, explanation_tables.explanations, names=_feasible_names, interval_seconds=repeated.interval_seconds
        )
        return
    explained = answer()
    print_answer(explained, question.output, explanation_tables.explanations, names=_feasible_names)
    if any(explanation["chosen"] is None for explanation in _each(explained)):
        raise typer.Exit(FOUND)


def _each(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the explanations of an answer: one per pod template."""
    return list(answer.get("explanations") or [answer])


def _feasible_names(answer: dict[str, Any]) -> list[str]:
    names = (f"node/{row['node']}" for explanation in _each(answer) for row in explanation["nodes"] if row["feasible"])
    return list(dict.fromkeys(names))


def _is_file(what: str) -> bool:
    return what == STANDARD_INPUT or Path(what).is_file() or what.endswith(FILE_SUFFIXES)


def _current_namespace(question: QuestionOptions) -> str:
    context = context_of(question.kubeconfig, question.context_name) if question.is_kube else None
    return context[1] if context is not None else "default"


def _object_name(what: str, namespace: str) -> ObjectName:
    """Parse `KIND/NAME` or `NAMESPACE/POD`. Raises RequestError."""
    left, slash, name = what.partition("/")
    if not slash or not left or not name or "/" in name:
        raise RequestError(f"{what!r} is neither a file nor NAMESPACE/POD nor KIND/NAME, such as deployment/llm; {REMEDY}")
    workload = BY_NAME.get(left.lower())
    return ObjectName(workload.kind, namespace, name) if workload is not None else ObjectName("Pod", left, name)


def _asked(target: Target, templates: Templates | None) -> dict[str, Any] | None:
    """Return a running extender's answer for each pod template; None if it does not answer. Raises RequestError without a manifest."""
    if templates is None:
        option = "--server" if target.server else "--extender"
        raise RequestError(
            f"{option} takes a manifest: kubectl get KIND NAME -o yaml | fabricwise explain - {option} {target.server or target.extender}"
        )
    answers: list[dict[str, Any]] = []
    by = ""
    for template in templates.pods:
        reply = asked(target, "/v1/explain", template.manifest)
        if isinstance(reply, NotAsked):
            if reply.why is not None:
                print_note(f"evaluated from the API server alone: {reply.why}")
            return None
        content, by = _checked(reply), reply.by
        answers.append({**content, "of": template.source, "not_checked": [*content.get("not_checked", ()), *template.not_known]})
    return _combined(answers) | {"cluster": f"{answers[0].get('cluster') or 'an unnamed cluster'}, by {by}"}


def _checked(reply: Answer) -> dict[str, Any]:
    """Return the content of an answer to `/v1/explain`. Raises ClusterSourceError if it is not one."""
    if "nodes" not in reply.content:
        raise ClusterSourceError(f"{reply.by} gave no answer to /v1/explain: is it fabricwise, of the same version?")
    return reply.content


def _combined(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a single answer unchanged, several under the key `explanations`."""
    return answers[0] if len(answers) == 1 else {"explanations": answers}


@dataclass(frozen=True, slots=True)
class _ReadCluster:
    """The cluster as it was read, and how to read further objects of it."""

    reading: Reading
    collected: CollectedObjects
    settings: Settings
    is_kube: bool
    kubeconfig: str | None
    context_name: str | None

    def templates(self) -> Templates:
        """Return the pod templates of the wanted object in the cluster. Raises ClusterSourceError if it does not exist."""
        wanted, manifest = self.collected.wanted, self.collected.manifest
        assert wanted is not None
        if manifest is None and self.is_kube:
            manifest = self._get(f"{BY_KIND[wanted.kind].path}/namespaces/{wanted.namespace}/{BY_KIND[wanted.kind].plural}/{wanted.name}")
        if manifest is None:
            hint = "" if wanted.kind == "Pod" or self.is_kube else "; a dump holds nodes and pods: give the workload's manifest as a file"
            raise ClusterSourceError(f"{self.reading.cluster} has no {wanted}{hint}; name its namespace with -n, or NAMESPACE/POD")
        return templates_of([{**manifest, "kind": wanted.kind}], str(wanted), wanted.namespace)

    def _get(self, path: str) -> dict[str, Any] | None:
        """Return an object, or None if it does not exist. Raises ClusterSourceError."""
        try:
            return kube_objects(self.kubeconfig, self.context_name)[0].get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise ClusterSourceError(f"{error}; see kubectl get --raw {path}") from error

    def surroundings(self, pod: KubePod, others: tuple[dict[str, Any], ...]) -> Surroundings:
        """Return what kube-scheduler's filters read of the cluster, without the pod itself."""
        pods = {node: tuple(other for other in bound if not _same(other, pod)) for node, bound in self.collected.pods.items()}
        claims, volumes = self._volumes(pod, others)
        are_pods_known = "pods" not in self.reading.unread or bool(pods)
        snapshot = self.reading.snapshot
        return Surroundings(snapshot.nodes, pods if are_pods_known else None, claims, volumes, snapshot.dra.mapped)

    def _volumes(
        self, pod: KubePod, others: tuple[dict[str, Any], ...]
    ) -> tuple[Mapping[ClaimKey, PersistentVolumeClaim] | None, Mapping[str, PersistentVolume] | None]:
        """Return the claims of the pod and their volumes, from the dump or from the API server, and those in the pod's own file.

        (None, None) if they cannot be read.
        """
        in_file = CollectedObjects()
        for manifest in others:
            stated = manifest.get("metadata")
            metadata = {"namespace": pod.namespace, **stated} if isinstance(stated, dict) else stated
            in_file(str(manifest.get("kind")), {**manifest, "metadata": metadata})
        if all((pod.namespace, name) in in_file.claims for name in pod.claims):
            return in_file.claims, in_file.volumes
        in_cluster = CollectedObjects(claims=dict(self.collected.claims), volumes=dict(self.collected.volumes))
        if self.is_kube:
            try:
                self._fetch_volumes(pod, in_cluster)
            except ClusterSourceError:
                return None, None
        elif "PersistentVolumeClaim" not in self.collected.seen_kinds:
            return None, None
        return {**in_file.claims, **in_cluster.claims}, {**in_file.volumes, **in_cluster.volumes}

    def _fetch_volumes(self, pod: KubePod, collected: CollectedObjects) -> None:
        for name in pod.claims:
            claim = self._get(f"/api/v1/namespaces/{pod.namespace}/persistentvolumeclaims/{name}")
            if claim is not None:
                collected("PersistentVolumeClaim", claim)
                volume_name = (claim.get("spec") or {}).get("volumeName")
                volume = self._get(f"/api/v1/persistentvolumes/{volume_name}") if volume_name else None
                if volume is not None:
                    collected("PersistentVolume", volume)


def _same(pod: KubePod, other: KubePod) -> bool:
    uid = pod.metadata.uid
    return (uid != "" and uid == other.metadata.uid) or (pod.namespace, pod.metadata.name) == (other.namespace, other.metadata.name)


def _explained(read: _ReadCluster, templates: Templates, what: str) -> dict[str, Any]:
    settings, snapshot = read.settings, read.reading.snapshot
    evaluator, ranker = Evaluator(policy(settings)), ranker_of(settings.scoring)
    evaluator.learn(snapshot)
    answers = []
    for template in templates.pods:
        pod, kube_pod = pods_from(template.manifest, f"{what}: {template.source}")
        bound_to, before = None, snapshot
        if read.collected.wanted is not None and read.collected.wanted.kind == "Pod" and pod.spec.node_name:
            bound_to = pod.spec.node_name
            before = without_bound_pod(snapshot, pod.key, serializers.pod_name(pod), settings.resource, node_defaults(settings))
            pod = msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, node_name=None))
            kube_pod = msgspec.structs.replace(kube_pod, spec=msgspec.structs.replace(kube_pod.spec, node_name=None))
        kube = evaluate(kube_pod, read.surroundings(kube_pod, templates.others))
        answer = serializers.explain(evaluator, ranker, before, pod, settings.resource, kube=kube)
        answer["not_checked"] += template.not_known
        answers.append({**answer, "of": template.source, **({"bound_to": bound_to} if bound_to else {})})
    return _combined(answers)
