"""What a layer of a graph is given and should give, as sums that its weights are rounded by."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from secateur.network.graph import Node

Floats = NDArray[np.float32]

LEAST_ROWS, CHECKED_ROWS = 2048, 1024
LEAST_IMAGES = 64
MOST_COLUMNS = 8192
_PIECE = 1 << 24
"""Numbers of rows at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """The weights of a convolution or fully connected layer as matrices.

    weight: (groups, outputs, columns). bias: (groups, outputs). kernel: rows and columns of a convolution's.
    """

    node: Node
    weight: Floats
    bias: Floats
    kernel: tuple[int, ...] = ()

    @property
    def columns(self) -> int:
        return self.weight.shape[2]

    @property
    def positions(self) -> int:
        """Rows of an image."""
        outputs = self.weight.shape[0] * self.weight.shape[1]
        return math.prod(self.node.shape) // max(1, outputs)

    @property
    def images(self) -> int:
        """How many are enough for its moments."""
        return max(LEAST_IMAGES, -(-(LEAST_ROWS + 2 * self.columns) // max(1, self.positions)))


def layer_of(node: Node, weight: Floats, bias: Floats | None) -> Layer:
    groups = node.whole("groups") if node.op == "conv2d" else 1
    matrices = weight.reshape(groups, len(weight) // groups, -1)
    offsets = np.zeros(len(weight), np.float32) if bias is None else bias
    return Layer(node, matrices, offsets.reshape(groups, -1), weight.shape[2:])


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Means over rows: X, what the layer is given in eight bits, and Y, what it gives in float32.

    given, wanted: the means (groups, columns), (groups, outputs). gram: (groups, columns, columns), the covariances of
    X. slope: (groups, outputs, columns), those of Y with X; both None for more than MOST_COLUMNS. checks: rows of other
    images and what is wanted there.
    """

    given: Floats
    wanted: Floats
    gram: Floats | None
    slope: Floats | None
    checks: tuple[Floats, Floats]


def of_images(layer: Layer, given: Sequence[Floats]) -> tuple[Layer, Floats]:
    """What a layer is given, (N, …), of images whose lengths differ: of a matrix every row as an image of its own, of
    planes those of the first lengths. given: (n, …) of each lengths; of the layer's own first."""
    if len(given) == 1 or layer.node.op != "linear":
        return layer, given[0][: layer.images]
    apart = replace(layer, node=replace(layer.node, shape=layer.node.shape[-1:]))
    return apart, np.concatenate([each.reshape(-1, layer.columns) for each in given])


def gather_moments(layer: Layer, x: Floats, seen: Floats) -> Moments:
    """x: (N, …) of calibration images as the layer has it in float32; seen: what is left of it in eight bits.

    The last eighth of the images is for the checks.
    """
    split = max(1, len(x) - len(x) // 8)
    groups, outputs, columns = layer.weight.shape
    given, wanted = np.zeros((groups, columns)), np.zeros((groups, outputs))
    narrow = columns if columns <= MOST_COLUMNS else 0
    gram = np.zeros((groups, narrow, narrow), np.float32)
    slope = np.zeros((groups, outputs, narrow), np.float32)
    count = 0
    for own, exact in _rows(layer, seen[:split], x[:split], LEAST_ROWS + 2 * narrow):
        aim = _outputs(layer, exact)
        gram += own[..., :narrow].swapaxes(1, 2) @ own[..., :narrow]
        slope += aim.swapaxes(1, 2) @ own[..., :narrow]
        given += own.sum(1, dtype=np.float64)
        wanted += aim.sum(1, dtype=np.float64)
        count += own.shape[1]
    mean, aimed = (given / count).astype(np.float32), (wanted / count).astype(np.float32)
    if narrow:
        gram = gram / count - mean[:, :, None] * mean[:, None, :]
        slope = slope / count - aimed[:, :, None] * mean[:, None, :]
    rest = (split if split < len(x) else 0, None)
    checked = list(_rows(layer, seen[slice(*rest)], x[slice(*rest)], CHECKED_ROWS))
    rows = np.concatenate([own for own, _ in checked], 1)
    aims = np.concatenate([_outputs(layer, exact) for _, exact in checked], 1)
    return Moments(mean, aimed, gram if narrow else None, slope if narrow else None, (rows, aims))


def _outputs(layer: Layer, rows: Floats) -> Floats:
    """(groups, rows, outputs) in float32."""
    return rows @ layer.weight.swapaxes(1, 2) + layer.bias[:, None, :]


def _rows(layer: Layer, seen: Floats, x: Floats, most: int) -> Iterator[tuple[Floats, Floats]]:
    """Rows (groups, n, columns) of both, at the same places: some of all, spread evenly, piece by piece."""
    total = len(x) * layer.positions
    places = np.unique(np.linspace(0, total - 1, min(total, most)).astype(np.int64))
    both = _patches(layer, seen), _patches(layer, x)
    some = max(1, _PIECE // max(1, layer.weight.shape[0] * layer.columns))
    for start in range(0, len(places), some):
        one, other = (_taken(layer, each, places[start : start + some]) for each in both)
        yield one, other


def _patches(layer: Layer, x: Floats) -> Floats:
    """What each position sees, as a view: (N, rows, columns, groups, channels, taps…), of a matrix (N, …, F) itself."""
    if layer.node.op == "linear":
        return x
    node, groups = layer.node, layer.weight.shape[0]
    top, bottom, left, right = node.numbers("padding")
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    stride, dilation = node.numbers("stride"), node.numbers("dilation")
    n, c, h, w = padded.strides
    inner = x.shape[1] // groups
    return as_strided(
        padded,
        (len(x), *node.shape[1:], groups, inner, *layer.kernel),
        (n, h * stride[0], w * stride[1], c * inner, c, h * dilation[0], w * dilation[1]),
        writeable=False,
    )


def _taken(layer: Layer, patches: Floats, places: NDArray[np.int64]) -> Floats:
    if layer.node.op == "linear":
        return patches.reshape(-1, layer.columns)[places][None]
    images, rows, columns = np.unravel_index(places, patches.shape[:3])
    found = patches[images, rows, columns]
    return np.ascontiguousarray(found.reshape(len(places), layer.weight.shape[0], -1).swapaxes(0, 1))
