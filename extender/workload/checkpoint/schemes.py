"""Quantisation schemes: bytes of a quantised matrix, with its scales and zero points. Pure."""

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
"""Name of a dtype -> bytes of one number."""

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
"""Quantisation method by its name in serving engines -> bytes per weight at its usual width, if no checkpoint states the width."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How the matrices of a module are stored."""

    bits: float
    """Bits per number."""
    group: int = 0
    """Inputs that share a scale; 0: all inputs."""
    per_channel: bool = True
    """Whether each output has its own scale; False: one scale for the whole matrix."""
    rows: int = 1
    """Outputs that share a scale, for example 128 in blocks of 128 x 128."""
    scale_bytes: float = 2
    """Bytes of one scale."""
    zero_bits: float = 0
    """Bits of one zero point."""
    input_bytes: int = 0
    """Bytes per input, for the order of GPTQ's groups."""

    def size(self, weight: Weight) -> float:
        """Return the bytes of all matrices of `weight`."""
        groups = -(-weight.inputs // self.group) if self.group else 1
        scales = -(-weight.outputs // self.rows) * groups if self.per_channel else 1
        matrix_bytes = weight.outputs * weight.inputs * self.bits / 8 + scales * (self.scale_bytes + self.zero_bits / 8)
        return weight.count * (matrix_bytes + weight.inputs * self.input_bytes)

    def __str__(self) -> str:
        """Return the scheme as text, for example `4 bit in groups of 128`."""
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
"""One 8-bit scale per 64 numbers, and one 32-bit scale per 256 of these scales (double quantisation)."""

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
"""Name of a dtype or method, as for `fit --dtype` -> its usual scheme."""
