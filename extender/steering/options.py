"""What `fabricwise steer` is told on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """Names and places."""

    node: str
    device_plugins: Path
    """The kubelet's folder of device plugins."""
    shared: Path
    """The folder shared with the agent, and with other steerers of the node."""
    pod_resources: Path
    """The kubelet's PodResources socket."""
    decisions: bool
    """Whether recorded decisions are read at the API server."""
    host: str
    port: int
    kubeconfig: str | None
