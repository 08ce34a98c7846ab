"""Published models: the fields of their config.json that sizes depend on, the bytes of their safetensors, and the KV cache of a token.

Sources, by letter in `Published.source`:
index   `metadata.total_size` of the model.safetensors.index.json beside the config.json, from memory
card    the number of parameters on the model's Hugging Face page ("Safetensors, model size"), from memory, times the width of its dtype
round   the size that the page or the publisher states, rounded
KV bytes per token and state are worked out by hand from the layer counts in the last column's comment.
"""

from __future__ import annotations

from tests.workload.known_models.published_fields import Published
from tests.workload.known_models.published_state import PUBLISHED_STATE
from tests.workload.known_models.published_text import PUBLISHED_TEXT
from tests.workload.known_models.published_vision import PUBLISHED_VISION

PUBLISHED: dict[str, Published] = {**PUBLISHED_TEXT, **PUBLISHED_VISION, **PUBLISHED_STATE}
