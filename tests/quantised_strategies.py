"""Hypothesis strategies for quantised graphs: every operation of eight bits, in whatever combination is legal.

What they give is the same bits in every engine: sums are whole numbers, and what is computed in float32 between two
quantised values rounds once. Use `graph_strategies.inputs` for what they are given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from graph_strategies import Draw, Drawing, _broadcasts, _window
from secateur.network.graph import Graph, Node, Shape, Weight, infer_shape
from secateur.network.operations import FUNCTIONS, OPERATIONS
from secateur.network.quantisation import ELEMENTS, Quantisation
from secateur.network.tabulating import table_of

SPREAD = 40
"""How far numbers are from the zero point, more or less."""


class EightBits(Drawing):
    """As Drawing. of: what each quantised value stands for."""

    def __init__(self, draw: Draw, shape: Shape) -> None:
        super().__init__(draw, shape)
        self.of: dict[str, Quantisation] = {}

    def weight(self, role: str, value: np.ndarray) -> Weight:
        return Weight.of(value)

    def any_of(self, values: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(values))

    def quantisation(self, scale: float) -> Quantisation:
        """One of about that scale, now and then far too fine or too coarse."""
        element, scale = self.any_of(ELEMENTS), scale * self.any_of([1.0, 1.0, 1.0, 0.7, 1.3, 0.05, 9.0])
        least, most = (0, 255) if element == "uint8" else (-128, 127)
        zero_point = self.any_of([0, 0, least, most, (least + most) // 2, least + 19, most - 60])
        return Quantisation(element, float(np.clip(scale, 1e-12, 1e12)), zero_point)

    def clamp(self, to: Quantisation) -> dict[str, Any]:
        """All of the element, what is not below zero, or some."""
        some = sorted((self.draw(st.integers(to.least, to.most)), self.draw(st.integers(to.least, to.most))))
        low, high = self.any_of([(to.least, to.most), (to.zero_point, to.most), tuple(some)])
        return {"low": low, "high": high}

    def put(self, op: str, *inputs: str, to: Quantisation, output: str = "output_", **others: Any) -> str:
        """Add a node that makes a quantised value."""
        name = self.add(op, *inputs, **others, element=to.element, **to.stated(output))
        self.of[name] = to
        return name

    def moved(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node that hands quantised values on."""
        name = self.add(op, *inputs, **attributes)
        self.of[name] = self.of[inputs[0]]
        return name

    def floats(self) -> list[str]:
        return [name for name in self.shapes if name not in self.of]

    def alike(self, value: str, names: Sequence[str]) -> list[str]:
        return [name for name in names if self.shapes[name] == self.shapes[value]]

    def codes(self, *shape: int) -> np.ndarray:
        """Weights: single ones, words of four input channels or whole rows and columns are zero; −128 is rare."""
        density = self.any_of([1.0, 0.5, 0.1])
        kept = self.random.random(shape) < density
        if self.draw(st.booleans()):
            words = self.random.random((shape[0], -(-shape[1] // 4), *shape[2:])) < density
            kept = words.repeat(4, axis=1)[:, : shape[1]]
        kept[self.random.random(shape[0]) < self.dead] = False
        kept[:, self.random.random(shape[1]) < self.dead] = False
        return np.where(kept, self.random.integers(-128, 128, shape), 0).astype(np.int8)


def _quantise(build: EightBits, value: str) -> str:
    return build.put("quantise", value, to=build.quantisation(3 / 128), output="")


def _dequantised(build: EightBits, value: str) -> str:
    return build.add("dequantise", value, **build.of[value].stated())


def _conv2d(build: EightBits, value: str) -> str:
    """Any; or one that keeps the shape, which a residual can be added to; or one that reads whole planes."""
    channels, *size = build.shapes[value]
    groups = build.any_of([1, 1, 1, channels, *(each for each in range(1, channels + 1) if channels % each == 0)])
    kind = build.any_of(["any", "same", "same", "whole" if math.prod(size) <= 36 else "any"])
    out = groups * build.draw(st.integers(1, max(1, 10 // groups))) if groups > 1 else build.any_of(WIDTHS)
    kernel, stride, padding, dilation = _window(build, tuple(size))
    if kind == "same":
        out, edge = build.any_of([channels, channels, out]), build.any_of([0, 1])
        kernel, padding = (2 * edge + 1,) * 2, (edge,) * 4
    if kind == "whole":
        kernel, padding = tuple(size), (0, 0, 0, 0)
    if kind != "any":
        stride, dilation = (1, 1), (1, 1)
    at = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return _layer(build, "conv2d", value, build.codes(out, channels // groups, *kernel), at)


def _linear(build: EightBits, value: str) -> str:
    width = build.shapes[value][-1]
    return _layer(build, "linear", value, build.codes(build.any_of([width, *WIDTHS]), width), {})


WIDTHS = (1, 2, 3, 4, 5, 7, 8, 10, 16, 21)


def _layer(build: EightBits, op: str, value: str, weight: np.ndarray, at: dict[str, Any]) -> str:
    """With a bias or without, with a residual or without; one in a few gives floats."""
    of, out = build.of[value], len(weight)
    spread = SPREAD * float(np.sqrt((weight.astype(np.float64) ** 2).sum() / out)) + 1
    weights = {"weight": weight, "scale": build.random.uniform(2e-3, 8e-3, out).astype(np.float32)}
    if build.draw(st.booleans()):
        weights["bias"] = np.rint(build.normal(out, scale=build.any_of([1.0, 1.0, 1e3]) * spread)).astype(np.int32)
    shape = infer_shape(Node("", op, (value,), {}, at), [build.shapes[value]], {"weight": weight.shape})
    op, at = f"quantised_{op}", at | of.stated("input_")
    if build.any_of([False] * 5 + [True]):
        floats = [name for name in build.floats() if build.shapes[name] == shape]
        beside = [build.any_of(floats)] if floats and build.draw(st.booleans()) else []
        return build.add(op, value, *beside, weights=weights, **at, **GIVING_FLOATS)
    to = build.quantisation(of.scale * 5e-3 * spread / SPREAD)
    fitting = [name for name in build.of if build.shapes[name] == shape]
    beside = [build.any_of(fitting)] if fitting and build.draw(st.booleans()) else []
    step = build.of[beside[0]].stated("residual_") if beside else NO_RESIDUAL
    return build.put(op, value, *beside, to=to, weights=weights, **at, **step, **build.clamp(to))


NO_RESIDUAL: dict[str, Any] = {"residual_scale": 1.0, "residual_zero_point": 0}
GIVING_FLOATS: dict[str, Any] = {
    "element": "float32",
    "output_scale": 1.0,
    "output_zero_point": 0,
    "low": 0,
    "high": 0,
    **NO_RESIDUAL,
}


def _add(build: EightBits, value: str) -> str:
    both = build.draw(st.permutations([value, build.any_of(build.alike(value, [*build.of]))]))
    to = build.quantisation(max(build.of[name].scale for name in both))
    return _pair(build, "quantised_add", both, to)


def _mul(build: EightBits, value: str) -> str:
    """With one that broadcasts against it."""
    fitting = [name for name in build.of if _broadcasts(build.shapes[name], build.shapes[value])]
    both = build.draw(st.permutations([value, build.any_of(fitting)]))
    to = build.quantisation(math.prod(build.of[name].scale for name in both) * SPREAD)
    return _pair(build, "quantised_mul", both, to)


def _pair(build: EightBits, op: str, both: Sequence[str], to: Quantisation) -> str:
    left, right = (build.of[name].stated(prefix) for name, prefix in zip(both, ("left_", "right_"), strict=True))
    return build.put(op, *both, to=to, **left, **right, **build.clamp(to))


def _avg_pool2d(build: EightBits, value: str) -> str:
    kernel, stride, padding, _ = _window(build, build.shapes[value][1:], 4)
    at: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding}
    return _mean_of(build, "avg_pool2d", value, **at, count_include_pad=build.draw(st.booleans()))


def _adaptive_avg_pool2d(build: EightBits, value: str) -> str:
    sizes = st.integers(1, 4)
    return _mean_of(build, "adaptive_avg_pool2d", value, size=(build.draw(sizes), build.draw(sizes)))


def _mean(build: EightBits, value: str) -> str:
    axes = build.draw(st.sets(st.integers(1, len(build.shapes[value])), min_size=1))
    return _mean_of(build, "mean", value, axes=tuple(sorted(axes)), keepdims=build.draw(st.booleans()))


def _mean_of(build: EightBits, op: str, value: str, **at: Any) -> str:
    of = build.of[value]
    return build.put(f"quantised_{op}", value, to=build.quantisation(of.scale / 2), **at, **of.stated("input_"))


def _table(build: EightBits, value: str) -> str:
    """Any function that every number has a value of."""
    of, to = build.of[value], build.quantisation(build.of[value].scale)
    name = build.any_of([name for name, (op, _) in FUNCTIONS.items() if OPERATIONS[op].steady == (None,)])
    op, texts = FUNCTIONS[name]
    numbers = {each: 0.5 for each in OPERATIONS[op].attributes if each not in texts}
    made = table_of(Node("", op, (value,), {}, {**texts, **numbers}), of, to)
    at = {"function": name, "parameters": tuple(numbers.values()), **of.stated("input_")}
    return build.put("quantised_table", value, to=to, weights={"table": made}, **at)


def _max_pool2d(build: EightBits, value: str) -> str:
    kernel, stride, padding, dilation = _window(build, build.shapes[value][1:])
    dilation = dilation if not any(padding) else (1, 1)
    return build.moved("max_pool2d", value, kernel=kernel, stride=stride, padding=padding, dilation=dilation)


def _reshape(build: EightBits, value: str) -> str:
    """Flat, or as many rows as the first axis has, or with an axis of one more at either end."""
    shape = build.shapes[value]
    rows = shape[0] if shape else 1
    flat = (math.prod(shape),)
    fitting = [flat, (1, *shape), (*shape, 1)] + ([(rows, flat[0] // rows)] if rows else [])
    return build.moved("reshape", value, shape=build.any_of([each for each in fitting if len(each) < 5]))


def _permute(build: EightBits, value: str) -> str:
    return build.moved(
        "permute", value, axes=tuple(build.draw(st.permutations(range(1, len(build.shapes[value]) + 1))))
    )


def _concat(build: EightBits, value: str) -> str:
    """With up to two values that are quantised alike and differ along one axis, itself among them."""
    shape = build.shapes[value]
    axis = build.draw(st.integers(1, len(shape)))
    fitting = [
        name
        for name, of in build.of.items()
        if of == build.of[value]
        and len(build.shapes[name]) == len(shape)
        and all(a == b for place, (a, b) in enumerate(zip(build.shapes[name], shape, strict=True), 1) if place != axis)
    ]
    others = build.draw(st.lists(st.sampled_from(fitting), max_size=2))
    return build.moved("concat", *build.draw(st.permutations([value, *others])), axis=axis)


def _slice(build: EightBits, value: str) -> str:
    axis = build.draw(st.integers(1, len(build.shapes[value])))
    size = build.shapes[value][axis - 1]
    start = build.draw(st.integers(0, size - 1))
    return build.moved("slice", value, axis=axis, start=start, stop=build.draw(st.integers(start + 1, size)))


def _island(build: EightBits, value: str) -> str:
    """What one operation on floats makes of a value, or of two; quantised again or not."""
    op = build.any_of(ISLANDS)
    inputs = [_dequantised(build, value)]
    if op in ("add", "sub", "mul", "maximum", "minimum"):
        inputs.append(_dequantised(build, build.any_of(build.alike(value, [*build.of]))))
    made = build.add(op, *build.draw(st.permutations(inputs)))
    if build.any_of([False] * 3 + [True]):
        return made
    return build.put("quantise", made, to=build.quantisation(build.of[value].scale), output="")


ISLANDS = ("relu", "relu6", "abs", "neg", "add", "sub", "mul", "maximum", "minimum")
"""Operations of floats that round once, or not at all."""


def _requantised(build: EightBits, value: str) -> str:
    to = build.quantisation(build.of[value].scale)
    return build.put("quantise", _dequantised(build, value), to=to, output="")


def _constant(build: EightBits, value: str) -> str:
    """Added to a value; it is a constant, quantised."""
    made = build.add("constant", weights={"value": build.normal(*build.shapes[value]).astype(np.float32)})
    build.constants.add(made)
    constant = build.put("quantise", made, to=build.quantisation(3 / 128), output="")
    build.constants.add(constant)
    to = build.quantisation(build.of[value].scale)
    return _pair(build, "quantised_add", build.draw(st.permutations([value, constant])), to)


QUANTISED: dict[str, Callable[[EightBits, str], str]] = {
    "quantised_conv2d": _conv2d,
    "quantised_linear": _linear,
    "quantised_add": _add,
    "quantised_mul": _mul,
    "quantised_avg_pool2d": _avg_pool2d,
    "quantised_adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "quantised_mean": _mean,
    "quantised_table": _table,
    "max_pool2d": _max_pool2d,
    "reshape": _reshape,
    "permute": _permute,
    "concat": _concat,
    "slice": _slice,
    "dequantise": _island,
    "quantise": _requantised,
    "constant": _constant,
}
"""How to add what to a quantised value; each returns the name of what it made."""

_ON_PLANES = {"quantised_conv2d", "quantised_avg_pool2d", "quantised_adaptive_avg_pool2d", "max_pool2d"}
_ON_AXES = {"constant", "quantised_linear", "quantised_mean", "permute", "concat", "slice"}


def _fits(op: str, shape: Shape) -> bool:
    return len(shape) == 3 if op in _ON_PLANES else len(shape) >= 1 if op in _ON_AXES else True


@st.composite
def _shapes(draw: Draw) -> Shape:
    """Planes mostly."""
    kind, plane, features = draw(st.integers(0, 5)), st.integers(1, 9), st.integers(1, 37)
    if kind == 4:
        return (draw(features),)
    if kind == 5:
        return (draw(st.integers(1, 6)), draw(features))
    return (draw(st.sampled_from(WIDTHS)), draw(plane), draw(plane))


@st.composite
def quantised_graphs(
    draw: Draw, operations: Sequence[str] = tuple(QUANTISED), least: int = 1, most: int = 8, shape: Shape = ()
) -> Graph:
    """x, floats → quantise → some operations; whatever nothing reads comes out, dequantised. shape: of x."""
    build = EightBits(draw, shape or draw(_shapes()))
    last = _quantise(build, "x")
    for _ in range(draw(st.integers(least, most))):
        values = [name for name in build.of if name not in build.constants]
        value = draw(st.sampled_from([*([last, last] if last in build.of else []), *values]))
        fitting = [op for op in operations if _fits(op, build.shapes[value])]
        if fitting and math.prod(build.shapes[value]) <= 4096:
            layer = "quantised_conv2d" if len(build.shapes[value]) == 3 else "quantised_linear"
            layers = [layer] * len(fitting) if layer in fitting else []  # every other operation
            last = QUANTISED[draw(st.sampled_from([*layers, *fitting]))](build, value)
    read = {name for node in build.draft.nodes for name in node.inputs}
    for name in [name for name in build.of if name not in read]:
        _dequantised(build, name)
    return build.graph()


@st.composite
def quantised_layers(draw: Draw, operation: str) -> Graph:
    """A graph of one operation on a quantised value, on planes where it needs them."""
    shape = draw(_shapes())
    if not _fits(operation, shape):
        shape = draw(st.tuples(st.sampled_from(WIDTHS), st.integers(1, 9), st.integers(1, 9)))
    return draw(quantised_graphs((operation,), 1, 1, shape))
