"""The steerer between a kubelet and plugins that are played by real gRPC servers."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from extender.steering.answers.agent_facts import FactsFile
from extender.steering.answers.chooser import Chooser
from extender.steering.choice.device_choice import Reason
from extender.steering.device_plugin_api import MESSAGES, REGISTRATION, Registration, register_request
from extender.steering.kubelet_side.plugin_server import PluginServer
from extender.steering.proxies import node_steerer, plugin_proxy
from extender.steering.proxies.counts import Counts
from extender.steering.proxies.node_steerer import Steerer
from extender.steering.proxies.saved_registrations import replace_file, saved_registrations
from tests.steering.connections.fakes import FakeKubelet, FakePlugin, allocate_request, wait_for
from tests.steering.steered_machine import GPU, IDS, facts
from topology.devices.facts_file import DeviceFacts
from topology.devices.steering import KnownDevices


@dataclass
class Rig:
    folder: Path
    shared: Path
    kubelet: FakeKubelet
    counts: Counts
    steerer: Steerer
    thread: threading.Thread

    def stop(self) -> None:
        self.steerer.state.stop.make()
        self.thread.join(10)

    def start(self, chooser: Chooser | None = None, healthy: Callable[[str], int | None] = lambda _resource: None) -> None:
        chooser = chooser or Chooser(FactsFile(self.shared / "devices.json").now, None, None)
        self.steerer = Steerer(self.folder, self.shared, chooser, self.counts, "test", healthy=healthy)
        self.thread = threading.Thread(target=self.steerer.run)
        self.thread.start()
        wait_for("the link", (self.folder / "fabricwise.sock").exists)

    def answers(self) -> dict[tuple[str, str], float]:
        """(result, reason) -> count."""
        (family,) = [metric for metric in self.counts.metrics() if metric.name == "fabricwise_steering_answers"]
        return {(one.labels["result"], one.labels["reason"]): one.value for one in family.samples}

    def registered(self, plugin: FakePlugin) -> None:
        """Until the kubelet has the plugin's list."""
        plugin.register(self.folder / "fabricwise.sock")
        wait_for("the kubelet has the devices", lambda: self.kubelet.lists.get(plugin.resource))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    folder, shared = tmp_path / "d", tmp_path / "s"
    folder.mkdir()
    shared.mkdir()
    (shared / "devices.json").write_bytes(facts())
    made = Rig(folder, shared, FakeKubelet(folder), Counts(), None, None)  # type: ignore[arg-type]
    made.start()
    yield made
    made.stop()
    made.kubelet.close()


@pytest.fixture
def plugin(rig: Rig) -> Iterator[FakePlugin]:
    made = FakePlugin(rig.folder, IDS)
    rig.registered(made)
    yield made
    made.close()


def test_plugin_that_registers_is_registered_with_the_kubelet_under_another_endpoint(rig: Rig, plugin: FakePlugin) -> None:
    (request,) = rig.kubelet.requests
    assert request.resource_name == GPU
    assert request.endpoint != plugin.endpoint
    assert request.version == "v1beta1"
    assert request.options.get_preferred_allocation_available


def test_list_of_devices_reaches_the_kubelet_byte_for_byte_and_so_does_each_change(rig: Rig, plugin: FakePlugin) -> None:
    first = plugin.list_message()
    plugin.change(IDS[:7])
    wait_for("the second list", lambda: len(rig.kubelet.lists[GPU]) == 2)
    assert rig.kubelet.lists[GPU] == [first, plugin.list_message()]


def test_allocate_and_prestart_pass_through_byte_for_byte(rig: Rig, plugin: FakePlugin) -> None:
    request = allocate_request(IDS[0]) + b"\x7a\x03new"
    assert rig.kubelet.call("Allocate", request) == b"\x0a\x00answer of the plugin"
    assert plugin.allocated == [request]
    rig.kubelet.call("PreStartContainer", b"\x0a\x05GPU-0")
    assert plugin.prestarted == [b"\x0a\x05GPU-0"]


def test_preferred_allocation_is_a_bridged_pair_and_not_what_the_plugin_prefers(rig: Rig, plugin: FakePlugin) -> None:
    assert sorted(rig.kubelet.preferred(IDS, 2)) == ["GPU-0", "GPU-1"]
    assert rig.answers() == {("steered", "function"): 1}


def test_allocation_of_other_devices_than_answered_is_counted(rig: Rig, plugin: FakePlugin) -> None:
    answered = rig.kubelet.preferred(IDS, 2)
    rig.kubelet.call("Allocate", allocate_request(*answered))
    rig.kubelet.preferred(IDS, 2)
    rig.kubelet.call("Allocate", allocate_request("GPU-6", "GPU-7"))
    (differing,) = [metric for metric in rig.counts.metrics() if metric.name == "fabricwise_steering_differing"]
    assert [one.value for one in differing.samples] == [1]


FORWARDED = [
    ("MIG instances", ("MIG-1", "MIG-2", "MIG-3"), Reason.MIG),
    ("replicas", ("GPU-0::0", "GPU-0::1", "GPU-1::0"), Reason.SHARED),
    ("a device that the agent does not know", ("GPU-0", "GPU-1", "GPU-99"), Reason.UNKNOWN_DEVICE),
    ("one device named twice", ("GPU-0", "GPU-0", "GPU-1"), Reason.IMPOSSIBLE),
]


@pytest.mark.parametrize(("what", "offered", "reason"), FORWARDED, ids=[case[0] for case in FORWARDED])
def test_plugins_own_answer_is_forwarded(rig: Rig, plugin: FakePlugin, what: str, offered: tuple[str, ...], reason: Reason) -> None:
    assert rig.kubelet.preferred(offered, 2) == list(offered[-2:])
    assert rig.answers() == {("forwarded", reason): 1}


@pytest.mark.parametrize("document", [None, b"", b"{", b"[]" * 100, b'{"format": 99}', b" " * (2 << 20)], ids=str)
def test_without_usable_facts_the_plugins_answer_is_forwarded(rig: Rig, plugin: FakePlugin, document: bytes | None) -> None:
    path = rig.shared / "devices.json"
    path.unlink() if document is None else path.write_bytes(document)
    assert rig.kubelet.preferred(IDS, 2) == ["GPU-6", "GPU-7"]
    assert rig.answers() == {("forwarded", Reason.NO_FACTS): 1}


def fails(_request: object) -> tuple[str, ...]:
    raise ValueError("error getting list of preferred allocation devices")


BAD_ANSWERS = [
    ("an error", fails),
    ("none", lambda _request: ()),
    ("too few", lambda _request: ("GPU-99::1",)),
    ("too many", lambda request: tuple(request.available_deviceIDs)),
    ("foreign ones", lambda _request: ("GPU-77", "GPU-78")),
    ("one twice", lambda _request: ("GPU-99::1", "GPU-99::1")),
]


@pytest.mark.parametrize(("what", "preferred"), BAD_ANSWERS, ids=[case[0] for case in BAD_ANSWERS])
def test_kubelet_gets_as_many_offered_ids_as_requested_whatever_the_plugin_answers(
    rig: Rig, plugin: FakePlugin, what: str, preferred: object
) -> None:
    plugin.preferred = preferred  # type: ignore[assignment]
    offered = tuple(f"GPU-99::{number}" for number in range(4))
    answer = rig.kubelet.preferred(offered, 2, required=("GPU-99::3",))
    assert len(answer) == len(set(answer)) == 2
    assert set(answer) <= set(offered)
    assert "GPU-99::3" in answer


class SlowFacts:
    """A choice that does not end in time."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __call__(self) -> DeviceFacts | Reason:
        self.go_on.wait(20)
        return Reason.NO_FACTS


def test_choice_that_takes_too_long_is_given_up_for_the_plugins_answer(rig: Rig, plugin: FakePlugin) -> None:
    rig.stop()
    slow = SlowFacts()
    rig.start(Chooser(slow, None, None))
    wait_for("registered again", lambda: len(rig.kubelet.requests) == 2)
    assert rig.kubelet.preferred(IDS, 2) == ["GPU-6", "GPU-7"]
    assert rig.answers() == {("forwarded", Reason.TIMEOUT): 1}
    slow.go_on.set()


def test_choice_that_breaks_is_given_up_for_the_plugins_answer(rig: Rig, plugin: FakePlugin) -> None:
    def broken() -> DeviceFacts | Reason:
        raise RuntimeError("a bug of ours")

    rig.stop()
    rig.start(Chooser(broken, None, None))
    wait_for("registered again", lambda: len(rig.kubelet.requests) == 2)
    assert rig.kubelet.preferred(IDS, 2) == ["GPU-6", "GPU-7"]
    assert rig.answers() == {("forwarded", Reason.ERROR): 1}


def test_device_with_memory_of_an_unknown_process_is_not_answered_while_another_serves(rig: Rig, plugin: FakePlugin) -> None:
    (rig.shared / "devices.json").write_bytes(facts(KnownDevices(unknown_memory_bytes=(60 << 30,))))
    assert [rig.kubelet.preferred(IDS, 1) for _ in range(3)] == [["GPU-1"]] * 3
    assert sorted(rig.kubelet.preferred(IDS, 2)) == ["GPU-2", "GPU-3"]
    assert rig.kubelet.preferred(IDS[:1], 1) == ["GPU-0"]


def test_aligned_remainder_is_answered_with_all_that_must_be_included(rig: Rig, plugin: FakePlugin) -> None:
    assert sorted(rig.kubelet.preferred(IDS, 5, required=("GPU-0", "GPU-1", "GPU-2"))) == ["GPU-0", "GPU-1", "GPU-2", "GPU-3", "GPU-4"]


def test_kubelet_that_restarts_gets_plugins_and_resource_again(rig: Rig, plugin: FakePlugin) -> None:
    rig.kubelet.restart()
    wait_for("the link is made anew, which restarts the plugin", (rig.folder / "fabricwise.sock").is_symlink)
    again = FakePlugin(rig.folder, IDS[:4])
    rig.registered(again)
    assert rig.kubelet.lists[GPU] == [again.list_message()]
    answer = sorted(rig.kubelet.preferred(IDS[:4], 2))
    again.close()
    assert answer == ["GPU-0", "GPU-1"], rig.answers()


def test_plugin_that_dies_ends_the_kubelets_list_and_one_that_returns_is_registered_again(rig: Rig, plugin: FakePlugin) -> None:
    plugin.close()
    wait_for("the kubelet sees that the list ended", lambda: rig.kubelet.ended == [GPU])
    again = FakePlugin(rig.folder, IDS[:4], endpoint="nvidia-gpu-again.sock")
    again.register(rig.folder / "fabricwise.sock")
    wait_for("the new list", lambda: rig.kubelet.lists[GPU][-1] == again.list_message())
    assert len(rig.kubelet.requests) == 2
    again.close()


@pytest.mark.parametrize("is_restarted", [False, True], ids=["a steerer that goes on", "a steerer that starts anew"])
def test_plugin_that_starts_anew_and_registers_with_the_kubelet_itself_is_not_served_any_more(
    rig: Rig, plugin: FakePlugin, is_restarted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOOK_SECONDS", "_UNHEARD_SECONDS"):
        monkeypatch.setattr(node_steerer, name, 0.01)
    plugin.close()
    wait_for("the list ends", lambda: rig.kubelet.ended)
    other = FakePlugin(rig.folder, IDS)
    other.register(rig.folder / "kubelet.sock")
    if is_restarted:
        rig.stop()
        rig.start()
    for served in rig.steerer._served.values():
        served.register_at = 0.0  # it need not wait
    looked_at = []

    def many_looks() -> bool:
        looked_at.append(rig.steerer.state.looked_at)
        return len(set(looked_at)) > 20

    wait_for("the steerer looks again and again", many_looks, 30)
    assert [request.endpoint for request in rig.kubelet.requests[1:]] == [other.endpoint]
    other.close()


def test_steerer_that_starts_anew_serves_the_living_plugin_without_a_restart_of_it(rig: Rig, plugin: FakePlugin) -> None:
    link = (rig.folder / "fabricwise.sock").lstat()
    rig.stop()
    wait_for("the kubelet sees that the list ended", lambda: rig.kubelet.ended == [GPU])
    rig.start()
    wait_for("registered again", lambda: len(rig.kubelet.requests) == 2 and len(rig.kubelet.lists[GPU]) == 2)
    assert (rig.folder / "fabricwise.sock").lstat() == link, "a new link would restart the plugin"
    assert sorted(rig.kubelet.preferred(IDS, 2)) == ["GPU-0", "GPU-1"]


def test_kubelet_that_does_not_listen_is_registered_with_again(rig: Rig, plugin: FakePlugin) -> None:
    rig.kubelet.channels[GPU].close()
    wait_for("registered again", lambda: len(rig.kubelet.requests) == 2)


def test_kubelet_that_listens_and_counts_no_device_is_registered_with_again(rig: Rig, plugin: FakePlugin) -> None:
    rig.stop()
    rig.start(healthy=lambda _resource: 0 if len(rig.kubelet.requests) < 3 else 8)
    wait_for("registered a third time", lambda: len(rig.kubelet.requests) == 3)
    wait_for("the new list", lambda: len(rig.kubelet.lists[GPU]) == 3)


def test_several_resources_are_served_each_by_its_own_plugin(rig: Rig, plugin: FakePlugin) -> None:
    other = FakePlugin(rig.folder, ("MIG-1", "MIG-2"), "nvidia.com/mig-1g.10gb", "nvidia-mig-1g.10gb.sock")
    rig.registered(other)
    assert rig.kubelet.preferred(("MIG-1", "MIG-2"), 1, resource=other.resource) == ["MIG-2"]
    assert sorted(rig.kubelet.preferred(IDS, 2)) == ["GPU-0", "GPU-1"]
    assert rig.kubelet.lists[other.resource] == [other.list_message()]
    other.close()


BAD_REGISTRATIONS = [
    ("an endpoint elsewhere", "nvidia.com/gpu", "../../etc/x.sock"),
    ("the kubelet as endpoint", "nvidia.com/gpu", "kubelet.sock"),
    ("the steerer as endpoint", "nvidia.com/gpu", "fabricwise.sock"),
    ("an endpoint of our own", "nvidia.com/gpu", "fabricwise-1-1.sock"),
    ("no extended resource", "cpu", "nvidia-gpu.sock"),
    ("a resource whose name the agent does not publish", f"{'a' * 230}.com/{'b' * 50}", "nvidia-gpu.sock"),
]


@pytest.mark.parametrize(("what", "resource", "endpoint"), BAD_REGISTRATIONS, ids=[case[0] for case in BAD_REGISTRATIONS])
def test_registration_that_makes_no_sense_is_refused_and_says_why(rig: Rig, what: str, resource: str, endpoint: str) -> None:
    bad = FakePlugin(rig.folder, IDS)
    bad.resource, bad.endpoint = resource, endpoint
    with pytest.raises(grpc.RpcError) as refused:
        bad.register(rig.folder / "fabricwise.sock")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (endpoint if "endpoint" in what else resource[:120]) in (refused.value.details() or "")
    bad.close()


def test_registration_with_more_options_than_can_be_handed_on_is_refused(rig: Rig) -> None:
    message = MESSAGES["RegisterRequest"].FromString(register_request("nvidia.com/gpu", "nvidia-gpu.sock", b""))
    message.options.MergeFromString(b"\x7a\x80\x10" + b"x" * 2_048)  # field 15, which nothing reads
    with grpc.insecure_channel(f"unix://{rig.folder / 'fabricwise.sock'}") as channel:
        call: Any = channel.unary_unary(f"/{REGISTRATION}/Register")
        with pytest.raises(grpc.RpcError, match=r"options of 20\d\d bytes, of at most 1024"):
            call(message.SerializeToString(), timeout=5, wait_for_ready=True)


def test_plugin_whose_resource_cannot_be_served_now_is_served_later(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [OSError(errno.ENOSPC, "No space left on device")]

    def served_at_the_second_try(*args: Any) -> PluginServer:
        if errors:
            raise errors.pop()
        return PluginServer(*args)

    monkeypatch.setattr(plugin_proxy, "PluginServer", served_at_the_second_try)
    monkeypatch.setattr(node_steerer, "_MOST_PAUSE_SECONDS", 0.1)
    plugin = FakePlugin(rig.folder, IDS)
    rig.registered(plugin)
    assert rig.kubelet.preferred(IDS, 2) == ["GPU-0", "GPU-1"]
    plugin.close()


def test_steerer_ends_although_plugins_register_without_end(rig: Rig, plugin: FakePlugin) -> None:
    registration, is_over = Registration(plugin.resource, plugin.endpoint, b""), threading.Event()

    def register_again() -> None:
        while not is_over.is_set():
            rig.steerer._arrives(registration)

    thread = threading.Thread(target=register_again)
    thread.start()
    wait_for("some are served", lambda: len(rig.kubelet.requests) > 3, 30)
    rig.stop()
    is_ended = not rig.thread.is_alive()
    is_over.set()
    thread.join()
    assert is_ended


def test_plugin_that_registers_a_hundred_times_leaves_no_descriptor_and_no_thread(rig: Rig, plugin: FakePlugin) -> None:
    def used() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    def register_anew() -> None:
        count, lists = len(rig.kubelet.requests), len(rig.kubelet.lists[plugin.resource])
        plugin.register(rig.folder / "fabricwise.sock")
        wait_for("it is registered", lambda: len(rig.kubelet.requests) > count and len(rig.kubelet.lists[plugin.resource]) > lists)

    for _ in range(10):
        register_anew()
    before = used()
    for _ in range(90):
        register_anew()
    # a pool makes a thread when it is first needed: of the plugin, the kubelet, gRPC
    wait_for("it is nearly as before", lambda: all(now <= then + 12 for now, then in zip(used(), before, strict=True)))


NESTED = b'[{"unknown":' + b"[" * 30_000


@pytest.mark.parametrize("document", [b"", b"[", NESTED, b'[{"resource": "a/b", "endpoint": "c", "options": "?"}]', b"x" * 100_000])
def test_saved_registrations_that_cannot_be_read_are_none(tmp_path: Path, document: bytes) -> None:
    (tmp_path / "registrations.json").write_bytes(document)
    assert saved_registrations(tmp_path) == []


def test_file_that_cannot_be_replaced_leaves_no_half_file(tmp_path: Path) -> None:
    (tmp_path / "steering.json" / "in the way").mkdir(parents=True)
    replace_file(tmp_path / "steering.json", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["steering.json"]
