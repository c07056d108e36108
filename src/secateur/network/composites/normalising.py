"""Normalisations, and the lengths of vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping

from secateur.network.building import Builder, filled
from secateur.network.composites.arithmetic import sum_over
from secateur.network.composites.failing import CompositeError
from secateur.network.composites.moves import permute, reshape
from secateur.network.graph import Shape, Weight
from secateur.network.sizes import Dimension, is_whole, quotient


def norm_over(build: Builder, value: str, axes: Shape, order: float, *, keepdims: bool) -> str:
    """(Σ |x|^order)^(1/order) over axes; for an order of ±∞ the largest or smallest |x|."""
    if order == 2:
        squares = sum_over(build, build.emit("mul", value, value), axes, keepdims=keepdims)
        return build.emit("sqrt", squares)
    size = build.emit("abs", value)
    if math.isinf(order):
        return build.emit("amax" if order > 0 else "amin", size, axes=axes, keepdims=keepdims)
    if order == 0:
        raise CompositeError("of order 0 is not supported: it counts numbers that are not 0")
    raised = size if order == 1 else build.emit("pow", size, exponent=order)
    made = sum_over(build, raised, axes, keepdims=keepdims)
    return made if order == 1 else build.emit("pow", made, exponent=1 / order)


def distances(build: Builder, value: str, others: str, order: float) -> str:
    """How far rows of numbers are from others, as norm_over has it: (…, M) and (R, M), or (…, P, M) and (…, R, M).

    Gives (…, R) or (…, P, R). Of many rows Euclidean ones come from squares and products, as PyTorch's do.
    """
    one, other = build.shape(value), build.shape(others)
    if order == 2 and any(not is_whole((size,)) or size > _FEW for size in (*one[-2:-1], *other[-2:-1])):
        rows = reshape(build, value, (1, *one) if len(one) == 1 else one)
        return _euclidean(build, rows, others, (*one[:-1], other[-2]))
    others = reshape(build, others, (*other[:-2], 1, *other[-2:]) if len(one) > 1 else other)
    apart = build.emit("sub", reshape(build, value, (*one[:-1], 1, one[-1])), others)
    return norm_over(build, apart, (len(build.shape(apart)),), order, keepdims=False)


_FEW = 25


def _euclidean(build: Builder, rows: str, others: str, shape: Shape) -> str:
    """√(a² + b² − 2ab) for every row a and every other b."""
    own, theirs = (
        sum_over(build, build.emit("mul", each, each), (len(build.shape(each)),), keepdims=True)
        for each in (rows, others)
    )
    rank = len(build.shape(theirs))
    turned = permute(build, theirs, (*range(1, rank - 1), rank, rank - 1))
    product = build.emit("mul", build.emit("matmul", rows, others, transposed=True), 2.0)
    squares = build.emit("sub", build.emit("add", own, turned), product)
    return reshape(build, build.emit("sqrt", build.emit("relu", squares)), shape)


def rms_norm(build: Builder, value: str, axes: int, eps: float, weight: Weight | None = None) -> str:
    """x / √(mean x² + eps) · weight over so many last axes (Zhang & Sennrich 2019)."""
    rank = len(build.shape(value))
    over = tuple(range(rank - axes + 1, rank + 1))
    squares = build.emit("mean", build.emit("mul", value, value), axes=over, keepdims=True)
    made = build.emit("mul", value, build.emit("rsqrt", build.emit("add", squares, eps)))
    return made if weight is None else build.emit("mul", made, weight)


def group_norm(
    build: Builder, value: str, axis: int, groups: Dimension, eps: float, weights: Mapping[str, Weight]
) -> str:
    """Of (…, C, *space), C at an axis: each group of channels by its own moments, then scaled and shifted by channel.

    weights: "weight" and "bias", of C each, if there are such. Wu & He 2018; groups of one: Ulyanov et al. 2016.
    """
    shape = build.shape(value)
    around, rest = shape[: axis - 1], math.prod(shape[axis - 1 :])
    apart = reshape(build, value, (*around, groups, quotient(rest, groups, exact=True)))
    made = reshape(build, build.emit("layer_norm", apart, axes=1, eps=eps), shape)
    if not weights:
        return made
    if axis == 1:
        count = weights[next(iter(weights))].count
        still = {"mean": filled((count,), 0), "variance": filled((count,), 1)}
        return build.emit("batch_norm", made, weights={**still, **weights}, eps=0.0)
    for op, role in (("mul", "weight"), ("add", "bias")):
        if role in weights:
            along = (weights[role].count, *[1] * (len(shape) - axis))
            made = build.emit(op, made, build.reshaped(weights[role], along))
    return made
