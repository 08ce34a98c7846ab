"""ANNOTATIONS: what a pod may ask for beyond a number of GPUs. One row each; README has the table.

They are requests, never state: every user that may create a pod may write them. A malformed one is a refusal that names it and what
it may mean; a name under the prefix that is none of them is a warning.
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
"""Less memory than any GPU or process has: such a number lacks its unit."""
MOST_GBPS = 10_000
"""Some ten times what a GPU's links carry today (NVLink 5: 900 GB/s per direction)."""
LEAST_MESSAGE_BYTES, MOST_MESSAGE_BYTES = 1 << 10, 1 << 36
MOST_TEXT = 8192
"""Characters of an annotation that are looked at."""
MOST_WARNINGS = 5
"""Unknown names that are told one by one."""

LINKS = ("nvlink", "pix", "pxb", "phb", "node", "sys")
"""Classes of link, best first: a rank is a place here. The PCIe ones are nvidia-smi's."""

SHARING = ("none", "mig", "time-slicing", "mps")
"""How a device may be shared."""

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a pod asks for by annotation. None = it does not say."""

    workload_class: str | None = None
    min_gpu_memory_bytes: int | None = None
    gpu_memory_classes_gb: tuple[int, ...] | None = None
    min_free_memory_bytes: int | None = None
    min_link: int | None = None
    """Rank in `LINKS` that no pair inside a container may exceed."""
    min_busbw_gbps: float | None = None
    """Hard floor of the bandwidth of each container with two GPUs or more."""
    preferred_link: int | None = None
    preferred_busbw_gbps: float | None = None
    messages: str | None = None
    """As `topology.bandwidth.all_reduce.mix_of` takes it."""
    min_compute_capability: Version | None = None
    min_driver: Version | None = None
    min_cuda: Version | None = None
    sharing: tuple[str, ...] | None = None
    model: ModelShape | None = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation."""

    name: str
    field: str
    read: Callable[[str], Any]
    """Text -> value. Raises ValueError saying what is wrong."""
    kind: str
    """Type and unit, for people."""
    example: str
    means: str
    reason: Reason

    @property
    def key(self) -> str:
        """With its prefix."""
        return PREFIX + self.name


_MEMORY_AS_WRITTEN = re.compile(r"\s*(?P<number>\d{1,9}(\.\d{1,3})?)\s*(?P<unit>[kmgt]?)(i?b|i|)\s*", re.IGNORECASE | re.ASCII)
_SPEED_AS_WRITTEN = re.compile(r"\s*(?P<number>\d{1,5}(\.\d{1,3})?)\s*([kmgt]i?b?|gb/s|gbps|gib/s)\s*", re.IGNORECASE | re.ASCII)
_PLAIN_NUMBER = re.compile(r"\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def _meant_memory(text: str) -> str:
    """The amount that a text without a usable unit probably means, as `: did you mean 80Gi?`; empty where nothing is probable."""
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
    """A plain number: a quantity's suffix would multiply GB/s by powers of 1000 or 1024."""
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
    """A mix, or one size in bytes, to the nearest power of two: bandwidth changes little within an octave, and few sizes are remembered."""
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
    one = _one_of(names)

    def read(text: str) -> tuple[str, ...]:
        return tuple(sorted({one(part.strip()) for part in text.split(",")}))

    return read


def _classes(text: str) -> tuple[int, ...]:
    known = tuple(map(str, CLASSES_GIB))
    return tuple(sorted(int(part) for part in _several(known)(re.sub(r"(?i)\s*gb?i?b?\b", "", text))))


def version(text: str) -> Version:
    """`12.4` -> (12, 4). Raises ValueError."""
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6}){0,3}", text.strip(), re.ASCII):
        raise ValueError(f"{text[:40]!r} is not a version such as 12.4: give one to four numbers joined by dots")
    return tuple(map(int, text.strip().split(".")))


def _class_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", text, re.ASCII):
        raise ValueError(f"{text[:40]!r} is not a name: give lower case letters, digits, dots and dashes, such as batch")
    return text


def _model(text: str) -> ModelShape:
    try:
        found = msgspec.json.decode(text, type=ModelShape)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{error}; `fabricwise fit --model FILE -o json` prints a model's shape in this form") from error
    problem = contradiction(found)
    if problem is not None:
        raise ValueError(problem)
    return found


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
    """All that a pod's annotations ask for; the first malformed one is a refusal that names it."""
    found: dict[str, Any] = {}
    for row in ANNOTATIONS if annotations else ():
        text = (annotations or {}).get(row.key)
        if text is None:
            continue
        try:
            if len(text) > MOST_TEXT:
                raise ValueError(f"it is longer than {MOST_TEXT} characters: shorten it, or remove it")
            found[row.field] = row.read(text)
        except (ValueError, ArithmeticError) as error:
            return Rejection(row.reason, f"annotation {row.key}: {error}")
    return Wishes(**found) if found else NO_WISHES


NO_WISHES = Wishes()

WRITTEN_BY_US = ("decision", "requeued-at")
"""Names under the prefix that Fabricwise itself writes on pods."""


def unknown_names(annotations: Mapping[str, str] | None) -> tuple[str, ...]:
    """A warning per annotation whose name looks like ours and is none, with the likely meaning; at most `MOST_WARNINGS`, then a count."""
    warnings = [warning for key in annotations or () if (warning := _unknown_name(key)) is not None]
    if len(warnings) > MOST_WARNINGS:
        warnings[MOST_WARNINGS:] = [f"and {len(warnings) - MOST_WARNINGS} more annotations with unknown names"]
    return tuple(warnings)


_NAMES = tuple(row.name for row in ANNOTATIONS)


def _unknown_name(key: str) -> str | None:
    prefix, slash, name = key.partition("/")
    ours = prefix + slash == PREFIX
    if ours and (name in _NAMES or name in WRITTEN_BY_US):
        return None
    if not ours and not (slash and prefix.startswith("fabricwise")):
        return None
    likely = next(iter(difflib.get_close_matches(name[:63].lower().replace("_", "-"), _NAMES, n=1, cutoff=0.6)), None)
    meant = f": did you mean {PREFIX}{likely}?" if likely else f": the names are {', '.join(_NAMES)}"
    return f"annotation {key[:120]} is unknown and changes nothing{meant}"
