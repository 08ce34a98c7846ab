"""`fabricwise steer` on the command line. It runs on every GPU node and must stay small."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from extender.errors import SettingsError
from extender.steering.processes.options import Options
from extender.steering.processes.steer_process import in_place_of_this

DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
SHARED = Path("/run/fabricwise")
POD_RESOURCES = Path("/var/lib/kubelet/pod-resources/kubelet.sock")

app = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]}, rich_markup_mode=None, add_completion=False)


@app.command()
def steer(
    node: Annotated[str | None, typer.Option("--node-name", help="The node. Else $NODE_NAME, else the host's name.")] = None,
    device_plugins: Annotated[Path, typer.Option("--device-plugins", help="The kubelet's folder of device plugins.")] = DEVICE_PLUGINS,
    shared: Annotated[Path, typer.Option("--shared", help="The folder shared with the agent.")] = SHARED,
    pod_resources: Annotated[Path, typer.Option("--pod-resources", help="The kubelet's PodResources socket.")] = POD_RESOURCES,
    stand_by: Annotated[bool, typer.Option("--stand-by", help="Serve only once no other steerer on this node does.")] = False,
    decisions: Annotated[bool, typer.Option("--decisions/--no-decisions", help="Read recorded decisions at the API server.")] = True,
    host: Annotated[str, typer.Option("--host")] = "0.0.0.0",  # noqa: S104 - probes come from the kubelet
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Health and metrics.")] = 9479,
    kubeconfig: Annotated[str | None, typer.Option("--kubeconfig", help="Outside a cluster.")] = None,
) -> None:
    """Answer which GPUs a container gets, between the kubelet and NVIDIA's device plugin; see docs/steering.md."""
    name = node or os.environ.get("NODE_NAME") or socket.gethostname()
    if not device_plugins.is_dir():
        raise SettingsError(
            f"{device_plugins} is no folder: mount the kubelet's folder of device plugins, or name it with --device-plugins"
        )
    options = Options(name, str(device_plugins), str(shared), str(pod_resources), stand_by, decisions, host, port, kubeconfig)
    in_place_of_this(options)
