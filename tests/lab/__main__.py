"""`python -m tests.lab`: start the lab and keep it, run a sequence of pods in it (`--pods`), or run its tests (`test`)."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

from tests.lab import binaries
from tests.lab.binaries import Binaries
from tests.lab.kills import FAULTS, burst
from tests.lab.lab import Lab
from tests.lab.latency import added_milliseconds
from tests.lab.real_node import namespaces
from tests.lab.real_node.ending_signals import children, interrupt_on_signals
from tests.lab.sequences import allocate, summary

POLICIES = ("none", "best-effort", "restricted", "single-numa-node")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("run", "test"), default="run")
    parser.add_argument("--machine", default="a100-pcie-bridge-pairs", help="a bundled platform with at most 8 GPUs")
    parser.add_argument("--policy", default="none", choices=POLICIES, help="the kubelet's topologyManagerPolicy")
    parser.add_argument("--stock", action="store_true", help="NVIDIA's plugin registers with the kubelet itself, without a steerer")
    parser.add_argument(
        "--stand-by", action=argparse.BooleanOptionalAction, default=True, help="a second steerer stands by, as in manifests/steering"
    )
    parser.add_argument("--pods", type=int, default=0, help="allocate so many pods, print what came of it, and end")
    parser.add_argument("--kill", nargs="*", choices=tuple(FAULTS), default=(), help="kill -9 these in turn during bursts of pods")
    parser.add_argument("--occupy", default="", help="GPUs on which an unknown process holds 60 GiB, such as 0,3")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the outcomes of --pods there")
    parser.add_argument("--keep", type=Path, help="copy the logs there")
    parser.add_argument("pytest", nargs="*", help="with `test`: arguments for pytest, after --")
    return parser.parse_args()


def main() -> int:
    """The exit status."""
    inside = os.environ.get("FABRICWISE_LAB")
    if inside is not None:
        interrupt_on_signals()
    try:
        return _run(_arguments(), Path(inside) if inside is not None else None)
    except KeyboardInterrupt:
        print("told to end", file=sys.stderr)
        return 128 + signal.SIGINT


def _run(arguments: argparse.Namespace, inside: Path | None) -> int:
    """The exit status. `inside`: the folder of the lab in whose namespaces this process is; None: it makes the namespaces."""
    try:
        found = binaries.find()
    except (binaries.MissingProgramsError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if inside is not None:
        return _in_lab(inside, found, arguments)
    own = [sys.executable, "-m", "tests.lab", *sys.argv[1:]]
    if arguments.what == "test":
        own = [sys.executable, "-m", "pytest", *map(str, Path("tests/lab").glob("test_*.py")), "-x", "-v", *arguments.pytest]
    return namespaces.run(own, {"PYTHONUNBUFFERED": "1"})


def _in_lab(folder: Path, found: Binaries, arguments: argparse.Namespace) -> int:
    """The exit status of what the arguments ask for, once the lab is closed."""
    used = {int(index): 60 << 30 for index in arguments.occupy.split(",") if index}
    steered = not arguments.stock
    lab = Lab(folder, found, arguments.machine, arguments.policy, steered, used, arguments.stand_by and steered)
    try:
        for fault in arguments.kill:
            print(json.dumps({"plugin": "stock" if arguments.stock else "steered", **asdict(burst(lab, fault))}))
        if arguments.kill:
            return 0
        return _sequence(lab, arguments) if arguments.pods else _wait(lab)
    finally:
        lab.close()
        if arguments.keep is not None:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            for log in lab.plane.folder.glob("*.log"):
                (arguments.keep / log.name).write_bytes(log.read_bytes())


def _wait(lab: Lab) -> int:
    print(f"""The lab runs: {len(lab.node.machine.gpus)} GPUs on node gpu-node. In another terminal:

  export KUBECONFIG={lab.plane.kubeconfig("admin")}
  kubectl get gputopo; kubectl create -f POD   # schedulerName: gpu-scheduler, image: fabricwise.lab/pause:1, imagePullPolicy: Never
  fabricwise explain POD --server {lab.extender.url}

Logs are in {lab.plane.folder}. Ctrl-C, SIGTERM or SIGHUP ends it.""")
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        return 0


def _sequence(lab: Lab, arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    outcomes = allocate(lab, arguments.pods, arguments.seed)
    for outcome in outcomes:
        if outcome.is_placed and not outcome.is_as_predicted and not arguments.stock:
            print(json.dumps(outcome.data()))
    head = {"machine": arguments.machine, "policy": arguments.policy, "plugin": "stock" if arguments.stock else "steered"}
    print(json.dumps({**head, **summary(outcomes), "seconds": round(time.monotonic() - started)}))
    if lab.node.steerer is not None:
        print(json.dumps(added_milliseconds(lab)))
        pids = [lab.node.steerer.pid, *children(lab.node.steerer.pid)]
        pids += [lab.node.second_steerer.pid] if lab.node.second_steerer is not None else []
        print(json.dumps({"steerer_memory_kib": [_memory_kib(pid) for pid in pids]}))
        lines = lab.node.metrics().splitlines()
        print("\n".join(line for line in lines if line.startswith("fabricwise_steering_") and "_created" not in line))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([outcome.data() for outcome in outcomes], indent=1))
    return 0


def _memory_kib(pid: int) -> int:
    """Proportional set size: what processes share counts once in their sum."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    sys.exit(main())
