"""More published models: size fields of their config.json, parameters as their Hugging Face page counts them, KV bytes of a token.

Parameters are from memory; all but two equal what the arithmetic finds to a few millionths, which memory that is wrong would not. The two
are starcoder2-15b, whose file holds its tied output layer a second time, and Nemotron 3 Super, of which the page's number is rounded.
KV bytes are layers x (keys and values) x heads x head size x width by hand.
"""

from __future__ import annotations

from typing import Any

from tests.workload.known_models.counted_text import COUNTED_TEXT
from tests.workload.known_models.counted_vision import COUNTED_VISION

COUNTED: dict[str, tuple[dict[str, Any], int, int]] = {**COUNTED_TEXT, **COUNTED_VISION}
