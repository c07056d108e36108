"""What a layer of a graph is given and should give, as sums that its weights are rounded by."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What a layer is given for images of the same lengths, (N, …): x in float32, seen what is left in eight bits.
    layer: as it is at these."""

    layer: Layer
    x: Floats
    seen: Floats

    def part(self, start: int, stop: int | None) -> Given:
        return Given(self.layer, self.x[start:stop], self.seen[start:stop])


def gather_moments(given: Sequence[Given]) -> Moments:
    """given: calibration images, those of each lengths. The last eighth, of the images or of the lengths, is for the
    checks."""
    layer = given[0].layer
    groups, outputs, columns = layer.weight.shape
    mean_given, mean_wanted = np.zeros((groups, columns)), np.zeros((groups, outputs))
    narrow = columns if columns <= MOST_COLUMNS else 0
    gram = np.zeros((groups, narrow, narrow), np.float32)
    slope = np.zeros((groups, outputs, narrow), np.float32)
    count = 0
    fitted, checked = _parted(given)
    for own, exact in _rows_of(fitted, LEAST_ROWS + 2 * narrow):
        aim = _outputs(layer, exact)
        gram += own[..., :narrow].swapaxes(1, 2) @ own[..., :narrow]
        slope += aim.swapaxes(1, 2) @ own[..., :narrow]
        mean_given += own.sum(1, dtype=np.float64)
        mean_wanted += aim.sum(1, dtype=np.float64)
        count += own.shape[1]
    mean, aimed = (mean_given / count).astype(np.float32), (mean_wanted / count).astype(np.float32)
    if narrow:
        gram = gram / count - mean[:, :, None] * mean[:, None, :]
        slope = slope / count - aimed[:, :, None] * mean[:, None, :]
    pairs = list(_rows_of(checked, CHECKED_ROWS))
    rows = np.concatenate([own for own, _ in pairs], 1)
    aims = np.concatenate([_outputs(layer, exact) for _, exact in pairs], 1)
    return Moments(mean, aimed, gram if narrow else None, slope if narrow else None, (rows, aims))


def _parted(given: Sequence[Given]) -> tuple[Sequence[Given], Sequence[Given]]:
    """(those that weights are fitted to, those that they are checked on); the same ones where there are too few."""
    if len(given) > 1:
        last = max(1, len(given) // 8)
        return given[:-last], given[-last:]
    (only,) = given
    split = max(1, len(only.x) - len(only.x) // 8)
    return [only.part(0, split)], [only.part(split if split < len(only.x) else 0, None)]


def _rows_of(given: Sequence[Given], most: int) -> Iterator[tuple[Floats, Floats]]:
    """As `_rows`, of each lengths an equal share."""
    for each in given:
        yield from _rows(each.layer, each.seen, each.x, -(-most // len(given)))


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
