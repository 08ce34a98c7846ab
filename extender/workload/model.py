"""A model's shape: the numbers that its memory depends on, read from its files or described by hand. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from extender.workload.checkpoint.config_fields import ModelError
from extender.workload.structure import Cache

__all__ = ["SCALES_SHARE", "ModelError", "ModelShape", "contradiction"]

SCALES_SHARE: dict[float, float] = {0.5: 0.0625, 1: 0.002}
"""Bytes per number -> share added by scales and zero points. 4-bit formats have 16 or 32 bits per group of 64 to 128 numbers, 8-bit formats
one scale per channel or block of 128 x 128. Sources: the AWQ, GPTQ and OCP MX formats."""

Size = Annotated[int, Meta(ge=1, lt=1 << 40)]
Parameters = Annotated[int, Meta(ge=1, lt=1 << 50)]
Rest = Annotated[int, Meta(ge=0, lt=1 << 50)]
Width = Annotated[float, Meta(gt=0, le=16)]
"""Bytes of one number. Products of fields within these bounds are finite."""


class ModelShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The numbers that a model's memory depends on. Also the JSON of the annotation `fabricwise.dev/model`."""

    layers: Size
    hidden_size: Size
    attention_heads: Rest
    """Query heads, which tensor parallelism must divide; 0: the model has no attention."""
    kv_heads: Rest
    head_size: Rest
    parameters: Parameters
    active_parameters: Parameters | None = None
    """In a mixture of experts, the parameters that one token uses."""
    embedding_parameters: Rest = 0
    """Parameters of embeddings and output layer, which quantisation does not convert; included in `parameters`."""
    intermediate_size: Rest = 0
    vocabulary: Rest = 0
    latent_size: Size | None = None
    """Numbers per token and layer of a latent KV cache (MLA), which tensor parallelism does not divide."""
    weight_bytes: Width = 2.0
    """Bytes per weight as published, where `published_bytes` is None."""
    dtype_bytes: Width = 2.0
    """Bytes per number of activations, and of the KV cache if nothing else is stated."""
    context: Size | None = None
    """Longest context."""
    name: Annotated[str, Meta(max_length=256)] | None = None
    caches: Annotated[tuple[Cache, ...], Meta(max_length=64)] = ()
    """KV cache by kind of layer; if empty: `layers` x `kv_heads` x `head_size`, or `latent_size`."""
    state_numbers: Rest = 0
    """Recurrent state of one sequence over all layers: numbers in the model's dtype."""
    state_bytes: Rest = 0
    """Recurrent state of one sequence over all layers: bytes of the part that has another dtype."""
    published_bytes: Rest | None = None
    """Bytes of all weights as published, including scales."""
    unloaded_bytes: Rest = 0
    """Bytes that an engine loads only for speculative decoding, of layers for multi-token prediction; included in `published_bytes`."""
    kv_number_bytes: Width | None = None
    """Bytes per number of the KV cache, if the checkpoint has scales for a cache narrower than `dtype_bytes`."""
    widths: Annotated[tuple[Size, ...], Meta(max_length=64)] = ()
    """Widths of matrices that tensor parallelism must divide."""
    width_unit: Size = 1
    """The share of each width per GPU must be a multiple of this: the block or group of the quantisation scheme."""

    def kv_caches(self) -> tuple[Cache, ...]:
        """Return the KV cache by kind of layer; () for a model without attention."""
        if self.caches or (not self.kv_heads and self.latent_size is None):
            return self.caches
        if self.latent_size is not None:
            return (Cache("latent", self.layers, self.latent_size),)
        return (Cache("full", self.layers, 2 * self.kv_heads * self.head_size, self.kv_heads),)

    def _number_bytes(self, bytes_per_number: float | None) -> float:
        return bytes_per_number or self.kv_number_bytes or self.dtype_bytes

    def kv_bytes_per_token(self, bytes_per_number: float | None = None) -> float:
        """Return the bytes of KV cache of one token over all layers, for a token that all layers keep."""
        size = self._number_bytes(bytes_per_number)
        return sum(cache.layers * cache.numbers * (cache.number_bytes or size) for cache in self.kv_caches())

    def kv_bytes(self, context: int, bytes_per_number: float | None = None, tensor_parallel: int = 1) -> float:
        """Return the bytes of KV cache of one sequence of `context` tokens on one rank; a layer with a window keeps at most its window.

        Key-value heads are divided among the ranks; with fewer heads than ranks each rank keeps one. Every rank keeps a whole latent.
        """
        size, total = self._number_bytes(bytes_per_number), 0.0
        for cache in self.kv_caches():
            tokens = context if cache.window is None else min(context, cache.window)
            share = 1.0 if cache.heads is None else max(1, -(-cache.heads // tensor_parallel)) / cache.heads
            total += cache.layers * cache.numbers * (cache.number_bytes or size) * tokens * share
        return total

    def state_bytes_per_sequence(self) -> float:
        """Return the bytes of recurrent state of one sequence, which do not depend on its length."""
        return self.state_numbers * self.dtype_bytes + self.state_bytes


def contradiction(shape: ModelShape) -> str | None:
    """Return which fields of a shape contradict each other, as text; None if the shape is consistent."""
    if shape.embedding_parameters > shape.parameters:
        return f"embedding_parameters {shape.embedding_parameters} are more than parameters {shape.parameters}"
    if shape.attention_heads and not (shape.kv_heads and shape.head_size) and not shape.caches and shape.latent_size is None:
        return f"{shape.attention_heads} attention_heads need kv_heads and head_size, latent_size or caches"
    if not shape.attention_heads and (shape.kv_heads or not (shape.state_numbers or shape.state_bytes)):
        return "attention_heads 0 needs kv_heads 0 and a state"
    return None
