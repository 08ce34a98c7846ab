"""How a kubelet hands out devices where a steerer answers for NVIDIA's device plugin, and what it is asked for."""

from __future__ import annotations

from dataclasses import replace

from extender.decision.node.node_state import NodeState
from extender.decision.request.pod_request import Demand
from topology.devices.prediction import DevicePlugin, Kubelet
from topology.devices.size_mix import SizeMix
from topology.devices.steering import DecidedFor, Steering, known_devices
from topology.gputopology.topology_record import TopologyRecord


def steered_kubelet(kubelet: Kubelet, record: TopologyRecord, resource: str, is_stale: bool) -> Kubelet:
    """Return the kubelet of a node on which, by the agent's status, a steerer answers which devices of the resource a container gets.

    The steerer answers by the function that the prediction uses, from what the agent published, so the prediction is certain. Without a
    steerer, with a stale status or with a device plugin that is not NVIDIA's, `kubelet` is returned as it is.
    """
    status = record.status
    steering = status.steering if status is not None and not is_stale else None
    if status is None or steering is None or resource not in steering.resources or kubelet.device_plugin is not DevicePlugin.NVIDIA:
        return kubelet
    unhealthy = [index for index, _ in status.unhealthy]
    known = known_devices(record.machine, unhealthy, dict(steering.unknown_memory), dict(steering.pressure))
    return replace(kubelet, device_plugin=DevicePlugin.STEERED, steering=Steering(known, steering.messages))


def as_decided(state: NodeState, demand: Demand, decided_mix: SizeMix | None) -> NodeState:
    """Return the state towards a pod that is decided: a steerer chooses for the pod's messages, and for the mix of sizes that the decision
    records. `decided_mix`: None where no decision is recorded; the steerer then chooses for its own mix.

    A state without a steerer is returned as it is.
    """
    kubelet = state.kubelet.deciding_for(DecidedFor(demand.wishes.messages, decided_mix))
    return state if kubelet is state.kubelet else replace(state, kubelet=kubelet)
