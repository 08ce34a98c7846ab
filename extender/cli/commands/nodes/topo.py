"""`fabricwise topo show` and `fabricwise topo import`: the links of one machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import yaml

from extender.cli.options.cluster_options import ContextOption, KubeconfigOption, OptionalClusterOption
from extender.cli.options.completed_values import complete_machine
from extender.cli.options.option_groups import with_option_groups
from extender.cli.reading import read_cluster
from extender.cli.rendering.console.output import Output, print_answer
from extender.cli.rendering.machines import topology_tables
from extender.cli.rendering.machines.svg import draw
from extender.cli.rendering.machines.topology_report import all_sets, machine_answer
from extender.cli.topology_import import gpu_memory_bytes, node_name, warnings
from extender.errors import ClusterSourceError
from extender.settings import Settings
from extender.sources.dump import STANDARD_INPUT, read_text
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import TopologyRecord, free_mask
from topology.machine.hardware import Machine, TopologyError, mask_of, with_gpus
from topology.machine.matrix import Capture, parse_capture
from topology.platforms import machine_of, platforms

topo = typer.Typer(help="Show the links of one machine, or import them.", no_args_is_help=True)

WHAT_MACHINE = "File with the output of `nvidia-smi topo -m` (- is standard input), bundled platform, or with --cluster a node's name."


class Drawn(StrEnum):
    """Output formats of a command that can also draw its answer."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    SVG = "svg"


@dataclass(frozen=True, slots=True)
class _Facts:
    """Facts about a machine from the command line; None: not given."""

    product: str | None
    memory_bytes: int | None
    cpu: str | None
    pcie_generation: int | None
    peer_to_peer: bool | None


@dataclass(frozen=True, slots=True)
class MachineOptions:
    """The options that state facts about a machine."""

    product: Annotated[str | None, typer.Option("--product", help="Product name, such as 'NVIDIA H100 80GB HBM3'.")] = None
    memory: Annotated[str | None, typer.Option("--memory", help="Memory per GPU, such as 80Gi.")] = None
    cpu: Annotated[str | None, typer.Option("--cpu", help="CPU model, which determines the bandwidth between sockets.")] = None
    pcie_gen: Annotated[int | None, typer.Option("--pcie-gen", min=1, max=6, help="PCIe generation of the GPUs.")] = None
    p2p: Annotated[bool | None, typer.Option("--p2p/--no-p2p", help="Whether PCIe peer-to-peer works.")] = None

    def facts(self) -> _Facts:
        """Return the facts. Raises typer.BadParameter for a memory that is no quantity."""
        return _Facts(self.product, _memory_bytes(self.memory), self.cpu, self.pcie_gen, self.p2p)


@topo.command("show")
@with_option_groups
def topo_show(
    *,
    what: Annotated[str, typer.Argument(help=WHAT_MACHINE, autocompletion=complete_machine)],
    cluster: OptionalClusterOption = None,
    gpus: Annotated[str | None, typer.Option("--gpus", help="One set of GPU indices, such as 0,1,2.")] = None,
    stated: MachineOptions,
    every_set: Annotated[bool, typer.Option("--all-sets", help="List every set of two or more GPUs, per message size.")] = False,
    output: Annotated[Drawn, typer.Option("-o", "--output", help="Output format; svg draws the machine.")] = Drawn.TABLE,
    kubeconfig: KubeconfigOption = None,
    context_name: ContextOption = None,
) -> None:
    """Show a machine's links in GB/s, and its best, expected and worst sets of GPUs."""
    chosen = _indices(gpus)
    if every_set and (output is Drawn.SVG or chosen is not None):
        raise typer.BadParameter("--all-sets lists every set: it goes with neither --gpus nor -o svg")
    free: int | None = None
    cluster_field: dict[str, str] = {}
    if cluster is not None:
        machine, free, cluster_field["cluster"] = _node_machine(what, cluster, kubeconfig, context_name)
    elif what == STANDARD_INPUT or Path(what).is_file():
        capture = _capture(Path(what), stated.facts())
        machine = capture.machine
        for note in capture.notes:
            typer.echo(f"warning: {note}", err=True)
    elif what in platforms():
        machine = _with_facts(machine_of(what), stated.facts())
    else:
        raise ClusterSourceError(f"{what!r} is neither a file nor a bundled platform ({', '.join(platforms())}); for a node give --cluster")
    name = Path(what).name
    if output is Drawn.SVG:
        typer.echo(draw(name, machine, mask_of(range(len(machine.gpus))) if free is None else free), nl=False)
    elif every_set:
        print_answer(all_sets(machine), Output(output.value), topology_tables.sets)
    else:
        print_answer(machine_answer(name, machine, free, chosen) | cluster_field, Output(output.value), topology_tables.topology)


@topo.command("import")
@with_option_groups
def topo_import(
    *,
    matrix: Annotated[Path, typer.Argument(help="File with the output of `nvidia-smi topo -m` (- is standard input).")],
    node: Annotated[str, typer.Option("--node", help="Name of the node that printed the matrix.")],
    stated: MachineOptions,
) -> None:
    """Print a GpuTopology manifest made from a matrix."""
    try:
        node_name(node)
    except ValueError as error:
        raise typer.BadParameter(f"--node: {error}") from error
    capture = _capture(matrix, stated.facts())
    for warning in warnings(capture, stated.product, stated.cpu):
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(yaml.safe_dump(encode(TopologyRecord(node, capture.machine)), sort_keys=False, width=200), nl=False)


def _node_machine(node: str, cluster: str, kubeconfig: str | None, context_name: str | None) -> tuple[Machine, int, str]:
    """Return a node's machine, the mask of its free GPUs, and the name of its cluster. Raises ClusterSourceError."""
    reading = read_cluster(cluster, Settings(), kubeconfig, context=context_name)
    snapshot = reading.snapshot
    record = snapshot.topologies.get(node)
    if isinstance(record, str):
        raise ClusterSourceError(f"{record}; correct the object, or see the log of the node's agent")
    if record is None and "topologies" in reading.unread:
        raise ClusterSourceError(f"{reading.unread['topologies']}; without GpuTopologies give a matrix or a platform instead of a node")
    if record is None:
        problem = f"is not known; nodes: {', '.join(sorted(snapshot.nodes)[:20])}"
        if node in snapshot.nodes:
            problem = "has no GpuTopology; run the agent there, or make one with: fabricwise topo import"
        raise ClusterSourceError(f"node {node!r} {problem}; see `fabricwise topo --help`")
    return record.machine, free_mask(record.machine, record.status), reading.cluster


def _indices(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"--gpus {text!r} is not a list such as 0,1,2") from error


def _capture(path: Path, facts: _Facts) -> Capture:
    """Return the parsed matrix of a file, with the facts from the command line. Raises TopologyError naming the file."""
    try:
        capture = parse_capture(read_text(path), facts.product, facts.memory_bytes)
    except TopologyError as error:
        raise TopologyError(f"{path}: {error}") from error
    # parse_capture has used product and memory already: they also determine the links that it assumes
    return replace(capture, machine=_with_facts(capture.machine, replace(facts, product=None, memory_bytes=None)))


def _with_facts(machine: Machine, facts: _Facts) -> Machine:
    """Return the machine with the facts that the command line states."""
    of_gpus = {"product": facts.product, "memory_bytes": facts.memory_bytes, "pcie_generation": facts.pcie_generation}
    machine = with_gpus(machine, **{name: fact for name, fact in of_gpus.items() if fact is not None})
    peer_to_peer = machine.peer_to_peer if facts.peer_to_peer is None else facts.peer_to_peer
    return replace(machine, cpu_model=facts.cpu or machine.cpu_model, peer_to_peer=peer_to_peer)


def _memory_bytes(memory: str | None) -> int | None:
    try:
        return gpu_memory_bytes(memory) if memory is not None else None
    except ValueError as error:
        raise typer.BadParameter(f"--memory: {error}") from error
