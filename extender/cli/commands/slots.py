"""`fabricwise slots`: how many more pods of each size fit now, and what the missing ones are lost to."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from extender.cli.cluster_options import ClassesOption, ClusterOption, KubeconfigOption
from extender.cli.reading import read_cluster, with_source
from extender.cli.rendering.output import ConfigOption, Output, OutputOption, print_answer
from extender.cli.rendering.slot_tables import slots_table
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
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
    kubeconfig: KubeconfigOption = None,
    workload_classes: ClassesOption = None,
) -> None:
    """Show how many more pods of each size fit now, and what each missing one is lost to.

    A pod has one container with whole GPUs, unless its workload class allows shared ones. Pods are counted one after another on each node,
    with the filters and the prediction of devices of a scheduling cycle.
    """
    settings = load_settings(config)
    reading = read_cluster(cluster or "kube", settings, kubeconfig, workload_classes)
    question = asked(size or (), workload_class, floor, memory, by, reading.snapshot.classes)
    if isinstance(question, str):
        raise RequestError(question)
    answer = slots_of(reading.snapshot, question, settings.resource, policy=policy(settings))
    print_answer(with_source(msgspec.to_builtins(answer), reading), output, slots_table)
