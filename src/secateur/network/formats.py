"""Number formats: what weights are stored in, and what a value's elements are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Format:
    """A number format. Its name here is PyTorch's, and NumPy's where NumPy has it.

    bits: how wide it is. exponent, mantissa: bits of these; 0 in whole numbers. numbers: NumPy's own type, None where
    it has none. onnx, safetensors: the name there. weighs: whether weights may have it.
    """

    bits: int
    numbers: np.dtype[np.generic] | None
    onnx: str
    safetensors: str
    exponent: int = 0
    mantissa: int = 0
    weighs: bool = False

    @property
    def carrier(self) -> np.dtype[np.unsignedinteger]:
        """The unsigned integers that hold its bits."""
        return np.dtype(f"<u{self.bits // 8}")


FORMATS: Mapping[str, Format] = {
    "float32": Format(32, np.dtype("<f4"), "FLOAT", "F32", exponent=8, mantissa=23, weighs=True),
    "float16": Format(16, np.dtype("<f2"), "FLOAT16", "F16", exponent=5, mantissa=10, weighs=True),
    "bfloat16": Format(16, None, "BFLOAT16", "BF16", exponent=8, mantissa=7, weighs=True),
    "int8": Format(8, np.dtype("<i1"), "INT8", "I8", weighs=True),
    "uint8": Format(8, np.dtype("<u1"), "UINT8", "U8"),
    "int32": Format(32, np.dtype("<i4"), "INT32", "I32", weighs=True),
    "int64": Format(64, np.dtype("<i8"), "INT64", "I64", weighs=True),
    "bool": Format(8, np.dtype("?"), "BOOL", "BOOL", weighs=True),
}
WEIGHT_FORMATS: Mapping[str, Format] = {name: each for name, each in FORMATS.items() if each.weighs}
FLOAT_FORMATS: Mapping[str, Format] = {name: each for name, each in WEIGHT_FORMATS.items() if each.mantissa}
INTEGERS = ("int64", "int32")
"""Formats of values that are whole numbers: positions, lengths, tokens."""
