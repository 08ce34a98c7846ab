"""A checkpoint's `quantization_config` -> the scheme of each weight, and the width of the KV cache. Pure.

Sources: Hugging Face transformers `quantization_config.py`, the compressed-tensors and ModelOpt checkpoints' own files, vLLM's
`quantization` layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from extender.workload.checkpoint.config_fields import Fields
from extender.workload.checkpoint.module_patterns import matcher, published_names, unread
from extender.workload.checkpoint.schemes import AWQ, BITSANDBYTES, FP8, FP8_CHANNELS, GPTQ, INT8, MXFP4, NVFP4, Scheme
from extender.workload.structure import EMBEDDINGS, OUTPUT_LAYER, ROUTED, ROUTER, VISION, Weight

MOST_MODULES = 200_000
"""The most modules that a mixed checkpoint may name; further ones are ignored."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """How a checkpoint's weights are stored."""

    method: str
    scheme: Scheme | None
    """The scheme of the converted matrices, for people; None: all weights have the model's dtype."""
    converts: Callable[[Weight], Scheme | None] = lambda _weight: None
    """Weight -> its scheme; None: the weight has the model's dtype."""
    kv_bytes: float | None = None
    """Bytes per number of the KV cache that the checkpoint has scales for; None: not stated."""
    embeddings: bool = False
    """Whether it converts embeddings and routers too."""

    def size(self, weight: Weight, dtype_bytes: float) -> float:
        """Return the bytes of a weight as stored, where an unconverted number has `dtype_bytes`."""
        is_convertible = weight.part == EMBEDDINGS if self.embeddings else weight.linear and weight.part not in (EMBEDDINGS, ROUTER)
        scheme = self.converts(weight) if is_convertible or (self.embeddings and weight.linear) else None
        return weight.parameters * dtype_bytes if scheme is None else scheme.size(weight)

    def __str__(self) -> str:
        """Return method and scheme as text."""
        return f"{self.method}, {self.scheme}" if self.scheme else self.method


@dataclass(frozen=True, slots=True)
class UnknownQuantization:
    """A quantisation method, or a variant of one, that is not known."""

    method: str
    least_bits: float = 1
    """A lower bound of the bits per weight."""
    kv_bytes: float | None = None
    """As in `Quantization`."""


NONE = Quantization("none", None)


def plain(scheme: Scheme, method: str) -> Quantization:
    """Return the quantisation of all decoder layers without the output layer and vision tower, which is the usual choice."""
    return Quantization(method, scheme, lambda weight: None if weight.part in (OUTPUT_LAYER, VISION) else scheme)


def published(fields: Fields) -> Quantization | UnknownQuantization:
    """Return the quantisation by `quantization_config` (or `compression_config`) of a config.json. Raises ModelError."""
    config = fields.part("quantization_config") or fields.part("compression_config")
    if config is None:
        return NONE
    method = config.word("quant_method").lower()
    if not method and config.has("quant_algo"):
        method = "modelopt"
    if not method and config.has("bits") and config.has("group_size"):
        method = "mlx"
    if method.startswith("modelopt") and method not in _READERS:
        method = "modelopt"
    reader = _READERS.get(method)
    if reader is None:
        bits = config.get("bits") or config.get("nbits") or config.get("w_bit")
        is_width = isinstance(bits, int | float) and not isinstance(bits, bool) and 0 < bits < 32
        return UnknownQuantization(method or "not named", float(bits) if is_width else 1.0)
    if unread([pattern for name in _SKIPPED for pattern in config.items(name)]):
        return UnknownQuantization(f"{method} with module names that are not read", kv_bytes=_kv_scheme(config))
    return reader(config, method)


def _listed(config: Fields, *names: str) -> Callable[[Weight], bool]:
    """Return a function that says whether the lists in the fields `names` name a weight."""
    return matcher(tuple(item for name in names for item in config.items(name)))


def _except(scheme: Scheme, excluded: Callable[[Weight], bool], *parts: str) -> Callable[[Weight], Scheme | None]:
    """Return a function weight -> `scheme`, or None for weights that are excluded or belong to one of `parts`."""
    return lambda weight: None if weight.part in parts or excluded(weight) else scheme


_SKIPPED = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude", "exclude_modules", "llm_int8_skip_modules")
"""Fields that list the modules which are not converted."""


def _grouped(config: Fields, method: str) -> Quantization | UnknownQuantization:
    """GPTQ, AWQ, AutoRound: `bits` and `group_size`; a size of -1 means one group."""
    base = AWQ if method.startswith("awq") or "awq" in config.word("packing_format") else GPTQ
    bits, group = config.get("bits") or config.get("w_bit"), config.get("group_size") or config.get("q_group_size")
    if not isinstance(bits, int) or isinstance(bits, bool) or not 1 < bits <= 8:
        return UnknownQuantization(method)
    size = group if isinstance(group, int) and 0 < group < 1 << 16 else 0
    scheme = Scheme(bits, size, scale_bytes=2, zero_bits=bits, input_bytes=base.input_bytes)
    parts = (VISION,) if config.flag("lm_head") else (OUTPUT_LAYER, VISION)
    return Quantization(method, scheme, _except(scheme, _listed(config, *_SKIPPED), *parts))


def _fp8(config: Fields, method: str) -> Quantization:
    """FP8 with a scale per matrix, per output (fbgemm) or per block (DeepSeek)."""
    block = config.items("weight_block_size")
    scheme = FP8_CHANNELS if method == "fbgemm_fp8" else FP8
    if len(block) == 2 and all(isinstance(size, int) and 0 < size < 1 << 16 for size in block):
        scheme = Scheme(8, block[1], rows=block[0], scale_bytes=4)
    return Quantization(method, scheme, _except(scheme, _listed(config, *_SKIPPED), OUTPUT_LAYER))


def _mxfp4(config: Fields, method: str) -> Quantization:
    """gpt-oss: only routed experts are converted."""
    excluded = _listed(config, *_SKIPPED)
    return Quantization(method, MXFP4, lambda weight: MXFP4 if weight.part == ROUTED and not excluded(weight) else None)


def _bitsandbytes(config: Fields, method: str) -> Quantization:
    """4 or 8 bit, by `load_in_4bit`."""
    if config.flag("load_in_8bit") and not config.flag("load_in_4bit"):
        scheme = Scheme(8, scale_bytes=4)
    else:
        scheme = BITSANDBYTES if config.flag("bnb_4bit_use_double_quant") else Scheme(4, 64, scale_bytes=4)
    return Quantization(method, scheme, _except(scheme, _listed(config, *_SKIPPED), OUTPUT_LAYER))


def _eetq(config: Fields, method: str) -> Quantization:
    return Quantization(method, INT8, _except(INT8, _listed(config, *_SKIPPED), OUTPUT_LAYER, VISION))


def _mlx(config: Fields, method: str) -> Quantization | UnknownQuantization:
    """Apple MLX: all matrices and embeddings, with a scale and an offset per group. Settings per layer are not supported."""
    base = _grouped(config, method)
    if isinstance(base, UnknownQuantization) or base.scheme is None or any(isinstance(value, Mapping) for value in config.raw.values()):
        return UnknownQuantization(f"{method} with widths per layer" if not isinstance(base, UnknownQuantization) else method)
    scheme = Scheme(base.scheme.bits, base.scheme.group, scale_bytes=4)
    return Quantization(method, scheme, lambda _weight: scheme, embeddings=True)


def _compressed(config: Fields, method: str) -> Quantization | UnknownQuantization:
    """compressed-tensors: `config_groups` have the widths, `ignore` the modules that are not converted."""
    sparsity, kv = config.part("sparsity_config"), _kv_scheme(config)
    if sparsity is not None and sparsity.word("format") not in ("", "dense"):
        return UnknownQuantization(f"{method} with sparsity {sparsity.word('format')[:40]}", kv_bytes=kv)
    groups, by_target, usual = config.part("config_groups") or Fields({}), list[tuple[Callable[[Weight], bool], Scheme]](), None
    for name in list(groups.raw)[:64]:
        group = groups.part(name) or Fields({})
        scheme = _weights_scheme(group.part("weights"))
        if scheme is None:
            return UnknownQuantization(f"{method} {group.word('format') or config.word('format')}".strip(), kv_bytes=kv)
        targets = group.items("targets")
        if not targets or "Linear" in targets:
            usual = scheme
        else:
            by_target.append((matcher(targets), scheme))
    if usual is None and not by_target:
        return UnknownQuantization(f"{method} without config_groups", kv_bytes=kv)
    excluded = _listed(config, "ignore")

    def converts(weight: Weight) -> Scheme | None:
        if excluded(weight):
            return None
        return next((scheme for matches, scheme in by_target if matches(weight)), usual)

    return Quantization(method, usual or by_target[0][1], converts, kv)


def _weights_scheme(weights: Fields | None) -> Scheme | None:
    if weights is None:
        return None
    bits, strategy, group = (
        weights.get("num_bits"),
        weights.word("strategy"),
        weights.amount("group_size") if (isinstance(weights.get("group_size"), int) and weights.get("group_size") > 0) else 0,
    )
    if not isinstance(bits, int) or isinstance(bits, bool) or not 1 < bits <= 16:
        return None
    if weights.word("type") == "float" and bits == 4:
        return NVFP4 if group == 16 else MXFP4 if group == 32 else None
    block = weights.items("block_structure")
    if strategy == "block":
        size = [item for item in block if isinstance(item, int) and 0 < item < 1 << 16]
        return Scheme(bits, size[1], rows=size[0], scale_bytes=4) if len(size) == 2 else None
    zero = 0 if weights.flag("symmetric", True) else bits
    order = 4 if weights.word("actorder") == "group" else 0
    return Scheme(bits, group, strategy != "tensor", scale_bytes=2, zero_bits=zero, input_bytes=order)


_KV_ALGORITHMS = {"FP8": 1.0, "INT8": 1.0, "NVFP4": 0.5 + 1 / 16}


def _kv_scheme(config: Fields) -> float | None:
    algorithm = config.word("kv_cache_quant_algo").upper()
    if algorithm in _KV_ALGORITHMS:
        return _KV_ALGORITHMS[algorithm]
    scheme = config.part("kv_cache_scheme")
    bits = scheme.get("num_bits") if scheme else None
    return bits / 8 if isinstance(bits, int) and not isinstance(bits, bool) and 1 < bits <= 16 else None


_ALGORITHMS: dict[str, Scheme] = {
    "FP8": FP8,
    "NVFP4": NVFP4,
    "NVFP4_AWQ": NVFP4,
    "W4A16_NVFP4": NVFP4,
    "FP8_PER_CHANNEL_PER_TOKEN": FP8_CHANNELS,
    "FP8_PB_WO": Scheme(8, 128, rows=128, scale_bytes=4),
    "W4A8_AWQ": Scheme(4, 128, scale_bytes=2),
    "W4A16_AWQ": Scheme(4, 128, scale_bytes=2),
    "INT4_AWQ": Scheme(4, 128, scale_bytes=2),
    "W8A16": INT8,
    "W8A8_SQ_PER_CHANNEL": INT8,
    "MXFP4": MXFP4,
    "W4A8_MXFP4_FP8": MXFP4,
    "MXFP8": Scheme(8, 32, scale_bytes=1),
}


def _modelopt(config: Fields, method: str) -> Quantization | UnknownQuantization:
    """NVIDIA ModelOpt: `quant_algo`, the modules that are not converted, and `quantized_layers` of a mixed checkpoint."""
    nested = config.part("quantization")
    config = nested if nested is not None else config
    algorithm = (config.word("quant_algo") or ("NVFP4" if method == "modelopt_fp4" else "")).upper()
    kv, layers = _kv_scheme(config), config.part("quantized_layers")
    if layers is not None:
        named: dict[str, Scheme] = {}
        for module, layer in list(layers.raw.items())[:MOST_MODULES]:
            layer_scheme = _ALGORITHMS.get(Fields(layer).word("quant_algo").upper()) if isinstance(layer, Mapping) else None
            if layer_scheme is None:
                return UnknownQuantization(f"{method} {algorithm}".strip(), kv_bytes=kv)
            named[module] = layer_scheme
        by_name = lambda weight: next((named[name] for name in published_names(weight.module) if name in named), None)  # noqa: E731
        return Quantization(f"{method} {algorithm}", next(iter(named.values()), None), by_name, kv)
    scheme = _ALGORITHMS.get(algorithm)
    if scheme is None and not algorithm and config.part("config_groups") is not None:
        return _compressed(config, method)
    if scheme is None:
        return UnknownQuantization(f"{method} {algorithm}".strip(), kv_bytes=kv)
    return Quantization(f"{method} {algorithm}", scheme, _except(scheme, _listed(config, *_SKIPPED)), kv)


_QUARK: dict[str, Scheme] = {"fp8_e4m3": FP8, "fp8_e5m2": FP8, "int8": INT8}


def _quark(config: Fields, method: str) -> Quantization | UnknownQuantization:
    """AMD Quark: `global_quant_config.weight` and the modules that are not converted. Settings per layer are not supported."""
    weights = (config.part("global_quant_config") or Fields({})).part("weight") or Fields({})
    overrides = config.part("layer_quant_config")
    kind = weights.word("dtype")
    scheme = MXFP4 if kind in ("fp4", "mxfp4") else _QUARK.get(kind)
    if scheme is None or (overrides is not None and overrides.raw):
        return UnknownQuantization(f"{method} {kind}".strip())
    if weights.word("qscheme") == "per_channel":
        scheme = Scheme(scheme.bits, scale_bytes=2)
    return Quantization(f"{method} {kind}", scheme, _except(scheme, _listed(config, "exclude")))


_READERS: dict[str, Callable[[Fields, str], Quantization | UnknownQuantization]] = {
    "gptq": _grouped,
    "awq": _grouped,
    "gptq_marlin": _grouped,
    "awq_marlin": _grouped,
    "auto-round": _grouped,
    "intel/auto-round": _grouped,
    "fp8": _fp8,
    "fbgemm_fp8": _fp8,
    "mxfp4": _mxfp4,
    "bitsandbytes": _bitsandbytes,
    "eetq": _eetq,
    "compressed-tensors": _compressed,
    "modelopt": _modelopt,
    "modelopt_fp4": _modelopt,
    "quark": _quark,
    "mlx": _mlx,
}
