"""Families of decoders: layers composed of attention, recurrent and feed-forward parts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from extender.workload.architecture.attention import grouped
from extender.workload.architecture.feed_forward import FeedForward, dense
from extender.workload.architecture.recurrent import Mixer
from extender.workload.checkpoint.config_fields import Fields, ModelError
from extender.workload.structure import (
    EMBEDDINGS,
    NORMS,
    OUTPUT_LAYER,
    PREDICTION,
    Layer,
    Structure,
    Weight,
    assigned,
    linear,
    structure,
    vector,
)

Block = Callable[[Fields, int, str], list[Layer]]
"""(fields, layer, the layer's module name) -> its sublayers."""


def norms(prefix: str, hidden: int, count: int, biased: bool) -> Layer:
    """Return the norms of a layer: `count` vectors, each with a bias if `biased`."""
    return Layer((vector(f"{prefix}.norms", NORMS, hidden * count * (2 if biased else 1)),) if count else ())


def transformer(attention: Mixer | None = None, feed_forward: FeedForward | None = None, count: int = 2, biased: bool = False) -> Block:
    """Layers of attention, a feed-forward layer and `count` norms. Defaults are those of Llama."""
    attend, feed = attention or grouped(), feed_forward or dense(bias=None)

    def block(fields: Fields, index: int, prefix: str) -> list[Layer]:
        return [attend(fields, index, prefix), Layer(feed(fields, index, prefix)), norms(prefix, fields.hidden, count, biased)]

    return block


def hybrid(kind: Callable[[Fields, int], str], mixers: Mapping[str, Mixer], feed_forward: FeedForward | None, count: int = 2) -> Block:
    """Layers with the mixer for the layer's kind, and a feed-forward layer if one is given. The block raises ModelError for other kinds."""

    def block(fields: Fields, index: int, prefix: str) -> list[Layer]:
        name = kind(fields, index)
        if name not in mixers:
            raise ModelError(f"layer {index} is of kind {name[:60]!r}, which is none of {', '.join(mixers)}")
        sublayers = [mixers[name](fields, index, prefix), norms(prefix, fields.hidden, count, False)]
        return [*sublayers, Layer(feed_forward(fields, index, prefix))] if feed_forward else sublayers

    return block


def as_mixer(feed_forward: FeedForward) -> Mixer:
    """A feed-forward layer that is the only part of its layer (Nemotron-H)."""
    return lambda fields, index, prefix: Layer(feed_forward(fields, index, prefix))


@dataclass(frozen=True, slots=True)
class Decoder:
    """An architecture: its layers, embeddings, output layer and layers for multi-token prediction."""

    block: Block
    tied: bool = False
    """Whether embeddings and output layer are one matrix, if the file does not state it."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """The configuration class's defaults for fields that published files omit."""
    sizes: Mapping[str, Any] = field(default_factory=dict)
    """Defaults for a text model inside a multimodal model only, whose file can omit sizes."""
    positions: int | None = None
    """Learned absolute positions: the number of rows above `max_position_embeddings`; None: no such table."""
    head_bias: bool = False
    """Whether the output layer has a bias."""
    prefix: str = "model.layers"
    """Module name of the layers, without the index."""
    prediction: Callable[[Fields, Decoder], tuple[Weight, ...]] | None = None
    """Layers for multi-token prediction in the published file."""
    recurrent: bool = False
    """Whether the model has no attention, and so no heads."""
    extra_embeddings: int = 0
    """Rows of the embedding above the vocabulary."""
    tables: Callable[[Fields], tuple[Weight, ...]] | None = None
    """Further embeddings."""

    def structure(self, fields: Fields) -> Structure:
        """Return the text model. Raises ModelError that names the missing or invalid field."""
        hidden, vocabulary = fields.hidden, fields.count("vocab_size")
        layers = [part for index in range(fields.layers) for part in self.block(fields, index, f"{self.prefix}.{index}")]
        weights: tuple[Weight, ...] = (embedding("model.embed_tokens", vocabulary + self.extra_embeddings, hidden),)
        if self.positions is not None:
            weights += (embedding("model.embed_positions", fields.count("max_position_embeddings") + self.positions, hidden),)
        weights += (vector("model.norm", NORMS, hidden),)
        if not self.is_tied(fields):
            weights += linear("lm_head", OUTPUT_LAYER, vocabulary, hidden, self.head_bias)
        weights += self.tables(fields) if self.tables is not None else ()
        if self.prediction is not None:
            weights += self.prediction(fields, self)
        return structure(layers, weights)

    def is_tied(self, fields: Fields) -> bool:
        """Return whether the output layer is the same matrix as the embedding."""
        return fields.flag("tie_word_embeddings", self.tied)


def embedding(module: str, rows: int, width: int) -> Weight:
    """Return an embedding table, which the known quantisation methods do not convert as a matrix."""
    return Weight(module, EMBEDDINGS, rows, width, linear=False)


def predicted(count: str, *, copies: bool = False, default: int = 0, place: str = "") -> Callable[[Fields, Decoder], tuple[Weight, ...]]:
    """Multi-token prediction as in DeepSeek-V3: per prediction one further layer and a projection of two hidden states to one.

    `count`: the field with the number of predictions. `copies`: the file also repeats embedding and output layer per prediction.
    `place`: module name, if it is not that of a layer.
    """

    def prediction_weights(fields: Fields, decoder: Decoder) -> tuple[Weight, ...]:
        weights: list[Weight] = []
        for extra in range(min(64, fields.amount(count, default))):
            index = fields.layers + extra
            prefix = place or f"{decoder.prefix}.{index}"
            for layer in decoder.block(fields, index, prefix):
                weights += layer.weights
            weights.append(Weight(f"{prefix}.eh_proj", PREDICTION, fields.hidden, 2 * fields.hidden, linear=False))
            weights.append(vector(f"{prefix}.enorm_hnorm_norm", PREDICTION, 3 * fields.hidden))
            if copies:
                rows = fields.count("vocab_size")
                weights.append(embedding(f"{prefix}.embed_tokens", rows, fields.hidden))
                weights.append(Weight(f"{prefix}.shared_head.head", PREDICTION, rows, fields.hidden, linear=False))
        return assigned(weights, PREDICTION)

    return prediction_weights
