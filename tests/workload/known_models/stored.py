"""Models that the table of architectures was not written from: size fields of their config.json, and the bytes they publish.

The bytes are `metadata.total_size` of the model.safetensors.index.json that a public GitHub repository (`source`) keeps beside the
config.json, or the size in the Git LFS pointer of its only safetensors file.
"""

from __future__ import annotations

from typing import Any

from tests.workload.known_models.stored_quantized import STORED_QUANTIZED
from tests.workload.known_models.stored_text import STORED_TEXT
from tests.workload.known_models.stored_vision import STORED_VISION

STORED: dict[str, tuple[dict[str, Any], int, str]] = {**STORED_TEXT, **STORED_VISION, **STORED_QUANTIZED}
