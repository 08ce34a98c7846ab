"""The parts of a model: weight matrices by module name, KV cache by layer, recurrent state. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated

from msgspec import Meta

_Size = Annotated[int, Meta(ge=1, lt=1 << 40)]

EMBEDDINGS, OUTPUT_LAYER, NORMS = "embeddings", "output layer", "norms"
ATTENTION, DENSE, ROUTED, SHARED, ROUTER = "attention", "dense MLP", "routed experts", "shared experts", "router"
STATE_SPACE, LINEAR_ATTENTION, CONVOLUTION = "state space", "linear attention", "short convolution"
VISION, PREDICTION = "vision and audio", "multi-token prediction"


@dataclass(frozen=True, slots=True)
class Weight:
    """Equal weight matrices of one module."""

    module: str
    """The module's published name without `.weight`, by which quantisation configs exclude it. For experts: the first one's name."""
    part: str
    outputs: int
    inputs: int = 1
    count: int = 1
    used: int | None = None
    """Number of the `count` matrices that one token uses; None: all."""
    linear: bool = True
    """Whether a quantisation method may convert it: true for matrices, false for norms, biases, convolutions and embeddings."""

    @property
    def parameters(self) -> int:
        """Numbers in all `count` matrices."""
        return self.outputs * self.inputs * self.count

    @property
    def active_parameters(self) -> int:
        """Numbers in the matrices that one token uses."""
        return self.outputs * self.inputs * (self.count if self.used is None else self.used)


@dataclass(frozen=True, slots=True)
class Cache:
    """KV cache of equal layers."""

    kind: Annotated[str, Meta(max_length=64)]
    """full, sliding, chunked, latent or indexer."""
    layers: _Size
    numbers: Annotated[int, Meta(ge=0, lt=1 << 40)]
    """Per token and layer: keys and values together."""
    heads: _Size | None = None
    """Key-value heads, which tensor parallelism divides; None: every rank keeps the whole cache."""
    window: _Size | None = None
    """Most tokens that such a layer keeps per sequence; None: all."""
    number_bytes: Annotated[float, Meta(gt=0, le=16)] | None = None
    """Bytes per number, if they do not depend on the KV cache's dtype."""


@dataclass(frozen=True, slots=True)
class State:
    """Recurrent state of equal layers. Its size per sequence does not depend on the sequence's length."""

    kind: str
    layers: int
    numbers: int
    """Per sequence and layer, in the model's dtype."""
    wide_numbers: int = 0
    """Per sequence and layer, in the dtype of the state (`mamba_ssm_cache_dtype`)."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One sublayer: its weights, its KV cache and its recurrent state."""

    weights: tuple[Weight, ...]
    cache: Cache | None = None
    state: State | None = None
    more_caches: tuple[Cache, ...] = ()


@dataclass(frozen=True, slots=True)
class Structure:
    """A whole model."""

    weights: tuple[Weight, ...]
    caches: tuple[Cache, ...]
    states: tuple[State, ...]
    notes: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Numbers in all weights, including multi-token prediction if the published file has it."""
        return sum(weight.parameters for weight in self.weights)


def linear(module: str, part: str, outputs: int, inputs: int, bias: bool = False) -> tuple[Weight, ...]:
    """Return a matrix, and its bias if it has one."""
    matrix = Weight(module, part, outputs, inputs)
    return (matrix, vector(module, part, outputs)) if bias else (matrix,)


def vector(module: str, part: str, size: int, count: int = 1) -> Weight:
    """Return a bias, a norm or another vector, which is never quantised."""
    return Weight(module, part, size, 1, count, linear=False)


def assigned(weights: Iterable[Weight], part: str) -> tuple[Weight, ...]:
    """Return the weights with `part` as their part of the model."""
    return tuple(replace(weight, part=part) for weight in weights)


def structure(layers: Iterable[Layer], weights: Iterable[Weight], notes: Iterable[str] = ()) -> Structure:
    """Return the model with these layers and other weights; equal caches and states are combined."""
    all_weights, caches, states = list(weights), dict[Cache, int](), dict[State, int]()
    for layer in layers:
        all_weights += layer.weights
        for cache in (layer.cache, *layer.more_caches):
            if cache is not None:
                single_cache = replace(cache, layers=1)
                caches[single_cache] = caches.get(single_cache, 0) + cache.layers
        if layer.state is not None:
            single_state = replace(layer.state, layers=1)
            states[single_state] = states.get(single_state, 0) + layer.state.layers
    return Structure(
        tuple(all_weights),
        tuple(replace(cache, layers=count) for cache, count in caches.items()),
        tuple(replace(state, layers=count) for state, count in states.items()),
        tuple(notes),
    )
