"""The loop that joins hardware, holders and publishing: it goes on after every failure of a reading."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.fake_kubelet import Kubelet
from tests.agent.fake_nvml import FakeNvml
from tests.agent.rounds.agent_bench import Bench, machine
from topology.agent import nvml
from topology.agent.gather import Gathered
from topology.agent.loop import Agent, State, read_hardware
from topology.agent.nvml import NvmlUnavailableError
from topology.agent.pod_resources import PodResources
from topology.agent.sysfs import Sysfs
from topology.machine.hardware import TopologyError
from topology.platforms import machine_of


class Faulty:
    """Hardware readings: one exception per entry of `errors`, then a machine of four T4. Stops the loop after `rounds` readings."""

    def __init__(self, errors: list[Exception], rounds: int) -> None:
        self.errors, self.left, self.state = errors, rounds, State()

    def __call__(self) -> Gathered:
        self.left -= 1
        if self.left <= 0:
            self.state.stop.set()
        if self.errors:
            raise self.errors.pop(0)
        return Gathered(machine())


def looping(kubelet: Kubelet, errors: list[Exception], rounds: int) -> Agent:
    """An agent that has run its loop, without pauses worth mentioning, until `rounds` readings of the hardware were made."""
    hardware = Faulty(errors, rounds)
    agent = Agent("n", hardware, PodResources(kubelet.socket), None, 0.001, 0.0)
    hardware.state = agent.state
    agent.run()
    return agent


ROUND_ERRORS: dict[str, tuple[Exception, str]] = {
    "no NVML": (NvmlUnavailableError("NVML cannot be started"), "NVML cannot be started"),
    "a bug": (KeyError("gpu"), "unexpected KeyError"),
    "the operating system": (OSError(5, "Input/output error"), "unexpected OSError"),
    "a machine that contradicts itself": (TopologyError("a machine has 0 to 16 GPUs, this one 17"), "this one 17"),
}


@pytest.mark.parametrize("case", ROUND_ERRORS)
def test_the_loop_goes_on_after_an_exception_and_is_ready_again(kubelet: Kubelet, case: str) -> None:
    error, _ = ROUND_ERRORS[case]
    agent = looping(kubelet, [error, error], 3)
    assert (agent.state.failed_rounds, agent.state.rounds) == (2, 1)
    assert agent.state.problems() == ()


@pytest.mark.parametrize("case", ROUND_ERRORS)
def test_a_loop_that_keeps_failing_is_not_ready_and_says_why(kubelet: Kubelet, case: str) -> None:
    error, words = ROUND_ERRORS[case]
    agent = looping(kubelet, [error, error, error], 3)
    assert (agent.state.failed_rounds, agent.state.rounds) == (3, 0)
    assert [words in problem for problem in agent.state.problems()] == [True]


def test_pauses_after_failed_rounds_grow_to_a_minute(kubelet: Kubelet) -> None:
    agent = Agent("n", Faulty([OSError()] * 9, 99), PodResources(kubelet.socket), None, 5.0, 0.0)
    assert [agent._guarded_round() for _ in range(10)] == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0, 60.0, 60.0, 5.0]


def test_an_interrupt_ends_the_loop(kubelet: Kubelet) -> None:
    def interrupt() -> Gathered:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Agent("n", interrupt, PodResources(kubelet.socket), None, 5.0).run()


def test_a_driver_that_is_being_replaced_keeps_the_last_hardware(bench: Bench) -> None:
    bench.after(0)
    bench.fake.absent = True
    assert len(bench.after(25).machine.gpus) == 4
    assert "NVML cannot be started" in (bench.agent.state.hardware_error or "")
    bench.fake.absent = False
    bench.after(25)
    assert bench.agent.state.hardware_error is None


def test_no_gpu_is_a_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nvml, "pynvml", FakeNvml(machine_of("t4"), absent=True))
    with pytest.raises(NvmlUnavailableError):
        read_hardware(Sysfs(tmp_path), allow_no_gpu=False)
    assert read_hardware(Sysfs(tmp_path), allow_no_gpu=True).machine.gpus == ()
