"""Model folders on disk: config.json, an index, safetensors files that are headers without weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def header(tensors: Mapping[str, int]) -> bytes:
    """Return the beginning of a safetensors file (length and JSON), for these bytes per tensor."""
    place, found = 0, dict[str, Any]({"__metadata__": {"format": "pt"}})
    for name, size in tensors.items():
        found[name] = {"dtype": "BF16", "shape": [size // 2], "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(found).encode()
    return len(text).to_bytes(8, "little") + text


def index(total: Any, files: Mapping[str, str]) -> str:
    """Return a model.safetensors.index.json, for tensor -> file."""
    return json.dumps({"metadata": {"total_size": total}, "weight_map": dict(files)})


def model_folder(folder: Path, config: Mapping[str, Any], files: Mapping[str, bytes | str]) -> Path:
    """Write a folder with a config.json and other files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dict(config)))
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder
