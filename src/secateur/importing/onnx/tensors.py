"""Tensors of ONNX as arrays and weights: every number format, dense and sparse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.errors import FormatError
from secateur.importing.onnx.loading import import_onnx
from secateur.network.graph import Weight

Array = NDArray[Any]
MOST_NUMBERS = 1 << 31
_MOST_GROWTH = 1 << 10
"""Numbers of a dense tensor for each that a sparse one stores, a thousand counted in."""
_FORMATS: dict[str, tuple[str, int]] = {
    **{name: (name.lower(), bits) for name, bits in (("INT8", 8), ("UINT8", 8), ("INT16", 16), ("UINT16", 16))},
    **{name: (name.lower(), bits) for name, bits in (("INT32", 32), ("UINT32", 32), ("INT64", 64), ("UINT64", 64))},
    **{name: (name.lower(), bits) for name, bits in (("FLOAT16", 16), ("BFLOAT16", 16), ("BOOL", 8))},
    "FLOAT": ("float32", 32),
    "DOUBLE": ("float64", 64),
    "INT4": ("int4", 4),
    "UINT4": ("uint4", 4),
    "STRING": ("string", 8),
}
ELEMENTS = {
    **dict.fromkeys(("float16", "bfloat16", "float32", "float64"), "float32"),
    **dict.fromkeys(("int8", "uint8", "int16", "uint16", "int32", "int4", "uint4"), "int32"),
    **dict.fromkeys(("int64", "uint32", "uint64"), "int64"),
    "bool": "bool",
}
"""What a Graph's values hold that stand for tensors of a format."""
WIDER = {"bfloat16": "float32", "int4": "int8", "uint4": "uint8"}
"""What numbers are held as of formats that NumPy has not."""
NARROW = ("int8", "uint8", "int16", "uint16", "uint32", "uint64", "int4", "uint4")
"""Whole numbers whose sums and products come round where a Graph's do not."""


@dataclass(frozen=True, slots=True, eq=False)
class Integers:
    """What numbers stand for: array, counted from the zero point, times scale, (1) or along an axis.

    source: the integers as the file has them.
    """

    array: Array
    scale: NDArray[np.float32]
    axis: int
    source: Constant

    def turned(self) -> Integers:
        """A matrix with its axes exchanged."""
        source = Constant(np.ascontiguousarray(self.source.array.T), self.source.format)
        return Integers(np.ascontiguousarray(self.array.T), self.scale, 1 - self.axis, source)


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """What no input changes. array: of numbers, or of sizes (dtype object). format: ONNX's, in NumPy's words.

    bfloat16 comes as float32. name: of the initializer that it is, bit for bit. weight: its bits, where it is one.
    integers: that the numbers were made of.
    """

    array: Array
    format: str
    name: str = ""
    weight: Weight | None = None
    integers: Integers | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape


def format_of(kind: int, place: str) -> str:
    """The name of a TensorProto's data type. Raises FormatError for one that is not known."""
    return _format(kind, place)[0]


def kind_of(format: str) -> int:
    """The data type of a TensorProto that a format is."""
    (name,) = (name for name, (own, _) in _FORMATS.items() if own == format)
    return int(import_onnx().TensorProto.DataType.Value(name))


def bits_of(kind: int, place: str) -> int:
    """How wide an element is."""
    return _format(kind, place)[1]


def _format(kind: int, place: str) -> tuple[str, int]:
    try:
        name = import_onnx().TensorProto.DataType.Name(kind)
    except ValueError:
        name = str(kind)
    if name not in _FORMATS:
        raise FormatError(f"{place}: numbers of format {name} are not supported")
    return _FORMATS[name]


def constant_of(tensor: Any, name: str = "") -> Constant:
    """A TensorProto. name: what it is known by, where it is an initializer. Raises FormatError."""
    onnx, place = import_onnx(), f"tensor {(name or tensor.name)[:80]!r}"
    kind = format_of(tensor.data_type, place)
    if any(size < 0 for size in tensor.dims) or math.prod(tensor.dims) > MOST_NUMBERS:
        raise FormatError(f"{place}: has shape {tuple(tensor.dims)}: expected sizes that memory can hold")
    try:
        if kind == "bfloat16":
            return _of_bits(_bfloat16(tensor, onnx), tensor.dims, name)
        array = onnx.numpy_helper.to_array(tensor)
        array = array.astype(WIDER[kind]) if kind in WIDER else array
    except FormatError:
        raise
    except Exception as error:  # whatever a tensor's bytes make of NumPy
        raise FormatError(f"{place}: does not hold what its shape {tuple(tensor.dims)} says: {error}") from error
    return Constant(array, kind, name, _weight(array))


def _bfloat16(tensor: Any, onnx: Any) -> Array:
    if tensor.HasField("raw_data"):
        return np.frombuffer(tensor.raw_data, "<u2")
    return np.array(tensor.int32_data, np.int64).astype("<u2")


def _of_bits(bits: Array, dims: Any, name: str) -> Constant:
    weight = Weight("bfloat16", np.ascontiguousarray(bits.reshape(tuple(dims))))
    return Constant(weight.numbers(), "bfloat16", name, weight)


def _weight(array: Array) -> Weight | None:
    held = ("float32", "float16", "int8", "int32", "int64", "bool")
    return Weight.of(array) if array.dtype.name in held else None


def dense_of(sparse: Any, name: str) -> Constant:
    """A SparseTensorProto. Raises FormatError."""
    values, indices = constant_of(sparse.values, name), constant_of(sparse.indices, f"{name} indices")
    shape, place = tuple(sparse.dims), f"sparse tensor {name[:80]!r}"
    most = _MOST_GROWTH * (values.array.size + _MOST_GROWTH)
    if any(size < 0 for size in shape) or math.prod(shape) > most or values.array.ndim != 1:
        raise FormatError(
            f"{place}: has shape {shape} of {values.array.size} values: expected a list of more, or fewer"
        )
    at = indices.array
    flat = at if at.ndim == 1 else _flat(at, shape, place)
    if len(flat) != len(values.array) or (len(flat) and not 0 <= flat.min() <= flat.max() < math.prod(shape)):
        raise FormatError(f"{place}: has indices that are none of its shape {shape}")
    made = np.zeros(math.prod(shape), values.array.dtype)
    made[flat] = values.array
    made = made.reshape(shape)
    return Constant(made, values.format, name, _weight(made) if values.format != "bfloat16" else None)


def _flat(at: Array, shape: tuple[int, ...], place: str) -> Array:
    if at.ndim != 2 or at.shape[1] != len(shape) or (at.size and not ((at >= 0) & (at < np.array(shape))).all()):
        raise FormatError(f"{place}: has indices that are none of its shape {shape}")
    return np.ravel_multi_index(tuple(at.T), shape)


def weight_of(constant: Constant) -> Weight:
    """Its bits as a weight; numbers of float64 as float32, whole numbers of other widths as those that hold them."""
    if constant.weight is not None:
        return constant.weight
    array = constant.array
    if array.dtype.kind == "f" or constant.format in ("float64", "bfloat16"):
        with np.errstate(over="ignore"):
            return Weight.of(array.astype(np.float32))
    return Weight.of(array.astype(ELEMENTS[constant.format]))
