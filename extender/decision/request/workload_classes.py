"""Workload classes: what a class of work may run on, laid over what a pod asks for itself. The stricter of the two holds.

Pure: `config/workload-classes.yaml` as parsed YAML comes in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import asdict

from extender.decision.request.annotations import LINKS
from extender.workload.memory import CLASSES_GIB
from topology.machine.products import normalise

Kind = Literal["none", "mig", "time-slicing", "mps"]
Link = Literal["nvlink", "pix", "pxb", "phb", "node", "sys"]
Weight = Annotated[float, Meta(ge=0, le=1000)]


class ClassesError(ValueError):
    """Classes that cannot be used; names class and field."""


class Toleration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A toleration pods of the class carry."""

    key: str = ""
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""


class ClassWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Weights of scorers in place of the settings'; what is left out keeps those."""

    link: Weight | None = None
    fragmentation: Weight | None = None
    memory: Weight | None = None
    pressure: Weight | None = None


Pool = tuple[tuple[str, str], ...]


class WorkloadClass(msgspec.Struct, frozen=True):
    """One class, ready to be judged by."""

    name: str
    description: str = ""
    pools: tuple[Pool, ...] = ()
    products: tuple[str, ...] = ()
    memory_classes_gb: tuple[int, ...] = ()
    sharing: tuple[str, ...] = ("none",)
    min_link: int | None = None
    """Rank in `LINKS`."""
    min_busbw_gbps: float | None = None
    telemetry_required: bool = False
    weights: ClassWeights = ClassWeights()
    tolerations: tuple[Toleration, ...] = ()

    def takes_product(self, product: str | None) -> bool | None:
        """Whether a product is among those allowed; None = the node's product is unknown."""
        if not self.products:
            return True
        return None if product is None else any(normalise(one) in normalise(product) for one in self.products)

    def has_pool(self, labels: Mapping[str, str]) -> bool:
        """Whether a node's labels put it into a pool of the class."""
        return not self.pools or any(all(labels.get(key) == value for key, value in pool) for pool in self.pools)


class _WireClass(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")]
    description: str = ""
    pools: list[dict[str, str]] = []
    products: list[Annotated[str, Meta(min_length=1)]] = []
    memory_classes_gb: list[int] = []
    sharing: Annotated[tuple[Kind, ...], Meta(min_length=1)] = ("none",)
    min_link: Link | None = None
    min_busbw_gbps: Annotated[float, Meta(gt=0)] | None = None
    telemetry: Literal["ignored", "required"] = "ignored"
    weights: ClassWeights = ClassWeights()
    tolerations: tuple[Toleration, ...] = ()


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    classes: list[_WireClass]


Classes = Mapping[str, WorkloadClass]


def read_classes(document: Any) -> dict[str, WorkloadClass]:
    """Parsed YAML -> classes by name. Raises ClassesError."""
    try:
        wire = msgspec.convert(document, _Wire)
    except msgspec.ValidationError as error:
        raise ClassesError(_placed(str(error), document)) from error
    found: dict[str, WorkloadClass] = {}
    for one in wire.classes:
        if one.name in found:
            raise ClassesError(f"class {one.name} is defined twice: rename or remove one")
        unknown = [size for size in one.memory_classes_gb if size not in CLASSES_GIB]
        if unknown:
            raise ClassesError(
                f"class {one.name}: memory_classes_gb {unknown[0]} is none of {', '.join(map(str, CLASSES_GIB))}: name one of these"
            )
        if any(not pool for pool in one.pools):
            raise ClassesError(f"class {one.name}: a pool without labels would be every node; leave pools empty for that")
        found[one.name] = _class(one)
    return found


def _class(one: _WireClass) -> WorkloadClass:
    return WorkloadClass(
        one.name,
        one.description,
        tuple(tuple(sorted(pool.items())) for pool in one.pools),
        tuple(one.products),
        tuple(sorted(one.memory_classes_gb)),
        tuple(one.sharing),
        LINKS.index(one.min_link) if one.min_link is not None else None,
        one.min_busbw_gbps,
        one.telemetry == "required",
        one.weights,
        one.tolerations,
    )


def _placed(message: str, document: Any) -> str:
    """The message with the class's name instead of its place, where it has one."""
    try:
        place = int(message.split("$.classes[")[1].split("]", maxsplit=1)[0])
        name = document["classes"][place]["name"]
        return f"class {name[:60]}: {message}" if isinstance(name, str) else message
    except (IndexError, ValueError, KeyError, TypeError):
        return message


def weights_of(klass: WorkloadClass | None, usual: Mapping[str, float]) -> Mapping[str, float]:
    """The weights for pods of a class."""
    if klass is None:
        return usual
    return {**usual, **{name: weight for name, weight in asdict(klass.weights).items() if weight is not None}}
