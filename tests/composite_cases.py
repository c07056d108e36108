"""Every composite on random arrays, beside what NumPy makes of the same arrays. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from secateur.network import composites
from secateur.network.building import Builder
from secateur.network.graph import Weight
from secateur.runtime import reference

Array = NDArray[np.floating]
RANDOM = np.random.default_rng(7)
MATRIX, VECTOR = RANDOM.normal(size=(6, 5)).astype(np.float32), RANDOM.normal(size=5).astype(np.float32)
KERNELS = RANDOM.normal(size=(4, 3, 3, 2)).astype(np.float32)
CUBES = RANDOM.normal(size=(4, 3, 2, 3, 2)).astype(np.float32)
LINES = RANDOM.normal(size=(3, 2, 3)).astype(np.float32)
SLOPE = np.array([0.25], np.float32)
SLOPES = np.array([0.25, -1, 2, 0], np.float32)
WINDOW: dict[str, Any] = {"padding": (0, 0, 0, 0), "stride": (1, 1), "dilation": (1, 1), "groups": 1}
POOL: dict[str, Any] = {"kernel": (3, 3), "stride": (2, 2)}


@dataclass(frozen=True)
class Case:
    """shape: of one image. made: the values for x. expected: what they are, for x (N, …)."""

    shape: tuple[int, ...]
    made: Callable[[Builder], str | Sequence[str]]
    expected: Callable[[Array], Array | list[Array]]


def cross_correlation(x: Array, kernels: Array) -> Array:
    windows = sliding_window_view(x, kernels.shape[2:], (2, 3))
    return np.einsum("nihwkl,oikl->nohw", windows, kernels)


def around(x: Array, top: int, bottom: int, left: int, right: int, value: float = 0.0) -> Array:
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def windows_of_3(x: Array) -> Array:
    return sliding_window_view(x, (3, 3), (2, 3))[:, :, ::2, ::2]


def _spectrum(build: Builder, asked: composites.Fourier, axis: int = 2) -> list[str]:
    real, imaginary = composites.transform(build, "x", None, axis, asked)
    assert imaginary is not None
    return [real, imaginary]


def _padded_convolution(build: Builder) -> str:
    """Zeros twice, all of them in the convolution's own padding then."""
    padded = composites.pad(build, composites.pad(build, "x", [(1, 0)]), [(0, 2), (1, 0)])
    assert isinstance(padded, composites.Padded)
    made = composites.conv2d(build, padded, {"weight": Weight.of(KERNELS)}, **WINDOW)
    assert [node.op for node in build.draft.nodes] == ["conv2d"]
    return made


def _same_convolution(build: Builder) -> str:
    padding = composites.same_padding((3, 2), (1, 1))
    return composites.conv2d(build, "x", {"weight": Weight.of(KERNELS)}, **{**WINDOW, "padding": padding})


def _with_zeros(build: Builder) -> str:
    return composites.laid_out(build, composites.pad(build, "x", [(1, 2), (0, 3)]))


def _pad_everywhere(build: Builder) -> str:
    made = composites.pad(build, "x", [(0, 0), (1, 0), (2, 1)])
    assert isinstance(made, str)
    return made


OVERLAPPING: dict[str, Any] = {
    "kernel": (2, 3), "stride": (2, 1), "padding": (1, 0, 1, 1), "dilation": (2, 1)
}  # fmt: skip


def _windows_and_back(build: Builder) -> list[str]:
    columns = composites.im2col(build, "x", **OVERLAPPING)
    return [columns, composites.fold(build, columns, size=(5, 4), **OVERLAPPING)]


def _sums_of_windows(x: Array) -> list[Array]:
    wide = around(x, 1, 0, 1, 1)
    seen = sliding_window_view(wide, (3, 3), (2, 3))[:, :, ::2, :, ::2, :]
    columns = seen.transpose(0, 1, 4, 5, 2, 3)
    total = np.zeros_like(wide)
    for row in range(seen.shape[2]):
        for column in range(seen.shape[3]):
            total[:, :, 2 * row : 2 * row + 3 : 2, column : column + 3] += seen[:, :, row, column]
    return [columns.reshape(len(x), 2 * 6, -1), total[:, :, 1:, 1:-1]]


def _spread(x: Array) -> Array:
    """Each of five inputs adds a kernel of three at every second place; one place is lost in front."""
    made = np.zeros((len(x), 2, 12))
    for at in range(5):
        made[:, :, 2 * at : 2 * at + 3] += np.einsum("ni,iok->nok", x[:, :, at], LINES)
    return made[:, :, 1:11]


def _normal(x: Array) -> Array:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 0.5)


def _unpooled(build: Builder) -> str:
    """The first numbers where the largest of windows were."""
    numbers = composites.cut(build, composites.cut(build, "x", 2, 0, 2), 3, 0, 2)
    return composites.unpool(build, numbers, composites.picks(build, "x", (2, 3)), (2, 3), (4, 7))


def _picked(x: Array) -> Array:
    return x[..., :6].reshape(-1, 2, 2, 2, 2, 3).transpose(0, 1, 2, 4, 3, 5).reshape(-1, 2, 2, 2, 6).argmax(-1)


def _put_back(x: Array) -> Array:
    made, picked = np.zeros_like(x), _picked(x)
    for image, channel, row, column in np.ndindex(picked.shape):
        down, right = divmod(picked[image, channel, row, column], 3)
        made[image, channel, 2 * row + down, 3 * column + right] = x[image, channel, row, column]
    return made


def _sampled(build: Builder) -> str:
    grid = composites.reshape(build, "x", (2, 3, 3))
    return composites.sample_space(build, "x", grid, mode="nearest", padding="border", aligned=True)


def _nearest(x: Array) -> Array:
    places = [np.clip(np.rint((x.reshape(-1, 6, 3)[..., 2 - axis] + 1) / 2 * (size - 1)), 0, size - 1).astype(int)
              for axis, size in enumerate((2, 3, 3))]  # fmt: skip
    made = [image[0][tuple(place[index] for place in places)] for index, image in enumerate(x)]
    return np.stack(made).reshape(-1, 1, 2, 3)


CASES: dict[str, Case] = {
    "distances": Case(
        (5, 3),
        lambda build: composites.distances(build, "x", "x", 2.0),
        lambda x: np.sqrt(np.square(x[:, :, None] - x[:, None]).sum(-1)),
    ),
    "unpool": Case((2, 4, 7), _unpooled, _put_back),
    "sample_space": Case((1, 2, 3, 3), _sampled, _nearest),
    "conv2d after pad": Case(
        (3, 5, 4), _padded_convolution, lambda x: cross_correlation(around(x, 1, 0, 1, 2), KERNELS)
    ),
    "conv2d with same_padding": Case(
        (3, 5, 4), _same_convolution, lambda x: cross_correlation(around(x, 1, 1, 0, 1), KERNELS)
    ),
    "matrix_product": Case(
        (3, 6),
        lambda build: composites.matrix_product(build, "x", Weight.of(MATRIX), Weight.of(VECTOR)),
        lambda x: x @ MATRIX + VECTOR,
    ),
    "picks": Case(
        (2, 4, 7),
        lambda build: composites.picks(build, "x", (2, 3)),
        _picked,
    ),
    "clamp from 0": Case((4,), lambda build: composites.clamp(build, "x", 0, None), lambda x: np.maximum(x, 0)),
    "clamp between others": Case(
        (4,), lambda build: composites.clamp(build, "x", -1, 1.5), lambda x: np.clip(x, -1, 1.5)
    ),
    "clamp to 6": Case((4,), lambda build: composites.clamp(build, "x", 0, 6), lambda x: np.clip(x, 0, 6)),
    "prelu": Case(
        (4, 3),
        lambda build: composites.prelu(build, "x", Weight.of(SLOPE)),
        lambda x: np.where(x < 0, 0.25 * x, x),
    ),
    "prelu of channels": Case(
        (4, 3),
        lambda build: composites.prelu(build, "x", Weight.of(SLOPES)),
        lambda x: np.where(x < 0, SLOPES[:, None] * x, x),
    ),
    "masked_fill with number_like": Case(
        (4,),
        lambda build: composites.masked_fill(build, "x", build.emit("less", "x", 0.5), -7),
        lambda x: np.where(x < 0.5, -7, x),
    ),
    "addcmul": Case((4,), lambda build: composites.addcmul(build, "x", "x", "x", 0.5), lambda x: x + 0.5 * x * x),
    "log_softmax": Case(
        (3, 4),
        lambda build: composites.log_softmax(build, "x", 1),
        lambda x: x - np.log(np.exp(x).sum(1, keepdims=True)),
    ),
    "any_of and all_of": Case(
        (3, 4),
        lambda build: [
            build.emit("cast", made, element="float32")
            for made in (
                composites.any_of(build, build.emit("less", "x", 2.0), (1,), keepdims=True),
                composites.all_of(build, composites.clamp(build, "x", 0, None), (2,), keepdims=False),
            )
        ],
        lambda x: [(x < 2).any(1, keepdims=True).astype(float), (x > 0).all(2).astype(float)],
    ),
    "glu": Case(
        (4, 6),
        lambda build: composites.glu(build, "x", 2),
        lambda x: x[:, :, :3] / (1 + np.exp(-x[:, :, 3:])),
    ),
    "max_pool2d, rounded up": Case(
        (2, 6, 6),
        lambda build: composites.max_pool2d(build, "x", **POOL, ceil=True),
        lambda x: windows_of_3(around(x, 0, 1, 0, 1, -np.inf)).max((4, 5)),
    ),
    "avg_pool2d, rounded up": Case(
        (2, 6, 6),
        lambda build: composites.avg_pool2d(build, "x", **POOL, ceil=True),
        lambda x: np.nanmean(windows_of_3(around(x, 0, 1, 0, 1, np.nan)), (4, 5)),
    ),
    "adaptive_max_pool": Case(
        (2, 6, 4),
        lambda build: composites.adaptive_max_pool(build, "x", (3, 2)),
        lambda x: x.reshape(-1, 2, 3, 2, 2, 2).max((3, 5)),
    ),
    "sum_over": Case(
        (2, 3, 4), lambda build: composites.sum_over(build, "x", (1, 3), keepdims=False), lambda x: x.sum((1, 3))
    ),
    "adaptive_avg_pool": Case(
        (2, 4, 6, 4),
        lambda build: composites.adaptive_avg_pool(build, "x", (2, None, 1)),
        lambda x: x.reshape(-1, 2, 2, 2, 6, 4).mean((3, 5))[..., None],
    ),
    "avg_pool": Case(
        (2, 6, 4),
        lambda build: composites.avg_pool(build, "x", [composites.Axis(3, 1), composites.Axis(2, 2)]),
        lambda x: sliding_window_view(x, (3, 2), (2, 3))[..., ::2, :, :].mean((4, 5)),
    ),
    "max_pool": Case(
        (2, 7),
        lambda build: composites.max_pool(build, "x", [composites.Axis(3, 2)]),
        lambda x: sliding_window_view(x, 3, 2)[:, :, ::2].max(-1),
    ),
    "convolution": Case(
        (3, 4, 5, 6),
        lambda build: composites.convolution(
            build, "x", {"weight": Weight.of(CUBES)}, [composites.Axis(2), composites.Axis(3), composites.Axis(2)]
        ),
        lambda x: np.einsum("nidhwabc,oiabc->nodhw", sliding_window_view(x, (2, 3, 2), (2, 3, 4)), CUBES),
    ),
    "transposed_convolution": Case(
        (3, 5),
        lambda build: composites.transposed_convolution(
            build, "x", {"weight": Weight.of(LINES)}, [composites.Axis(3, 2, 1, 1)], (1,)
        ),
        _spread,
    ),
    "space_shuffle": Case(
        (4, 3),
        lambda build: composites.space_shuffle(build, "x", (2,)),
        lambda x: x.reshape(-1, 2, 2, 3).swapaxes(2, 3).reshape(-1, 2, 6),
    ),
    "put": Case(
        (6, 2),
        lambda build: composites.put(build, "x", composites.cut(build, "x", 1, 0, 2), 1, 1, 5, 2),
        lambda x: np.stack([x[:, at] for at in (0, 0, 2, 1, 4, 5)], 1),
    ),
    "contraction": Case(
        (2, 3, 4),
        lambda build: composites.contraction(build, [("x", "abc"), ("x", "adc"), (Weight.of(MATRIX[:3]), "be")], "eda"),
        lambda x: np.einsum("nabc,nadc,be->neda", x, x, MATRIX[:3]),
    ),
    "product_from_left": Case(
        (2, 5, 3), lambda build: composites.product_from_left(build, Weight.of(MATRIX), "x"), lambda x: MATRIX @ x
    ),
    "norm_over": Case(
        (3, 4),
        lambda build: composites.norm_over(build, "x", (2,), 3.0, keepdims=False),
        lambda x: (np.abs(x) ** 3).sum(2) ** (1 / 3),
    ),
    "arctangent": Case(
        (3, 4),
        lambda build: composites.arctangent(build, build.emit("mul", "x", 3.0)),
        lambda x: np.arctan(3 * x),
    ),
    "arcsine": Case(
        (3, 4),
        lambda build: composites.arcsine(build, build.emit("tanh", "x")),
        lambda x: np.arcsin(np.tanh(x)),
    ),
    "arccosine": Case(
        (3, 4),
        lambda build: composites.arccosine(build, build.emit("tanh", "x")),
        lambda x: np.arccos(np.tanh(x)),
    ),
    "angle_of": Case(
        (2, 4),
        lambda build: composites.angle_of(build, "x", composites.flip(build, "x", (1, 2))),
        lambda x: np.arctan2(x, x[:, ::-1, ::-1]),
    ),
    "hypotenuse": Case(
        (2, 4),
        lambda build: composites.hypotenuse(build, "x", 2.0),
        lambda x: np.hypot(x, 2),
    ),
    "power": Case(
        (2, 4),
        lambda build: composites.power(build, build.emit("round", "x"), 3.0),
        lambda x: np.round(x) ** 3,
    ),
    "hyperbolic_sine": Case(
        (3, 4),
        lambda build: composites.hyperbolic_sine(build, build.emit("tanh", "x")),
        lambda x: np.sinh(np.tanh(x)),
    ),
    "hyperbolic_cosine": Case(
        (3, 4),
        lambda build: composites.hyperbolic_cosine(build, build.emit("tanh", "x")),
        lambda x: np.cosh(np.tanh(x)),
    ),
    "inverse_hyperbolic_sine": Case(
        (3, 4),
        lambda build: composites.inverse_hyperbolic_sine(build, "x"),
        lambda x: np.arcsinh(x),
    ),
    "inverse_hyperbolic_cosine": Case(
        (3, 4),
        lambda build: composites.inverse_hyperbolic_cosine(build, build.emit("exp", build.emit("abs", "x"))),
        lambda x: np.arccosh(np.exp(np.abs(x))),
    ),
    "inverse_hyperbolic_tangent": Case(
        (3, 4),
        lambda build: composites.inverse_hyperbolic_tangent(build, build.emit("tanh", "x")),
        lambda x: x,
    ),
    "log_sum_exp": Case(
        (3, 4),
        lambda build: composites.log_sum_exp(build, "x", (2,), keepdims=False),
        lambda x: np.log(np.exp(x).sum(2)),
    ),
    "rms_norm": Case(
        (3, 5),
        lambda build: composites.rms_norm(build, "x", 1, 0.5, Weight.of(VECTOR)),
        lambda x: x / np.sqrt((x**2).mean(-1, keepdims=True) + 0.5) * VECTOR,
    ),
    "group_norm": Case(
        (6, 2),
        lambda build: composites.group_norm(build, "x", 1, 3, 0.5, {}),
        lambda x: _normal(x.reshape(-1, 3, 4)).reshape(-1, 6, 2),
    ),
    "apart_from_zeros": Case(
        (2, 3),
        lambda build: composites.apart_from_zeros(build, composites.pad(build, "x", [(1, 2)]))[0],
        lambda x: x,
    ),
    "reshape": Case((2, 6), lambda build: composites.reshape(build, "x", (3, 4)), lambda x: x.reshape(-1, 3, 4)),
    "permute": Case(
        (2, 3, 4), lambda build: composites.permute(build, "x", (3, 1, 2)), lambda x: x.transpose(0, 3, 1, 2)
    ),
    "channel_shuffle": Case(
        (6, 2, 2), lambda build: composites.channel_shuffle(build, "x", 2), lambda x: x[:, [0, 3, 1, 4, 2, 5]]
    ),
    "pixel_shuffle": Case(
        (8, 2, 3),
        lambda build: composites.pixel_shuffle(build, "x", 2),
        lambda x: x.reshape(-1, 2, 2, 2, 2, 3).transpose(0, 1, 4, 2, 5, 3).reshape(-1, 2, 4, 6),
    ),
    "pixel_unshuffle": Case(
        (1, 4, 6),
        lambda build: composites.pixel_unshuffle(build, "x", 2),
        lambda x: np.stack([x[:, 0, i::2, j::2] for i in (0, 1) for j in (0, 1)], 1),
    ),
    "broadcast": Case(
        (1, 3), lambda build: composites.broadcast(build, "x", (2, 3)), lambda x: np.broadcast_to(x, (len(x), 2, 3))
    ),
    "broadcast whole numbers and truth values": Case(
        (1, 3),
        lambda build: [
            build.emit(
                "cast",
                composites.broadcast(build, build.emit("cast", "x", element=element), (2, 3)),
                element="float32",
            )
            for element in ("int64", "bool")
        ],
        lambda x: [np.broadcast_to(each, (len(x), 2, 3)) for each in (np.trunc(x), np.ones_like(x))],
    ),
    "take": Case((2, 5), lambda build: composites.take(build, "x", 2, [3, 0, 3]), lambda x: x[:, :, [3, 0, 3]]),
    "roll": Case(
        (4, 5), lambda build: composites.roll(build, "x", (6, -2), (1, 2)), lambda x: np.roll(x, (6, -2), (1, 2))
    ),
    "flip": Case((4, 5), lambda build: composites.flip(build, "x", (1, 2)), lambda x: x[:, ::-1, ::-1]),
    "repeat": Case(
        (2, 3), lambda build: composites.repeat(build, "x", (2, 1, 3)), lambda x: np.tile(x[:, None], (2, 1, 3))
    ),
    "repeat_each": Case((2, 3), lambda build: composites.repeat_each(build, "x", 1, 3), lambda x: x.repeat(3, 1)),
    "reflection_pad, replication_pad and circular_pad": Case(
        (2, 4, 3),
        lambda build: [
            padded(build, "x", [(2, 1), (0, 3)])
            for padded in (composites.reflection_pad, composites.replication_pad, composites.circular_pad)
        ],
        lambda x: [np.pad(x, ((0, 0), (0, 0), (0, 3), (2, 1)), mode) for mode in ("reflect", "edge", "wrap")],
    ),
    "pad with another number, and less than none": Case(
        (2, 4),
        lambda build: composites.laid_out(build, composites.pad(build, "x", [(-1, 2), (1, -1)], 0.5)),
        lambda x: np.pad(x[:, :1, 1:], ((0, 0), (1, 0), (0, 2)), constant_values=0.5),
    ),
    "running": Case(
        (2, 5),
        lambda build: composites.running(build, "x", 2, lambda here, before: build.emit("add", here, before)),
        lambda x: x.cumsum(2),
    ),
    "along_axis": Case(
        (5, 3),
        lambda build: composites.along_axis(build, "x", 1, Weight.of(MATRIX)),
        lambda x: np.einsum("oi,nij->noj", MATRIX, x),
    ),
    "transform": Case(
        (3, 6),
        lambda build: _spectrum(build, composites.Fourier(half=True)),
        lambda x: [np.fft.rfft(x).real, np.fft.rfft(x).imag],
    ),
    "transform, with zeros at its end": Case(
        (6, 3),
        lambda build: _spectrum(build, composites.Fourier(size=8, norm="ortho"), 1),
        lambda x: [np.fft.fft(x, 8, 1, "ortho").real, np.fft.fft(x, 8, 1, "ortho").imag],
    ),
    "resize": Case(
        (2, 3),
        lambda build: composites.resize(build, "x", (6,), "nearest"),
        lambda x: x.repeat(2, 2),
    ),
    "unfold": Case(
        (2, 7),
        lambda build: composites.unfold(build, "x", 2, 3, 2),
        lambda x: sliding_window_view(x, 3, 2)[:, :, ::2],
    ),
    "im2col and fold": Case((2, 5, 4), _windows_and_back, _sums_of_windows),
    "cut": Case((2, 5), lambda build: composites.cut(build, "x", 2, 1, 4), lambda x: x[:, :, 1:4]),
    "split": Case((5, 2), lambda build: composites.split(build, "x", 1, [2, 3]), lambda x: [x[:, :2], x[:, 2:]]),
    "select": Case((3, 4), lambda build: composites.select(build, "x", 2, 1), lambda x: x[:, :, 1]),
    "unbind": Case((3, 4), lambda build: composites.unbind(build, "x", 1), lambda x: [x[:, i] for i in range(3)]),
    "every, of others": Case((5, 2), lambda build: composites.every(build, "x", 1, 2), lambda x: x[:, ::2]),
    "every": Case((2, 5, 4), lambda build: composites.every(build, "x", 2, 2), lambda x: x[:, :, ::2]),
    "stack": Case((3, 4), lambda build: composites.stack(build, ["x", "x"], 2), lambda x: np.stack([x, x], 2)),
    "laid_out": Case((2, 3, 3), _with_zeros, lambda x: around(x, 0, 3, 1, 2)),
    "pad": Case((2, 3, 2), _pad_everywhere, lambda x: np.pad(x, ((0, 0), (2, 1), (1, 0), (0, 0)))),
}


def distance(name: str) -> float:
    """How far what the reference computes is from what NumPy says, at most."""
    case, build = CASES[name], Builder()
    x = np.random.default_rng(3).normal(0, 3, (2, *case.shape)).astype(np.float32)
    build.input("x", case.shape)
    made, expected = case.made(build), case.expected(x.astype(np.float64))
    values = [made] if isinstance(made, str) else made
    arrays = expected if isinstance(expected, list) else [expected]
    found = reference.run_all(build.graph(values), {"x": x})
    assert [each.shape for each in found] == [each.shape for each in arrays], name
    return max(float(np.abs(one - other).max()) for one, other in zip(found, arrays, strict=True))
