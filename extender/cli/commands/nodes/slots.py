"""`fabricwise slots`: how many more pods of each size fit now, and what the missing ones are lost to."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from extender.cli.asking import Target, answered
from extender.cli.cluster_options import (
    ClassesOption,
    ClusterOption,
    ContextOption,
    ExtenderOption,
    KubeconfigOption,
    ServerOption,
    TokenFileOption,
)
from extender.cli.reading import read_cluster, with_source
from extender.cli.rendering.answers.slot_tables import slots_table
from extender.cli.rendering.console.output import ConfigOption, Output, OutputOption, print_answer
from extender.cli.rendering.console.watching import INTERVAL_SECONDS, IntervalOption, WatchOption, watching
from extender.decision.slots.slot_question import By, asked
from extender.decision.slots.slot_summary import slots_of
from extender.errors import RequestError
from extender.server.from_settings import policy
from extender.settings_file import load_settings


def slots(
    size: Annotated[list[int] | None, typer.Option("--size", help="GPUs per pod; repeat it for several. Default: 1, 2, 4 and 8.")] = None,
    workload_class: Annotated[str | None, typer.Option("--class", help="Workload class of the pods.")] = None,
    floor: Annotated[
        float | None, typer.Option("--floor", metavar="GBPS", help="Bus bandwidth that each pod with several GPUs must reach, in GB/s.")
    ] = None,
    memory: Annotated[str | None, typer.Option("--memory", help="Memory that each GPU must have, such as 80Gi.")] = None,
    by: Annotated[By, typer.Option("--by", help="What one row stands for.")] = By.PRODUCT,
    cluster: ClusterOption = None,
    server: ServerOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
    kubeconfig: KubeconfigOption = None,
    context_name: ContextOption = None,
    extender: ExtenderOption = None,
    token_file: TokenFileOption = None,
    workload_classes: ClassesOption = None,
    watch: WatchOption = False,
    interval_seconds: IntervalOption = INTERVAL_SECONDS,
) -> None:
    """Show how many more pods of each size fit now, and what each missing one is lost to.

    A pod has one container with whole GPUs, unless its workload class allows shared ones. Pods are counted one after another on each node,
    with the filters and the prediction of devices of a scheduling cycle. The running extender answers if it can be asked, because it also
    has telemetry and the pods that it has just decided.
    """
    settings = load_settings(config)
    target = Target(cluster, server, kubeconfig, context_name, extender, token_file)
    wanted = {
        "size": ",".join(map(str, size or ())),
        "class": workload_class,
        "floor_gbps": floor,
        "memory": memory,
        "by": by.value,
    }
    query = {name: str(value) for name, value in wanted.items() if value not in (None, "")}

    def counted() -> dict[str, Any]:
        reading = read_cluster(cluster or "kube", settings, kubeconfig, workload_classes, context=context_name)
        question = asked(size or (), workload_class, floor, memory, by, reading.snapshot.classes)
        if isinstance(question, str):
            raise RequestError(question)
        answer = slots_of(reading.snapshot, question, settings.resource, policy=policy(settings))
        return with_source(msgspec.to_builtins(answer), reading)

    def answer() -> dict[str, Any]:
        return answered(target, "/v1/slots", counted, query=query)

    if watch:
        watching(answer, output, slots_table, names=_names, interval_seconds=interval_seconds)
        return
    print_answer(answer(), output, slots_table, names=_names)


def _names(answer: dict[str, Any]) -> list[str]:
    """Return the rows in which at least one pod fits, such as node/gpu-a."""
    return [f"{answer['by']}/{row['name']}" for row in answer["rows"] if any(slots["now"] for slots in row["sizes"])]
