"""`fabricwise slots`: how many more pods of each size fit now, and what the missing ones are lost to."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from extender.cli.asking import answered
from extender.cli.options.cluster_options import ClassesOption
from extender.cli.options.option_groups import with_option_groups
from extender.cli.options.output_options import WatchOptions
from extender.cli.options.question_options import QuestionOptions
from extender.cli.reading import with_source
from extender.cli.rendering.answers.slot_tables import slots_table
from extender.cli.rendering.console.output import print_answer
from extender.cli.rendering.console.watching import watching
from extender.decision.slots.slot_question import By, asked
from extender.decision.slots.slot_summary import slots_of
from extender.errors import RequestError
from extender.server.from_settings import policy


@with_option_groups
def slots(
    *,
    size: Annotated[list[int] | None, typer.Option("--size", help="GPUs per pod; repeat it for several. Default: 1, 2, 4 and 8.")] = None,
    workload_class: Annotated[str | None, typer.Option("--class", help="Workload class of the pods.")] = None,
    floor: Annotated[
        float | None, typer.Option("--floor", metavar="GBPS", help="Bus bandwidth that each pod with several GPUs must reach, in GB/s.")
    ] = None,
    memory: Annotated[str | None, typer.Option("--memory", help="Memory that each GPU must have, such as 80Gi.")] = None,
    by: Annotated[By, typer.Option("--by", help="What one row stands for.")] = By.PRODUCT,
    question: QuestionOptions,
    workload_classes: ClassesOption = None,
    repeated: WatchOptions,
) -> None:
    """Show how many more pods of each size fit now, and what each missing one is lost to.

    A pod has one container with whole GPUs, unless its workload class allows shared ones. Pods are counted one after another on each node,
    with the filters and the prediction of devices of a scheduling cycle. The running extender answers if it can be asked, because it also
    has telemetry and the pods that it has just decided.
    """
    settings, target = question.settings(), question.target
    wanted = {
        "size": ",".join(map(str, size or ())),
        "class": workload_class,
        "floor_gbps": floor,
        "memory": memory,
        "by": by.value,
    }
    query = {name: str(value) for name, value in wanted.items() if value not in (None, "")}

    def counted() -> dict[str, Any]:
        reading = question.read(settings, workload_classes)
        counted_pods = asked(size or (), workload_class, floor, memory, by, reading.snapshot.classes)
        if isinstance(counted_pods, str):
            raise RequestError(counted_pods)
        answer = slots_of(reading.snapshot, counted_pods, settings.resource, policy=policy(settings))
        return with_source(msgspec.to_builtins(answer), reading)

    def answer() -> dict[str, Any]:
        return answered(target, "/v1/slots", counted, query=query)

    if repeated.watch:
        watching(answer, question.output, slots_table, names=_names, interval_seconds=repeated.interval_seconds)
        return
    print_answer(answer(), question.output, slots_table, names=_names)


def _names(answer: dict[str, Any]) -> list[str]:
    """Return the rows in which at least one pod fits, such as node/gpu-a."""
    return [f"{answer['by']}/{row['name']}" for row in answer["rows"] if any(slots["now"] for slots in row["sizes"])]
