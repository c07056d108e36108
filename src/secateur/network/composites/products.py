"""Products over letters, as einsum writes them, spelled with products of matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from secateur.network.building import Builder
from secateur.network.composites.arithmetic import sum_over
from secateur.network.composites.failing import CompositeError
from secateur.network.composites.moves import permute, reshape, take
from secateur.network.graph import Weight
from secateur.network.sizes import is_whole


def product_from_left(build: Builder, matrix: Weight, value: str) -> str:
    """W @ x with W (O, I) and x (…, I, N): a linear layer along the axis before the last."""
    rank = len(build.shape(value))
    order = (*range(1, rank - 1), rank, rank - 1)
    turned = permute(build, value, order)
    return permute(build, build.emit("linear", turned, weights={"weight": matrix}), order)


Term = tuple[str | Weight, str]
"""A value, or a weight, and the letters of its axes."""


def contraction(build: Builder, terms: Sequence[Term], wanted: str) -> str:
    """Products of terms summed over every letter that is not wanted; the wanted ones in their order.

    A weight times a value without a letter that both have and that is wanted is a linear layer. Of a letter that stands
    twice in a term the diagonal is taken.
    """
    terms = [_off_diagonals(build, *term) for term in terms]
    (first, seen), *others = sorted(terms, key=lambda term: isinstance(term[0], Weight))
    left = build.value(first)
    for at, (right, letters) in enumerate(others, 1):
        later = {*wanted, *(each for _, more in others[at:] for each in more)}
        kept = "".join(each for each in dict.fromkeys(seen + letters) if each in later)
        left, seen = _of_two(build, (left, seen), (right, letters), kept), kept
    return _ordered(build, *_summed(build, left, seen, wanted), wanted)


def _off_diagonals(build: Builder, held: str | Weight, letters: str) -> Term:
    """A term in which each letter stands once."""
    doubled = next((each for each in letters if letters.count(each) > 1), None)
    if doubled is None:
        return held, letters
    rest = letters.replace(doubled, "", 2)
    order = [letters.index(doubled), letters.index(doubled, letters.index(doubled) + 1)]
    order += [at for at, each in enumerate(letters) if at not in order]
    turned = permute(build, build.value(held), tuple(at + 1 for at in order))
    size, _, *shape = build.shape(turned)
    if not is_whole((size,)):
        raise CompositeError(f"of a diagonal as long as a length ({size}) is not supported")
    flat = reshape(build, turned, (size * size, *shape))
    return _off_diagonals(build, take(build, flat, 1, [at * (size + 1) for at in range(size)]), doubled + rest)


def _of_two(build: Builder, one: tuple[str, str], other: Term, wanted: str) -> str:
    left, first = _summed(build, *one, wanted + other[1])
    if isinstance(other[0], Weight) and set(other[1]) <= {*wanted, *first} and not {*wanted} & {*first} & {*other[1]}:
        return _linear(build, (left, first), other[0], other[1], wanted)
    right, second = _summed(build, build.value(other[0]), other[1], wanted + one[1])
    shared = [each for each in first if each in second and each in wanted]
    inner = [each for each in first if each in second and each not in wanted]
    rows = [each for each in first if each not in second]
    columns = [each for each in second if each not in first]
    sizes = {**dict(zip(first, build.shape(left), strict=True)), **dict(zip(second, build.shape(right), strict=True))}

    def count(letters: Sequence[str]) -> Any:
        return math.prod(sizes[each] for each in letters)

    around = [sizes[each] for each in shared]
    left = _ordered(build, left, first, "".join([*shared, *rows, *inner]))
    right = _ordered(build, right, second, "".join([*shared, *inner, *columns]))
    left = reshape(build, left, (*around, count(rows), count(inner)))
    right = reshape(build, right, (*around, count(inner), count(columns)))
    made = build.emit("matmul", left, right, transposed=False)
    found = [*shared, *rows, *columns]
    made = reshape(build, made, tuple(sizes[each] for each in found))
    return _ordered(build, made, "".join(found), wanted)


def _linear(build: Builder, term: tuple[str, str], weight: Weight, letters: str, wanted: str) -> str:
    value, seen = term
    inner, made = [each for each in letters if each in seen], [each for each in letters if each not in seen]
    rows = [each for each in seen if each not in inner]
    sizes = dict(zip(seen, build.shape(value), strict=True)) | dict(zip(letters, weight.shape, strict=True))
    order = [letters.index(each) for each in (*made, *inner)]
    shape = tuple(math.prod(weight.shape[letters.index(each)] for each in some) for some in (made, inner))
    matrix = build.variant(weight, ("einsum", *order), lambda bits: bits.transpose(order).reshape(shape))
    value = _ordered(build, value, seen, "".join([*rows, *inner]))
    value = reshape(build, value, (*(sizes[each] for each in rows), shape[1]))
    value = build.emit("linear", value, weights={"weight": matrix})
    value = reshape(build, value, tuple(sizes[each] for each in (*rows, *made)))
    return _ordered(build, value, "".join([*rows, *made]), wanted)


def _summed(build: Builder, value: str, letters: str, wanted: str) -> tuple[str, str]:
    """Over letters that nobody else has."""
    lost = tuple(axis for axis, each in enumerate(letters, 1) if each not in wanted)
    if not lost:
        return value, letters
    kept = "".join(each for each in letters if each in wanted)
    return sum_over(build, value, lost, keepdims=False), kept


def _ordered(build: Builder, value: str, letters: str, wanted: str) -> str:
    return permute(build, value, tuple(letters.index(each) + 1 for each in wanted))
