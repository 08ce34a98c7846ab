"""`fabricwise classes`: list and check workload classes, and print the admission policies that enforce them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from extender.cli.admission_policies import render
from extender.cli.options.output_options import OutputOption
from extender.cli.rendering.console.fitted_tables import Column, FittedTable
from extender.cli.rendering.console.output import Output, print_answer
from extender.decision.request.annotations import LINKS
from extender.decision.request.workload_classes import WorkloadClass
from extender.sources.class_file import load_classes

classes = typer.Typer(help="Workload classes: where each may run, and the admission policies that enforce them.", no_args_is_help=True)
FileOption = Annotated[Path, typer.Option("--file", "-f", help="Classes file; config/workload-classes.yaml is an example.")]
COLUMNS = (
    Column("class", 0),
    Column("sharing", 7, least_width=8),
    Column("GB classes", 6, least_width=8),
    Column("products", 3, least_width=8),
    Column("link", 5),
    Column("GB/s", 4, is_number=True),
    Column("telemetry", 1),
    Column("pools", 2, least_width=12),
)
DEFAULT = Path("config/workload-classes.yaml")


@classes.command("list")
def list_classes(file: FileOption = DEFAULT, output: OutputOption = Output.TABLE) -> None:
    """Check a classes file and list its classes."""
    rows = [_row(workload_class) for workload_class in load_classes(file).values()]
    print_answer({"file": str(file), "classes": rows}, output, _table, names=_names)


def _names(answer: dict[str, Any]) -> list[str]:
    return [f"workloadclass/{row['class']}" for row in answer["classes"]]


def _row(workload_class: WorkloadClass) -> dict[str, str]:
    """Return the cells of a class by column."""
    pools = (",".join(f"{key}={value}" for key, value in pool) for pool in workload_class.pools)
    return {
        "class": workload_class.name,
        "sharing": ", ".join(workload_class.sharing),
        "GB classes": ", ".join(map(str, workload_class.memory_classes_gb)) or "any",
        "products": ", ".join(workload_class.products) or "any",
        "link": LINKS[workload_class.min_link] if workload_class.min_link is not None else "-",
        "GB/s": f"{workload_class.min_busbw_gbps:g}" if workload_class.min_busbw_gbps else "-",
        "telemetry": "required" if workload_class.telemetry_required else "ignored",
        "pools": "; ".join(pools) or "any",
    }


def _table(answer: dict[str, Any]) -> FittedTable:
    table = FittedTable(COLUMNS, title=f"workload classes of {answer['file']}")
    for row in answer["classes"]:
        table.add(row[column.name] for column in COLUMNS)
    return table


@classes.command("render")
def render_classes(
    file: FileOption = DEFAULT,
    scheduler: Annotated[str, typer.Option("--scheduler", help="schedulerName of GPU pods.")] = "gpu-scheduler",
    mutating: Annotated[str, typer.Option("--mutating", help="MutatingAdmissionPolicy of your API server: v1, v1beta1 or none.")] = "v1",
) -> None:
    """Print admission policies for `kubectl apply -f -`; they apply to namespaces with the label fabricwise.dev/governed=true."""
    manifests = render(load_classes(file), scheduler, None if mutating == "none" else mutating)
    typer.echo(yaml.safe_dump_all(manifests, sort_keys=False, width=160), nl=False)
