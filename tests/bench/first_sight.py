"""The first evaluation of a demand on many node states: what a scheduling attempt waits for when a pod of a new kind arrives.

The states are those of nodes of eighteen platforms, under several kubelets, with random GPUs held: some by pods that the agent names, some
by pods whose devices are only predicted, so that several sets of GPUs may be free. Tables are warm, as in a server that has started; what
belongs to a demand is not.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.policy import DEFAULT_POLICY
from extender.decision.node.node_state import NodeState
from extender.decision.request.pod_request import Demand, demand_of
from extender.sources.simulated import node_manifest
from tests.objects import container, pod, pod_struct, snapshot
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord
from topology.machine.hardware import Machine, positions_of
from topology.placement.shared_tables import table_for
from topology.platforms import machine_of, platforms

STATES = 2_000

KUBELETS: tuple[dict[str, str], ...] = (
    {},
    {},
    {},
    {"fabricwise.dev/topology-manager-policy": "best-effort"},
    {"fabricwise.dev/topology-manager-policy": "restricted"},
    {"fabricwise.dev/topology-manager-policy": "single-numa-node"},
    {"fabricwise.dev/device-plugin": "uniform"},
)
"""Labels that state how a node's kubelet allocates devices; most nodes have none."""

REQUESTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("1", pod(1)),
    ("3", pod(3)),
    ("8", pod(8)),
    ("2+1+1", pod(2, 1, 1)),
    ("4+4", pod(4, 4)),
    ("8 x 1", pod(*[1] * 8)),
    ("4 x 2", pod(*[2] * 4)),
    ("init 4, then 2+1", pod(2, 1, spec={"initContainers": [container(4, "prepare")]})),
    ("sidecar 1, then 2+2", pod(2, 2, spec={"initContainers": [container(1, "proxy", restartPolicy="Always")]})),
    ("2+1+1, at least 20 GB/s", pod(2, 1, 1, annotations={"fabricwise.dev/min-busbw": "20"})),
)
"""(name, pod) of each demand."""


@dataclass(frozen=True, slots=True)
class FirstSight:
    """The cost of the first evaluation of one demand on all states."""

    demand: str
    states: int
    feasible: int
    seconds: float
    """Of all states together."""
    microseconds_per_state: float
    slowest_milliseconds: float
    """Of the slowest single state: for that long no other work can run on the thread."""


def first_sight(states: int = STATES, seed: int = 1) -> list[FirstSight]:
    """Evaluate each demand of `REQUESTS` once on that many distinct states, and return one row per demand, in their order."""
    distinct = distinct_states(states, seed)
    for table in {state.table for state in distinct if state.table is not None}:
        table.warm()
    return [_first_sight(name, manifest, distinct) for name, manifest in REQUESTS]


def _first_sight(name: str, manifest: dict[str, Any], states: list[NodeState]) -> FirstSight:
    demand = demand_of(pod_struct(manifest), "nvidia.com/gpu")
    assert isinstance(demand, Demand)
    evaluator, feasible, spent_seconds = Evaluator(DEFAULT_POLICY), 0, []
    for state in states:
        started = time.process_time()
        verdict = evaluator.evaluate(demand, state)
        spent_seconds.append(time.process_time() - started)
        feasible += verdict.feasible
    total = sum(spent_seconds)
    return FirstSight(name, len(states), feasible, total, 1e6 * total / len(states), 1e3 * max(spent_seconds))


def distinct_states(count: int, seed: int = 1) -> list[NodeState]:
    """Return `count` distinct node states, the same for the same seed."""
    chance, found = random.Random(seed), dict[NodeState, None]()
    for _ in range(20):
        views = snapshot(*_objects(chance, count)).views
        found.update(dict.fromkeys(views[name].state for name in sorted(views)))
        if len(found) >= count:
            return list(found)[:count]
    raise ValueError(f"{len(found)} distinct states were found, {count} are wanted: ask for fewer")


def _objects(chance: random.Random, nodes: int) -> Iterator[dict[str, Any]]:
    """Nodes, their GpuTopologies and their pods."""
    names = list(platforms())
    for number in range(nodes):
        name = f"gpu-node-{number:05d}"
        machine = machine_of(names[number % len(names)], name)
        manifest = node_manifest(name, machine)
        manifest["metadata"]["labels"] |= chance.choice(KUBELETS)
        yield manifest
        yield from _load(chance, name, machine)


def _load(chance: random.Random, name: str, machine: Machine) -> Iterator[dict[str, Any]]:
    """The GpuTopology of a node with random pods, and those pods that it does not name: their devices are only predicted."""
    table, free = table_for(machine), (1 << len(machine.gpus)) - 1
    allocations: list[Allocation] = []
    for number in range(chance.randrange(len(machine.gpus))):
        size = chance.choice((1, 1, 1, 2, 2, 4))
        outcomes = table.predictor.predict(free, ((size, False),)).outcomes
        if not outcomes:
            break
        taken = chance.choices([outcome.taken for outcome in outcomes], [outcome.probability for outcome in outcomes])[0]
        free &= ~taken
        if chance.random() < 0.2:
            yield pod(size, name=f"{name}-{number}", node=name)
        else:
            allocations += [Allocation(machine.gpus[position].index) for position in positions_of(taken)]
    yield encode(TopologyRecord(name, machine, DeviceStatus(allocated=tuple(allocations))))


def main() -> None:
    """Print one line per demand."""
    print(f"{'demand':<26}{'feasible':>9}{'seconds':>10}{'us/state':>10}{'slowest ms':>12}")
    for row in first_sight():
        figures = f"{row.feasible:>9}{row.seconds:>10.3f}{row.microseconds_per_state:>10.0f}{row.slowest_milliseconds:>12.2f}"
        print(f"{row.demand:<26}{figures}")


if __name__ == "__main__":
    main()
