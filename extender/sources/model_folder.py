"""A model's files: config.json, and the index or the headers of its safetensors files. Reads headers only, never weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extender.errors import RequestError
from extender.loading import load_documents
from extender.workload.checkpoint.config_fields import ModelError
from extender.workload.checkpoint.file_sizes import LENGTH_BYTES, Stated, header_bytes, header_length, index_files, index_total

CONFIG, INDEX, MODELOPT = "config.json", "model.safetensors.index.json", "hf_quant_config.json"
MOST_CONFIG_BYTES = 16 << 20
MOST_INDEX_BYTES = 256 << 20
MOST_FILES = 4096


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What was read from a model's files."""

    config: Mapping[str, Any]
    where: str
    stated: Stated | None
    """The size of the weights that the files state; None if there are no weights."""
    notes: tuple[str, ...] = ()


def read_model(path: Path) -> ModelFiles:
    """Read a model, given its folder, its config.json or another of its files. Raises RequestError naming the file and what is missing."""
    folder = path if path.is_dir() else path.parent
    config = folder / CONFIG if path.is_dir() or path.suffix == ".safetensors" or path.name == INDEX else path
    if not config.exists():
        raise RequestError(f"{config} does not exist: give a folder with a Hugging Face {CONFIG}, or that file")
    document = _object(config, MOST_CONFIG_BYTES)
    modelopt = folder / MODELOPT
    if "quantization_config" not in document and modelopt.is_file():
        nested = _object(modelopt, MOST_CONFIG_BYTES).get("quantization")
        if isinstance(nested, Mapping):
            document = {**document, "quantization_config": {"quant_method": "modelopt", **nested}}
    try:
        stated, notes = _stated(folder)
    except OSError as error:
        raise RequestError(f"{error.filename or folder}: {error.strerror or error}: give readable files") from error
    except ModelError as error:
        raise RequestError(str(error)) from error
    return ModelFiles(document, str(config), stated, notes)


def _object(path: Path, most: int) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(most + 1)
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror or error}: give a readable file") from error
    if len(text) > most:
        raise RequestError(f"{path} is larger than {most >> 20} MiB, too large for this kind of file: give the model's own config.json")
    documents = load_documents(text.removeprefix(b"\xef\xbb\xbf"), str(path))
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise RequestError(f"{path}: expected one JSON object: give the unmodified file of the model's publisher")
    return documents[0]


def _stated(folder: Path) -> tuple[Stated | None, tuple[str, ...]]:
    """Return (size, notes): the size from the headers if all files are present, else the total of the index; None if neither states it."""
    index = _object(folder / INDEX, MOST_INDEX_BYTES) if (folder / INDEX).is_file() else None
    names = index_files(index)[: MOST_FILES + 1] if index is not None else _weight_files(folder)
    if len(names) > MOST_FILES:
        raise ModelError(f"{folder} has more than {MOST_FILES} safetensors files")
    present = [folder / name for name in names if (folder / name).is_file()]
    if names and len(present) == len(names):
        sizes = [_tensors(path) for path in present]
        if None not in sizes:
            return Stated(sum(size or 0 for size in sizes), f"headers of {len(present)} safetensors file{'s' * (len(present) > 1)}"), ()
    total = index_total(index) if index is not None else None
    if total is not None:
        return Stated(total, f"metadata.total_size of {INDEX}"), ()
    note = f"{folder}: {len(names)} safetensors files, none with a header that states its size" if names else ""
    return None, (note,) if note else ()


def _weight_files(folder: Path) -> tuple[str, ...]:
    """Return the names of the checkpoint's files, without those of an adapter or of a copy in another layout (`consolidated*`)."""
    names = sorted(path.name for path in folder.glob("*.safetensors"))[: MOST_FILES + 1]
    usual = [name for name in names if not name.startswith(("adapter", "consolidated", "training_args"))]
    standard = [name for name in usual if name.startswith(("model", "pytorch_model"))]
    return tuple(standard or usual or names)


def _tensors(path: Path) -> int | None:
    """Return the bytes of the file's tensors; None for a Git LFS pointer, which replaces a file that is not downloaded."""
    with path.open("rb") as file:
        first = file.read(LENGTH_BYTES)
        if first == b"version ":
            return None
        length = header_length(first, str(path))
        text = file.read(length)
    if len(text) < length:
        raise ModelError(f"{path} ends within its header: {len(text)} of {length} bytes")
    return header_bytes(text, str(path))
