"""The devices of a node, out of its ResourceSlices, in the order in which kube-scheduler's allocator tries them.

Source: k8s.io/dynamic-resource-allocation v0.36.3 `structured/internal/incubating/pools_incubating.go`, which Kubernetes 1.36 uses with
default feature gates: pools by driver and name, pools with binding conditions last, slices by name, devices as listed. Slices of an older
generation do not count. A pool of which slices are missing, or whose device names repeat, gives no devices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from extender.decision.dra.resource_objects import Attribute, Device, DeviceTaintRule, ResourceSlice
from extender.decision.dra.selectors import qualified, variables_of
from extender.decision.request.quantity import quantity

STANDARD = "resource.kubernetes.io"
"""Domain of the attributes that Kubernetes defines."""

MOST_NODE_DEVICES = 1_024
"""Devices of one node, of all drivers together. Further ones are left out, and a problem states it."""

BLOCKING = ("NoSchedule", "NoExecute")
"""Effects of a taint that keep claims away."""

DeviceId = tuple[str, str, str]
"""(driver, pool, device)."""


@dataclass(frozen=True, slots=True)
class NodeDevice:
    """One device that claims may be given."""

    driver: str
    pool: str
    name: str
    uuid: str | None = None
    parent_uuid: str | None = None
    """The GPU that it is a part of."""
    is_shared: bool = False
    """Whether several claims may hold it at once."""
    taints: tuple[tuple[str, str, str], ...] = ()
    """(key, value, effect) of taints that keep claims away."""
    product: str | None = None
    memory_bytes: int | None = None
    compute_capability: str | None = None
    """Such as `9.0`."""
    driver_version: str | None = None
    numa_node: int | None = None
    pci_bus_id: str | None = None
    pcie_root: str | None = None
    kind: str | None = None
    """The attribute `type` of NVIDIA's driver: gpu, mig or vfio."""
    counter_sets: frozenset[str] = frozenset()
    """Sets of shared counters that it consumes: devices of one pool that consume the same set are parts of one GPU."""
    variables: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What CEL expressions see."""

    @property
    def id(self) -> DeviceId:
        """(driver, pool, device), as allocation results name it."""
        return self.driver, self.pool, self.name

    @property
    def is_partial(self) -> bool:
        """Whether it is less than a whole GPU: a MIG device, or a shared device."""
        return self.parent_uuid is not None or self.kind == "mig" or self.is_shared

    @property
    def is_gpu(self) -> bool:
        """Whether it is a whole GPU by its own attributes."""
        return self.uuid is not None and not self.is_partial and self.kind in (None, "gpu")


@dataclass(frozen=True, slots=True)
class NodeDevices:
    """What a node's own slices offer."""

    devices: tuple[NodeDevice, ...] = ()
    """In the allocator's order."""
    problems: tuple[str, ...] = ()
    """What is wrong with its pools."""
    doubtful: tuple[tuple[str, tuple[NodeDevice, ...]], ...] = ()
    """(problem, devices that its slices name, of any generation) of each pool that is being updated or contradicts itself."""
    matched: dict[tuple[str | None, ...], Any] = field(default_factory=dict, compare=False, repr=False)
    """A cache of `dra_node.selected`: selectors -> the devices that match. A dropped entry costs time but never changes an answer."""


NO_DEVICES = NodeDevices()


def node_devices(slices: Iterable[ResourceSlice], rules: Iterable[DeviceTaintRule] = ()) -> NodeDevices:
    """Return the devices of a node's slices, those with its nodeName. `rules` taint further devices."""
    pools: dict[tuple[str, str], list[ResourceSlice]] = {}
    for each in slices:
        pools.setdefault((each.spec.driver, each.spec.pool.name), []).append(each)
    rules = tuple(rules)
    early: list[NodeDevice] = []
    late: list[NodeDevice] = []
    doubtful: list[tuple[str, tuple[NodeDevice, ...]]] = []
    for (driver, pool), listed in sorted(pools.items()):
        generation = max(each.spec.pool.generation for each in listed)
        current = sorted((each for each in listed if each.spec.pool.generation == generation), key=lambda each: each.metadata.name)
        problem = _problem(driver, pool, generation, current)
        if problem is not None:
            named = [device for each in listed for device in each.spec.devices or ()]
            doubtful.append((problem, tuple(_device(device, driver, pool, rules) for device in named[:MOST_NODE_DEVICES])))
            continue
        devices = [device for each in current if not each.spec.shared_counters for device in each.spec.devices or ()]
        target = late if any(device.binding_conditions for device in devices) else early
        target += [_device(device, driver, pool, rules) for device in devices]
    problems = [problem for problem, _ in doubtful]
    if len(early) + len(late) > MOST_NODE_DEVICES:
        problems.append(f"the slices name {len(early) + len(late)} devices, of which the first {MOST_NODE_DEVICES} are taken")
    return NodeDevices(tuple([*early, *late][:MOST_NODE_DEVICES]), tuple(problems), tuple(doubtful))


def _problem(driver: str, pool: str, generation: int, current: list[ResourceSlice]) -> str | None:
    wanted = current[0].spec.pool.resource_slice_count
    if len(current) != wanted:
        return f"pool {pool} of {driver} is being updated: {len(current)} of {wanted} slices of generation {generation} are there"
    names = [device.name for each in current for device in each.spec.devices or ()]
    if len(set(names)) != len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        return f"pool {pool} of {driver} names device {repeated} more than once, so kube-scheduler takes nothing from it"
    return None


def _device(device: Device, driver: str, pool: str, rules: tuple[DeviceTaintRule, ...]) -> NodeDevice:
    own, standard = dict[str, Attribute](), dict[str, Attribute]()
    for name, attribute in (device.attributes or {}).items():
        domain, short = qualified(name, driver)
        if domain == driver:
            own[short] = attribute
        elif domain == STANDARD:
            standard[short] = attribute
    memory = next(
        (capacity.value for name, capacity in (device.capacity or {}).items() if qualified(name, driver) == (driver, "memory")), None
    )
    taints = [(taint.key, taint.value, taint.effect) for taint in device.taints or ()]
    taints += [
        (rule.spec.taint.key, rule.spec.taint.value, rule.spec.taint.effect) for rule in rules if _selects(rule, driver, pool, device)
    ]
    return NodeDevice(
        driver,
        pool,
        device.name,
        _text(own.get("uuid")),
        _text(own.get("parentUUID")),
        bool(device.allow_multiple_allocations),
        tuple(taint for taint in dict.fromkeys(taints) if taint[2] in BLOCKING),
        _text(own.get("productName")),
        _bytes(memory),
        _short_version(own.get("cudaComputeCapability")),
        _text(own.get("driverVersion")),
        _first_number(standard.get("numaNode") or own.get("numaNode") or own.get("numa")),
        _text(standard.get("pciBusID") or own.get("pciBusID")),
        _text(standard.get("pcieRoot") or own.get("pcieRoot")),
        _text(own.get("type")),
        frozenset(consumption.counter_set for consumption in device.consumes_counters or ()),
        variables_of(device, driver),
    )


def _selects(rule: DeviceTaintRule, driver: str, pool: str, device: Device) -> bool:
    """Whether a rule taints the device. A rule without a selector taints nothing; one with an empty selector taints every device."""
    chosen = rule.spec.device_selector
    if chosen is None:
        return False
    asked = ((chosen.driver, driver), (chosen.pool, pool), (chosen.device, device.name))
    return all(want is None or want == have for want, have in asked)


def _text(attribute: Attribute | None) -> str | None:
    return None if attribute is None else attribute.string or attribute.version or None


def _short_version(attribute: Attribute | None) -> str | None:
    """Return major and minor of a compute capability, which the driver writes as a semantic version."""
    text = _text(attribute)
    return None if text is None else ".".join(text.split("-")[0].split(".")[:2])


def _first_number(attribute: Attribute | None) -> int | None:
    """Return the NUMA node; None where the attribute lists several (DRAListTypeAttributes)."""
    if attribute is None:
        return None
    several = attribute.ints or ()
    return attribute.int_ if attribute.int_ is not None else several[0] if len(several) == 1 else None


def _bytes(value: object) -> int | None:
    try:
        return None if value is None else int(quantity(value))
    except ValueError:
        return None
