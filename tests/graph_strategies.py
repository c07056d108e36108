"""Hypothesis strategies for graphs: every operation, every attribute, odd shapes, sparse weights, small values."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from hypothesis import strategies as st

from secateur.network.building import Builder, Draft
from secateur.network.graph import Attribute, Graph, Shape, Weight
from secateur.network.operations import OPERATIONS, Choice, Range, Real
from secateur.network.sizes import is_whole, named

Draw = Callable[[st.SearchStrategy[Any]], Any]


class Drawing:
    """A graph in the making; weights come from a seeded generator, zero with probability 1 - density.

    dtype: of conv2d and linear weights; "mixed" draws one for each. dead: the share of zero rows and of zero columns.
    width: the least number of outputs of a layer. exact: values are no results of others, so that an operation may be
    given what makes much of a small error.
    """

    def __init__(
        self,
        draw: Draw,
        shape: Shape,
        dtype: str = "float32",
        dead: float = 0.1,
        width: int = 1,
        exact: bool = False,
    ) -> None:
        self.draw, self.dtype, self.dead, self.width, self.exact = draw, dtype, dead, width, exact
        self.random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.constants: set[str] = set()
        self.draft = Draft(inputs={"x": shape}, shapes={"x": shape})
        self.shapes = self.draft.shapes

    @property
    def of_known_size(self) -> dict[str, Shape]:
        """Values of float32 whose shapes are numbers, and so are not of all images."""
        return {name: shape for name, shape in self.shapes.items() if is_whole(shape) and self.is_floating(name)}

    def is_floating(self, value: str) -> bool:
        return Builder(self.draft).element(value) == "float32"

    def add(self, op: str, *inputs: str, weights: dict[str, np.ndarray] | None = None, **attributes: Attribute) -> str:
        held = {role: self.weight(role, value) for role, value in (weights or {}).items()}
        at = Builder(self.draft, f"layers.{len(self.draft.nodes)}")
        return self._noted(at.emit(op, *inputs, weights=held, **attributes))

    def emit(self, op: str, *inputs: str | float | Weight, **attributes: Any) -> str:
        """The same with weights as they are, and with constants among the inputs."""
        at = Builder(self.draft, f"layers.{len(self.draft.nodes)}")
        known = set(self.draft.constants.values())
        made = at.emit(op, *inputs, **attributes)
        self.constants |= set(self.draft.constants.values()) - known
        return self._noted(made)

    def _noted(self, made: str) -> str:
        """A value just made: what is made of constants alone is one, too."""
        node = self.draft.nodes[-1]
        if (
            node.name == made
            and node.inputs
            and self.constants.issuperset(node.inputs)
            and OPERATIONS[node.op].ordinary is None
        ):
            self.constants.add(made)
        return made

    def weight(self, role: str, value: np.ndarray) -> Weight:
        dtype = self.dtype if self.dtype != "mixed" else self.draw(st.sampled_from(["float32", "float16", "bfloat16"]))
        single = value.astype(np.float32)
        if role != "weight" or dtype == "float32":
            return Weight.of(single)
        if dtype == "float16":
            return Weight.of(single.astype(np.float16))
        return Weight(dtype, (single.view("<u4") >> np.uint32(16)).astype("<u2"))

    def normal(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return self.random.normal(0, scale, shape)

    def sparse(self, *shape: int) -> np.ndarray:
        """A weight (O, I, …) that keeps the size of values; some rows and columns are zero altogether."""
        density = self.draw(st.sampled_from([1.0, 0.5, 0.1]))
        kept = self.random.random(shape) < density
        kept[self.random.random(shape[0]) < self.dead] = False
        kept[:, self.random.random(shape[1]) < self.dead] = False
        fan_in = max(1.0, float(np.prod(shape[1:])) * density)
        return np.where(kept, self.normal(*shape, scale=fan_in**-0.5), 0)

    def steadied(self, value: str, interval: tuple[float, float] | None) -> str:
        """A value made of another that lies between bounds, unless it is exact or there are none."""
        if interval is None or self.exact:
            return value
        low, high = interval
        width, least = (self.add("constant", weights={"value": np.array(each)}) for each in (high - low, low))
        self.constants |= {width, least}
        return self.add("add", self.add("mul", self.add("sigmoid", value), width), least)

    def graph(self, *outputs: str) -> Graph:
        """With the outputs named, or with every value that nothing reads; what no output needs is left out."""
        read = {name for node in self.draft.nodes for name in node.inputs}
        return Builder(self.draft).graph(outputs or [name for name in self.shapes if name not in read] or ["x"])


def _bias(build: Drawing, size: int) -> dict[str, np.ndarray]:
    if not build.draw(st.booleans()):
        return {}
    return {"bias": np.where(build.random.random(size) < 0.3, 0, build.normal(size, scale=0.5))}


def _window(build: Drawing, size: Shape, most: int = 3) -> tuple[Shape, Shape, Shape, Shape]:
    """(kernel, stride, padding, dilation) that fit planes of a size; padding is less than the kernel."""
    draw = build.draw
    kernel, padding, dilation = [], [], []
    for axis in (0, 1):
        width = draw(st.integers(1, most))
        before, after = draw(st.integers(0, width - 1)), draw(st.integers(0, width - 1))
        step = draw(st.integers(1, 2))
        room = size[axis] + before + after
        width = min(width, room)
        before, after = min(before, width - 1), min(after, width - 1)
        width = min(width, size[axis] + before + after)
        step = step if step * (width - 1) + 1 <= size[axis] + before + after else 1
        kernel.append(width)
        padding += [before, after]
        dilation.append(step)
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    return tuple(kernel), stride, tuple(padding), tuple(dilation)


def _conv2d(build: Drawing, value: str) -> str:
    channels, *size = build.shapes[value]
    groups = build.draw(st.sampled_from([each for each in range(1, channels + 1) if channels % each == 0]))
    out = groups * build.draw(st.integers(-(-build.width // groups), max(build.width, 8) // groups or 1))
    kernel, stride, padding, dilation = _window(build, tuple(size))
    weights = {"weight": build.sparse(out, channels // groups, *kernel), **_bias(build, out)}
    return build.add("conv2d", value, weights=weights, stride=stride, padding=padding, dilation=dilation, groups=groups)


def _linear(build: Drawing, value: str) -> str:
    out = build.draw(st.integers(build.width, max(build.width, 8)))
    return build.add(
        "linear", value, weights={"weight": build.sparse(out, build.shapes[value][-1]), **_bias(build, out)}
    )


def _batch_norm(build: Drawing, value: str) -> str:
    size = build.shapes[value][0]
    weights: dict[str, Any] = {"mean": build.normal(size, scale=0.3), "variance": build.random.uniform(0.5, 2, size)}
    if build.draw(st.booleans()):
        weights |= {"weight": build.normal(size), "bias": build.normal(size, scale=0.3)}
    return build.add("batch_norm", value, weights=weights, eps=build.draw(st.sampled_from([1e-5, 1e-3])))


def _layer_norm(build: Drawing, value: str) -> str:
    shape = build.shapes[value]
    axes = build.draw(st.integers(1, len(shape)))
    weights = {"weight": build.normal(*shape[-axes:])} if build.draw(st.booleans()) else {}
    weights |= {"bias": build.normal(*shape[-axes:])} if build.draw(st.booleans()) else {}
    return build.add("layer_norm", value, weights=weights, axes=axes, eps=1e-2)


def _softmax(build: Drawing, value: str) -> str:
    return build.add("softmax", value, axis=build.draw(st.integers(1, len(build.shapes[value]))))


def _attribute(draw: Draw, wanted: Range) -> Attribute:
    """One in a range; of the typical ones, where some are named."""
    if isinstance(wanted, Choice):
        return str(draw(st.sampled_from(wanted.texts)))
    assert isinstance(wanted, Real)
    if wanted.typical:
        return float(draw(st.sampled_from(wanted.typical)))
    low = max(wanted.least, wanted.above + 0.125, -2.0)
    return float(draw(st.floats(low, 2, width=32, allow_subnormal=False)))


def _elementwise(build: Drawing, op: str, value: str) -> str:
    operation = OPERATIONS[op]
    attributes: dict[str, Any] = {name: _attribute(build.draw, wanted) for name, wanted in operation.attributes.items()}
    return build.add(op, build.steadied(value, operation.steady[0]), **attributes)


def _pairwise(build: Drawing, op: str, value: str) -> str:
    """With a value that broadcasts against it, a constant, or itself; in either order."""
    fitting = [name for name, shape in build.of_known_size.items() if _broadcasts(shape, build.shapes[value])]
    other = build.draw(st.sampled_from([*fitting, ""])) or _constant(build, value)
    both = build.draw(st.permutations([value, other]))
    return build.add(op, *map(build.steadied, both, OPERATIONS[op].steady))


def _broadcasts(left: Shape, right: Shape) -> bool:
    try:
        return bool(np.prod(np.broadcast_shapes(left, right)) <= 4096)
    except ValueError:
        return False


def _constant(build: Drawing, value: str) -> str:
    """One that broadcasts against a value: with some axes 1, or leading ones missing."""
    shape = [size if build.draw(st.booleans()) else 1 for size in build.shapes[value]]
    shape = shape[build.draw(st.integers(0, len(shape))) :]
    name = build.add("constant", weights={"value": build.normal(*shape)})
    build.constants.add(name)
    return name


def _max_pool2d(build: Drawing, value: str) -> str:
    kernel, stride, padding, dilation = _window(build, build.shapes[value][1:])
    if any(step > 1 for step in dilation):  # a dilated window could otherwise see nothing but padding
        padding = (0, 0, 0, 0)
        height, width = build.shapes[value][1:]
        reach = [step * (size - 1) + 1 for step, size in zip(dilation, kernel, strict=True)]
        if reach[0] > height or reach[1] > width:
            kernel, dilation = (1, 1), (1, 1)
    return build.add("max_pool2d", value, kernel=kernel, stride=stride, padding=padding, dilation=dilation)


def _avg_pool2d(build: Drawing, value: str) -> str:
    kernel, stride, padding, _ = _window(build, build.shapes[value][1:])
    counted = build.draw(st.booleans())
    return build.add("avg_pool2d", value, kernel=kernel, stride=stride, padding=padding, count_include_pad=counted)


def _adaptive_avg_pool2d(build: Drawing, value: str) -> str:
    return build.add("adaptive_avg_pool2d", value, size=(build.draw(st.integers(1, 4)), build.draw(st.integers(1, 4))))


def _mean(build: Drawing, value: str) -> str:
    axes = st.sets(st.integers(1, len(build.shapes[value])), min_size=1)
    return build.add("mean", value, axes=tuple(sorted(build.draw(axes))), keepdims=build.draw(st.booleans()))


def _reshape(build: Drawing, value: str) -> str:
    """Flat, or with two neighbouring axes joined, or with an axis split, or with an axis of one more."""
    shape = list(build.shapes[value])
    kind = build.draw(st.sampled_from(["flat", "joined", "split", "longer"]))
    at = build.draw(st.integers(0, len(shape) - 1))
    if kind == "flat":
        shape = [int(np.prod(shape))]
    elif kind == "joined" and at + 1 < len(shape):
        shape[at : at + 2] = [shape[at] * shape[at + 1]]
    elif kind == "split":
        part = build.draw(st.sampled_from([each for each in range(1, shape[at] + 1) if shape[at] % each == 0]))
        shape[at : at + 1] = [part, shape[at] // part]
    else:
        shape.insert(at, 1)
    return build.add("reshape", value, shape=tuple(shape))


def _permute(build: Drawing, value: str) -> str:
    axes = build.draw(st.permutations(range(1, len(build.shapes[value]) + 1)))
    return build.add("permute", value, axes=tuple(axes))


def _concat(build: Drawing, value: str) -> str:
    """With up to two values that differ in one axis only, itself among them, or a constant."""
    shape = build.shapes[value]
    axis = build.draw(st.integers(1, len(shape)))

    def around(other: Shape) -> Shape:
        return other[: axis - 1] + other[axis:]

    known = build.of_known_size.items()
    fitting = [name for name, each in known if len(each) == len(shape) and around(each) == around(shape)]
    others = build.draw(st.lists(st.sampled_from([*fitting, ""]), max_size=2))
    widths = [build.draw(st.integers(1, 2)) if other == "" else 0 for other in others]
    made = [
        other or build.add("constant", weights={"value": build.normal(*shape[: axis - 1], width, *shape[axis:])})
        for other, width in zip(others, widths, strict=True)
    ]
    build.constants.update(name for name, other in zip(made, others, strict=True) if other == "")
    return build.add("concat", *build.draw(st.permutations([value, *made])), axis=axis)


def _slice(build: Drawing, value: str) -> str:
    shape = build.shapes[value]
    axis = build.draw(st.integers(1, len(shape)))
    start = build.draw(st.integers(0, shape[axis - 1] - 1))
    return build.add("slice", value, axis=axis, start=start, stop=build.draw(st.integers(start + 1, shape[axis - 1])))


def _fill(build: Drawing, value: str) -> str:
    """Against a value, with some axes 1."""
    shape = tuple(size if build.draw(st.booleans()) else 1 for size in build.shapes[value])
    filled = build.add("fill", value=build.draw(st.sampled_from([0.0, 1.0, -2.5])), shape=shape)
    build.constants.add(filled)
    return build.add("add", value, filled)


def _range(build: Drawing, value: str) -> str:
    """Along the last axis of a value."""
    places = build.add("range", start=0.5, step=-0.25, length=build.shapes[value][-1])
    build.constants.add(places)
    return build.add("mul", value, places)


def _gather_images(build: Drawing, value: str) -> str:
    """The absolute values of a value of all images, at once."""
    gathered = build.add("gather_images", value, images=named("batch"))
    made = build.add("abs", gathered)
    build.constants |= {gathered, made}
    return build.add("sub", value, build.add("scatter_images", made, images=named("batch")))


def _scatter_images(build: Drawing, value: str) -> str:
    """Each image's share among all of them."""
    gathered = build.add("gather_images", value, images=named("batch"))
    shares = build.add("softmax", gathered, axis=1)
    build.constants |= {gathered, shares}
    return build.add("scatter_images", shares, images=named("batch"))


def _matmul(build: Drawing, value: str) -> str:
    """With a constant that has fewer leading axes, or some of length 1; either way round."""
    *leading, rows, columns = build.shapes[value]
    draw, size, transposed = build.draw, build.draw(st.integers(1, 5)), build.draw(st.booleans())
    around = [draw(st.sampled_from([1, each])) for each in leading][draw(st.integers(0, len(leading))) :]
    first = draw(st.booleans())
    inner, outer = (columns, size) if first else (rows, size)
    if not first and transposed:
        inner = columns
    shape = (outer, inner) if not first or transposed else (inner, outer)
    other = build.add("constant", weights={"value": build.normal(*around, *shape, scale=inner**-0.5)})
    build.constants.add(other)
    return build.add("matmul", *([value, other] if first else [other, value]), transposed=transposed)


def _attention(build: Drawing, value: str) -> str:
    """Of a value to itself, or to constants that several of its heads share; with or without a mask."""
    draw = build.draw
    heads, queries, width = build.shapes[value][-3:]
    groups = draw(st.sampled_from([each for each in range(1, heads + 1) if heads % each == 0]))
    keys = [value, value]
    if draw(st.booleans()):
        count, wide = draw(st.integers(1, 6)), draw(st.integers(1, 6))
        keys = [build.add("constant", weights={"value": build.normal(groups, count, each)}) for each in (width, wide)]
    build.constants |= {*keys} - {value}
    shape = [draw(st.sampled_from([1, each])) for each in (heads, queries, build.shapes[keys[0]][-2])]
    masks = [_mask(build, shape[draw(st.integers(0, 2)) :])] if draw(st.booleans()) else []
    causal = draw(st.booleans())
    return build.add("attention", value, *keys, *masks, scale=draw(st.sampled_from([1.0, 0.3, -0.5])), causal=causal)


def _mask(build: Drawing, shape: list[int]) -> str:
    """What is added to scores, or whether they count."""
    seen = build.random.random(shape) < 0.6
    kept = Weight.of(seen) if build.draw(st.booleans()) else Weight.of(np.where(seen, 0.5, -np.inf).astype(np.float32))
    name = Builder(build.draft, f"masks.{len(build.draft.nodes)}").emit("constant", weights={"value": kept})
    build.constants.add(name)
    return name


def _recurrence(op: str, gates: int, states: int) -> Callable[[Drawing, str], str]:
    def add(build: Drawing, value: str) -> str:
        """Behind the layer that makes its gates, from constant states or none."""
        size, around = build.draw(st.integers(1, 5)), build.shapes[value][:-2]
        width = build.shapes[value][-1]
        given = build.add("linear", value, weights={"weight": build.normal(gates * size, width, scale=width**-0.5)})
        firsts = [build.normal(*around, size) for _ in range(states)] if build.draw(st.booleans()) else []
        names = [build.add("constant", weights={"value": each}) for each in firsts]
        build.constants.update(names)
        weights = {"weight": build.sparse(gates * size, size), **_bias(build, gates * size)}
        chosen = {"activation": build.draw(st.sampled_from(["tanh", "relu"]))} if op == "rnn" else {}
        return build.add(op, given, *names, weights=weights, reverse=build.draw(st.booleans()), **chosen)

    return add


def _cumsum(build: Drawing, value: str) -> str:
    return build.add("cumsum", value, axis=build.draw(st.integers(1, len(build.shapes[value]))))


def _take(build: Drawing, value: str) -> str:
    shape = build.shapes[value]
    axis = build.draw(st.integers(1, len(shape)))
    indices = build.random.integers(0, shape[axis - 1], build.draw(st.integers(1, 6)))
    return build.emit("take", value, weights={"indices": Weight.of(indices)}, axis=axis)


def _whole(build: Drawing, below: int) -> str:
    """Whole numbers from 0 on, made of the input, which is exact."""
    low = build.emit("maximum", build.emit("round", "x"), 0.0)
    return build.emit("cast", build.emit("minimum", low, float(below - 1)), element=build.draw(_INTEGERS))


_INTEGERS = st.sampled_from(["int64", "int32"])


def _embedding(build: Drawing, value: str) -> str:
    rows, length = build.draw(st.integers(1, 5)), build.draw(st.integers(1, 6))
    return build.add("embedding", _whole(build, rows), weights={"weight": build.normal(rows, length)})


def _gather(build: Drawing, value: str) -> str:
    """At places that are constant, or made of the input where the value is that."""
    shape = build.shapes[value]
    axis = build.draw(st.integers(1, len(shape)))
    if value == "x" and build.draw(st.booleans()):
        return build.add("gather", value, _whole(build, shape[axis - 1]), axis=axis)
    count = build.draw(st.integers(1, 6))
    places = build.random.integers(0, shape[axis - 1], (*shape[: axis - 1], count, *shape[axis:]))
    return build.emit("gather", value, Weight.of(places), axis=axis)


def _resize(build: Drawing, value: str) -> str:
    size = tuple(build.draw(st.lists(st.integers(1, 9), min_size=1, max_size=min(3, len(build.shapes[value])))))
    mode = build.draw(st.sampled_from(OPERATIONS["resize"].attributes["mode"].texts))  # type: ignore[union-attr]
    aligned = mode in ("linear", "cubic") and build.draw(st.booleans())
    pairs = zip(build.shapes[value][-len(size) :], size, strict=True)
    given = [_step(build, old, new) for old, new in pairs] if build.draw(st.booleans()) else []
    steps = tuple(given)
    return build.add("resize", value, size=size, mode=mode, aligned=aligned, steps=() if aligned else steps)


def _step(build: Drawing, old: int, new: int) -> float:
    """What PyTorch takes for the size's own ratio is that, whatever factor it is given."""
    return old / new if new in (old, 2 * old) else build.draw(st.sampled_from([0.4, 1.0, 1.7]))


def _grid_sample(build: Drawing, value: str) -> str:
    grid = build.random.uniform(-1.6, 1.6, (build.draw(st.integers(1, 4)), build.draw(st.integers(1, 4)), 2))
    choices = OPERATIONS["grid_sample"].attributes
    attributes = {name: _attribute(build.draw, choices[name]) for name in ("mode", "padding")}
    aligned = build.draw(st.booleans())
    return build.emit("grid_sample", value, Weight.of(grid.astype(np.float32)), aligned=aligned, **attributes)


def _reduction(op: str) -> Callable[[Drawing, str], str]:
    def draw(build: Drawing, value: str) -> str:
        value = build.steadied(value, (0.5, 1.5)) if op == "prod" else value
        axes = st.sets(st.integers(1, len(build.shapes[value])), min_size=1)
        return build.add(op, value, axes=tuple(sorted(build.draw(axes))), keepdims=build.draw(st.booleans()))

    return draw


def _extreme(op: str) -> Callable[[Drawing, str], str]:
    """Of the input, whose order no rounding changes."""

    def draw(build: Drawing, value: str) -> str:
        axis = build.draw(st.integers(1, len(build.shapes["x"])))
        return _as_floats(build, build.add(op, "x", axis=axis, keepdims=build.draw(st.booleans())))

    return draw


def _topk(build: Drawing, value: str) -> str:
    axis = build.draw(st.integers(1, len(build.shapes["x"])))
    count = build.draw(st.integers(1, build.shapes["x"][axis - 1]))
    return _as_floats(build, build.add("topk", "x", axis=axis, count=count, largest=build.draw(st.booleans())))


def _as_floats(build: Drawing, value: str) -> str:
    return build.emit("cast", value, element="float32")


def _comparison(op: str) -> Callable[[Drawing, str], str]:
    return lambda build, value: _as_floats(build, _pairwise(build, op, value))


def _truth(build: Drawing, value: str) -> str:
    """Truth values of a value's shape that no small error changes."""
    bounds = build.random.choice([-2.0, 0.0 if build.exact else 2.0, 2.0], build.shapes[value])
    return build.emit("less", build.steadied(value, (-1, 1)), Weight.of(bounds.astype(np.float32)))


def _logic(op: str) -> Callable[[Drawing, str], str]:
    def draw(build: Drawing, value: str) -> str:
        truths = [_truth(build, value) for _ in range(OPERATIONS[op].inputs or 0)]
        return _as_floats(build, build.add(op, *truths))

    return draw


def _where(build: Drawing, value: str) -> str:
    return build.add("where", _truth(build, value), *build.draw(st.permutations([value, _constant(build, value)])))


def _cast(build: Drawing, value: str) -> str:
    element = _attribute(build.draw, OPERATIONS["cast"].attributes["element"])
    return _as_floats(build, build.emit("cast", build.steadied(value, (0.25, 0.75)), element=element))


_BY_HAND: dict[str, Callable[[Drawing, str], str]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "softmax": _softmax,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "mean": _mean,
    "reshape": _reshape,
    "permute": _permute,
    "concat": _concat,
    "slice": _slice,
    "constant": _constant,
    "fill": _fill,
    "range": _range,
    "matmul": _matmul,
    "attention": _attention,
    "lstm": _recurrence("lstm", 4, 2),
    "gru": _recurrence("gru", 3, 1),
    "rnn": _recurrence("rnn", 1, 1),
    "cumsum": _cumsum,
    "take": _take,
    "embedding": _embedding,
    "gather": _gather,
    "resize": _resize,
    "grid_sample": _grid_sample,
    **{op: _reduction(op) for op in ("sum", "prod", "amax", "amin")},
    **{op: _extreme(op) for op in ("argmax", "argmin")},
    "topk": _topk,
    **{op: _comparison(op) for op in ("equal", "less", "less_equal")},
    **{op: _logic(op) for op in ("logical_and", "logical_or", "logical_not")},
    "where": _where,
    "cast": _cast,
    "gather_images": _gather_images,
    "scatter_images": _scatter_images,
}
"""How to add operations whose shapes take some thought to a value; each returns the name of what it made."""


def add(build: Drawing, op: str, value: str) -> str:
    """Add any operation to a value, functions of numbers as they are declared; returns the name of what it made."""
    if op in _BY_HAND:
        return _BY_HAND[op](build, value)
    return (_elementwise if OPERATIONS[op].inputs == 1 else _pairwise)(build, op, value)


FLOATING = tuple(op for op, operation in OPERATIONS.items() if not operation.quantised)
"""Operations on numbers that stand for themselves."""
OF_EACH_IMAGE = tuple(op for op in FLOATING if OPERATIONS[op].ordinary is None)
"""Operations that mix no images: what they make of a batch, they make of its parts."""
_PLANES = {"conv2d", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "grid_sample"}


_LEAST_RANK = {"matmul": 2, "attention": 3, "lstm": 2, "gru": 2, "rnn": 2}


def _fits(op: str, shape: Shape) -> bool:
    if op in _PLANES:
        return len(shape) == 3
    return len(shape) >= _LEAST_RANK.get(op, 1) and (op != "reshape" or len(shape) < 5)


def shapes() -> st.SearchStrategy[Shape]:
    """Planes most often; vectors and tokens × channels too."""
    planes = st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 7))
    others = st.one_of(st.tuples(st.integers(1, 8)), st.tuples(st.integers(1, 5), st.integers(1, 6)))
    return st.one_of(planes, planes, others)


@st.composite
def graphs(
    draw: Draw,
    operations: Collection[str] = OF_EACH_IMAGE,
    least: int = 1,
    most: int = 6,
    dtype: str = "float32",
) -> Graph:
    """A graph with one input "x" and `least` to `most` drawn operations (constants come on top).

    All values that nothing reads are outputs, so there may be several. dtype: see Drawing.
    """
    build = Drawing(draw, draw(shapes()), dtype)
    last = "x"
    for _ in range(draw(st.integers(least, most))):
        values = [name for name in build.shapes if name not in build.constants and build.is_floating(name)]
        value = draw(st.sampled_from([last, last, *values]))
        fitting = [op for op in operations if _fits(op, build.shapes[value])]
        if not fitting:
            continue
        made = add(build, draw(st.sampled_from(fitting)), value)
        last = last if made in build.constants else made
    return build.graph()


@st.composite
def dead_graphs(draw: Draw, dtype: str = "mixed", dead: float = 0.5) -> Graph:
    """A convolution, other operations and a linear layer, many rows and columns of which are zero: a share `dead`."""
    build = Drawing(draw, draw(st.tuples(st.integers(1, 3), st.integers(2, 5), st.integers(2, 5))), dtype, dead, 4)
    last = _conv2d(build, "x")
    for _ in range(draw(st.integers(1, 8))):
        others = [name for name in build.shapes if name not in build.constants and build.is_floating(name)]
        value = draw(st.sampled_from([*[last] * 8, *others]))
        fitting = [op for op in _UNITWISE if _fits(op, build.shapes[value])]
        last = add(build, draw(st.sampled_from(fitting)), value) if fitting else last
    last = last if build.shapes[last] else build.add("reshape", last, shape=(1,))
    return build.graph(_linear(build, last))


_UNITWISE = ["conv2d", "linear", *(op for op, each in OPERATIONS.items() if each.units or each.is_layer)]


@st.composite
def layers(draw: Draw, operation: str, dtype: str = "float32") -> Graph:
    """A graph of one operation, on planes where it needs them."""
    shape = draw(shapes())
    if not _fits(operation, shape):
        shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 7)))
    build = Drawing(draw, shape, dtype, exact=True)
    return build.graph(add(build, operation, "x"))


def inputs(graph: Graph, batch: int, seed: int = 0) -> np.ndarray:
    """A batch of normal inputs (batch, …) for a graph with one input."""
    ((_, shape),) = graph.inputs.items()
    return np.random.default_rng(seed).normal(size=(batch, *shape)).astype(np.float32)
