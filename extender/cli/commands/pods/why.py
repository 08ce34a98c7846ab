"""`fabricwise why`: why a pod is Pending, or where it is and how fast it is there, and what would help."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.text import Text

from extender.cli.asking import Answer, NotAsked, Target, asked
from extender.cli.options.cluster_options import ClassesOption, NamespaceOption
from extender.cli.options.completed_values import complete_pod
from extender.cli.options.option_groups import with_option_groups
from extender.cli.options.output_options import IntervalOption
from extender.cli.options.question_options import QuestionOptions
from extender.cli.pod_reading import MOST_ALIKE, CollectedPods, Get, PodReader, object_name
from extender.cli.reading import Reading, kube_objects, read_cluster
from extender.cli.rendering.answers.why_text import why_text
from extender.cli.rendering.console.output import print_answer, print_note, print_warning
from extender.cli.rendering.console.watching import INTERVAL_SECONDS, watching
from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS
from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.disruption.disruption_facts import NOTHING_READ, DisruptionFacts, facts_of
from extender.decision.disruption.evictions import Evictee
from extender.decision.request.reasons import Reason
from extender.decision.state.snapshot import Snapshot
from extender.decision.why.pod_question import Question
from extender.decision.why.scheduler_reports import reported_of
from extender.decision.why.why_pod import why_answer
from extender.errors import FOUND, ClusterSourceError, RequestError
from extender.kube.api_client import context_of
from extender.kube.disruptions import KubeDisruptions
from extender.loading import load_documents
from extender.pod_templates import Templates, templates_of
from extender.server.from_settings import own_context
from extender.settings import Settings
from extender.sources.collected_disruptions import CollectedDisruptions
from extender.sources.collected_objects import CollectedObjects, ObjectName
from extender.sources.dump import STANDARD_INPUT, read_text
from extender.web.pod_manifests import pods_from

ROUTE = "/v1/why"


@with_option_groups
def why(
    *,
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="POD|NAMESPACE/POD|KIND/NAME", help="A pod, or a workload whose pods are meant.", autocompletion=complete_pod
        ),
    ] = None,
    namespace: NamespaceOption = None,
    file: Annotated[
        str | None, typer.Option("-f", "--filename", help="Manifest of a pod or workload that need not exist yet (- is standard input).")
    ] = None,
    question: QuestionOptions,
    workload_classes: ClassesOption = None,
    watch: Annotated[
        bool, typer.Option("-w", "--watch", help="Print the answer again whenever it changes, until the pod is scheduled.")
    ] = False,
    interval_seconds: IntervalOption = INTERVAL_SECONDS,
) -> None:
    """Say why a pod is Pending and what would help; or where it is, how fast its GPUs are, and whether it would be placed better now.

    Every remedy that says that the pod fits was evaluated. The command reads the cluster and also asks the running extender, which knows
    telemetry and the pods that it has just decided; --extender none leaves it out. -o name prints the node. Exit status 1 if the pod
    waits and fits nowhere.
    """
    if (what is None) == (file is None):
        raise typer.BadParameter("name a pod or workload, or give a manifest with -f")
    if file == question.cluster == STANDARD_INPUT:
        raise typer.BadParameter("standard input can be the pod or the cluster, not both")
    target, settings = question.target, question.settings()
    usual = context_of(question.kubeconfig, question.context_name) if question.is_kube else None
    wanted = object_name(what, namespace or (usual[1] if usual is not None else "default")) if what is not None else None
    asked_pod = _Asked(target, settings, workload_classes, wanted, file, namespace)
    if watch:
        watching(asked_pod.answer, question.output, _table, names=_names, interval_seconds=interval_seconds, until=_is_settled)
        return
    answer = asked_pod.answer()
    print_answer(answer, question.output, _table, names=_names)
    if any(each["state"] in ("pending", "new") and each["fits"] is None for each in _each(answer)):
        raise typer.Exit(FOUND)


def _each(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the answers: one per pod template of a manifest."""
    return list(answer.get("answers") or [answer])


def _is_settled(answer: Mapping[str, Any]) -> bool:
    return all(each["state"] not in ("pending", "new") for each in _each(answer))


def _names(answer: Mapping[str, Any]) -> Iterator[str]:
    for each in _each(answer):
        place = each["placement"] or each["fits"]
        if place:
            yield f"node/{place['node']}"


def _table(answer: Mapping[str, Any]) -> RenderableType:
    parts: list[RenderableType] = []
    for each in _each(answer):
        parts += [why_text(each), Text("")]
    return Group(*parts[:-1])


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question, which can be asked again."""

    target: Target
    settings: Settings
    classes: Path | None
    wanted: ObjectName | None
    file: str | None
    namespace: str | None

    def answer(self) -> dict[str, Any]:
        """Return the answer; several, one per pod template of a manifest, under the key `answers`. Raises FabricwiseError."""
        answers = self._by_server() if self.target.server is not None else self._by_cluster()
        for warning in dict.fromkeys(warning for each in answers for warning in each.get("unread", ())):
            print_warning(warning)
        return answers[0] if len(answers) == 1 else {"answers": answers}

    def _manifests(self) -> Templates | None:
        return templates_of(load_documents(read_text(Path(self.file)), self.file), self.file, self.namespace) if self.file else None

    @property
    def _is_kube(self) -> bool:
        return self.target.cluster in (None, "kube")

    def _by_cluster(self) -> list[dict[str, Any]]:
        """Return the answers by what the command reads itself and by the running extender: of both, the better informed."""
        templates, wanted = self._manifests(), self.wanted or ObjectName("Pod", "", "")
        collected = CollectedPods(wanted, CollectedObjects(), None if self._is_kube else CollectedDisruptions())
        reader = PodReader(self._reading(collected), collected, self._get() if self._is_kube else None)
        for manifest in templates.others if templates is not None else ():
            collected.collected(str(manifest.get("kind")), manifest)
        pods = [template.manifest for template in templates.pods] if templates is not None else reader.pods()
        answers = [self._of_pod(reader, manifest) for manifest in (pods if templates is not None else pods[:1])]
        if templates is None and len(pods) > 1:
            answers[0]["alike"] = self._alike(reader, pods)
        unread = [*reader.reading.warnings, *reader.unread.values()]
        return [{**answer, "unread": [*unread, *answer["unread"]]} for answer in answers]

    def _of_pod(self, reader: PodReader, manifest: dict[str, Any]) -> dict[str, Any]:
        events = reader.events(manifest)
        question = self._question(reader, manifest, events)
        own: dict[str, Any] = msgspec.to_builtins(why_answer(question, look_up=lambda pods: self._looked_up(reader, pods)))
        own["cluster"] = reader.reading.cluster
        if self.target.cluster not in (None, "kube"):
            return own
        try:
            reply = asked(self.target, ROUTE, {"pod": manifest, "events": events})
            theirs = None if isinstance(reply, NotAsked) else _checked(reply)
        except ClusterSourceError as error:  # such as a manifest that is too large for the extender: the own answer remains
            reply, theirs = NotAsked(str(error)), None
        if isinstance(reply, NotAsked) or theirs is None:
            if isinstance(reply, NotAsked) and reply.why is not None:
                print_note(f"evaluated from the API server alone: {reply.why}")
            return own
        if is_better_informed(theirs, own):
            return theirs
        if theirs["reason"] == own["reason"]:
            own["cluster"] += f"; {reply.by} agrees"
        return own

    def _looked_up(self, reader: PodReader, pods: Sequence[Evictee]) -> DisruptionFacts:
        """Return what is known of pods that a remedy could evict: read from the API server, or found in the cluster's file."""
        if not self._is_kube:
            return reader.collected.disruptions.facts_of_file() if reader.collected.disruptions is not None else NOTHING_READ
        read = KubeDisruptions(kube_objects(self.target.kubeconfig, self.target.context_name)[0]).read(pods)
        return facts_of(read.pods, read.budgets, read.unread, read.unlisted_groups)

    def _get(self) -> Get:
        return kube_objects(self.target.kubeconfig, self.target.context_name)[0].get

    def _reading(self, collected: CollectedPods) -> Reading:
        """Return the cluster; without nodes, where the account may not list them: then kube-scheduler's report is all there is."""
        target = self.target
        try:
            return read_cluster(target.cluster or "kube", self.settings, target.kubeconfig, self.classes, collected, target.context_name)
        except ClusterSourceError as error:
            if not self._is_kube or "nodes cannot be listed" not in str(error) or ": 403 " not in str(error):
                raise
            return Reading(kube_objects(target.kubeconfig, target.context_name)[1], Snapshot(), {"nodes": str(error)})

    def _question(self, reader: PodReader, manifest: dict[str, Any], events: list[dict[str, Any]] | None) -> Question:
        pod, kube_pod = pods_from(manifest, self.file or f"{reader.reading.cluster}: the pod")
        context, ranker = own_context(self.settings)
        snapshot = reader.reading.snapshot
        context.evaluator.learn(snapshot)
        return Question(
            pod=pod,
            kube_pod=kube_pod,
            moment=Moment(snapshot, NO_ASSUMED_PODS, snapshot.monotonic_seconds or 0.0),
            context=context,
            ranker=ranker,
            around=reader.surroundings(kube_pod),
            reported=reported_of(pod, events),
            now_seconds=time.time() if self._is_kube else None,
            is_new=self.file is not None and not pod.metadata.uid and pod.metadata.creation_timestamp is None,
            is_foreign=self.settings.is_foreign(pod.spec.scheduler_name),
        )

    def _alike(self, reader: PodReader, pods: Sequence[dict[str, Any]]) -> int:
        """Return how many further waiting pods of the workload the same nodes refuse for the same reasons."""
        waiting = [pod for pod in pods[:MOST_ALIKE] if not (pod.get("spec") or {}).get("nodeName")]
        causes = [_causes(self._question(reader, pod, None)) for pod in waiting]
        return sum(each == causes[0] for each in causes[1:])

    def _by_server(self) -> list[dict[str, Any]]:
        """Return the answers of the extender at a URL. A pod's manifest and events are read from the API server, if the account may."""
        templates = self._manifests()
        if templates is not None:
            return [_checked(asked(self.target, ROUTE, {"pod": template.manifest})) for template in templates.pods]
        wanted = self.wanted
        assert wanted is not None
        if wanted.kind != "Pod":
            raise RequestError("--server takes a pod or a manifest: name one pod of the workload")
        try:
            reader = PodReader(Reading("the cluster", Snapshot()), CollectedPods(wanted, CollectedObjects()), self._get())
            manifest = reader.pods()[0]
        except ClusterSourceError as error:
            print_warning(f"{error}. The extender answers by what it keeps of the pod")
            return [_checked(asked(self.target, ROUTE, query={"pod": f"{wanted.namespace}/{wanted.name}"}))]
        answer = _checked(asked(self.target, ROUTE, {"pod": manifest, "events": reader.events(manifest)}))
        return [{**answer, "unread": [*reader.unread.values(), *answer.get("unread", ())]}]


def is_better_informed(theirs: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Whether the running extender's answer is better informed than the command's own.

    The extender knows telemetry and the pods that it has just decided. The command knows what the pods on the nodes request and where
    volumes can be attached, so a refusal by kube-scheduler's filters that it has found counts.
    """
    if theirs["state"] != own["state"] or own["state"] not in ("pending", "new"):
        return True
    if theirs["reason"] == own["reason"]:
        return False
    is_by_kube_scheduler = own["fits"] is None and own["reason"] not in _OURS and bool(own["groups"])
    return not is_by_kube_scheduler or any(remedy["kind"] == "wait" for remedy in theirs["remedies"])


_OURS = frozenset(reason.value for reason in Reason)


def _causes(question: Question) -> object:
    return {name: tuple(refusal.reason for refusal in refusals) for name, refusals in question.evaluated().refusals.items()}


def _checked(reply: Answer | NotAsked) -> dict[str, Any]:
    """Return the content of an answer to `/v1/why`. Raises ClusterSourceError if it is not one."""
    if isinstance(reply, NotAsked) or "sentence" not in reply.content:
        by = "the extender" if isinstance(reply, NotAsked) else reply.by
        raise ClusterSourceError(f"{by} gave no answer to {ROUTE}: check that it is fabricwise of the same version")
    cluster = reply.content.get("cluster") or "an unnamed cluster"
    return {**reply.content, "cluster": f"{cluster}, by {reply.by}"}
