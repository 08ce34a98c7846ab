"""Sizes that a checkpoint's files state: its index, and the headers of safetensors files. Pure.

Source of the format: Hugging Face safetensors, README, "Format": 8 bytes little-endian length, then JSON of that length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from extender.workload.checkpoint.config_fields import ModelError

LENGTH_BYTES = 8
MOST_HEADER_BYTES = 100_000_000
"""The format's own limit."""
_LARGEST = 1 << 50


@dataclass(frozen=True, slots=True)
class Stated:
    """The size of all weights, stated by files."""

    total_bytes: int
    source: str
    """The files, for people."""


def header_length(first: bytes, where: str) -> int:
    """Return the length of the JSON after the first eight bytes. Raises ModelError if the file is no safetensors file."""
    length = int.from_bytes(first[:LENGTH_BYTES], "little")
    if len(first) < LENGTH_BYTES or not 0 < length <= MOST_HEADER_BYTES:
        raise ModelError(f"{where} is not a safetensors file: its header would be {length} bytes")
    return length


def header_bytes(text: bytes, where: str) -> int:
    """Return the bytes of all tensors in a safetensors header. Raises ModelError if the header is invalid."""
    try:
        header = msgspec.json.decode(text.rstrip(b" "))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ModelError(f"{where}: its safetensors header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise ModelError(f"{where}: its safetensors header is not an object")
    total = 0
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        offsets = tensor.get("data_offsets") if isinstance(tensor, Mapping) else None
        if not isinstance(offsets, list) or len(offsets) != 2 or not all(isinstance(offset, int) for offset in offsets):
            raise ModelError(f"{where}: tensor {name[:80]} has no data_offsets")
        begin, end = offsets
        if not 0 <= begin <= end < _LARGEST:
            raise ModelError(f"{where}: tensor {name[:80]} has data_offsets {begin} to {end}")
        total += end - begin
    return total


def index_total(index: Mapping[str, Any]) -> int | None:
    """Return `metadata.total_size` of a model.safetensors.index.json in bytes; None if it is missing or invalid."""
    metadata = index.get("metadata")
    value = metadata.get("total_size") if isinstance(metadata, Mapping) else None
    if isinstance(value, str | float):
        try:
            value = int(value)
        except (ValueError, OverflowError):
            return None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _LARGEST else None


def index_files(index: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the files in the index, sorted. Names with a folder are left out."""
    weight_map = index.get("weight_map")
    names = {name for name in weight_map.values() if isinstance(name, str)} if isinstance(weight_map, Mapping) else set()
    return tuple(sorted(name for name in names if "/" not in name and "\\" not in name))
