"""`fabricwise why`: why a pod is Pending, or where it is and how fast it is there, and what would help."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.text import Text

from extender.cli.client import ask
from extender.cli.cluster_options import (
    ClassesOption,
    ClusterOption,
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    ServerOption,
)
from extender.cli.pod_reading import MOST_ALIKE, CollectedPods, Get, PodReader, object_name
from extender.cli.reading import Reading, kube_objects, read_cluster
from extender.cli.rendering.output import ConfigOption, Output, OutputOption, console, print_answer, print_warning
from extender.cli.rendering.why_text import why_text
from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS
from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.state.snapshot import Snapshot
from extender.decision.why.pod_question import Question
from extender.decision.why.scheduler_reports import reported_of
from extender.decision.why.why_pod import why_answer
from extender.decision.why.why_types import WhyAnswer
from extender.errors import FOUND, ClusterSourceError, RequestError
from extender.kube.api_client import context_of
from extender.loading import load_documents
from extender.pod_templates import templates_of
from extender.server.from_settings import own_context
from extender.settings import Settings
from extender.settings_file import load_settings
from extender.sources.collected_objects import CollectedObjects, ObjectName
from extender.sources.dump import read_text
from extender.web.debug_api import pods_from

LEAST_WATCH_SECONDS, MOST_WATCH_SECONDS = 2.0, 60.0
"""Time between two looks with --watch: five times as long as one look takes, within these bounds."""
ROUTE = "/v1/why"


def why(
    what: Annotated[
        str | None, typer.Argument(metavar="POD|NAMESPACE/POD|KIND/NAME", help="A pod, or a workload whose pods are meant.")
    ] = None,
    namespace: NamespaceOption = None,
    file: Annotated[
        str | None, typer.Option("-f", "--filename", help="Manifest of a pod or workload that need not exist yet (- is standard input).")
    ] = None,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Print again when the answer changes, until the pod is scheduled.")] = False,
    cluster: ClusterOption = None,
    server: ServerOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
    kubeconfig: KubeconfigOption = None,
    context_name: ContextOption = None,
    workload_classes: ClassesOption = None,
) -> None:
    """Say why a pod is Pending and what would help; or where it is, how fast its GPUs are, and whether it would be placed better now.

    Every remedy that says that the pod fits was evaluated. Exit status 1 if the pod waits and fits nowhere.
    """
    if (what is None) == (file is None):
        raise typer.BadParameter("name a pod or workload, or give a manifest with -f")
    if cluster and server:
        raise typer.BadParameter("give --cluster or --server, not both")
    if watch and (what is None or cluster not in (None, "kube")):
        raise typer.BadParameter("--watch needs a pod or workload of a cluster")
    settings = load_settings(config)
    is_kube = cluster in (None, "kube")
    usual = context_of(kubeconfig, context_name) if is_kube else None
    place = _Place(cluster or "kube", server, kubeconfig, context_name, workload_classes)
    wanted = object_name(what, namespace or (usual[1] if usual is not None else "default")) if what is not None else None
    asked = _Asked(place, settings, wanted, file, namespace)
    if watch:
        _watch(asked, output)
        return
    answers = asked.answers()
    _print(answers, output)
    if any(answer["state"] in ("pending", "new") and answer["fits"] is None for answer in answers):
        raise typer.Exit(FOUND)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the question is asked."""

    cluster: str
    server: str | None
    kubeconfig: str | None
    context_name: str | None
    classes: Path | None


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question, which can be asked again."""

    place: _Place
    settings: Settings
    wanted: ObjectName | None
    file: str | None
    namespace: str | None

    def answers(self) -> list[dict[str, Any]]:
        """Return the answers: one for a pod or a workload, one per pod template of a manifest. Raises FabricwiseError."""
        templates = templates_of(load_documents(read_text(Path(self.file)), self.file), self.file, self.namespace) if self.file else None
        manifests = [template.manifest for template in templates.pods] if templates is not None else None
        if self.place.server is not None:
            return list(self._of_server(self.place.server, manifests))
        wanted = self.wanted or ObjectName("Pod", "", "")
        collected = CollectedPods(wanted, CollectedObjects())
        reader = PodReader(self._reading(collected), collected, self._get() if self.place.cluster == "kube" else None)
        if templates is not None:
            for manifest in templates.others:
                collected.collected(str(manifest.get("kind")), manifest)
        pods = manifests if manifests is not None else reader.pods()
        answers = [self._answer(reader, manifest) for manifest in (pods if manifests is not None else pods[:1])]
        if manifests is None and len(pods) > 1:
            answers[0] = msgspec.structs.replace(answers[0], alike=self._alike(reader, pods))
        unread = [*reader.reading.warnings, *reader.unread.values()]
        return [msgspec.to_builtins(msgspec.structs.replace(answer, cluster=reader.reading.cluster, unread=unread)) for answer in answers]

    def _get(self) -> Get:
        api, _ = kube_objects(self.place.kubeconfig, self.place.context_name)
        return api.get

    def _reading(self, collected: CollectedPods) -> Reading:
        """Return the cluster; without nodes, where the account may not list them: then kube-scheduler's report is all there is."""
        place = self.place
        try:
            return read_cluster(place.cluster, self.settings, place.kubeconfig, place.classes, collected, place.context_name)
        except ClusterSourceError as error:
            if place.cluster != "kube" or "nodes cannot be listed" not in str(error) or ": 403 " not in str(error):
                raise
            name = kube_objects(place.kubeconfig, place.context_name)[1]
            return Reading(name, Snapshot(), {"nodes": str(error)})

    def _question(self, reader: PodReader, manifest: dict[str, Any]) -> Question:
        pod, kube_pod = pods_from(manifest, self.file or f"{reader.reading.cluster}: the pod")
        context, ranker = own_context(self.settings)
        snapshot = reader.reading.snapshot
        context.evaluator.learn(snapshot)
        is_new = not pod.metadata.uid and pod.metadata.creation_timestamp is None and self.file is not None
        return Question(
            pod=pod,
            kube_pod=kube_pod,
            moment=Moment(snapshot, NO_ASSUMED_PODS, snapshot.monotonic_seconds or 0.0),
            context=context,
            ranker=ranker,
            around=reader.surroundings(kube_pod),
            reported=reported_of(pod, reader.events(manifest)),
            now_seconds=time.time() if self.place.cluster == "kube" else None,
            is_new=is_new,
            is_foreign=self.settings.is_foreign(pod.spec.scheduler_name),
        )

    def _answer(self, reader: PodReader, manifest: dict[str, Any]) -> WhyAnswer:
        return why_answer(self._question(reader, manifest))

    def _alike(self, reader: PodReader, pods: Sequence[dict[str, Any]]) -> int:
        """Return how many further waiting pods of the workload the same nodes refuse for the same reasons."""
        quiet = replace(reader, get=None)
        questions = [self._question(quiet, pod) for pod in pods[:MOST_ALIKE] if not (pod.get("spec") or {}).get("nodeName")]
        causes = [_causes(question) for question in questions]
        return sum(each == causes[0] for each in causes[1:])

    def _of_server(self, server: str, manifests: list[dict[str, Any]] | None) -> Iterator[dict[str, Any]]:
        """Yield the answers of a running extender. A pod's manifest and events are read from the API server, if the account may."""
        if manifests is not None:
            yield from (_by(server, ask(server, ROUTE, "sentence", {"pod": manifest})) for manifest in manifests)
            return
        wanted = self.wanted
        assert wanted is not None
        if wanted.kind != "Pod":
            raise RequestError("--server takes a pod or a manifest: name one pod of the workload")
        try:
            collected = CollectedPods(wanted, CollectedObjects())
            reader = PodReader(Reading("the cluster", Snapshot()), collected, self._get())
            manifest = reader.pods()[0]
        except ClusterSourceError as error:
            print_warning(f"{error}. The extender answers by what it keeps of the pod")
            yield _by(server, ask(server, f"{ROUTE}?pod={wanted.namespace}/{wanted.name}", "sentence"))
            return
        body = {"pod": manifest, "events": reader.events(manifest)}
        yield _by(server, ask(server, ROUTE, "sentence", body)) | {"unread": list(reader.unread.values())}


def _causes(question: Question) -> object:
    return {name: tuple(refusal.reason for refusal in refusals) for name, refusals in question.evaluated().refusals.items()}


def _by(server: str, answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "cluster": f"{answer.get('cluster') or 'an unnamed cluster'}, by the extender at {server}"}


def _print(answers: Sequence[dict[str, Any]], output: Output) -> None:
    for warning in dict.fromkeys(warning for answer in answers for warning in answer.get("unread", ())):
        print_warning(warning)
    answer = answers[0] if len(answers) == 1 else {"answers": list(answers)}
    print_answer(answer, output, _table)


def _table(answer: dict[str, Any]) -> RenderableType:
    parts: list[RenderableType] = []
    for each in answer.get("answers") or [answer]:
        parts += [why_text(each), Text("")]
    return Group(*parts[:-1])


def _watch(asked: _Asked, output: Output) -> None:
    """Print the answer whenever it changes, until the pod is scheduled or gone."""
    shown: object = None
    while True:
        started = time.monotonic()
        answers = asked.answers()
        now = [(answer["state"], answer["reason"], [remedy["text"] for remedy in answer["remedies"]]) for answer in answers]
        if now != shown:
            if shown is not None and console.is_terminal:
                console.clear()
            _print(answers, output)
            shown = now
        if all(answer["state"] != "pending" for answer in answers):
            return
        took = time.monotonic() - started
        time.sleep(min(MOST_WATCH_SECONDS, max(LEAST_WATCH_SECONDS, 5 * took)))
