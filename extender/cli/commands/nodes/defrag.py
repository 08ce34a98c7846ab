"""`fabricwise defrag`: which moves of pods would regain room for pods of a size. Advice only: it cannot change the cluster."""

from __future__ import annotations

import time
from typing import Annotated, Any

import msgspec
import typer

from extender.cli.asking import answered
from extender.cli.options.cluster_options import ClassesOption
from extender.cli.options.option_groups import with_option_groups
from extender.cli.options.question_options import QuestionOptions
from extender.cli.reading import Reading, kube_objects
from extender.cli.rendering.answers.defrag_tables import defrag_table
from extender.cli.rendering.console.output import print_answer, print_warning
from extender.cli.rendering.console.progress import progress
from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS
from extender.decision.disruption.disruption_facts import MAY_BE_EXCEEDED
from extender.decision.slots.defrag_answer import DefragAnswer
from extender.decision.slots.defrag_search import DEFAULT_MOVES, MOST_MOVES, DefragSearch
from extender.decision.slots.pod_moves import PodMover
from extender.decision.slots.slot_question import MOST_GPUS_PER_POD
from extender.kube.listing import ListApi, items_of, refusal
from extender.kube.objects.resources import BUDGET_RESOURCE
from extender.server.from_settings import own_context, policy
from extender.settings import Settings
from extender.sources.collected_disruptions import BUDGET_KIND, CollectedDisruptions
from topology.agent.publisher import ApiError

SECONDS = 120.0
"""Time for the search; after it, the answer has the moves found so far."""


@with_option_groups
def defrag(
    *,
    size: Annotated[int, typer.Option("--size", min=1, max=MOST_GPUS_PER_POD, help="GPUs per pod that room is wanted for.")],
    moves: Annotated[int, typer.Option("--moves", min=1, max=MOST_MOVES, help="Most moves to advise.")] = DEFAULT_MOVES,
    question: QuestionOptions,
    workload_classes: ClassesOption = None,
) -> None:
    """Show which moves of pods would make room for more pods of a size. It changes nothing.

    A pod is moved only if a controller recreates it and its PodDisruptionBudget allows that. Where it goes is decided by the evaluation
    of a scheduling cycle.

    The command reads the API by itself, because it then also has what kube-scheduler's filters read of other pods. With --extender or
    --server the running extender answers, which has telemetry and the pods that it has just decided.
    """
    settings, target = question.settings(), question.target

    def advised() -> dict[str, Any]:
        collected = CollectedDisruptions()
        reading = question.read(settings, workload_classes, collected)
        api = kube_objects(question.kubeconfig, question.context_name)[0] if question.is_kube else None
        unread = [*reading.warnings, *_budgets(collected, api)]
        for warning in unread:
            print_warning(warning)
        with progress("searching for moves"):
            answer = _advice(reading, collected, settings, size, moves)
        sources = (*unread, *answer.unread)
        return dict(msgspec.to_builtins(msgspec.structs.replace(answer, cluster=reading.cluster, unread=sources)))

    query = {"size": str(size), "moves": str(moves)}
    answer = answered(target, "/v1/defrag", advised, query=query) if question.server or question.extender else advised()
    print_answer(answer, question.output, defrag_table, names=_names)


def _names(answer: dict[str, Any]) -> list[str]:
    return [f"pod/{move['namespace']}/{move['name']}" for step in answer["steps"] for move in step["moves"]]


def _budgets(collected: CollectedDisruptions, api: ListApi | None) -> list[str]:
    """Collect the disruption budgets of an API server; None: those of the cluster's file are collected already.

    Return why they are not known, as sentences.
    """
    if api is None:
        return list(collected.unread_in_file())
    try:
        for item in items_of(api, BUDGET_RESOURCE):
            collected(BUDGET_KIND, item)
    except ApiError as error:
        return [f"{refusal(BUDGET_RESOURCE, error)}. {MAY_BE_EXCEEDED}"]
    return []


def _advice(reading: Reading, collected: CollectedDisruptions, settings: Settings, size: int, moves: int) -> DefragAnswer:
    snapshot, (context, ranker) = reading.snapshot, own_context(settings)
    context.evaluator.learn(snapshot)
    mover = PodMover(context, ranker, NO_ASSUMED_PODS, snapshot.monotonic_seconds or 0.0, settings.is_foreign)
    until_seconds = time.monotonic() + SECONDS
    search = DefragSearch(snapshot, size, collected.facts(), mover, policy(settings))
    return search.advise(moves, lambda: time.monotonic() < until_seconds)
