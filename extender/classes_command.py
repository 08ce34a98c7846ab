"""`fabricwise classes`: look at workload classes, check a file, print the policies that enforce them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.table import Table

from extender.adapters.class_file import load_classes
from extender.class_policies import render
from extender.decision.annotations import LINKS
from extender.decision.classes import WorkloadClass
from extender.printing import Output, print_answer

classes = typer.Typer(help="Workload classes: what each may run on, and the policies that hold a cluster to them.", no_args_is_help=True)
FileOption = Annotated[Path, typer.Option("--file", "-f", help="The classes; the repository ships config/workload-classes.yaml.")]
COLUMNS = ("class", "sharing", "GB classes", "products", "link", "GB/s", "telemetry", "pools")
DEFAULT = Path("config/workload-classes.yaml")


@classes.command("list")
def list_classes(file: FileOption = DEFAULT) -> None:
    """The classes of a file, after checking it."""
    rows = [_row(one) for one in load_classes(file).values()]
    print_answer({"file": str(file), "classes": rows}, Output.TABLE, _table)


def _row(one: WorkloadClass) -> dict[str, str]:
    """A class as the words of its row."""
    return {
        "class": one.name,
        "sharing": ", ".join(one.sharing),
        "GB classes": ", ".join(map(str, one.memory_classes_gb)) or "any",
        "products": ", ".join(one.products) or "any",
        "link": LINKS[one.min_link] if one.min_link is not None else "-",
        "GB/s": f"{one.min_busbw_gbps:g}" if one.min_busbw_gbps else "-",
        "telemetry": "required" if one.telemetry_required else "ignored",
        "pools": "; ".join(",".join(f"{key}={value}" for key, value in pool) for pool in one.pools) or "any",
    }


def _table(answer: dict[str, Any]) -> Table:
    table = Table(title=f"workload classes of {answer['file']}", title_justify="left")
    for name in COLUMNS:
        table.add_column(name, no_wrap=name == "class")
    for row in answer["classes"]:
        table.add_row(*(row[name] for name in COLUMNS))
    return table


@classes.command("render")
def render_classes(
    file: FileOption = DEFAULT,
    scheduler: Annotated[str, typer.Option("--scheduler", help="schedulerName of GPU pods.")] = "gpu-scheduler",
    mutating: Annotated[str, typer.Option("--mutating", help="MutatingAdmissionPolicy of your API server: v1, v1beta1 or none.")] = "v1",
) -> None:
    """Print admission policies: kubectl apply -f them, and label the namespaces they shall govern fabricwise.dev/governed=true."""
    manifests = render(load_classes(file), scheduler, None if mutating == "none" else mutating)
    typer.echo(yaml.safe_dump_all(manifests, sort_keys=False, width=160), nl=False)
