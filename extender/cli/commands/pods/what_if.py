"""`fabricwise what-if`: where pods would go if the cluster were another one. It writes nothing. Exit status 1 if a pod finds no node."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from extender.cli.asking import Answer, Target, asked
from extender.cli.options.cluster_options import (
    ClassesOption,
    ClusterOption,
    ConfigOption,
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    ServerOption,
    TokenFileOption,
)
from extender.cli.options.completed_values import complete_node
from extender.cli.options.output_options import OutputOption
from extender.cli.reading import Reading, read_cluster
from extender.cli.rendering.answers.what_if_tables import what_if as tables
from extender.cli.rendering.console.output import Output, print_answer, print_warning
from extender.cli.rendering.console.progress import progress
from extender.decision.whatif.hypotheses import MOST_HYPOTHESES, Unusable
from extender.decision.whatif.kube_objects import KubeObjects
from extender.decision.whatif.sequence import SequenceStart
from extender.decision.whatif.what_if_answer import WhatIfAnswer, what_if_answer
from extender.decision.whatif.what_if_question import MOST_PODS_OF_COMMAND
from extender.decision.whatif.what_if_question import what_if as answer_what_if
from extender.errors import FOUND, ClusterSourceError, RequestError
from extender.kube.api_client import context_of
from extender.loading import load_documents
from extender.server.from_settings import decider
from extender.settings import Settings
from extender.settings_file import load_settings
from extender.settings_overrides import with_overrides
from extender.sources.collected_objects import CollectedObjects
from extender.sources.dump import STANDARD_INPUT, read_text
from extender.web.questions.what_if_body import GpuName, NodesToAdd, PodName, PodsToAdd, WhatIfBody, hypotheses_of
from topology.machine.hardware import MAX_GPUS


def what_if(
    add: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE|SIZExCOUNT", help="Add the pods of a manifest, or COUNT pods of SIZE GPUs, such as 4x10. Repeatable."),
    ] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="[NS/]POD", help="Remove a pod. Repeatable.")] = None,
    cordon: Annotated[list[str] | None, typer.Option(metavar="NODE", help="Cordon a node.", autocompletion=complete_node)] = None,
    lose: Annotated[list[str] | None, typer.Option(metavar="NODE:GPU", help="Lose a GPU, by nvidia-smi index. Repeatable.")] = None,
    nodes: Annotated[
        list[str] | None, typer.Option(metavar="COUNTxPLATFORM", help="Add nodes of a bundled platform, such as 3xhgx-h100.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as scoring.weights.link=0.5.")
    ] = None,
    cluster: ClusterOption = None,
    server: ServerOption = None,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
    kubeconfig: KubeconfigOption = None,
    context_name: ContextOption = None,
    token_file: TokenFileOption = None,
    workload_classes: ClassesOption = None,
) -> None:
    """Show where pods would go if pods, nodes, GPUs or settings were others. Exit status 1 if a pod finds no node.

    The pending pods of the cluster are placed first, in kube-scheduler's order, then the added ones, each by the decision that the extender
    would take. Nothing is written. Without options: where the pending pods go. The command reads whole pods from the API server, which a
    running extender does not keep; --server asks the extender at a URL, which also has telemetry.
    """
    settings = load_settings(config)
    namespace = namespace or _current_namespace(cluster, server, kubeconfig, context_name)
    body = WhatIfBody(
        add=[_added(text, namespace) for text in _few(add, "--add")],
        remove=[_pod_name(text, namespace) for text in _few(remove, "--remove")],
        cordon=_few(cordon, "--cordon"),
        lose=[_gpu_name(text) for text in _few(lose, "--lose")],
        nodes=[_new_nodes(text) for text in _few(nodes, "--nodes")],
        set=dict(_setting(text) for text in _few(overrides, "--set")),
    )
    answer = _asked(body, Target(cluster, server, kubeconfig, context_name, token_file=token_file)) if server else None
    if answer is None:
        then = with_overrides(settings, body.set, "--set")
        collected = CollectedObjects()
        reading = read_cluster(cluster or "kube", settings, kubeconfig, workload_classes, collected, context_name)
        answer = _answer(body, reading, collected, settings, then)
        for warning in reading.warnings:
            print_warning(warning)
    print_answer(msgspec.to_builtins(answer), output, tables, names=_names)
    if not answer.finds_a_node_for_every_pod:
        raise typer.Exit(FOUND)


def _asked(body: WhatIfBody, target: Target) -> WhatIfAnswer:
    """Return the answer of the extender at a URL. Raises ClusterSourceError."""
    reply = asked(target, "/v1/what-if", msgspec.to_builtins(body))
    assert isinstance(reply, Answer)
    try:
        answer = msgspec.convert(reply.content, WhatIfAnswer)
    except msgspec.ValidationError as error:
        raise ClusterSourceError(f"{reply.by} is of another version: {error}; name one of the same version") from error
    return msgspec.structs.replace(answer, cluster=f"{answer.cluster or 'an unnamed cluster'}, by {reply.by}")


def _names(answer: dict[str, Any]) -> list[str]:
    """Return the pods that find a node, such as pod/default/llm-0."""
    return [f"pod/{pod['pod']}" for pod in answer["pods"] if pod["after"]["node"] is not None]


def _answer(body: WhatIfBody, reading: Reading, collected: CollectedObjects, settings: Settings, then: Settings) -> WhatIfAnswer:
    """Return the answer about a cluster that was read. Raises RequestError."""
    snapshot = reading.snapshot
    hypotheses, not_known = hypotheses_of(body, settings.resource, snapshot.nodes)
    start = SequenceStart(snapshot, _objects(reading, collected), monotonic_seconds=snapshot.monotonic_seconds or 0.0)
    placed = itertools.count(1)
    with progress("placing pods") as shown:

        def pace() -> bool:
            number = next(placed)
            if number % 10 == 0:
                shown.update(f"placing pods: {number}")
            return True

        deciders = decider(settings), decider(then)
        result = answer_what_if(start, hypotheses, *deciders, settings.is_foreign, MOST_PODS_OF_COMMAND, pace)
    if isinstance(result, Unusable):
        raise RequestError(result.why)
    answer = what_if_answer(result, settings.resource)
    return msgspec.structs.replace(answer, cluster=reading.cluster, unread=reading.warnings, not_checked=[*answer.not_checked, *not_known])


def _objects(reading: Reading, collected: CollectedObjects) -> KubeObjects:
    """Return what kube-scheduler's filters read, as far as it was read."""
    bound = {node: tuple(pods) for node, pods in collected.pods.items()}
    has_claims = "PersistentVolumeClaim" in collected.seen_kinds
    return KubeObjects(
        bound=bound if bound or "pods" not in reading.unread else None,
        pending=collected.pending,
        claims=collected.claims if has_claims else None,
        volumes=collected.volumes if has_claims else None,
    )


def _current_namespace(cluster: str | None, server: str | None, kubeconfig: str | None, context_name: str | None) -> str:
    context = context_of(kubeconfig, context_name) if cluster in (None, "kube") and server is None else None
    return context[1] if context is not None else "default"


def _few(texts: list[str] | None, option: str) -> list[str]:
    if texts is not None and len(texts) > MOST_HYPOTHESES:
        raise typer.BadParameter(f"{option} is given {len(texts)} times, at most {MOST_HYPOTHESES} are allowed")
    return texts or []


Kind = TypeVar("Kind")

_SIZE_AND_COUNT = re.compile(r"([0-9]{1,20})x([0-9]{1,20})")
_COUNT_AND_PLATFORM = re.compile(r"([0-9]{1,20})x(.+)")


def _added(text: str, namespace: str) -> PodsToAdd:
    """Parse `SIZExCOUNT`, or read a file of manifests."""
    match = _SIZE_AND_COUNT.fullmatch(text)
    if match is not None:
        size, count = int(match[1]), int(match[2])
        if not 1 <= size <= MAX_GPUS:
            raise RequestError(f"--add {text}: a pod of {size} GPUs fits no node; give a SIZE of 1 to {MAX_GPUS}")
        if not 1 <= count <= MOST_PODS_OF_COMMAND:
            raise RequestError(f"--add {text}: {count} pods are too many or none; give 1 to {MOST_PODS_OF_COMMAND}")
        return PodsToAdd(gpus=size, count=count)
    if text != STANDARD_INPUT and not Path(text).is_file():
        raise RequestError(f"--add {text!r} is neither a file nor SIZExCOUNT: give a manifest, or such as 4x10 for ten pods of 4 GPUs")
    documents = load_documents(read_text(Path(text)), text)
    return PodsToAdd(pod={"kind": "List", "items": [_in_namespace(document, namespace) for document in _flat(documents)]})


def _flat(documents: Sequence[Any]) -> Iterator[Any]:
    for document in documents:
        items = document.get("items") if isinstance(document, dict) else None
        yield from items if isinstance(items, list) else [document]


def _in_namespace(document: Any, namespace: str) -> Any:
    metadata = document.get("metadata") if isinstance(document, dict) else None
    if not isinstance(metadata, dict) or metadata.get("namespace"):
        return document
    return {**document, "metadata": {**metadata, "namespace": namespace}}


def _pod_name(text: str, namespace: str) -> PodName:
    stated, slash, name = text.rpartition("/")
    return _converted({"name": name, "namespace": stated if slash else namespace}, PodName, f"--remove {text}")


def _gpu_name(text: str) -> GpuName:
    node, colon, index = text.rpartition(":")
    if not colon or not index.isascii() or not index.isdigit() or len(index) > 20:
        raise RequestError(f"--lose {text!r}: give NODE:GPU with the nvidia-smi index, such as gpu-node-1:3")
    return _converted({"node": node, "gpu": int(index)}, GpuName, f"--lose {text}")


def _new_nodes(text: str) -> NodesToAdd:
    match = _COUNT_AND_PLATFORM.fullmatch(text)
    if match is None:
        raise RequestError(f"--nodes {text!r}: give COUNTxPLATFORM, such as 3xhgx-h100 for three nodes of a bundled platform")
    return _converted({"platform": match[2], "count": int(match[1])}, NodesToAdd, f"--nodes {text}")


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise RequestError(f"--set {text!r}: give KEY=VALUE, such as scoring.weights.link=0.5")
    try:
        return key, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return key, value  # a text that needs no quotes


def _converted(fields: dict[str, Any], kind: type[Kind], where: str) -> Kind:
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise RequestError(f"{where}: {error}: correct this option, see fabricwise what-if --help") from error
