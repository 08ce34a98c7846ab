"""Bytes of a quantised matrix: the numbers themselves, their scales and zero points."""

from __future__ import annotations

from dataclasses import dataclass

from extender.workload.structure import Weight

DTYPE_BYTES: dict[str, float] = {
    "float32": 4,
    "fp32": 4,
    "float16": 2,
    "fp16": 2,
    "half": 2,
    "bfloat16": 2,
    "bf16": 2,
    "fp8": 1,
    "float8": 1,
    "fp8_e4m3": 1,
    "fp8_e5m2": 1,
    "int8": 1,
    "w8a8": 1,
    "fp4": 0.5,
    "nvfp4": 0.5,
    "mxfp4": 0.5,
    "int4": 0.5,
}
"""Bytes of one number."""

QUANTIZATION_BYTES: dict[str, float] = {
    "awq": 0.5,
    "gptq": 0.5,
    "awq_marlin": 0.5,
    "gptq_marlin": 0.5,
    "bitsandbytes": 0.5,
    "mxfp4": 0.5,
    "nvfp4": 0.5,
    "modelopt_fp4": 0.5,
    "fp8": 1,
    "fbgemm_fp8": 1,
    "modelopt": 1,
    "compressed-tensors": 1,
    "w8a8": 1,
    "int8": 1,
    "bitsandbytes-int8": 1,
    "int4": 0.5,
}
"""Quantisation method, as serving engines call it -> bytes per weight of its usual width, where no checkpoint says more."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How the matrices of a module are kept."""

    bits: float
    group: int = 0
    """Inputs that share a scale; 0: all."""
    per_channel: bool = True
    """A scale for each output; False: one for the whole matrix."""
    rows: int = 1
    """Outputs that share a scale (blocks of 128 x 128)."""
    scale_bytes: float = 2
    zero_bits: float = 0
    input_bytes: int = 0
    """Per input: the order of GPTQ's groups."""

    def size(self, weight: Weight) -> float:
        """Bytes of all matrices of `weight`."""
        groups = -(-weight.inputs // self.group) if self.group else 1
        scales = -(-weight.outputs // self.rows) * groups if self.per_channel else 1
        one = weight.outputs * weight.inputs * self.bits / 8 + scales * (self.scale_bytes + self.zero_bits / 8)
        return weight.count * (one + weight.inputs * self.input_bytes)

    def __str__(self) -> str:
        """For people: `4 bit in groups of 128`."""
        if self.rows > 1:
            return f"{self.bits:g} bit in blocks of {self.rows} x {self.group}"
        if self.group:
            return f"{self.bits:g} bit in groups of {self.group}"
        return f"{self.bits:g} bit with a scale per {'output' if self.per_channel else 'matrix'}"


NVFP4 = Scheme(4, 16, scale_bytes=1)
MXFP4 = Scheme(4, 32, scale_bytes=1)
FP8 = Scheme(8, per_channel=False, scale_bytes=8)
FP8_CHANNELS = Scheme(8, scale_bytes=2)
INT8 = Scheme(8, scale_bytes=2)
AWQ = Scheme(4, 128, scale_bytes=2, zero_bits=4)
GPTQ = Scheme(4, 128, scale_bytes=2, zero_bits=4, input_bytes=4)
BITSANDBYTES = Scheme(4, 64, scale_bytes=1 + 4 / 256)
"""One 8-bit scale per 64 numbers, and one 32-bit scale per 256 of those (double quantisation)."""

NAMED: dict[str, Scheme] = {
    "fp8": FP8,
    "float8": FP8,
    "fp8_e4m3": FP8,
    "fp8_e5m2": FP8,
    "modelopt": FP8,
    "fbgemm_fp8": FP8_CHANNELS,
    "compressed-tensors": FP8_CHANNELS,
    "int8": INT8,
    "w8a8": INT8,
    "bitsandbytes-int8": INT8,
    "int4": AWQ,
    "awq": AWQ,
    "awq_marlin": AWQ,
    "gptq": GPTQ,
    "gptq_marlin": GPTQ,
    "bitsandbytes": BITSANDBYTES,
    "mxfp4": MXFP4,
    "nvfp4": NVFP4,
    "fp4": NVFP4,
    "modelopt_fp4": NVFP4,
}
"""A dtype or method by name alone, as `fit --dtype` takes it -> its usual scheme."""
