"""Every operation, declared once.

What reads this: the checks of a Graph, the NumPy reference, simplification, the file's rounding, the tests' random
graphs and the table in docs/format.md. An operation's spelling from ATen, to PyTorch and to ONNX and its native entry
are said where those are made.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from secateur.network import quantisation
from secateur.network.formats import FLOAT_FORMATS, FORMATS, INTEGERS
from secateur.network.nodes import Shape
from secateur.network.operations import eight_bits, meanings, picking, sampling, sequences, shapes, units
from secateur.network.operations.declaration import Arguments, Array, Held, Meaning, Operation, Role
from secateur.network.operations.elements import (
    ANY,
    ANY_FORMAT,
    FLOAT_OR_QUANTISED,
    NUMBERS,
    TRUTH,
    Each,
    OfWeight,
    Stated,
)
from secateur.network.operations.forms import elementwise, pairwise
from secateur.network.operations.ranges import (
    Choice,
    Code,
    Extent,
    Extents,
    Flag,
    Range,
    Real,
    Reals,
    Scale,
    Whole,
    Wholes,
)
from secateur.network.operations.units import Passing

_STEPS = Wholes(2, 1, "of rows, of columns")
_PADDING = Wholes(4, 0, "top, bottom, left, right")
_WINDOW = {"kernel": _STEPS, "stride": _STEPS, "padding": _PADDING}
_AXIS = Whole(1)
_AXES: dict[str, Range] = {"axes": Wholes(None, 1), "keepdims": Flag()}
_PER_CHANNEL = Held(Role.STATISTIC, "(C)")
_SCALE = Held(Role.STATISTIC, "(the axes' shape)", optional=True)

_SELU, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
"""Klambauer et al. 2017, equation 14."""

_FIRST: dict[str, Operation] = {
    "conv2d": Operation(
        shapes.conv2d,
        meanings.conv2d,
        weights={"weight": Held(Role.MATRIX, "(O, I/groups, kh, kw)"), "bias": Held(Role.VECTOR, "(O)", optional=True)},
        attributes={"stride": _STEPS, "padding": _PADDING, "dilation": _STEPS, "groups": Whole(1)},
        axis=1,
        formula="the cross-correlation of planes (I, H, W) padded with zeros",
    ),
    "linear": Operation(
        shapes.linear,
        meanings.linear,
        weights={"weight": Held(Role.MATRIX, "(O, I)"), "bias": Held(Role.VECTOR, "(O)", optional=True)},
        formula="x Wᵀ + b along the last axis",
    ),
    "batch_norm": Operation(
        shapes.batch_norm,
        meanings.batch_norm,
        weights={
            "mean": _PER_CHANNEL,
            "variance": _PER_CHANNEL,
            "weight": Held(Role.STATISTIC, "(C)", optional=True),
            "bias": Held(Role.STATISTIC, "(C)", optional=True),
        },
        attributes={"eps": Real(least=0)},
        units=Passing(units.on_planes, units.batch_norm_constants),
        formula="(x − mean) / √(variance + eps) · weight + bias per channel",
    ),
    "layer_norm": Operation(
        shapes.layer_norm,
        meanings.layer_norm,
        weights={"weight": _SCALE, "bias": _SCALE},
        attributes={"axes": Whole(1), "eps": Real(least=0)},
        formula="the same with the moments of the last `axes` axes (biased variance)",
    ),
    "relu": elementwise(lambda x: np.maximum(x, 0), "max(x, 0)"),
    "relu6": elementwise(lambda x: np.clip(x, 0, 6), "min(max(x, 0), 6)"),
    "leaky_relu": elementwise(
        meanings.leaky_relu, "x, or that times `negative_slope` where x < 0", negative_slope=Real()
    ),
    "hardswish": elementwise(lambda x: x * np.clip(x + 3, 0, 6) / 6, "x · hardsigmoid x"),
    "hardsigmoid": elementwise(lambda x: np.clip(x + 3, 0, 6) / 6, "min(max(x / 6 + ½, 0), 1)"),
    "silu": elementwise(lambda x: x * meanings.sigmoid(x), "x · sigmoid x"),
    "sigmoid": elementwise(meanings.sigmoid, "1 / (1 + e⁻ˣ)"),
    "tanh": elementwise(np.tanh, "tanh x"),
    "gelu": elementwise(meanings.gelu, "x Φ(x), or its approximation by tanh", approximate=Choice(("none", "tanh"))),
    "softmax": Operation(
        shapes.along_axis, meanings.softmax, attributes={"axis": _AXIS}, formula="eˣ over the sum of eˣ along the axis"
    ),
    "add": pairwise(np.add, "x + y", element=NUMBERS),
    "mul": pairwise(np.multiply, "x · y", absorbing=0, element=NUMBERS),
    "max_pool2d": Operation(
        shapes.max_pool2d,
        meanings.max_pool2d,
        element=FLOAT_OR_QUANTISED,
        attributes={**_WINDOW, "dilation": _STEPS},
        units=Passing(units.on_planes, units.max_pool2d_constants),
        formula="the largest number in each window; padding never wins",
    ),
    "avg_pool2d": Operation(
        shapes.avg_pool2d,
        meanings.avg_pool2d,
        attributes={**_WINDOW, "count_include_pad": Flag()},
        units=Passing(units.on_planes, units.avg_pool2d_constants),
        formula="the sum over the window, divided by its size or by that of its part within the planes",
    ),
    "adaptive_avg_pool2d": Operation(
        shapes.adaptive_avg_pool2d,
        meanings.adaptive_avg_pool2d,
        attributes={"size": _STEPS},
        units=Passing(units.on_planes, units.same_constants),
        formula="output i averages inputs ⌊i·n/m⌋ to ⌈(i+1)·n/m⌉ − 1 of n, m outputs",
    ),
    "mean": Operation(
        shapes.reduction,
        meanings.reduction(np.mean),
        attributes=_AXES,
        units=Passing(units.reduction, units.same_constants),
        formula="the mean over axes",
    ),
    "reshape": Operation(
        shapes.reshape,
        meanings.reshape,
        element=ANY,
        attributes={"shape": Extents()},
        units=Passing(units.reshape, units.same_constants),
        formula="the same numbers in another shape",
    ),
    "permute": Operation(
        shapes.permute,
        meanings.permute,
        element=ANY,
        attributes={"axes": Wholes(None, 1, "each once, from 1")},
        units=Passing(units.permute, units.same_constants),
        formula="output axis i is input axis `axes`[i]",
    ),
    "concat": Operation(
        shapes.concat,
        meanings.concat,
        element=ANY,
        inputs=None,
        attributes={"axis": _AXIS},
        units=Passing(units.concat, units.concat_constants),
        formula="the inputs one after another",
    ),
    "slice": Operation(
        shapes.part,
        meanings.part,
        element=ANY,
        attributes={"axis": _AXIS, "start": Extent(), "stop": Extent()},
        units=Passing(units.part, units.same_constants),
        formula="from `start` on, up to `stop`",
    ),
    "constant": Operation(
        shapes.constant,
        meanings.constant,
        inputs=0,
        element=OfWeight("value"),
        weights={"value": Held(Role.STATISTIC, formats=(*FLOAT_FORMATS, *INTEGERS, "bool"))},
        formula="the weight, the same for every image",
    ),
}

_SECOND: dict[str, Operation] = {
    "elu": elementwise(meanings.exponential_linear, "x, or `alpha` · (eˣ − 1) where x < 0", alpha=Real()),
    "selu": elementwise(
        lambda x: _SELU * meanings.exponential_linear(x, _SELU_ALPHA),
        f"{_SELU} · (x, or {_SELU_ALPHA} · (eˣ − 1) where x < 0)",
    ),
    "softplus": elementwise(
        meanings.soft_rectifier,
        "log(1 + e^(`beta` · x)) / `beta`, or x where `beta` · x > `threshold`",
        beta=Real(above=0, typical=(1, 2.5, 0.5)),
        threshold=Real(typical=(20, 5.3)),
    ),
    "mish": elementwise(lambda x: x * np.tanh(meanings.soft_rectifier(x)), "x · tanh(log(1 + eˣ))"),
    "abs": elementwise(np.abs, "x without its sign", element=NUMBERS),
    "exp": elementwise(np.exp, "eˣ", steady=(-3, 3)),
    "log": elementwise(np.log, "ln x", steady=(0.25, 4)),
    "sqrt": elementwise(np.sqrt, "√x", steady=(0.25, 4)),
    "rsqrt": elementwise(lambda x: 1 / np.sqrt(x), "1 / √x", steady=(0.25, 4)),
    "sin": elementwise(np.sin, "sin x", steady=(-6, 6)),
    "cos": elementwise(np.cos, "cos x", steady=(-6, 6)),
    "erf": elementwise(meanings.number_by_number(math.erf), "2 / √π · ∫₀ˣ e^(−t²) dt"),
    "pow": elementwise(
        lambda x, exponent: np.power(x, exponent),
        "x to the power of `exponent`",
        steady=(0.25, 4),
        exponent=Real(typical=(2, 3, 0.5, -1, 1.7, 0)),
    ),
    "neg": elementwise(np.negative, "−x", element=NUMBERS),
    "reciprocal": elementwise(np.reciprocal, "1 / x", steady=(0.25, 4)),
    "maximum": pairwise(np.maximum, "max(x, y)", element=NUMBERS),
    "minimum": pairwise(np.minimum, "min(x, y)", element=NUMBERS),
    "sub": pairwise(np.subtract, "x − y", element=NUMBERS),
    "div": pairwise(np.divide, "x / y", steady=(None, (0.25, 4))),
    "fill": Operation(
        shapes.fill,
        meanings.fill,
        inputs=0,
        attributes={"value": Real(), "shape": Extents()},
        formula="`value` in every place of a constant",
    ),
    "range": Operation(
        shapes.progression,
        meanings.progression,
        inputs=0,
        attributes={"start": Real(), "step": Real(), "length": Extent()},
        formula="the constant `start` + i · `step` for i from 0 on",
    ),
    "gather_images": Operation(
        shapes.gather_images,
        meanings.gather_images,
        element=ANY_FORMAT,
        attributes={"images": Extent()},
        ordinary=True,
        formula="the values of all images, (images, …), as one that is the same for every image",
    ),
    "scatter_images": Operation(
        shapes.scatter_images,
        meanings.scatter_images,
        element=ANY_FORMAT,
        attributes={"images": Extent()},
        ordinary=False,
        formula="of such a value (images, …) each image its own part",
    ),
}

_ELEMENT = {"element": Choice(quantisation.ELEMENTS)}
_CLAMP = {"low": Code(), "high": Code()}


def _scales(*prefixes: str) -> dict[str, Range]:
    """The attributes that say what integers stand for."""
    return {
        f"{prefix}{name}": each for prefix in prefixes for name, each in (("scale", Scale()), ("zero_point", Code()))
    }


def _layer(rule: Callable[[Arguments], Shape], meaning: Meaning, like: Operation, formula: str) -> Operation:
    """A quantised convolution or fully connected layer. like: the one of floating point."""
    weight = replace(like.weights["weight"], formats=("int8",))
    bias = replace(like.weights["bias"], formats=("int32",))
    return Operation(
        rule,
        meaning,
        more=1,
        element=Stated(("input_",), "output_", beside="residual_"),
        weights={"weight": weight, "scale": Held(Role.STATISTIC, "(O)", formats=("float32",)), "bias": bias},
        attributes={
            **like.attributes,
            "element": Choice((*quantisation.ELEMENTS, "float32")),
            **_scales("input_", "output_"),
            **_CLAMP,
            **_scales("residual_"),
        },
        axis=like.axis,
        formula=formula,
        demands=eight_bits.demands_of_layers,
    )


def _mean(rule: Callable[[Arguments], Shape], meaning: Meaning, like: str) -> Operation:
    """A quantised mean. like: the name of that of floating point."""
    return Operation(
        rule,
        meaning,
        element=Stated(("input_",), "output_"),
        attributes={**_FIRST[like].attributes, **_ELEMENT, **_scales("input_", "output_")},
        formula=f"t = S · (`input_scale` / (`output_scale` · n)), S the sum that `{like}` divides by n",
    )


def _pair(rule: Callable[[Arguments], Shape], meaning: Meaning, formula: str) -> Operation:
    return Operation(
        rule,
        meaning,
        inputs=2,
        element=Stated(("left_", "right_"), "output_"),
        attributes={**_ELEMENT, **_scales("left_", "right_", "output_"), **_CLAMP},
        formula=formula,
    )


_THIRD: dict[str, Operation] = {
    "quantise": Operation(
        shapes.quantise,
        eight_bits.quantise,
        element=Stated((None,), ""),
        attributes={**_ELEMENT, **_scales("")},
        formula="t = x · (1 / `scale`)",
    ),
    "dequantise": Operation(
        shapes.same,
        eight_bits.dequantise,
        element=Stated(("",), None),
        attributes=_scales(""),
        formula="(x − `zero_point`) · `scale`",
    ),
    "quantised_conv2d": _layer(
        shapes.quantised_conv2d,
        eight_bits.conv2d,
        _FIRST["conv2d"],
        "t = S · m, S the cross-correlation as of `conv2d`, plus the bias; a residual is added to t",
    ),
    "quantised_linear": _layer(
        shapes.quantised_linear,
        eight_bits.linear,
        _FIRST["linear"],
        "t = S · m, S = x Wᵀ + bias along the last axis; a residual is added to t",
    ),
    "quantised_add": _pair(
        shapes.quantised_add,
        eight_bits.add,
        "t = x · (`left_scale` / `output_scale`) + y · (`right_scale` / `output_scale`), shapes alike",
    ),
    "quantised_mul": _pair(
        shapes.quantised_mul,
        eight_bits.mul,
        "t = x · y · (`left_scale` · `right_scale` / `output_scale`)",
    ),
    "quantised_avg_pool2d": _mean(shapes.quantised_avg_pool2d, eight_bits.avg_pool2d, "avg_pool2d"),
    "quantised_adaptive_avg_pool2d": _mean(
        shapes.quantised_adaptive_avg_pool2d, eight_bits.adaptive_avg_pool2d, "adaptive_avg_pool2d"
    ),
    "quantised_mean": _mean(shapes.quantised_mean, eight_bits.mean, "mean"),
}

_FLOAT = ("float32",)


def _functions() -> dict[str, tuple[str, dict[str, str]]]:
    """Functions of one number: name → operation and those of its attributes that are texts, which the name says too."""
    found: dict[str, tuple[str, dict[str, str]]] = {}
    for op, each in (_FIRST | _SECOND).items():
        if each.rule is shapes.same and not each.weights:
            texts = [(name, held.texts) for name, held in each.attributes.items() if isinstance(held, Choice)]
            for chosen in itertools.product(*(some for _, some in texts)):
                found[" ".join((op, *chosen))] = op, {name: text for (name, _), text in zip(texts, chosen, strict=True)}
    return found


FUNCTIONS = _functions()


def _tabulated(given: Arguments) -> Shape:
    made = shapes.quantised_table(given)
    op, texts = FUNCTIONS[given.read("function")]
    ranges = {name: held for name, held in (_FIRST | _SECOND)[op].attributes.items() if name not in texts}
    parameters = given.read("parameters")
    given.demand(len(parameters) == len(ranges), f"{len(ranges)} parameters of {op}", parameters)
    for (name, held), value in zip(ranges.items(), parameters, strict=True):
        given.demand(not (expected := held.expected(name, value)), expected, value)
    return made


def _recurrence(
    rule: Callable[[Arguments], Shape],
    meaning: Meaning,
    formula: str,
    gates: str = "",
    states: int = 1,
    **attributes: Range,
) -> Operation:
    """One layer of a recurrent network in one direction, behind the product of what it reads."""
    return Operation(
        rule,
        meaning,
        more=states,
        weights={
            "weight": Held(Role.MATRIX, f"({gates}H, H)"),
            "bias": Held(Role.VECTOR, f"({gates}H)", optional=True),
        },
        attributes={"reverse": Flag(), **attributes},
        axis=0,
        formula=formula,
    )


_ANYTHING = tuple(FORMATS)
_COMPARED = Each((NUMBERS.formats, NUMBERS.formats), "bool", alike=(0, 1))
_PLACE_ALONG: dict[str, Range] = {"axis": _AXIS, "keepdims": Flag()}
_APART = ((0.25, 1), (-1, 0))
"""Two numbers that small errors do not put into another order."""


def _reduction(combine: Callable[..., Array], formula: str, constants: units.Constants) -> Operation:
    return Operation(
        shapes.reduction,
        meanings.reduction(combine),
        element=NUMBERS,
        attributes=_AXES,
        units=Passing(units.reduction, constants),
        formula=formula,
    )


_FOURTH: dict[str, Operation] = {
    "quantised_table": Operation(
        _tabulated,
        eight_bits.table,
        element=Stated(("input_",), "output_"),
        weights={"table": Held(Role.STATISTIC, "(256)", formats=("int32",))},
        attributes={
            "function": Choice(tuple(FUNCTIONS)),
            "parameters": Reals(),
            **_ELEMENT,
            **_scales("input_", "output_"),
        },
        formula="the number of the table that stands at the integer, counted from the least of its format; it is near "
        "what `function` makes of the number that the integer stands for, `parameters` being its attributes in order",
        demands=eight_bits.demands_of_tables,
    ),
    "matmul": Operation(
        shapes.matmul,
        sequences.matmul,
        inputs=2,
        attributes={"transposed": Flag()},
        formula="the products of matrices (…, M, K) and (…, K, N), or (…, N, K) where `transposed`; leading axes are "
        "aligned at their last and those of size 1 repeated",
    ),
    "attention": Operation(
        shapes.attention,
        sequences.attention,
        inputs=3,
        more=1,
        element=Each((_FLOAT, _FLOAT, _FLOAT, ("float32", "bool")), "float32"),
        attributes={"scale": Real(), "causal": Flag()},
        formula="softmax(`scale` · q kᵀ + mask) v of queries (…, H, L, E), keys (…, G, S, E) and values (…, G, S, F), "
        "leading axes as of `matmul`; head h of H reads head ⌊h·G/H⌋ of G. The mask repeats along axes of size 1 "
        "and those that it has not; one of truth values says which keys are seen. Where `causal`, query i sees "
        "keys 0 to i. A query that sees none (all scores −∞) gives 0",
    ),
    "lstm": _recurrence(
        shapes.lstm,
        sequences.lstm,
        "[h, c] (…, T, 2H) after each step of x (…, T, 4H), for t from 0 on, or from the last where `reverse`, from "
        "initial h and c (…, H) on, which are 0 where they are absent: (i, f, g, o) = x_t + W h + b, "
        "c = sigmoid f · c + sigmoid i · tanh g, h = sigmoid o · tanh c",
        "4",
        2,
    ),
    "gru": _recurrence(
        shapes.gru,
        sequences.gru,
        "h (…, T, H) after each step of x (…, T, 3H), likewise: (r, z, n) = x_t, (u, v, w) = W h + b, "
        "k = sigmoid(z + v), h = (1 − k) · tanh(n + sigmoid(r + u) · w) + k · h",
        "3",
    ),
    "rnn": _recurrence(
        shapes.rnn,
        sequences.rnn,
        "h (…, T, H) after each step of x (…, T, H), likewise: h = `activation`(x_t + W h + b)",
        activation=Choice(("tanh", "relu")),
    ),
    "cumsum": Operation(
        shapes.along_axis,
        sequences.cumsum,
        element=NUMBERS,
        attributes={"axis": _AXIS},
        formula="the sum of what stands up to there along the axis",
    ),
    "take": Operation(
        picking.take_shape,
        picking.take,
        element=ANY_FORMAT,
        weights={"indices": Held(Role.STATISTIC, "(n)", formats=INTEGERS)},
        attributes={"axis": _AXIS},
        units=Passing(units.take, units.same_constants),
        formula="along the axis the input at each of `indices`",
        demands=picking.demands_of_take,
    ),
    "embedding": Operation(
        picking.embedding_shape,
        picking.embedding,
        element=Each((INTEGERS,), "float32"),
        weights={"weight": Held(Role.TABLE, "(V, D)")},
        formula="the row of the weight at each of the input's numbers, 0 to V − 1, along a new last axis",
    ),
    "gather": Operation(
        picking.gather_shape,
        picking.gather,
        inputs=2,
        element=Each((_ANYTHING, INTEGERS), 0),
        attributes={"axis": _AXIS},
        formula="x at the place that y says along the axis; their shapes differ there only",
    ),
    "resize": Operation(
        sampling.resize_shape,
        sampling.resize,
        attributes={"size": Extents(), "mode": Choice(sampling.MODES), "aligned": Flag(), "steps": Reals(above=0)},
        units=Passing(units.before_last, units.same_constants),
        formula="the last axes, as many as `size` has, at other sizes (below)",
    ),
    "grid_sample": Operation(
        sampling.grid_sample_shape,
        sampling.grid_sample,
        inputs=2,
        attributes={"mode": Choice(("linear", "nearest")), "padding": Choice(sampling.PADDINGS), "aligned": Flag()},
        formula="planes (C, H, W) at the places that a grid (H′, W′, 2) names (below)",
    ),
    "sum": _reduction(np.sum, "the sum over axes", units.unknown_constants),
    "prod": _reduction(np.prod, "the product over axes", units.unknown_constants),
    "amax": _reduction(np.max, "the largest number over axes", units.same_constants),
    "amin": _reduction(np.min, "the smallest number over axes", units.same_constants),
    "argmax": Operation(
        picking.extreme_shape,
        picking.largest_place,
        element=Each((NUMBERS.formats,), "int64"),
        attributes=_PLACE_ALONG,
        formula="where along the axis the largest number stands first, as `int64`",
    ),
    "argmin": Operation(
        picking.extreme_shape,
        picking.smallest_place,
        element=Each((NUMBERS.formats,), "int64"),
        attributes=_PLACE_ALONG,
        formula="where along the axis the smallest number stands first, as `int64`",
    ),
    "topk": Operation(
        picking.top_shape,
        picking.top,
        element=Each((NUMBERS.formats,), "int64"),
        attributes={"axis": _AXIS, "count": Extent(), "largest": Flag()},
        formula="where along the axis the `count` largest or smallest numbers stand, in their order, as `int64`; of "
        "equal ones the first",
    ),
    "equal": pairwise(np.equal, "whether x = y, as `bool`", steady=_APART, element=_COMPARED),
    "less": pairwise(np.less, "whether x < y, as `bool`", steady=_APART, element=_COMPARED),
    "less_equal": pairwise(np.less_equal, "whether x ≤ y, as `bool`", steady=_APART, element=_COMPARED),
    "logical_and": pairwise(np.logical_and, "whether both x and y", element=TRUTH),
    "logical_or": pairwise(np.logical_or, "whether x or y", element=TRUTH),
    "logical_not": elementwise(np.logical_not, "whether not x", element=TRUTH),
    "where": Operation(
        shapes.broadcast,
        meanings.choose,
        inputs=3,
        element=Each((("bool",), _ANYTHING, _ANYTHING), 1, alike=(1, 2)),
        formula="of each three elements the second where the first is true, else the third",
    ),
    "cast": Operation(
        shapes.same,
        meanings.cast,
        element=Each(((*NUMBERS.formats, "bool"),), None),
        attributes={"element": Choice((*NUMBERS.formats, "bool"))},
        steady=((0.25, 0.75),),
        formula="x as a number of that format: whole ones are rounded towards zero, of a `bool` 1 is true, and what is "
        "not 0 is true",
    ),
    "floor": elementwise(np.floor, "the largest whole number up to x", steady=(0.25, 0.75)),
    "ceil": elementwise(np.ceil, "the smallest whole number from x on", steady=(0.25, 0.75)),
    "round": elementwise(np.rint, "the nearest whole number to x, of two the even one", steady=(0.75, 1.25)),
    "sign": elementwise(np.sign, "−1, 0 or 1, as the sign of x", steady=(0.25, 1), element=NUMBERS),
    "floor_div": pairwise(np.floor_divide, "⌊x / y⌋", steady=((1.25, 1.75), (0.9375, 1.0625)), element=NUMBERS),
    "remainder": pairwise(np.remainder, "x − ⌊x / y⌋ · y", steady=((1.25, 1.75), (0.9375, 1.0625)), element=NUMBERS),
}

OPERATIONS: dict[str, Operation] = {
    name: replace(each, minor=minor)
    for minor, operations in enumerate((_FIRST, _SECOND, _THIRD, _FOURTH))
    for name, each in operations.items()
}
"""A constant has no batch dimension of its own: it is the same for every image (batch size 1, which broadcasts)."""
