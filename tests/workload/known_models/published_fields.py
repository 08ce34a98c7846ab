"""Writers of the fields of a config.json, and what is published about a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Published:
    """The size fields of a config.json, and what its publisher says; the values of `source` are explained in `published`."""

    config: dict[str, Any]
    weights_bytes: int
    source: str
    kv_bytes_per_token: int
    """Over all layers, while no window is full."""
    kv_bytes_beyond_windows: int | None = None
    """Of each further token once every window is full; None: the same."""
    state_bytes: int = 0


def decoder(kind: str, hidden: int, layers: int, heads: int, kv_heads: int, inner: int, vocabulary: int, **more: Any) -> dict[str, Any]:
    shape = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads}
    return {
        "model_type": kind,
        **shape,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "torch_dtype": "bfloat16",
        "tie_word_embeddings": False,
        **more,
    }


def multimodal(kind: str, text: dict[str, Any], vision: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model_type": kind, "torch_dtype": "bfloat16", "text_config": text, "vision_config": vision, **more}
