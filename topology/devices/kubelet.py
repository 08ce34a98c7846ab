"""How a node allocates devices: its Topology Manager policy, its device plugin and what a steerer knows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from topology.devices.numa_alignment import TopologyManager
from topology.devices.steering import DecidedFor, Steering


class DevicePlugin(StrEnum):
    """The policy that chooses the devices."""

    NVIDIA = "nvidia"
    """NVIDIA's best-effort policy. It is off where a GPU is in MIG mode, and then the same as `uniform`."""
    STEERED = "steered"
    """Fabricwise's steerer in front of NVIDIA's plugin: one certain set. Where it cannot choose it forwards NVIDIA's answer."""
    UNIFORM = "uniform"
    """A plugin without a known preference: every set is equally likely."""


USUAL_STEERING = Steering()


@dataclass(frozen=True, slots=True)
class Kubelet:
    """How a node allocates devices."""

    topology_manager: TopologyManager = TopologyManager.NONE
    device_plugin: DevicePlugin = DevicePlugin.NVIDIA
    steering: Steering = USUAL_STEERING
    """What a steerer knows; read where `device_plugin` is `steered`."""
    order: tuple[int, ...] | None = None
    """Positions in the order in which kube-scheduler's structured allocator tries them (Dynamic Resource Allocation); None where a device
    plugin assigns the devices."""

    def deciding_for(self, decided: DecidedFor) -> Kubelet:
        """Return the kubelet towards a pod whose recorded decision states what its devices are chosen for; itself where that is nothing
        else than usual, or no steerer chooses.
        """
        if self.device_plugin is not DevicePlugin.STEERED:
            return self
        steering = decided.applied_to(self.steering)
        return self if steering is self.steering else replace(self, steering=steering)


USUAL = Kubelet()
