"""Shape rules: the shape of an operation's output, behind the batch, from those of its inputs and weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

from secateur.network.nodes import Shape
from secateur.network.operations.declaration import Arguments
from secateur.network.operations.ranges import Real
from secateur.network.quantisation import FARTHEST, LARGEST_SUM, bounds, in_single, multiplier
from secateur.network.sizes import BATCH, Dimension, at_least, is_whole, named

MOST_PADDING = 4096
"""On one side of a plane: more would ask for memory that nothing in a file pays for."""
MOST_STEP = 1 << 24
"""A stride's or dilation's: wider than planes are, and still a whole number of 32 bits when planes are added to it."""
MOST_SUMMED = LARGEST_SUM // FARTHEST
"""Quantised numbers whose sum is a whole number of 32 bits, whatever they are."""


def same(given: Arguments) -> Shape:
    """Of an operation on each number of its input."""
    given.check_attributes()
    return given.shapes[0]


def _windows(given: Arguments, kernel: Shape, dilation: Shape) -> tuple[int, int]:
    """Output height and width of a window that slides over padded planes; padding is (top, bottom, left, right)."""
    _, *size = given.planes()
    stride, padding = given.numbers("stride"), given.numbers("padding")
    found = []
    for axis in (0, 1):
        around = padding[2 * axis : 2 * axis + 2]
        given.demand(max(around) <= MOST_PADDING, f"padding of at most {MOST_PADDING}", around)
        steps = stride[axis], dilation[axis]
        given.demand(max(steps) <= MOST_STEP, f"a stride and a dilation of at most {MOST_STEP}", steps)
        room = size[axis] + sum(around) - dilation[axis] * (kernel[axis] - 1) - 1
        given.demand(at_least(room, 0), "a window no larger than the padded input", f"kernel {kernel} on {tuple(size)}")
        found.append(room // stride[axis] + 1)
    return found[0], found[1]


def conv2d(given: Arguments) -> Shape:
    channels, _, _ = given.planes()
    weight = given.weights["weight"]
    given.demand(len(weight) == 4 and min(weight[2:]) > 0, "a weight (O, I/groups, kh, kw)", weight)
    given.demand(is_whole(channels), "a whole number of channels", channels)
    groups = given.whole("groups", most=max(1, channels))
    fits = channels == weight[1] * groups and weight[0] % groups == 0
    given.demand(fits, f"a weight for {channels} channels in {groups} groups", weight)
    given.weight("bias", weight[:1])
    return (weight[0], *_windows(given, weight[2:], given.numbers("dilation")))


def linear(given: Arguments) -> Shape:
    weight, shape = given.weights["weight"], given.shapes[0]
    fits = len(weight) == 2 and len(shape) >= 1 and shape[-1] == weight[1]
    given.demand(fits, f"a weight (O, I) for an input {shape}", weight)
    given.weight("bias", weight[:1])
    return (*shape[:-1], weight[0])


def batch_norm(given: Arguments) -> Shape:
    shape = given.shapes[0]
    given.demand(len(shape) >= 1, "an input (C, …)", shape)
    for role in ("mean", "variance", "weight", "bias"):
        given.weight(role, shape[:1])
    given.check_attributes()
    return shape


def layer_norm(given: Arguments) -> Shape:
    shape = given.shapes[0]
    axes = given.whole("axes", most=len(shape))
    given.weight("weight", shape[-axes:])
    given.weight("bias", shape[-axes:])
    given.check_attributes()
    return shape


def along_axis(given: Arguments) -> Shape:
    """Of an operation on the numbers along an axis that makes as many."""
    given.whole("axis", most=len(given.shapes[0]))
    return given.shapes[0]


def broadcast(given: Arguments) -> Shape:
    """NumPy's broadcasting behind the batch dimension: shapes are aligned at their last axes."""
    given.check_attributes()
    return _broadcast(given, given.shapes)


def _broadcast(given: Arguments, shapes: Sequence[Shape]) -> Shape:
    rank = max(map(len, shapes))
    aligned = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    longer = [{size for size in sizes if size != 1} for sizes in zip(*aligned, strict=True)]
    given.demand(all(len(each) < 2 for each in longer), "shapes that broadcast", list(given.shapes))
    return tuple(each.pop() if each else 1 for each in longer)


def matmul(given: Arguments) -> Shape:
    left, right = given.shapes
    given.demand(min(len(left), len(right)) >= 2, "matrices (…, M, K) and (…, K, N)", list(given.shapes))
    inner, made = (right[-1], right[-2]) if given.read("transposed") else (right[-2], right[-1])
    given.demand(left[-1] == inner, f"a right matrix for rows of {left[-1]}", right)
    return (*_broadcast(given, (left[:-2], right[:-2])), left[-2], made)


def attention(given: Arguments) -> Shape:
    given.check_attributes()
    query, key, value, *masks = given.shapes
    ranks = min(map(len, (query, key, value)))
    given.demand(ranks >= 3, "queries (…, H, L, E), keys (…, G, S, E) and values (…, G, S, F)", list(given.shapes))
    fits = key[-1] == query[-1] and value[-3:-1] == key[-3:-1]
    given.demand(fits, f"keys (…, G, S, {query[-1]}) and values (…, G, S, F)", [key, value])
    heads, groups = query[-3], key[-3]
    given.demand(is_whole((heads, groups)), "a whole number of heads", (heads, groups))
    given.demand(groups > 0 and heads % groups == 0, f"as many heads as divide {heads}", groups)
    leading = _broadcast(given, (query[:-3], key[:-3], value[:-3]))
    scores = (*leading, *query[-3:-1], key[-2])
    given.demand(not masks or _spreads(masks[0], scores), f"a mask that broadcasts to {scores}", masks)
    return (*leading, *query[-3:-1], value[-1])


def _spreads(shape: Shape, to: Shape) -> bool:
    """Whether a shape broadcasts to another, without making it larger."""
    behind = to[len(to) - len(shape) :]
    return len(shape) <= len(to) and all(size in (1, wanted) for size, wanted in zip(shape, behind, strict=True))


def lstm(given: Arguments) -> Shape:
    given.demand(len(given.shapes) != 2, "initial states for both h and c, or none", len(given.shapes))
    *around, size = _recurrence(given, 4)
    return (*around, 2 * size)


def gru(given: Arguments) -> Shape:
    return _recurrence(given, 3)


def rnn(given: Arguments) -> Shape:
    return _recurrence(given, 1)


def _recurrence(given: Arguments, gates: int) -> Shape:
    """(…, T, H) of steps (…, T, gates · H)."""
    given.check_attributes()
    weight, steps = given.weights["weight"], given.shapes[0]
    square = len(weight) == 2 and weight[0] == gates * weight[1]
    given.demand(square, f"a weight ({gates} · H, H)", weight)
    fits = len(steps) >= 2 and steps[-1] == weight[0]
    given.demand(fits, f"steps (…, T, {weight[0]})", steps)
    given.weight("bias", weight[:1])
    state = (*steps[:-2], weight[1])
    given.demand(all(each == state for each in given.shapes[1:]), f"initial states {state}", given.shapes[1:])
    return (*steps[:-1], weight[1])


def max_pool2d(given: Arguments) -> Shape:
    kernel = given.numbers("kernel")
    _within_kernel(given, kernel)
    return (given.planes()[0], *_windows(given, kernel, given.numbers("dilation")))


def avg_pool2d(given: Arguments) -> Shape:
    kernel = given.numbers("kernel")
    _within_kernel(given, kernel)
    given.read("count_include_pad")
    return (given.planes()[0], *_windows(given, kernel, (1, 1)))


def _within_kernel(given: Arguments, kernel: Shape) -> None:
    padding = given.numbers("padding")
    fits = max(padding[:2]) < kernel[0] and max(padding[2:]) < kernel[1]
    given.demand(fits, "padding smaller than the kernel", f"{padding} for {kernel}")


def adaptive_avg_pool2d(given: Arguments) -> Shape:
    channels, height, width = given.planes()
    given.demand(at_least(height, 1) and at_least(width, 1), "planes that are not empty", (height, width))
    return (channels, *given.numbers("size"))


def reduction(given: Arguments) -> Shape:
    shape, axes = given.shapes[0], given.numbers("axes")
    good = len(set(axes)) == len(axes) > 0 and max(axes) <= len(shape)
    given.demand(good, f"different axes of {len(shape)} (the batch is axis 0)", axes)
    given.demand(all(at_least(shape[axis - 1], 1) for axis in axes), "axes that are not empty", shape)
    keep = given.read("keepdims")
    kept = [1 if axis in axes else size for axis, size in enumerate(shape, 1) if keep or axis not in axes]
    return tuple(kept)


def reshape(given: Arguments) -> Shape:
    shape: Shape = given.read("shape")
    given.demand(math.prod(shape) == math.prod(given.shapes[0]), f"as many elements as {given.shapes[0]}", shape)
    return shape


def permute(given: Arguments) -> Shape:
    axes, shape = given.numbers("axes", len(given.shapes[0])), given.shapes[0]
    given.demand(sorted(axes) == list(range(1, len(shape) + 1)), "each axis once (the batch stays axis 0)", axes)
    return tuple(shape[axis - 1] for axis in axes)


def concat(given: Arguments) -> Shape:
    first, *others = given.shapes
    axis = given.whole("axis", most=len(first))
    around = [shape[: axis - 1] + shape[axis:] for shape in given.shapes]
    given.demand(all(each == around[0] for each in around), f"shapes that differ in axis {axis} only", given.shapes)
    return (*first[: axis - 1], sum(shape[axis - 1] for shape in (first, *others)), *first[axis:])


def part(given: Arguments) -> Shape:
    shape = given.shapes[0]
    axis = given.whole("axis", most=len(shape))
    start = given.extent("start", most=shape[axis - 1])
    stop = given.extent("stop", least=start, most=shape[axis - 1])
    return (*shape[: axis - 1], stop - start, *shape[axis:])


def constant(given: Arguments) -> Shape:
    return given.weights["value"]


def fill(given: Arguments) -> Shape:
    given.check_attributes()
    shape: Shape = given.node.attributes["shape"]  # type: ignore[assignment]
    return shape


def progression(given: Arguments) -> Shape:
    given.check_attributes()
    return (given.node.attributes["length"],)


def gather_images(given: Arguments) -> Shape:
    return (_images(given), *given.shapes[0])


def scatter_images(given: Arguments) -> Shape:
    images, shape = _images(given), given.shapes[0]
    given.demand(shape[:1] == (images,), f"an ordinary value ({images}, …)", shape)
    return shape[1:]


def _images(given: Arguments) -> Dimension:
    images: Dimension = given.read("images")
    given.demand(is_whole(images) or images == named(BATCH), f"images to be {BATCH}, or a whole number", images)
    return images


def quantise(given: Arguments) -> Shape:
    given.check_attributes()
    _within_element(given, "zero_point")
    return given.shapes[0]


def quantised_conv2d(given: Arguments) -> Shape:
    return _quantised_layer(given, conv2d(given))


def quantised_linear(given: Arguments) -> Shape:
    return _quantised_layer(given, linear(given))


def _quantised_layer(given: Arguments, made: Shape) -> Shape:
    given.check_attributes()
    given.weight("scale", given.weights["weight"][:1])
    given.demand(given.shapes[1:] in ([], [made]), f"a residual of shape {made}", given.shapes[-1])
    floating = given.read("element") == "float32"
    if floating:
        _neutral(given, "output_scale", "output_zero_point", "low", "high")
    else:
        _clamped(given)
    if floating or len(given.shapes) == 1:
        _neutral(given, "residual_scale", "residual_zero_point")
    _comparable(given, "residual_scale")
    return made


def quantised_add(given: Arguments) -> Shape:
    given.check_attributes()
    _clamped(given)
    given.demand(given.shapes[0] == given.shapes[1], "two inputs of one shape", list(given.shapes))
    _comparable(given, "left_scale")
    _comparable(given, "right_scale")
    return given.shapes[0]


def quantised_mul(given: Arguments) -> Shape:
    made = broadcast(given)
    _clamped(given)
    _comparable(given, "left_scale", "right_scale")
    return made


def quantised_avg_pool2d(given: Arguments) -> Shape:
    return _quantised_mean(given, avg_pool2d(given), given.numbers("kernel"))


def quantised_adaptive_avg_pool2d(given: Arguments) -> Shape:
    made = adaptive_avg_pool2d(given)
    sizes = zip(given.planes()[1:], made[1:], strict=True)
    widest = [size if windows == 1 else size // windows + 2 for size, windows in sizes]
    return _quantised_mean(given, made, tuple(widest))


def quantised_mean(given: Arguments) -> Shape:
    made = reduction(given)
    return _quantised_mean(given, made, tuple(given.shapes[0][axis - 1] for axis in given.numbers("axes")))


def _quantised_mean(given: Arguments, made: Shape, window: Shape) -> Shape:
    given.check_attributes()
    _within_element(given, "output_zero_point")
    _comparable(given, "input_scale")
    summed = math.prod(window)
    given.demand(not is_whole((summed,)) or summed <= MOST_SUMMED, f"at most {MOST_SUMMED} numbers a mean", summed)
    return made


def quantised_table(given: Arguments) -> Shape:
    given.check_attributes()
    given.weight("table", (256,))
    _within_element(given, "output_zero_point")
    return given.shapes[0]


def _clamped(given: Arguments) -> None:
    """That results lie between `low` and `high`, as their format can."""
    _within_element(given, "output_zero_point", "low", "high")
    low, high = given.read("low"), given.read("high")
    given.demand(low <= high, "low up to high", f"{low} and {high}")


def _within_element(given: Arguments, *names: str) -> None:
    least, most = bounds(given.read("element"))
    for name in names:
        given.whole(name, least=least, most=most)


def _comparable(given: Arguments, *scales: str) -> None:
    """That the product of scales is a multiple of the output's that float32 has."""
    output, *found = (in_single(given.read(name)) for name in ("output_scale", *scales))
    finite = math.isfinite(multiplier(math.prod(found), output))
    given.demand(finite, "scales whose ratio is a number of float32", f"{found} and {output}")


def _neutral(given: Arguments, scale: str, *others: str) -> None:
    """That attributes without a meaning here have the numbers that do nothing."""
    given.read(scale, Real(least=1, most=1))
    for name in others:
        given.whole(name, least=0, most=0)
