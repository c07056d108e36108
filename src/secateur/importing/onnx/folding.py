"""What no input changes is computed while a file is read: constants by ONNX's own reference, sizes by their names."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.errors import GraphError
from secateur.importing.onnx.calls import Refused
from secateur.importing.onnx.tensors import ELEMENTS, Constant, constant_of, kind_of
from secateur.network.sizes import Size, quotient

Array = NDArray[Any]
MOST_UNPAID = 1 << 25
"""Numbers that all constants computed here may have together, beside eight for each byte of the file."""
MOST_FILLED = 1 << 28
"""Numbers of constants that are one number everywhere, which take no memory before they are weights."""
_WORTH_KNOWING = 1 << 10
"""Numbers of a constant up to which others' shapes may depend on them."""

FOLDED = frozenset(
    {
        *("Abs", "Acos", "Acosh", "Add", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh"),
        *("BatchNormalization", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast"),
        *("CastLike", "Ceil", "Celu", "Clip", "Compress", "Concat", "ConstantOfShape", "Cos", "Cosh"),
        *("CumSum", "DepthToSpace", "Div", "Einsum", "Elu", "Equal", "Erf", "Exp", "Expand", "EyeLike"),
        *("Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm", "GlobalAveragePool"),
        *("Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization"),
        *("IsInf", "IsNaN", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax"),
        *("LpNormalization", "MatMul", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "NonZero", "Not"),
        *("OneHot", "Or", "PRelu", "Pad", "Pow", "Range", "Reciprocal", "ReduceL1", "ReduceL2"),
        *("ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"),
        *("ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Round", "ScatterElements", "ScatterND", "Selu"),
        *("Shape", "Sigmoid", "Sign", "Sin", "Sinh", "Size", "Slice", "Softmax", "Softplus", "Softsign"),
        *("SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tan", "Tanh", "Tile", "Transpose"),
        *("Trilu", "Unsqueeze", "Where", "Xor"),
    }
)
_SHAPED = ("Expand", "Reshape", "Tile")
"""Operations whose second input is a shape: with free sizes in it they make no constant."""
_OF_ANY_LENGTH = ("NonZero", "Compress", "Range")
"""Operations whose outputs are no longer than what they are given says."""


class Folding:
    """spent: numbers of all constants so far."""

    def __init__(self, onnx: Any, file_bytes: int) -> None:
        self.onnx, self.most, self.spent = onnx, MOST_UNPAID + 8 * file_bytes, 0
        self.filled = 0

    def takes(self, node: Any, held: Sequence[Constant | None]) -> bool:
        """Whether a node whose inputs are all known is computed here."""
        if node.op_type == "Transpose" and held[0] is not None and held[0].integers is not None:
            return False
        sized = [each is not None and each.array.dtype == object for each in held]
        if node.op_type in _SHAPED and any(sized[1:]):
            return False
        return node.op_type in (_SIZED if any(sized) else FOLDED)

    def folded(self, node: Any, held: Sequence[Constant | None], version: int) -> list[Constant]:
        """The outputs of a node whose inputs are all known. Raises Refused."""
        if any(each is not None and each.array.dtype == object for each in held):
            return self._of_sizes(node, held)
        if node.op_type == "ConstantOfShape":
            return [self._filled(node, [int(each) for each in held[0].array.reshape(-1)])]  # type: ignore[union-attr]
        if (wide := _widened(node, held[0])) is not None:
            return [wide]
        model = self._model(node, held, version)
        self._pay(node, model)
        if node.op_type == "Identity":
            return [held[0]]  # type: ignore[list-item]
        return self._evaluated(node, model, held)

    def cast(self, held: Constant, format: str, version: int) -> Constant:
        """A constant in another format, by its name. Raises Refused."""
        node = self.onnx.helper.make_node("Cast", ["given"], ["made"], to=kind_of(format))
        return self.folded(node, [held], version)[0]

    def _filled(self, node: Any, shape: Sequence[int]) -> Constant:
        if any(size < 0 for size in shape):
            raise Refused(f"makes a constant of shape {tuple(shape)}")
        self.filled += math.prod(shape)
        if self.filled > MOST_FILLED:
            raise Refused(f"makes constants of {math.prod(shape):,} numbers, more than a file of this size pays for")
        values = [constant_of(each.t) for each in node.attribute if each.name == "value"]
        one = values[0] if values else Constant(np.zeros(1, np.float32), "float32")
        return Constant(np.broadcast_to(one.array.reshape(()), tuple(shape)), one.format)

    def _model(self, node: Any, held: Sequence[Constant | None], version: int) -> Any:
        helper, onnx = self.onnx.helper, self.onnx
        inputs, small = {}, []
        for name, each in zip(node.input, held, strict=False):
            if each is None or name in inputs:
                continue
            kind = helper.np_dtype_to_tensor_dtype(each.array.dtype)
            inputs[name] = helper.make_tensor_value_info(name, kind, each.array.shape)
            if each.array.size <= _WORTH_KNOWING:
                small.append(onnx.numpy_helper.from_array(_contiguous(each.array), name))
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        graph = helper.make_graph([node], "constants", list(inputs.values()), outputs, small)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])

    def _pay(self, node: Any, model: Any) -> None:
        """Raises Refused where the outputs have more numbers than a file pays for, or cannot be told."""
        try:
            inferred = self.onnx.shape_inference.infer_shapes(model)
        except Exception as error:
            raise Refused(f"cannot be computed from its constants: {error}") from error
        for output in inferred.graph.output:
            kind = output.type.tensor_type
            known = kind.HasField("shape") and all(each.HasField("dim_value") for each in kind.shape.dim)
            if not known and node.op_type not in _OF_ANY_LENGTH:
                raise Refused("makes a constant whose shape cannot be told beforehand")
            self.count(math.prod(each.dim_value for each in kind.shape.dim) if known else _WORTH_KNOWING)

    def count(self, numbers: int) -> None:
        """Of constants that are made. Raises Refused for more than a file pays for."""
        self.spent += numbers
        if self.spent > self.most:
            raise Refused(f"makes constants of {numbers:,} numbers, more than a file of this size pays for")

    def _evaluated(self, node: Any, model: Any, held: Sequence[Constant | None]) -> list[Constant]:
        given = {name: each.array for name, each in zip(node.input, held, strict=False) if each is not None}
        if node.op_type == "Range":
            self._check_range(list(given.values()))
        try:
            if node.op_type == "GatherElements":
                return [_picked(node, *(each.array for each in held if each is not None))]
            del model.graph.initializer[:]
            with np.errstate(all="ignore"):
                made = self.onnx.reference.ReferenceEvaluator(model).run(None, given)
        except Exception as error:  # whatever the reference raises of numbers that do not fit
            raise Refused(f"cannot be computed from its constants: {type(error).__name__}: {error}") from error
        return [constant_from(np.asarray(each)) for each in made]

    def _check_range(self, bounds: Sequence[Array]) -> None:
        start, stop, step = (float(each.reshape(-1)[0]) for each in bounds)
        if step == 0 or not math.isfinite(count := (stop - start) / step):
            raise Refused("counts for ever")
        self.count(max(0, int(count)))

    def _of_sizes(self, node: Any, held: Sequence[Constant | None]) -> list[Constant]:
        attributes = {each.name: self.onnx.helper.get_attribute_value(each) for each in node.attribute}
        arrays = [None if each is None else each.array for each in held]
        self.count(sum(each.size for each in arrays if each is not None))
        try:
            made = _SIZED[node.op_type](attributes, arrays)
        except (ArithmeticError, GraphError, IndexError, TypeError, ValueError) as error:
            raise Refused(f"computes with a size which is free: {error}") from error
        several = made if isinstance(made, list) else [made]
        kind = next((each.format for each in held if each is not None), "int64")
        return [of_sizes(each, _CAST_TO.get(attributes.get("to", 0), kind)) for each in several]


def _widened(node: Any, held: Constant | None) -> Constant | None:
    """Weights of half precision that are cast to float32: themselves, as a graph casts where it multiplies."""
    to = next((each.i for each in node.attribute if each.name == "to"), 0) if node.op_type == "Cast" else 0
    if held is None or to != 1 or held.weight is None or held.weight.dtype not in ("float16", "bfloat16"):
        return None
    return Constant(held.array.astype(np.float32), "float32", held.name, held.weight)


def _picked(node: Any, data: Array, places: Array) -> Constant:
    """GatherElements, of which ONNX's reference makes something else where data is longer than places."""
    axis = next((int(each.i) for each in node.attribute if each.name == "axis"), 0) % data.ndim
    reached = tuple(slice(None if at == axis else size) for at, size in enumerate(places.shape))
    return constant_from(np.take_along_axis(data[reached], places, axis))


def constant_from(array: Array) -> Constant:
    name = array.dtype.name
    if name not in ELEMENTS:
        raise Refused(f"makes constants of {name}, which are not supported")
    return Constant(_contiguous(array), name)


def _contiguous(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(array.shape)


def of_sizes(array: Any, format: str = "int64") -> Constant:
    """A constant of sizes, of plain numbers where all are."""
    held = np.array(array, object)
    if not any(isinstance(each, Size) for each in held.reshape(-1)):
        if held.size and all(isinstance(each, (bool, np.bool_)) for each in held.reshape(-1)):
            return Constant(held.astype(bool), "bool")
        return Constant(held.astype(np.int64 if ELEMENTS[format] != "float32" else np.float32), format)
    return Constant(held, format)


_CAST_TO = {1: "float32", 6: "int32", 7: "int64", 11: "float64"}
Attributes = Mapping[str, Any]
Sized = Callable[[Attributes, list[Any]], Any]
"""The output for attributes and arrays of sizes and numbers."""


def _pairwise(function: Callable[[Any, Any], Any]) -> Sized:
    each = np.frompyfunc(function, 2, 1)
    return lambda attributes, arrays: reduce(each, arrays)


def _divided(left: Any, right: Any) -> Any:
    if not isinstance(left, Size) and not isinstance(right, Size):
        return left // right if (left >= 0) == (right > 0) else -(-left // right)
    if float(right) != int(right) if not isinstance(right, Size) else False:
        raise ValueError("it is divided by a fraction")
    return quotient(left, right if isinstance(right, Size) else int(right))


def _times(left: Any, right: Any) -> Any:
    return _whole(left) * _whole(right)


def _whole(number: Any) -> Any:
    if isinstance(number, Size):
        return number
    if number != int(number):
        raise ValueError("it is times a fraction")
    return int(number)


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, Size) or isinstance(right, Size):
        apart = left - right
        if not isinstance(apart, Size):
            return bool(apart == 0)
        plain = next((each for each in (left, right) if not isinstance(each, Size)), 0)
        if plain >= 0:
            raise ValueError("it decides what is computed")
        return False
    return bool(left == right)


def _extreme(choose: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    def chosen(left: Any, right: Any) -> Any:
        apart = left - right
        if isinstance(apart, Size):
            least = [each for each in (left, right) if not isinstance(each, Size)]
            if least and least[0] <= 0:
                return left if isinstance(left, Size) == (choose is max) else right
            raise ValueError("which of two is larger depends on it")
        return choose(left, right)

    return chosen


def _slice(attributes: Attributes, arrays: list[Any]) -> Any:
    array, *rest = arrays
    names = ("starts", "ends", "axes", "steps")
    found = {name: each for name, each in zip(names, rest, strict=False) if each is not None}
    found |= {name: np.array(attributes[name]) for name in names if name in attributes}
    starts = found["starts"].reshape(-1)
    axes = found.get("axes", np.arange(len(starts))).reshape(-1)
    steps = found.get("steps", np.ones(len(starts), np.int64)).reshape(-1)
    where = [slice(None)] * array.ndim
    for axis, start, stop, step in zip(axes, starts, found["ends"].reshape(-1), steps, strict=True):
        where[int(axis)] = slice(operator.index(start), operator.index(stop), operator.index(step))
    return array[tuple(where)]


def _axes(attributes: Attributes, arrays: list[Any]) -> list[int]:
    given = attributes.get("axes", arrays[1] if len(arrays) > 1 and arrays[1] is not None else [])
    return [int(each) for each in given]


def _unsqueezed(attributes: Attributes, arrays: list[Any]) -> Any:
    return np.expand_dims(arrays[0], tuple(_axes(attributes, arrays)))


def _squeezed(attributes: Attributes, arrays: list[Any]) -> Any:
    return np.squeeze(arrays[0], tuple(_axes(attributes, arrays)) or None)


def _split(attributes: Attributes, arrays: list[Any]) -> list[Any]:
    given = attributes.get("split", arrays[1] if len(arrays) > 1 else None)
    if given is None:
        return np.split(arrays[0], int(attributes.get("num_outputs", len(arrays[0]))), int(attributes.get("axis", 0)))
    return np.split(arrays[0], np.cumsum(given)[:-1], int(attributes.get("axis", 0)))


def _reduced(function: Callable[[Any, Any], Any]) -> Sized:
    def reduced(attributes: Attributes, arrays: list[Any]) -> Any:
        if arrays[0].ndim != 1:
            raise ValueError("it is in a table of sizes")
        made = np.array(reduce(function, arrays[0].tolist()), object)
        return made.reshape(1) if attributes.get("keepdims", 1) else made

    return reduced


def _expanded(attributes: Attributes, arrays: list[Any]) -> Any:
    shape = np.broadcast_shapes(arrays[0].shape, tuple(int(each) for each in arrays[1]))
    if math.prod(shape) > _WORTH_KNOWING:
        raise ValueError("it would be repeated too often")
    return np.broadcast_to(arrays[0], shape)


def _chosen(attributes: Attributes, arrays: list[Any]) -> Any:
    return np.where(arrays[0].astype(bool), arrays[1], arrays[2])


def _gathered(attributes: Attributes, arrays: list[Any]) -> Any:
    return np.array(arrays[0].take(arrays[1].astype(np.int64), int(attributes.get("axis", 0))), object)


_SIZED: dict[str, Sized] = {
    "Add": _pairwise(operator.add),
    "Sub": _pairwise(operator.sub),
    "Mul": _pairwise(_times),
    "Div": _pairwise(_divided),
    "Equal": _pairwise(_equal),
    "Max": _pairwise(_extreme(max)),
    "Min": _pairwise(_extreme(min)),
    "Neg": lambda attributes, arrays: np.array(-arrays[0], object),
    **dict.fromkeys(("Identity", "Cast", "Floor", "Ceil", "Round"), lambda attributes, arrays: arrays[0]),
    "Concat": lambda attributes, arrays: np.concatenate(arrays, int(attributes.get("axis", 0))),
    "Gather": _gathered,
    "Slice": _slice,
    "Unsqueeze": _unsqueezed,
    "Squeeze": _squeezed,
    "Split": _split,
    "Reshape": lambda attributes, arrays: arrays[0].reshape([int(each) for each in arrays[1]]),
    "Transpose": lambda attributes, arrays: arrays[0].transpose(attributes.get("perm")),
    "ReduceProd": _reduced(operator.mul),
    "ReduceSum": _reduced(operator.add),
    "Expand": _expanded,
    "Where": _chosen,
    "Shape": lambda attributes, arrays: np.array(arrays[0].shape),
    "Size": lambda attributes, arrays: np.array(arrays[0].size),
}
