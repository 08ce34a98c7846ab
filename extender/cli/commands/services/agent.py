"""`fabricwise agent`. It imports no other command, because its process runs on every node and must stay small."""

from __future__ import annotations

import json
import signal
import threading
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import yaml

from extender.logs import log_to_stderr
from extender.server.agent_process import AgentOptions, build_agent, node_name, serve_state
from topology.agent.pod_resources import DEFAULT_SOCKET
from topology.agent.steerer import DEFAULT_FOLDER
from topology.gputopology.manifest_encoding import encode

app = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]}, rich_markup_mode=None, add_completion=False)


class Printed(StrEnum):
    """Output formats of an object."""

    YAML = "yaml"
    JSON = "json"


@app.command()
def agent(
    node: Annotated[
        str | None,
        typer.Option("--node-name", help="The node. Default: $NODE_NAME, else the node in the pod's token, else the host's name."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print what would be published, and exit.")] = False,
    output: Annotated[Printed, typer.Option("-o", "--output", help="Output format with --once.")] = Printed.YAML,
    interval_seconds: Annotated[
        float, typer.Option("--interval", min=0.2, help="Seconds between two readings of the kubelet's allocations.")
    ] = 5.0,
    heartbeat_seconds: Annotated[
        float, typer.Option("--heartbeat", min=1, help="Seconds after which an unchanged status is published again.")
    ] = 60.0,
    hardware_seconds: Annotated[float, typer.Option("--hardware-interval", min=0.2, help="Seconds between two readings of NVML.")] = 30.0,
    allow_no_gpu: Annotated[bool, typer.Option("--allow-no-gpu", help="Publish a machine without GPUs if NVML is missing.")] = False,
    pod_resources: Annotated[Path, typer.Option("--pod-resources", help="The kubelet's PodResources socket.")] = DEFAULT_SOCKET,
    root: Annotated[Path, typer.Option("--host-root", help="Folder with the node's /sys and /proc.")] = Path("/"),
    host: Annotated[str, typer.Option("--host")] = "0.0.0.0",  # noqa: S104 - probes come from the kubelet
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port of health and metrics.")] = 9478,
    kubeconfig: Annotated[str | None, typer.Option("--kubeconfig", help="Kubeconfig file, for use outside a cluster.")] = None,
    shared: Annotated[Path, typer.Option("--shared", help="Folder that is shared with `fabricwise steer`.")] = DEFAULT_FOLDER,
) -> None:
    """Read this node's GPUs and their allocations to pods, and publish both as its GpuTopology."""
    options = AgentOptions(
        node_name(node), pod_resources, root, interval_seconds, hardware_seconds, heartbeat_seconds, allow_no_gpu, kubeconfig, shared
    )
    running = build_agent(options, publish=not once)
    if once:
        manifest = encode(running.round())
        typer.echo(json.dumps(manifest, indent=2) if output is Printed.JSON else yaml.safe_dump(manifest, sort_keys=False, width=200))
        return
    log_to_stderr("INFO")
    server = serve_state(running.state, interval_seconds, host, port)
    # in a thread, because the code that the signal interrupts may hold the event's lock
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=running.state.stop.set).start())
    try:
        running.run()
    finally:
        server.shutdown()
