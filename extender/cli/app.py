"""The command line. Every error is one line on standard error; exit statuses are those of `errors`."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from typer.core import TyperGroup

from extender.cli.cluster_options import ClusterOption, KubeconfigOption, OptionalClusterOption, complete_machine
from extender.cli.commands.agent import agent
from extender.cli.commands.classes import classes
from extender.cli.commands.doctor import doctor, node
from extender.cli.commands.dump import dump
from extender.cli.commands.explain import ClassesOption, explain
from extender.cli.commands.fit import fit
from extender.cli.commands.telemetry import telemetry
from extender.cli.reading import read_cluster
from extender.cli.rendering import answer_tables
from extender.cli.rendering.output import ConfigOption, Output, console, print_answer
from extender.cli.rendering.svg import draw
from extender.cli.rendering.topology_report import all_sets, machine_answer
from extender.cli.topology_import import gpu_memory_bytes, node_name, warnings
from extender.errors import EXIT_STATUSES, ClusterSourceError, SettingsError, run_command
from extender.logs import log_to_stderr
from extender.server.cluster_source import open_service
from extender.server.service import serve_health, server_for, settle_process
from extender.settings import Settings, load_settings
from extender.sources.class_file import ClassFile
from extender.sources.dump import STANDARD_INPUT, read_text
from topology.gputopology import TopologyRecord, encode, free_mask
from topology.machine.hardware import Machine, TopologyError, mask_of, with_gpus
from topology.machine.matrix import Capture, parse_capture
from topology.platforms import machine_of, platforms

ORDER = ("explain", "node", "doctor", "topo", "fit", "classes", "telemetry", "dump", "demo", "serve", "agent")
"""The commands in the order in which people need them."""


class InOrder(TyperGroup):
    """Commands, listed in `ORDER`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names; one that `ORDER` does not know comes last."""
        return sorted(super().list_commands(ctx), key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


app = typer.Typer(
    cls=InOrder,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_STATUSES,
    rich_markup_mode=None,
)
app.command(name="agent")(agent)
app.command(name="telemetry")(telemetry)
app.command(name="fit")(fit)
app.add_typer(classes, name="classes")
app.command(name="node")(node)
app.command(name="doctor")(doctor)
app.command(name="dump")(dump)
app.command(name="explain")(explain)
topo = typer.Typer(help="Look at one machine's links, or import them.", no_args_is_help=True)
app.add_typer(topo, name="topo")


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"fabricwise {installed_version('fabricwise')}")
        except PackageNotFoundError:  # run from a checkout that is not installed
            typer.echo("fabricwise, of unknown version: it is not installed as a package")
        raise typer.Exit


@app.callback()
def fabricwise(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")] = False,
) -> None:
    """GPU-aware scheduler extender: places pods by link bandwidth and says why."""


WHAT_MACHINE = "`nvidia-smi topo -m` output in a file (- is standard input), a bundled platform, or with --cluster a node's name."


class Drawn(StrEnum):
    """How to print what can also be drawn."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    SVG = "svg"


ProductOption = Annotated[str | None, typer.Option("--product", help="Product name, such as 'NVIDIA H100 80GB HBM3'.")]
MemoryOption = Annotated[str | None, typer.Option("--memory", help="Memory per GPU, such as 80Gi.")]
CpuOption = Annotated[str | None, typer.Option("--cpu", help="CPU model: decides the socket link's GB/s.")]
PcieOption = Annotated[int | None, typer.Option("--pcie-gen", min=1, max=6, help="PCIe generation of the GPUs.")]
P2pOption = Annotated[bool | None, typer.Option("--p2p/--no-p2p", help="Whether PCIe peer-to-peer works.")]


@app.command()
def serve(
    cluster: ClusterOption = None,
    config: ConfigOption = None,
    host: Annotated[str, typer.Option("--host")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8888,
    kubeconfig: KubeconfigOption = None,
    workload_classes: ClassesOption = None,
) -> None:
    """Serve the scheduler verbs and the debug API, by default for the cluster of the kubeconfig's current context."""
    settings = load_settings(config)
    if port and settings.server.health_port == port:
        raise SettingsError(f"server.health_port and --port are both {port}: set one of them to another port")
    log_to_stderr(settings.server.log_level)
    fed = open_service(cluster or "kube", settings, kubeconfig)
    service = fed.service
    class_file = ClassFile(workload_classes, service.store, service.supervisor) if workload_classes else None
    fed.start()
    if class_file is not None:
        class_file.start()
    settle_process(service)
    try:
        server = server_for(service, host, port)
        serve_health(service, host)
        server.run()
    finally:
        fed.stop()


@topo.command("show")
def topo_show(
    what: Annotated[str, typer.Argument(help=WHAT_MACHINE, autocompletion=complete_machine)],
    cluster: OptionalClusterOption = None,
    gpus: Annotated[str | None, typer.Option("--gpus", help="One set of GPU indices, such as 0,1,2.")] = None,
    product: ProductOption = None,
    memory: MemoryOption = None,
    cpu: CpuOption = None,
    pcie_gen: PcieOption = None,
    p2p: P2pOption = None,
    every_set: Annotated[bool, typer.Option("--all-sets", help="Every set of two or more GPUs, per message size.")] = False,
    output: Annotated[Drawn, typer.Option("-o", "--output", help="How to print; svg draws the machine.")] = Drawn.TABLE,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """A machine's links in GB/s, and its best, expected and worst sets."""
    chosen = _indices(gpus)
    if every_set and (output is Drawn.SVG or chosen is not None):
        raise typer.BadParameter("--all-sets lists every set: it goes with neither --gpus nor -o svg")
    free: int | None = None
    of: dict[str, str] = {}
    if cluster is not None:
        machine, free, of["cluster"] = _node_machine(what, cluster, kubeconfig)
    elif what == STANDARD_INPUT or Path(what).is_file():
        capture = _capture(Path(what), product, memory)
        machine = _told(capture.machine, None, None, cpu, pcie_gen, p2p)
        for note in capture.notes:
            typer.echo(f"warning: {note}", err=True)
    elif what in platforms():
        machine = _told(machine_of(what), product, memory, cpu, pcie_gen, p2p)
    else:
        raise ClusterSourceError(f"{what!r} is no file and no bundled platform ({', '.join(platforms())}); for a node give --cluster")
    name = Path(what).name
    if output is Drawn.SVG:
        typer.echo(draw(name, machine, mask_of(range(len(machine.gpus))) if free is None else free), nl=False)
    elif every_set:
        print_answer(all_sets(machine), Output(output.value), answer_tables.sets)
    else:
        print_answer(machine_answer(name, machine, free, chosen) | of, Output(output.value), answer_tables.topology)


def _node_machine(node: str, cluster: str, kubeconfig: str | None) -> tuple[Machine, int, str]:
    """A node's machine, the mask of its free GPUs, and which cluster that is of. Raises ClusterSourceError."""
    reading = read_cluster(cluster, Settings(), kubeconfig)
    snapshot = reading.snapshot
    record = snapshot.topologies.get(node)
    if isinstance(record, str):
        raise ClusterSourceError(f"{record}; correct the object, or see the log of the node's agent")
    if record is None and "topologies" in reading.unread:
        raise ClusterSourceError(f"{reading.unread['topologies']}; without GpuTopologies give a matrix or a platform instead of a node")
    if record is None:
        known = f"is not known; nodes: {', '.join(sorted(snapshot.nodes)[:20])}"
        if node in snapshot.nodes:
            known = "has no GpuTopology; run the agent there, or make one with: fabricwise topo import"
        raise ClusterSourceError(f"node {node!r} {known}; see `fabricwise topo --help`")
    return record.machine, free_mask(record.machine, record.status), reading.cluster


def _indices(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"--gpus {text!r} is not a list such as 0,1,2") from error


@topo.command("import")
def topo_import(
    matrix: Annotated[Path, typer.Argument(help="`nvidia-smi topo -m` output in a file (- is standard input).")],
    node: Annotated[str, typer.Option("--node", help="Name of the node it is from.")],
    product: ProductOption = None,
    memory: MemoryOption = None,
    cpu: CpuOption = None,
    pcie_gen: PcieOption = None,
    p2p: P2pOption = None,
) -> None:
    """Print a GpuTopology manifest made from a matrix."""
    try:
        node_name(node)
    except ValueError as error:
        raise typer.BadParameter(f"--node: {error}") from error
    capture = _capture(matrix, product, memory)
    machine = _told(capture.machine, None, None, cpu, pcie_gen, p2p)
    for warning in warnings(replace(capture, machine=machine), product, cpu):
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(yaml.safe_dump(encode(TopologyRecord(node, machine)), sort_keys=False, width=200), nl=False)


def _capture(path: Path, product: str | None, memory: str | None) -> Capture:
    memory_bytes = _memory_bytes(memory)
    try:
        return parse_capture(read_text(path), product, memory_bytes)
    except TopologyError as error:
        raise TopologyError(f"{path}: {error}") from error


def _told(machine: Machine, product: str | None, memory: str | None, cpu: str | None, pcie_gen: int | None, p2p: bool | None) -> Machine:
    """The machine with what the caller knows better."""
    facts = {"product": product, "memory_bytes": _memory_bytes(memory), "pcie_generation": pcie_gen}
    machine = with_gpus(machine, **{name: fact for name, fact in facts.items() if fact is not None})
    return replace(machine, cpu_model=cpu or machine.cpu_model, peer_to_peer=machine.peer_to_peer if p2p is None else p2p)


def _memory_bytes(memory: str | None) -> int | None:
    try:
        return gpu_memory_bytes(memory) if memory is not None else None
    except ValueError as error:
        raise typer.BadParameter(f"--memory: {error}") from error


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the stream of pods, for scripts.")] = False,
    pods: Annotated[int, typer.Option("--pods", min=1, max=500, help="Pods in the stream.")] = 36,
    seed: Annotated[int, typer.Option("--seed", help="Another stream.")] = 7,
    pause_seconds: Annotated[float, typer.Option("--pause", min=0, help="Seconds between pods.")] = 0.25,
) -> None:
    """Watch GPU pods being placed by link quality: the real HTTP service on a simulated cluster.

    Without a terminal to watch it on, it prints a line per pod and ends by itself.
    """
    from extender.cli.commands.demo import run_demo

    watched = console.is_terminal
    run_demo(console, pods=pods, seed=seed, pause_seconds=pause_seconds if watched else 0.0, once=once or not watched)


def main() -> None:
    """Entry point of the `fabricwise` command, but for `fabricwise agent`: see `extender.__main__`."""
    run_command(app)


if __name__ == "__main__":
    main()
