"""What a layer is given, as a matrix, and the sums over it that second-order methods need.

A row of the matrix is what one output position sees: the inputs of a linear layer, or a convolution's patch. So
the layer is rows × weightᵀ, and a convolution is no special case beyond this file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from secateur.errors import PruneError
from secateur.modules.guarding import run, watched
from secateur.modules.inputs import Example, as_inputs
from secateur.modules.matrices import SCALE, Matrix
from secateur.modules.uses import Use, listening

ROWS_BYTES = 1 << 26
LEAST_BLOCK, MOST_BLOCKS = 128, 8
"""Columns of a block of XᵀX, and blocks in a row of them: those below the diagonal are not multiplied."""
DOUBLE_COLUMNS = 4096
MOST_COLUMNS = 16384
_NO_MATRIX = (nn.Embedding, nn.EmbeddingBag)


def columns_of(layer: Matrix) -> int:
    """The inputs of one output position of one group."""
    return layer.axes.turned(layer.weight)[0].numel()


def as_matrices(layer: Matrix, values: Tensor) -> Tensor:
    """Values shaped as the layer's weight, as (groups, outputs per group, columns); a view where possible."""
    return layer.axes.turned(values).reshape(layer.axes.groups, -1, columns_of(layer))


def from_matrices(layer: Matrix, values: Tensor) -> Tensor:
    """The inverse of as_matrices."""
    shape = layer.weight.shape
    turned = layer.axes.turned(torch.empty(shape, device="meta")).shape
    return layer.axes.turned_back(values.reshape(turned), shape)


def check_supported(name: str, layer: Matrix) -> None:
    """Raises PruneError for a layer whose inputs form no matrix, or too wide a one."""
    if layer.kind.role == SCALE or isinstance(layer.module, _NO_MATRIX) or not layer.axes.known:
        raise PruneError(
            f"layer {name!r}: expected a linear layer or a convolution to gather the inputs of, got "
            f"{type(layer.module).__name__}; exclude it or take another method"
        )
    if columns_of(layer) > MOST_COLUMNS:
        raise PruneError(
            f"layer {name!r}: expected at most {MOST_COLUMNS} inputs for each output, got {columns_of(layer)}, whose "
            "second moments would not fit into memory; exclude it or take another method"
        )


def outputs_by_position(use: Use) -> Tensor:
    """(groups, positions, outputs) of what a layer gives: of the groups that took part."""
    if use.output is not None:
        return _by_position(use.matrix, use.output)
    return torch.cat([_multiplied(use, part) for part in rows(use)], 1)


def _multiplied(use: Use, rows_given: Tensor) -> Tensor:
    """What a product gives, with its bias where that is added."""
    groups = slice(*use.groups)
    found = rows_given @ as_matrices(use.matrix, use.matrix.weight)[groups].transpose(1, 2)
    bias = use.matrix.bias if use.biased else None
    return found if bias is None else found + bias.view(use.matrix.axes.groups, 1, -1)[groups]


def _by_position(layer: Matrix, output: Tensor) -> Tensor:
    """An output (N, …, outputs), or a convolution's (N, channels, …), as (groups, N × positions, channels of one)."""
    if not isinstance(layer.module, _ConvNd):
        return output.reshape(-1, output.shape[-1])[None]
    images = output if output.dim() == len(layer.module.kernel_size) + 2 else output[None]
    grouped = torch.unflatten(images.flatten(2), 1, (layer.axes.groups, -1))  # (N, groups, channels each, positions)
    return grouped.permute(1, 0, 3, 2).flatten(1, 2)


def rows(use: Use) -> Iterator[Tensor]:
    """(groups, positions, columns) of what the layer is given, some images at a time, 64 MiB at most where possible."""
    module = use.matrix.module
    if isinstance(module, _ConvNd):
        yield from _patches_in_parts(use.matrix, use.given[0])
        return
    flat = _outer(*use.given) if isinstance(module, nn.Bilinear) else use.given[0]
    flat = flat.reshape(-1, flat.shape[-1])
    taking_part = use.groups[1] - use.groups[0]
    for part in torch.split(flat, max(1, ROWS_BYTES // (4 * flat.shape[1]))):
        yield part.expand(taking_part, *part.shape)


def _outer(one: Tensor, other: Tensor) -> Tensor:
    """What a bilinear layer is linear in: every product of an entry of one and an entry of the other."""
    return (one[..., :, None] * other[..., None, :]).flatten(-2)


def _patches_in_parts(layer: Matrix, given: Tensor) -> Iterator[Tensor]:
    assert isinstance(layer.module, _ConvNd)
    images = given if given.dim() == len(layer.module.kernel_size) + 2 else given[None]
    bytes_each = 4 * columns_of(layer) * layer.axes.groups * images[0, 0].numel()
    for part in torch.split(images, max(1, ROWS_BYTES // bytes_each)):
        if layer.module.transposed:
            yield _patches_of_transposed(layer.module, part, columns_of(layer))
        else:
            yield _patches(layer.module, part, columns_of(layer))


def _patches(layer: _ConvNd, images: Tensor, columns: int) -> Tensor:
    """Unfolding: (N, channels, …) → (groups, N × positions, channels per group × taps)."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    seen = F.pad(images, layer._reversed_padding_repeated_twice, mode=mode)
    return _unfolded(layer, seen, layer.stride, columns)


def _patches_of_transposed(layer: _ConvNd, images: Tensor, columns: int) -> Tensor:
    """Likewise of a transposed convolution, which is one of stride 1 over its input with zeros in between, its taps in
    reverse."""
    spread, padding = images, list[int]()
    for axis, step in enumerate(layer.stride):
        spread = _spread(spread, 2 + axis, step)
    assert isinstance(layer.padding, tuple)
    reach = zip(layer.kernel_size, layer.dilation, layer.padding, layer.output_padding, strict=True)
    for size, dilation, cropped, more in reversed(list(reach)):
        edge = dilation * (size - 1) - cropped
        padding += [edge, edge + more]
    seen = F.pad(spread, padding)
    spatial = len(layer.kernel_size)
    taps = torch.unflatten(_unfolded(layer, seen, (1,) * spatial, columns), 2, (-1, *layer.kernel_size))
    return taps.flip(tuple(range(3, 3 + spatial))).flatten(2)


def _spread(values: Tensor, axis: int, step: int) -> Tensor:
    """With step - 1 zeros between every two along an axis."""
    between = values.new_zeros(*values.shape[: axis + 1], step - 1, *values.shape[axis + 1 :])
    spread = torch.cat([values.unsqueeze(axis + 1), between], axis + 1).flatten(axis, axis + 1)
    return spread.narrow(axis, 0, (values.shape[axis] - 1) * step + 1)


def _unfolded(layer: _ConvNd, seen: Tensor, stride: Sequence[int], columns: int) -> Tensor:
    if len(layer.kernel_size) == 2:  # positions innermost: what is copied lies together
        taken = F.unfold(seen, layer.kernel_size, layer.dilation, 0, tuple(stride))  # (N, channels × taps, positions)
        apart = torch.unflatten(taken, 1, (layer.groups, columns))
        return apart.permute(1, 2, 0, 3).reshape(layer.groups, columns, -1).transpose(1, 2)
    for axis, (size, step, dilation) in enumerate(zip(layer.kernel_size, stride, layer.dilation, strict=True)):
        seen = seen.unfold(2 + axis, dilation * (size - 1) + 1, step)[..., ::dilation]
    spatial = len(layer.kernel_size)
    seen = torch.unflatten(seen, 1, (layer.groups, -1))  # (N, groups, channels per group, positions…, taps…)
    positions, taps = range(3, 3 + spatial), range(3 + spatial, 3 + 2 * spatial)
    return seen.permute(1, 0, *positions, 2, *taps).reshape(layer.groups, -1, columns)


class Products:
    """XᵀX of rows X that come some at a time, and YᵀX where outputs Y come beside them.

    counts: (groups,), rows of each group. target: (groups, outputs, columns), YᵀX. Rows are held until they are as many
    as columns, where those fit into ROWS_BYTES: one large product takes half as long as many small ones. dtype: of the
    sums, by default moment_dtype of the columns.
    """

    def __init__(
        self,
        groups: int,
        columns: int,
        device: torch.device,
        outputs: int = 0,
        dtype: torch.dtype | None = None,
    ) -> None:
        dtype = dtype or moment_dtype(columns)
        self.counts = torch.zeros(groups, dtype=torch.int64)
        self._gram = torch.zeros(groups, columns, columns, dtype=dtype, device=device)
        self._target = torch.zeros(groups, outputs, columns, dtype=dtype, device=device)
        self._rows, self._outputs = list[Tensor](), list[Tensor]()
        self._part = slice(0)
        wide = max(LEAST_BLOCK, math.ceil(columns / MOST_BLOCKS))
        self._blocks = [slice(first, first + wide) for first in range(0, columns, wide)]

    @staticmethod
    def bytes_of(groups: int, columns: int) -> int:
        """What XᵀX takes, with the rows that are held."""
        gram = groups * columns**2
        return gram * moment_dtype(columns).itemsize + min(ROWS_BYTES, 4 * gram)

    def add(self, x: Tensor, part: slice, y: Tensor | None = None) -> None:
        """Rows (groups, positions, columns) of a part of the groups, with outputs (groups, positions, outputs)."""
        x, y = _exact(x), None if y is None else _exact(y)
        if part != self._part:
            self._sum()
        self._part = part
        self.counts[part] += x.shape[1]
        held = x.shape[1] + sum(each.shape[1] for each in self._rows)
        enough = held >= x.shape[2] or held * x.shape[0] * x.shape[2] * x.element_size() > ROWS_BYTES // 2
        self._rows.append(x if enough else x.clone())  # what it is given may change
        if y is not None:
            self._outputs.append(y if enough else y.clone())
        if enough:
            self._sum()

    @property
    def gram(self) -> Tensor:
        """(groups, columns, columns)."""
        self._sum()
        for block in self._blocks:
            self._gram[:, block.stop :, block] = self._gram[:, block, block.stop :].transpose(1, 2)
        return self._gram

    @property
    def target(self) -> Tensor:
        self._sum()
        return self._target

    def _sum(self) -> None:
        if not self._rows:
            return
        x = _joined(self._rows)
        y = _joined(self._outputs) if self._outputs else None
        self._rows, self._outputs = [], []
        turned = x.transpose(1, 2)
        for block in self._blocks:
            _add(self._gram[self._part, block, block.start :], turned[:, block], x[:, :, block.start :])
        if y is not None:
            _add(self._target[self._part], y.transpose(1, 2), x)


def _add(sums: Tensor, one: Tensor, other: Tensor) -> None:
    """A product to sums, without a place of its own where both are of one precision."""
    if sums.dtype == one.dtype == other.dtype:
        sums.baddbmm_(one, other)
    else:
        sums += one @ other


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _exact(values: Tensor) -> Tensor:
    """In float32 where they have half of it: sums of their products would be off, or beyond all numbers."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


@dataclass(slots=True)
class Moments:
    """Sums over a layer's rows: counts (groups,) of them; squares (groups, columns); products, where asked for."""

    counts: Tensor
    squares: Tensor
    products: Products | None

    @property
    def mean_squares(self) -> Tensor:
        return means(self.squares, self.counts)

    @property
    def hessian(self) -> Tensor:
        """XᵀX / n: half the Hessian of the mean squared output error, the same for every output."""
        assert self.products is not None
        return means(self.products.gram, self.products.counts)


def means(sums: Tensor, counts: Tensor) -> Tensor:
    """Sums (groups, …) over so many rows each."""
    return sums / counts.clamp(min=1).to(sums).view(-1, *[1] * (sums.dim() - 1))


def gather_moments(
    network: nn.Module, layers: Mapping[str, Matrix], inputs: Iterable[Example], products: bool = True
) -> dict[str, Moments]:
    """The moments of what some layers are given as the network runs over batches of inputs, in evaluation mode.

    Raises PruneError for a layer that is given nothing, as it never runs.
    """
    found = {name: _empty(layer, products) for name, layer in layers.items()}

    def add(name: str, use: Use) -> None:
        moments, groups = found[name], slice(*use.groups)
        for part in rows(use):
            moments.counts[groups] += part.shape[1]
            if moments.products is not None:
                moments.products.add(part, groups)
            else:
                moments.squares[groups] += _exact(part).square().sum(1)

    with watched(network), listening(network, layers, add):
        for batch in inputs:
            run(network, as_inputs(batch, network, "calibration batch"))
    for name, moments in found.items():
        if not bool(moments.counts.all()):
            raise PruneError(
                f"layer {name!r}: expected it to run on the calibration images, but it is given nothing (unused, or "
                "its weight is changed before it is multiplied); exclude it or take another method"
            )
        if moments.products is not None:
            moments.squares = moments.products.gram.diagonal(dim1=1, dim2=2).clone()
    return found


def moment_dtype(columns: int) -> torch.dtype:
    """Double precision where a square matrix of it is of moderate size."""
    return torch.float64 if columns <= DOUBLE_COLUMNS else torch.float32


def _empty(layer: Matrix, products: bool) -> Moments:
    groups, columns, device = layer.axes.groups, columns_of(layer), layer.weight.device
    return Moments(
        torch.zeros(groups, dtype=torch.int64),
        torch.zeros(groups, columns, dtype=torch.float64, device=device),
        Products(groups, columns, device) if products else None,
    )


def damped_inverse(hessian: Tensor, dampening: float) -> Tensor:
    """(H + λI)⁻¹ of (…, d, d), λ being `dampening` times the mean of H's diagonal; by Cholesky.

    Inputs that are always zero get the curvature λ. Raises PruneError where H is not finite.
    """
    return torch.cholesky_inverse(damped_cholesky(hessian, dampening))


def damped_cholesky(hessian: Tensor, dampening: float) -> Tensor:
    """L with L Lᵀ = H + λI; λ grows tenfold while rounding keeps that from being positive definite."""
    if not bool(torch.isfinite(hessian).all()):
        raise PruneError(
            "the second moments of a layer's inputs are not finite: mend the network or its calibration images"
        )
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    level = diagonal.mean(-1, keepdim=True)
    level = torch.where(level > 0, level, torch.ones_like(level))
    for _ in range(8):
        raised = hessian.clone()
        raised.diagonal(dim1=-2, dim2=-1).add_(dampening * level)
        factor, failed = torch.linalg.cholesky_ex(raised)
        if not bool(failed.any()):
            return factor
        dampening *= 10
    raise PruneError("the second moments of a layer's inputs cannot be inverted: take more calibration images")
