"""Complex numbers as two values, and Fourier transforms as products of matrices."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from secateur.importing.aten.calls import Call, Conversion, OrdinaryCall, PlacedCall
from secateur.importing.aten.held import Constant
from secateur.importing.aten.reading import anywhere
from secateur.importing.placing import Ordinary, Placed
from secateur.network import composites
from secateur.network.composites import Fourier


@dataclass(frozen=True, slots=True)
class Complex:
    """Stands for complex numbers. Both parts: what a call became, of one shape, or numbers."""

    real: Any
    imaginary: Any


def is_complex(call: Call) -> bool:
    """Whether a call reads complex numbers, or makes such of others."""
    held = (call.translation.values[node] for node in call.node.all_input_nodes)
    return call.name in _MAKERS or any(map(_is_complex, held)) or isinstance(call.arguments.get("other"), complex)


def converted(call: Call) -> Any:
    if call.name in _MAKERS:
        return _MAKERS[call.name](call)
    if call.name in _READERS:
        return _READERS[call.name](call)
    if isinstance(call.arguments.get("other"), complex) and call.name in _OF_NUMBERS:
        return _OF_NUMBERS[call.name](call)
    if call.name in _BILINEAR:
        return _product(call)
    if call.name in ("add", "sub"):
        return _sum(call)
    if call.name not in _PARTWISE:
        raise call.error("of complex numbers is not supported")
    made = [_with(call, {node: _parts(held)[at] for node, held in _complex_inputs(call)}) for at in range(2)]
    return _paired(*made)


def _is_complex(held: Any) -> bool:
    return isinstance(held, Complex) or (isinstance(held, Constant) and held.tensor.is_complex())


def _parts(held: Any) -> tuple[Any, Any]:
    """Those of what is real are itself and nothing."""
    if isinstance(held, complex):
        return held.real, held.imag
    if isinstance(held, Complex):
        return held.real, held.imaginary
    if _is_complex(held):
        tensor: Tensor = held.tensor.resolve_conj()
        return Constant(tensor.real.contiguous()), Constant(tensor.imag.contiguous())
    return held, 0.0


def _complex_inputs(call: Call) -> list[tuple[fx.Node, Any]]:
    held = [(node, call.translation.values[node]) for node in call.node.all_input_nodes]
    return [(node, each) for node, each in held if _is_complex(each)]


def _paired(real: Any, imaginary: Any) -> Any:
    if isinstance(real, list):
        return [Complex(*pair) for pair in zip(real, imaginary, strict=True)]
    return Complex(real, imaginary)


@contextlib.contextmanager
def _standing(values: dict[fx.Node, Any], others: Mapping[fx.Node, Any]) -> Iterator[None]:
    """Inside, nodes stand for other values."""
    kept = {node: values[node] for node in others}
    values.update(others)
    try:
        yield
    finally:
        values.update(kept)


def _with(call: Call, others: Mapping[fx.Node, Any]) -> Any:
    """What the call becomes where its inputs are these."""
    translation = call.translation
    with _standing(translation.values, others):
        inner = Call(translation, call.node)
        if not inner.reads_input():
            return inner.evaluated()
        return translation.conversions[call.name](inner)


def _joined(call: Call, op: str, left: Any, right: Any, factor: float = 1.0) -> Any:
    """factor · (left op right), of values with the batch at one place; constants become values."""
    if isinstance(left, float) and isinstance(right, float):
        return factor * {"add": left + right, "sub": left - right, "mul": left * right}[op]
    place = next((each for each in (left, right) if isinstance(each, (Placed, Ordinary))), None)
    names = [_name(call, each) for each in (left, right)]
    made = call.emit(op, *names)
    made = made if factor == 1 else call.emit("mul", made, factor)
    if isinstance(place, Placed):
        return call.placed(made, place.place)
    return Ordinary(made) if isinstance(place, Ordinary) else made


def _name(call: Call, held: Any) -> Any:
    if isinstance(held, (Placed, Ordinary)):
        return held.base
    return call.whole(held) if isinstance(held, Constant) else held


def _product(call: Call) -> Any:
    """(a + bi)(c + di) = ac − bd + (ad + bc)i, whatever the product is."""
    held = _complex_inputs(call)
    parts = [_parts(each) for _, each in held]
    if len(held) == 1 and len(call.node.all_input_nodes) == 1 and _reads_twice(call):
        real, imaginary = parts[0]
        squares = [_joined(call, "mul", each, each) for each in parts[0]]
        return Complex(_joined(call, "sub", *squares), _joined(call, "mul", real, imaginary, 2.0))
    nodes = [node for node, _ in held]
    if len(nodes) == 1:
        return _paired(*(_with(call, {nodes[0]: each}) for each in parts[0]))
    found = {
        (one, other): _with(call, {nodes[0]: parts[0][one], nodes[1]: parts[1][other]})
        for one in range(2)
        for other in range(2)
    }
    real = _joined(call, "sub", found[0, 0], found[1, 1])
    return Complex(real, _joined(call, "add", found[0, 1], found[1, 0]))


def _reads_twice(call: Call) -> bool:
    read: list[fx.Node] = []
    fx.node.map_arg(call.arguments, read.append)
    return len(read) > 1


def _sum(call: Call) -> Complex:
    """What is real changes real parts only."""
    held = dict(_complex_inputs(call))
    others = [node for node in call.node.all_input_nodes if node not in held]
    real = _with(call, {node: _parts(each)[0] for node, each in held.items()})
    alone = not isinstance(call.arguments["other"], fx.Node)
    if alone:
        return Complex(real, _parts(call["self"])[1])
    zeros = dict.fromkeys(others, 0.0)
    return Complex(real, _with(call, {**{node: _parts(each)[1] for node, each in held.items()}, **zeros}))


def _product_with_number(call: Call) -> Complex:
    (real, imaginary), (along, up) = _parts(call["self"]), _parts(call["other"])
    products = [
        _joined(call, "mul", *pair) for pair in ((real, along), (imaginary, up), (real, up), (imaginary, along))
    ]
    return Complex(_joined(call, "sub", *products[:2]), _joined(call, "add", *products[2:]))


def _sum_with_number(call: Call) -> Complex:
    pairs = zip(_parts(call["self"]), _parts(call["other"]), strict=True)
    return Complex(*(_joined(call, call.name, *pair) for pair in pairs))


def _from_pairs(call: Call) -> Complex:
    parts = anywhere(_two_parts, lambda inner: -1)(call)
    return Complex(*parts)


def _two_parts(call: Call) -> list[str]:
    value = call.value("self")
    return [composites.select(call.build, value, call.axis(-1, value), at) for at in (0, 1)]


def _to_pairs(call: Call) -> Any:
    """(…, 2)."""
    (node, held), *_ = _complex_inputs(call)
    parts = _parts(held)
    with _standing(call.translation.values, {node: parts[0]}):
        first, place = Call(call.translation, call.node).anywhere()
    second = _name(call, parts[1])
    second = call.emit("add", call.emit("mul", first, 0.0), second) if isinstance(second, float) else second
    after = place.wider(1)
    axis = len(call.size(first)) + 1
    return call.placed(composites.stack(call.build, [first, second], axis), after)


def _of_parts(call: Call) -> Complex:
    return Complex(call["real"], call["imag"])


def _polar(call: Call) -> Complex:
    size, angle = call["abs"], call["angle"]
    name = _name(call, angle)
    shares = [call.emit(op, name) for op in ("cos", "sin")]
    wrapped = [call.placed(each, angle.place) if isinstance(angle, Placed) else each for each in shares]
    return Complex(*(_joined(call, "mul", size, each) for each in wrapped))


def _part(at: int) -> Conversion:
    return lambda call: _parts(call["self"])[at]


def _conjugated(call: Call) -> Complex:
    real, imaginary = _parts(call["self"])
    return Complex(real, _joined(call, "mul", imaginary, -1.0))


def _size(call: Call) -> Any:
    squares = [_joined(call, "mul", each, each) for each in _parts(call["self"])]
    total = _joined(call, "add", *squares)
    return _wrapped(call, call.emit("sqrt", _name(call, total)), total)


def _angle(call: Call) -> Any:
    real, imaginary = _parts(call["self"])
    made = composites.angle_of(call.build, *(_name(call, each) for each in (imaginary, real)))
    return _wrapped(call, made, real)


def _wrapped(call: Call, made: str, like: Any) -> Any:
    if isinstance(like, Placed):
        return call.placed(made, like.place)
    return Ordinary(made) if isinstance(like, Ordinary) else made


def _exponential(call: Call) -> Complex:
    real, imaginary = _parts(call["self"])
    size = _wrapped(call, call.emit("exp", _name(call, real)), real)
    shares = [_wrapped(call, call.emit(op, _name(call, imaginary)), imaginary) for op in ("cos", "sin")]
    return Complex(*(_joined(call, "mul", size, each) for each in shares))


@dataclass(frozen=True, slots=True)
class _Transform:
    """inverse: back from frequencies. half: of real numbers, whose spectrum is half as long. several: of all named."""

    inverse: bool
    half: bool

    def __call__(self, call: Call) -> Any:
        dims, sizes = _dims(call)
        node = call.node.all_input_nodes[0]
        held = _parts(call.first)
        values = call.translation.values
        with _standing(values, {node: held[0]}):
            inner = Call(call.translation, call.node).where_placed()
        real = inner.value_of(_unwrapped(held[0]))
        imaginary = inner.value_of(_unwrapped(held[1])) if held[1] != 0.0 else None
        last = dims[-1] if self.half else None
        order = [*dims[:-1], *dims[-1:]] if self.inverse else [*dims[-1:], *dims[:-1]]
        norm = str(call["norm"] or "backward")
        for dim in order:
            size = sizes[dims.index(dim)]
            asked = Fourier(None if size is None else int(size), self.inverse, dim == last, norm)
            real, imaginary = composites.transform(inner.build, real, imaginary, inner.axis(dim, real), asked)
        if self.half and self.inverse:
            return _placed_like(call, inner, real)
        return Complex(_placed_like(call, inner, real), _placed_like(call, inner, imaginary))


def _dims(call: Call) -> tuple[list[int], list[Any]]:
    """Dimensions that are transformed, from the front, and how many numbers of each are; None for as many as come."""
    rank = call.rank
    if "n" in call.arguments:
        return [int(call["dim"]) % rank], [call["n"]]
    sizes = call["s"]
    given = call["dim"] if call["dim"] is not None else range(rank - len(sizes), rank) if sizes else range(rank)
    dims = [int(each) % rank for each in given]
    return dims, [None if each == -1 else each for each in sizes] if sizes else [None] * len(dims)


def _unwrapped(held: Any) -> Any:
    return held.base if isinstance(held, (Placed, Ordinary)) else held


def _placed_like(call: Call, inner: Call, value: Any) -> Any:
    if isinstance(inner, OrdinaryCall):
        return Ordinary(value)
    return call.placed(value, inner.place) if isinstance(inner, PlacedCall) else value


_MAKERS: dict[str, Callable[[Call], Any]] = {
    "view_as_complex": _from_pairs,
    "complex": _of_parts,
    "polar": _polar,
    **{f"fft_{name}": _Transform(inverse=False, half=False) for name in ("fft", "fft2", "fftn")},
    **{f"fft_{name}": _Transform(inverse=True, half=False) for name in ("ifft", "ifft2", "ifftn")},
    **{f"fft_{name}": _Transform(inverse=False, half=True) for name in ("rfft", "rfft2", "rfftn")},
    **{f"fft_{name}": _Transform(inverse=True, half=True) for name in ("irfft", "irfft2", "irfftn")},
}
_READERS: dict[str, Callable[[Call], Any]] = {
    "view_as_real": _to_pairs,
    "real": _part(0),
    "imag": _part(1),
    "abs": _size,
    "angle": _angle,
    "exp": _exponential,
    **dict.fromkeys(("conj", "_conj", "conj_physical", "_conj_physical"), _conjugated),
}
_OF_NUMBERS = {"mul": _product_with_number, "add": _sum_with_number, "sub": _sum_with_number}
_BILINEAR: Sequence[str] = ("mul", "matmul", "mm", "bmm", "mv", "einsum")
_PARTWISE = frozenset(
    {
        *("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as"),
        *("permute", "transpose", "cat", "stack", "split", "split_with_sizes", "chunk", "tensor_split", "unbind"),
        *("slice", "select", "pad", "constant_pad_nd", "roll", "flip", "expand", "expand_as", "repeat", "neg", "div"),
        *("clone", "contiguous", "alias", "detach", "lift_fresh_copy", "to", "_to_copy", "resolve_conj", "sum", "mean"),
        *("index_select", "index", "slice_scatter", "select_scatter", "copy", "dropout"),
    }
)
"""Operations that do the same to real and to imaginary parts."""
COMPLEX = frozenset(_MAKERS.keys() | _READERS.keys())
"""Names of the operations that only complex numbers have."""
