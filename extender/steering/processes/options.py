"""What `fabricwise steer` is told on the command line."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Options(msgspec.Struct, frozen=True):
    """Names and places, as JSON can hold them."""

    node: str
    device_plugins_path: str
    """The kubelet's folder of device plugins."""
    shared_path: str
    """The folder shared with the agent, and with other steerers of the node."""
    pod_resources_path: str
    """The kubelet's PodResources socket."""
    stand_by: bool
    """Whether it serves only once no other steerer does."""
    decisions: bool
    """Whether recorded decisions are read at the API server."""
    host: str
    port: int
    kubeconfig: str | None

    @property
    def device_plugins(self) -> Path:
        """The kubelet's folder of device plugins."""
        return Path(self.device_plugins_path)

    @property
    def shared(self) -> Path:
        """The folder shared with the agent, and with other steerers of the node."""
        return Path(self.shared_path)

    @property
    def pod_resources(self) -> Path:
        """The kubelet's PodResources socket."""
        return Path(self.pod_resources_path)
