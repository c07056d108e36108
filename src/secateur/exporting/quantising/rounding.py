"""Weights become whole numbers of eight bits, a scale for each output, so that what the layer gives changes least."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secateur.exporting.quantising.moments import Floats, Layer, Moments

MOST = 127
DAMPENING = 0.01
SWEEPS = 3
_SHRINKING = np.linspace(1.0, 0.7, 13, dtype=np.float32)
_BLOCK = 128


@dataclass(frozen=True, slots=True, eq=False)
class Rounded:
    """A layer's weights: numbers (groups, outputs, columns) of int8, scale (groups, outputs) of float32.

    biases: (groups, outputs), one for each use of the weights. error, signal: squared, of its outputs on the images for
    checks, over all uses: what eight bits change, and what varies.
    """

    numbers: NDArray[np.int8]
    scale: Floats
    biases: tuple[Floats, ...]
    error: float
    signal: float


def round_layer(layers: Sequence[Layer], uses: Sequence[Moments]) -> Rounded:
    """The weights that layers share, for all of their uses.

    For every output the best of four is taken, by the error on images that nothing was fitted to: scaled by the largest
    weight or by what rounding to the nearest changes least; rounded to the nearest or one after another, each to what
    is best beside the others (`refine`). Likewise whether the mean error goes into the bias. A layer too wide for
    second moments is rounded to the nearest.
    """
    weight = layers[0].weight
    found = [_checked(each, layers, uses) for each in _roundings(weight, uses)]
    errors = np.stack([each.errors for each in found])
    best = errors.argmin(0)
    numbers = _of_best(best, [each.numbers for each in found])
    scale = _of_best(best, [each.scale for each in found])
    biases = [_of_best(best, [each.biases[use] for each in found]) for use in range(len(uses))]
    signal = sum(float(aims.var(1, dtype=np.float64).sum()) for _, aims in (each.checks for each in uses))
    return Rounded(numbers.astype(np.int8), scale, tuple(biases), float(errors.min(0).sum()), signal)


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    numbers: Floats
    scale: Floats
    biases: Sequence[Floats]
    errors: NDArray[np.float64]


def _of_best(best: NDArray[np.intp], found: Sequence[Floats]) -> Floats:
    """For each output that of the candidate that is best for it."""
    chosen = best.reshape(best.shape + (1,) * (found[0].ndim - best.ndim))
    return np.take_along_axis(np.stack(found), chosen[None], 0)[0]


def _roundings(weight: Floats, uses: Sequence[Moments]) -> Iterator[tuple[Floats, Floats]]:
    """(numbers, scale)."""
    largest = largest_scale(weight)
    damped = _damped(weight, uses)
    if damped is None:
        yield _nearest(weight, largest), largest
        return
    closest = _least_squares_scale(weight, largest, damped[0])
    for scale in (largest,) if np.array_equal(largest, closest) else (largest, closest):
        nearest = _nearest(weight, scale)
        yield nearest, scale
        yield refine(nearest, scale, *damped, weight != 0), scale


def _damped(weight: Floats, uses: Sequence[Moments]) -> tuple[Floats, Floats] | None:
    """(gram, slope) over all uses; weights that the data says nothing of aim at what they were."""
    grams = [each.gram for each in uses if each.gram is not None]
    slopes = [each.slope for each in uses if each.slope is not None]
    if not grams:
        return None
    gram, slope = np.add.reduce(grams), np.add.reduce(slopes)
    diagonal = np.einsum("gii->gi", gram)
    level = diagonal.mean(1, keepdims=True)
    level = DAMPENING * np.where(level > 0, level, 1).astype(np.float32)
    diagonal = diagonal + level
    np.einsum("gii->gi", gram)[:] = diagonal
    return gram, slope + level[:, :, None] * weight


def largest_scale(weight: Floats) -> Floats:
    """(groups, outputs): such that the largest weight becomes 127; 1 where all are zero."""
    largest = np.abs(weight).max(2, initial=0)
    return np.where(largest > 0, np.maximum(largest / np.float32(MOST), np.finfo(np.float32).tiny), 1).astype(
        np.float32
    )


def _nearest(weight: Floats, scale: Floats) -> Floats:
    return np.clip(np.rint(weight / scale[..., None]), -MOST, MOST)


def _least_squares_scale(weight: Floats, largest: Floats, gram: Floats) -> Floats:
    """Such that rounding to the nearest changes least, as far as the diagonal of the moments says."""
    matters = np.einsum("gii->gi", gram)[:, None, :]
    scales = [largest * share for share in _SHRINKING]
    errors = [(matters * (_nearest(weight, each) * each[..., None] - weight) ** 2).sum(2) for each in scales]
    return _of_best(np.argmin(np.stack(errors), 0), scales)


def refine(numbers: Floats, scale: Floats, gram: Floats, slope: Floats, free: NDArray[np.bool_]) -> Floats:
    """numbers moved, one after another, each to the whole number that is best while the others stay as they are.

    What is lessened is w·H·w/2 − w·s of every output, w being its numbers times their scale, H the gram matrix and s
    the slope: so each error is made good by the weights that come after it, and what those leave by the next sweep.
    Weights that are not free stay as they are. (Coordinate descent as in QuantEase, Behdin et al. 2023: OBQ, Frantar &
    Alistarh 2022, asks for an inverse Hessian of each output's own, as each has its own zeros.)
    """
    step = scale[..., None]
    numbers = numbers.copy()
    left = slope - (numbers * step) @ gram
    columns = numbers.shape[2]
    for _ in range(SWEEPS):
        moved = False
        for start in range(0, columns, _BLOCK):
            part = slice(start, start + _BLOCK)
            here: Floats = left[..., part].astype(np.float32)  # a copy
            change = _refine_block(numbers[..., part], scale, gram[:, part, part], here, free[..., part])
            if change.any():
                moved = True
                numbers[..., part] += change
                left -= (change * step) @ gram[:, part, :]
        if not moved:
            break
    return numbers


def _refine_block(numbers: Floats, step: Floats, gram: Floats, left: Floats, free: NDArray[np.bool_]) -> Floats:
    """How some neighbouring columns change. left: (groups, outputs, columns), the slope left of each: is written to."""
    change = np.zeros_like(numbers)
    for column in range(numbers.shape[2]):
        before = numbers[..., column]
        wish = before + left[..., column] / (gram[:, None, column, column] * step)
        moved = (np.clip(np.rint(wish), -MOST, MOST) - before) * free[..., column]
        change[..., column] = moved
        left -= (moved * step)[..., None] * gram[:, None, column, :]
    return change


def _checked(found: tuple[Floats, Floats], layers: Sequence[Layer], uses: Sequence[Moments]) -> _Candidate:
    """With the better of two biases for every output, and its error, of each use."""
    numbers, scale = found
    weight = numbers * scale[..., None]
    biases, errors = [], np.zeros(scale.shape)
    for layer, use in zip(layers, uses, strict=True):
        rows, aims = use.checks
        apart = rows @ weight.swapaxes(1, 2) - aims
        moved: Floats = (use.wanted - (weight @ use.given[..., None])[..., 0]).astype(np.float32)
        options: list[Floats] = [layer.bias, moved]
        found_errors = [np.square(apart + each[:, None, :]).mean(1, dtype=np.float64) for each in options]
        best = np.argmin(np.stack(found_errors), 0)
        biases.append(_of_best(best, options))
        errors += np.minimum(*found_errors)
    return _Candidate(numbers, scale, biases, errors)
