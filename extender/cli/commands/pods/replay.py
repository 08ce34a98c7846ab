"""`fabricwise replay`: the decisions of a snapshot, made again. Exit status 1 if any differs, or if a new pod fits on no node."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from extender.cli.options.cluster_options import ConfigOption
from extender.cli.options.output_options import OutputOption
from extender.cli.rendering.answers import explanation_tables
from extender.cli.rendering.answers.replay_tables import replay_table
from extender.cli.rendering.console.output import Output, print_answer
from extender.cli.rendering.console.progress import progress
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.replay.journal_lines import JournalError
from extender.decision.replay.journal_reader import JournalReader
from extender.decision.replay.replayed_decisions import Configuration, Replayed, replayed, replayed_answer
from extender.decision.replay.snapshot_archive import opened_journal
from extender.decision.report import serializers
from extender.errors import FOUND, ClusterSourceError, RequestError, SettingsError
from extender.loading import load_documents
from extender.pod_templates import templates_of
from extender.server.from_settings import node_defaults, policy, ranker
from extender.settings import Settings
from extender.settings_contradictions import check_settings
from extender.settings_file import load_settings
from extender.sources.dump import read_text
from extender.web.pod_manifests import pods_from
from topology.placement.set_table import DEFAULT_SIZE_MIX

MOST_CAUSES = 20
MOST_LISTED = 100
"""Decisions that are listed with their differences; further ones are counted."""


def replay(
    file: Annotated[Path, typer.Argument(help="Archive of `fabricwise snapshot`, or a file of the setting decisions.file.")],
    decision: Annotated[str | None, typer.Option("--decision", help="Replay the decision with this id, or this id of a placement.")] = None,
    pod: Annotated[Path | None, typer.Option("--pod", help="Evaluate the pod of this manifest on the newest state instead.")] = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make the decisions of a snapshot again, and show what differs. Exit status 1 if anything does.

    With --config: what differs under other settings. How telemetry is smoothed is not replayed, because the state contains means.
    """
    if decision is not None and pod is not None:
        raise typer.BadParameter("give --decision or --pod, not both")
    try:
        with opened_journal(file) as (journal, may_grow):
            reader = JournalReader(journal, str(file), may_grow)
            configuration = _configuration(reader, config)
            if pod is not None:
                answer = _of_new_pod(reader, configuration, pod)
            else:
                answer = _of_decisions(reader, configuration, decision, config)
    except JournalError as error:
        raise ClusterSourceError(str(error)) from error
    if pod is not None:
        print_answer(answer, output, explanation_tables.explanations)
        is_fine = all(each["chosen"] is not None for each in answer.get("explanations") or [answer])
    else:
        print_answer(answer, output, replay_table, names=_differing_pods)
        is_fine = not answer["different"]
    if not is_fine:
        raise typer.Exit(FOUND)


def _differing_pods(answer: Mapping[str, Any]) -> list[str]:
    """Return the pods of the listed decisions, each once."""
    return list(dict.fromkeys(f"pod/{decision['pod']}" for decision in answer["listed"]))


def _configuration(reader: JournalReader, config: Path | None) -> Configuration:
    """Return the settings of the journal, or those of a file. Raises SettingsError or JournalError."""
    if config is not None:
        settings = load_settings(config)
        if settings.resource != reader.head.resource:
            raise SettingsError(f"{config}: resource is {settings.resource}, the snapshot counts {reader.head.resource}: give the same")
    else:
        try:
            settings = msgspec.convert(reader.head.settings, Settings, strict=False)
            check_settings(settings, "the settings of the snapshot")
        except (msgspec.ValidationError, RecursionError) as error:
            why = f"line 1 has settings that this version does not know: {error}; give others with --config"
            raise JournalError(f"it cannot be replayed: {why}") from error
    return Configuration(policy(settings), ranker(settings.scoring), node_defaults(settings), settings.resource)


def _of_decisions(reader: JournalReader, configuration: Configuration, wanted: str | None, config: Path | None) -> dict[str, Any]:
    """Return how many decisions are identical, and those that are not. Raises RequestError where none has the wanted id."""
    counts = {"decisions": 0, "identical": 0, "different": 0, "not_replayable": 0}
    causes, listed = Counter[str](), list[dict[str, Any]]()
    with progress("replaying") as shown:
        for each in replayed(reader, configuration, wanted):
            counts["decisions"] += 1
            shown.update(f"{counts['decisions']} decisions replayed")
            counts[_outcome(each)] += 1
            if each.why_not is not None:
                causes[each.why_not] += 1
            if (wanted is not None or _outcome(each) == "different") and len(listed) < MOST_LISTED:
                listed.append(replayed_answer(each))
    if wanted is not None and not counts["decisions"]:
        raise RequestError(f"no decision has the id {wanted[:64]!r}: give one that `fabricwise replay FILE -o json` shows")
    end = reader.end
    return {
        "settings": "as recorded" if config is None else str(config),
        "written_by": reader.head.fabricwise,
        "created_seconds": reader.head.created_seconds,
        "names_hidden": reader.head.names_hidden,
        "complete": end is not None,
        "left_out": end.left_out if end is not None else 0,
        **counts,
        "why_not_replayed": dict(causes.most_common(MOST_CAUSES)),
        "listed": listed,
    }


def _outcome(decision: Replayed) -> str:
    if decision.why_not is not None:
        return "not_replayable"
    return "identical" if decision.is_identical else "different"


def _of_new_pod(reader: JournalReader, configuration: Configuration, path: Path) -> dict[str, Any]:
    """Return the explanation of a pod on the newest state of the journal."""
    templates = templates_of(load_documents(read_text(path), str(path)), str(path))
    mix: Mapping[int, float] = DEFAULT_SIZE_MIX
    with progress("reading the snapshot"):
        for read in reader.decisions(configuration.defaults):
            mix = read.line.mix or mix
    if reader.end is not None:
        mix = reader.end.mix or mix
    evaluator = Evaluator(replace(configuration.policy, size_mix=configuration.policy.size_mix or mix))
    moment = reader.moment
    answers = []
    for template in templates.pods:
        wanted, _ = pods_from(template.manifest, f"{path}: {template.source}")
        answer = serializers.explain(
            evaluator,
            configuration.ranker,
            moment.snapshot,
            wanted,
            configuration.resource,
            assumed_pods=moment.assumed_pods,
            monotonic_seconds=moment.monotonic_seconds,
        )
        answer["not_checked"] += template.not_known
        answers.append({**answer, "of": template.source})
    combined = answers[0] if len(answers) == 1 else {"explanations": answers}
    return {**combined, "cluster": f"the newest state of the snapshot, of {_utc(reader.head.created_seconds)}"}


def _utc(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    except (ValueError, OverflowError):
        return "an unknown time"
