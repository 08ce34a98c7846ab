"""The annotations by which a pod asks for more than a number of GPUs: `ANNOTATIONS` has one row each.

They are requests, never state: every user that may create a pod may write them. A malformed annotation is a rejection that names it and
its probable meaning; an unknown name under the prefix is a warning.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log2
from typing import Any

import msgspec

from extender.decision.request.quantity import quantity
from extender.decision.request.reasons import Reason, Rejection
from extender.workload.memory import CLASSES_GIB
from extender.workload.model import ModelShape, contradiction
from topology.bandwidth.all_reduce import MESSAGE_MIXES

PREFIX = "fabricwise.dev/"
MOST_BYTES = (1 << 63) - 1
LEAST_MEMORY_BYTES = 1 << 20
"""Smallest accepted amount of memory: a smaller number lacks its unit, since every GPU has more."""
MOST_GBPS = 10_000
"""Largest accepted bandwidth: about ten times that of one GPU's links today (NVLink 5: 900 GB/s per direction)."""
LEAST_MESSAGE_BYTES, MOST_MESSAGE_BYTES = 1 << 10, 1 << 36
MOST_TEXT = 8192
"""Longest accepted annotation, in characters."""
MOST_WARNINGS = 5
"""Unknown annotations that get a warning each; further ones are counted."""

LINKS = ("nvlink", "pix", "pxb", "phb", "node", "sys")
"""Link classes, best first: a rank is an index here. The PCIe classes are those of nvidia-smi."""

SHARING = ("none", "mig", "time-slicing", "mps")
"""How a device may be shared: the values of annotation `sharing`."""

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a pod asks for by annotations. None = the annotation is absent."""

    workload_class: str | None = None
    min_gpu_memory_bytes: int | None = None
    gpu_memory_classes_gb: tuple[int, ...] | None = None
    min_free_memory_bytes: int | None = None
    min_link: int | None = None
    """Rank in `LINKS` that no pair inside a container may exceed."""
    min_busbw_gbps: float | None = None
    """All-reduce bus bandwidth that each container with two or more GPUs must reach."""
    preferred_link: int | None = None
    preferred_busbw_gbps: float | None = None
    messages: str | None = None
    """Message sizes, in the form that `topology.bandwidth.all_reduce.mix_of` accepts."""
    min_compute_capability: Version | None = None
    min_driver: Version | None = None
    min_cuda: Version | None = None
    sharing: tuple[str, ...] | None = None
    model: ModelShape | None = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """One row of the table: the name, how the text is read, and what it means."""

    name: str
    field: str
    read: Callable[[str], Any]
    """Text -> value. Raises ValueError with a remedy."""
    kind: str
    """Type and unit, for documentation."""
    example: str
    means: str
    reason: Reason

    @property
    def key(self) -> str:
        """The name with its prefix."""
        return PREFIX + self.name


_MEMORY_AS_WRITTEN = re.compile(r"\s*(?P<number>\d{1,9}(\.\d{1,3})?)\s*(?P<unit>[kmgt]?)(i?b|i|)\s*", re.IGNORECASE | re.ASCII)
_SPEED_AS_WRITTEN = re.compile(r"\s*(?P<number>\d{1,5}(\.\d{1,3})?)\s*([kmgt]i?b?|gb/s|gbps|gib/s)\s*", re.IGNORECASE | re.ASCII)
_PLAIN_NUMBER = re.compile(r"\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def _meant_memory(text: str) -> str:
    """Return the probable meaning of a text without a valid unit, as `: did you mean 80Gi?`; empty where none is probable."""
    parts = _MEMORY_AS_WRITTEN.fullmatch(text)
    if parts is None or float(parts["number"]) == 0:
        return ""
    unit = parts["unit"].upper()
    if not unit:
        unit = "G" if float(parts["number"]) <= 1024 else "M"  # nvidia-smi and DCGM print MiB, products are named in GB
    return f": did you mean {parts['number']}{'Ki' if unit == 'K' else unit + 'i'}?"


def _bytes(text: str) -> int:
    try:
        amount = quantity(text)
    except ValueError as error:
        raise ValueError(f"{error}{_meant_memory(text)}") from error
    if 0 < amount < LEAST_MEMORY_BYTES:
        meant = _meant_memory(text) or ": give a unit, such as 80Gi"
        raise ValueError(f"{text[:40]!r} is {float(amount):g} bytes, less than 1Mi{meant}")
    if not 0 < amount <= MOST_BYTES:
        raise ValueError(f"{text[:40]!r} is not an amount of memory such as 80Gi")
    return int(amount)


def _gbps(text: str) -> float:
    """Return a bandwidth in GB/s. Only a plain number is accepted: a quantity's suffix would multiply it by powers of 1000 or 1024."""
    written = _SPEED_AS_WRITTEN.fullmatch(text)
    if _PLAIN_NUMBER.fullmatch(text.strip()) is None:
        meant = f": did you mean {written['number']}? The unit is left out" if written else ": give a number without a unit, such as 200"
        raise ValueError(f"{text[:40]!r} is not a bandwidth in GB/s{meant}")
    amount = quantity(text)
    if not 0 < amount <= MOST_GBPS:
        raise ValueError(f"{text[:40]!r} is not a bandwidth in GB/s: give a number above 0 and up to {MOST_GBPS}, such as 200")
    return float(amount)


def _one_of(names: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in names:
            close = difflib.get_close_matches(text[:40].strip().lower(), names, n=1)
            meant = f": did you mean {close[0]}?" if close else ""
            raise ValueError(f"{text[:40]!r} is none of {', '.join(names)}{meant}")
        return text

    return read


def _link(text: str) -> int:
    return LINKS.index(_one_of(LINKS)(text.lower()))


def _message(text: str) -> str:
    """Return the name of a mix, or one size in bytes, rounded to a power of two: bandwidth changes little between powers, and the number
    of cached sizes stays small.
    """
    if text in MESSAGE_MIXES:
        return text
    try:
        size = quantity(text)
    except ValueError as error:
        raise ValueError(f"{text[:40]!r} is none of {', '.join(MESSAGE_MIXES)}, nor a size such as 16Mi") from error
    if not LEAST_MESSAGE_BYTES <= size <= MOST_MESSAGE_BYTES:
        raise ValueError(f"{text[:40]!r} is not between 1Ki and 64Gi: give a size such as 16Mi, or {', '.join(MESSAGE_MIXES)}")
    return str(1 << round(log2(float(size))))


def _several(names: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    read_name = _one_of(names)

    def read(text: str) -> tuple[str, ...]:
        return tuple(sorted({read_name(part.strip()) for part in text.split(",")}))

    return read


def _classes(text: str) -> tuple[int, ...]:
    known = tuple(map(str, CLASSES_GIB))
    return tuple(sorted(int(part) for part in _several(known)(re.sub(r"(?i)\s*gb?i?b?\b", "", text))))


def version(text: str) -> Version:
    """Return a version as numbers, such as (12, 4) for `12.4`. Raise ValueError where the text is none."""
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6}){0,3}", text.strip(), re.ASCII):
        raise ValueError(f"{text[:40]!r} is not a version such as 12.4: give one to four numbers joined by dots")
    return tuple(map(int, text.strip().split(".")))


def _class_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", text, re.ASCII):
        raise ValueError(f"{text[:40]!r} is not a name: give lower case letters, digits, dots and dashes, such as batch")
    return text


def _model(text: str) -> ModelShape:
    try:
        model = msgspec.json.decode(text, type=ModelShape)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{error}; `fabricwise fit --model FILE -o json` prints a model's shape in this form") from error
    problem = contradiction(model)
    if problem is not None:
        raise ValueError(problem)
    return model


_MEMORY, _SPEED, _LINK, _SHARING, _MESSAGE = (
    "bytes",
    "GB/s",
    "|".join(LINKS),
    "list of " + "|".join(SHARING),
    "|".join([*MESSAGE_MIXES, "bytes"]),
)

ANNOTATIONS: tuple[Annotation, ...] = (
    Annotation("workload-class", "workload_class", _class_name, "name", "batch", "the class of work", Reason.BAD_WORKLOAD_CLASS),
    Annotation("min-gpu-memory", "min_gpu_memory_bytes", _bytes, _MEMORY, "80Gi", "each GPU has so much", Reason.BAD_MIN_GPU_MEMORY),
    Annotation(
        "gpu-memory-class", "gpu_memory_classes_gb", _classes, "GB, list", "80,141", "is of one of these", Reason.BAD_GPU_MEMORY_CLASS
    ),
    Annotation("min-free-memory", "min_free_memory_bytes", _bytes, _MEMORY, "60Gi", "so much is free on it", Reason.BAD_MIN_FREE_MEMORY),
    Annotation("min-link", "min_link", _link, _LINK, "nvlink", "the worst link in any set it may get", Reason.BAD_MIN_LINK),
    Annotation("min-busbw", "min_busbw_gbps", _gbps, _SPEED, "200", "every set it may get reaches it", Reason.BAD_MIN_BUSBW),
    Annotation("preferred-link", "preferred_link", _link, _LINK, "nvlink", "a better one is worth no more", Reason.BAD_PREFERRED_LINK),
    Annotation("preferred-busbw", "preferred_busbw_gbps", _gbps, _SPEED, "300", "more is worth no more", Reason.BAD_PREFERRED_BUSBW),
    Annotation("message-size", "messages", _message, _MESSAGE, "decode", "which all-reduces count", Reason.BAD_MESSAGE_SIZE),
    Annotation(
        "min-compute-capability", "min_compute_capability", version, "version", "9.0", "each GPU has it", Reason.BAD_MIN_COMPUTE_CAPABILITY
    ),
    Annotation("min-driver", "min_driver", version, "version", "550.54", "the node runs it or a newer one", Reason.BAD_MIN_DRIVER),
    Annotation("min-cuda", "min_cuda", version, "version", "12.4", "the node's driver serves it", Reason.BAD_MIN_CUDA),
    Annotation("sharing", "sharing", _several(SHARING), _SHARING, "none", "kinds of device it may get", Reason.BAD_SHARING),
    Annotation("model", "model", _model, "JSON", '{"layers": 80, ...}', "`description` of `fabricwise fit -o json`", Reason.BAD_MODEL),
)


def wishes(annotations: Mapping[str, str] | None) -> Wishes | Rejection:
    """Return what a pod's annotations ask for; or, for the first malformed one, a Rejection that names it."""
    values: dict[str, Any] = {}
    for row in ANNOTATIONS if annotations else ():
        text = (annotations or {}).get(row.key)
        if text is None:
            continue
        try:
            if len(text) > MOST_TEXT:
                raise ValueError(f"it is longer than {MOST_TEXT} characters: shorten it, or remove it")
            values[row.field] = row.read(text)
        except (ValueError, ArithmeticError) as error:
            return Rejection(row.reason, f"annotation {row.key}: {error}")
    return Wishes(**values) if values else NO_WISHES


NO_WISHES = Wishes()

WRITTEN_BY_US = ("decision", "requeued-at")
"""Names under the prefix that Fabricwise itself writes to pods."""


def unknown_names(annotations: Mapping[str, str] | None) -> tuple[str, ...]:
    """Return a warning, with the probable meaning, for each annotation whose prefix is Fabricwise's, or similar, but whose name is unknown.

    At most `MOST_WARNINGS`, then one line with the number of further ones.
    """
    warnings = [warning for key in annotations or () if (warning := _unknown_name(key)) is not None]
    if len(warnings) > MOST_WARNINGS:
        warnings[MOST_WARNINGS:] = [f"and {len(warnings) - MOST_WARNINGS} more annotations with unknown names"]
    return tuple(warnings)


_NAMES = tuple(row.name for row in ANNOTATIONS)


def _unknown_name(key: str) -> str | None:
    prefix, slash, name = key.partition("/")
    has_prefix = prefix + slash == PREFIX
    if has_prefix and (name in _NAMES or name in WRITTEN_BY_US):
        return None
    if not has_prefix and not (slash and prefix.startswith("fabricwise")):
        return None
    likely = next(iter(difflib.get_close_matches(name[:63].lower().replace("_", "-"), _NAMES, n=1, cutoff=0.6)), None)
    meant = f": did you mean {PREFIX}{likely}?" if likely else f": the names are {', '.join(_NAMES)}"
    return f"annotation {key[:120]} is unknown and changes nothing{meant}"
