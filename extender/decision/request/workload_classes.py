"""Workload classes: what a class of workloads may run on. It adds to what a pod asks for itself, and the stricter condition applies.

The input is parsed YAML in the form of `config/workload-classes.yaml`.
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
    """Workload classes that cannot be used; the message names class and field."""


class Toleration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A toleration that pods of the class carry."""

    key: str = ""
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""


class ClassWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Weights of scorers that replace those of the settings; None: the weight of the settings applies."""

    link: Weight | None = None
    fragmentation: Weight | None = None
    memory: Weight | None = None
    pressure: Weight | None = None


Pool = tuple[tuple[str, str], ...]


class WorkloadClass(msgspec.Struct, frozen=True):
    """One workload class. An empty tuple means no restriction, except for `sharing`."""

    name: str
    description: str = ""
    pools: tuple[Pool, ...] = ()
    products: tuple[str, ...] = ()
    memory_classes_gb: tuple[int, ...] = ()
    sharing: tuple[str, ...] = ("none",)
    min_link: int | None = None
    """Worst allowed link, as a rank in `annotations.LINKS`."""
    min_busbw_gbps: float | None = None
    telemetry_required: bool = False
    weights: ClassWeights = ClassWeights()
    tolerations: tuple[Toleration, ...] = ()

    def takes_product(self, product: str | None) -> bool | None:
        """Whether the class allows a product; None where the node's product is unknown and the class restricts it."""
        if not self.products:
            return True
        return None if product is None else any(normalise(allowed) in normalise(product) for allowed in self.products)

    def has_pool(self, labels: Mapping[str, str]) -> bool:
        """Whether a node with these labels is in a pool of the class; always where the class has no pools."""
        return not self.pools or any(all(labels.get(key) == value for key, value in pool) for pool in self.pools)


class _WireClass(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A class as written in YAML."""

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
    """Return workload classes by name from parsed YAML. Raise ClassesError."""
    try:
        wire = msgspec.convert(document, _Wire)
    except msgspec.ValidationError as error:
        raise ClassesError(_placed(str(error), document)) from error
    classes: dict[str, WorkloadClass] = {}
    for entry in wire.classes:
        if entry.name in classes:
            raise ClassesError(f"class {entry.name} is defined twice: rename or remove one")
        unknown = [size for size in entry.memory_classes_gb if size not in CLASSES_GIB]
        if unknown:
            raise ClassesError(
                f"class {entry.name}: memory_classes_gb {unknown[0]} is none of {', '.join(map(str, CLASSES_GIB))}: name one of these"
            )
        if any(not pool for pool in entry.pools):
            raise ClassesError(f"class {entry.name}: a pool without labels would be every node; leave pools empty for that")
        classes[entry.name] = _class(entry)
    return classes


def _class(entry: _WireClass) -> WorkloadClass:
    return WorkloadClass(
        name=entry.name,
        description=entry.description,
        pools=tuple(tuple(sorted(pool.items())) for pool in entry.pools),
        products=tuple(entry.products),
        memory_classes_gb=tuple(sorted(entry.memory_classes_gb)),
        sharing=tuple(entry.sharing),
        min_link=LINKS.index(entry.min_link) if entry.min_link is not None else None,
        min_busbw_gbps=entry.min_busbw_gbps,
        telemetry_required=entry.telemetry == "required",
        weights=entry.weights,
        tolerations=entry.tolerations,
    )


def _placed(message: str, document: Any) -> str:
    """Return a decoding error with the name of the class it concerns, where the class has a name."""
    try:
        index = int(message.split("$.classes[")[1].split("]", maxsplit=1)[0])
        name = document["classes"][index]["name"]
        return f"class {name[:60]}: {message}" if isinstance(name, str) else message
    except (IndexError, ValueError, KeyError, TypeError):
        return message


def weights_of(klass: WorkloadClass | None, usual: Mapping[str, float]) -> Mapping[str, float]:
    """Return the weight per scorer for pods of a class; `usual` are those of the settings."""
    if klass is None:
        return usual
    return {**usual, **{name: weight for name, weight in asdict(klass.weights).items() if weight is not None}}
