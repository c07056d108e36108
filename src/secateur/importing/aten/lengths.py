"""Sizes with names in a trace: which dimensions of the inputs are free, and traced sizes as a Graph's."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import sympy
import torch
from torch import Tensor, nn
from torch.utils import _pytree
from torch.utils._sympy.functions import FloorDiv

from secateur.errors import ExportError, GraphError, UsageError
from secateur.modules.inputs import Inputs
from secateur.network.sizes import (
    BATCH,
    Dimension,
    Size,
    bind,
    is_whole,
    lengths_in,
    named,
    names_of,
    parse,
    quotient,
    written,
)

Sizes = Mapping[str, Sequence[int | str]]
"""Argument of forward → a size for each dimension: "batch" for the first, a number, or an expression of a length."""
Dynamic = str | Mapping[str, Mapping[int, str]]
"""Argument of forward → names of those of its dimensions that stay free; or one name for dimension 1 of all inputs of
whole numbers."""
Declared = tuple[tuple[Dimension, ...] | None, ...]
"""For each input tensor in order, its sizes, None where they are those of the example."""


def declared(sizes: Sizes, inputs: Inputs, network: nn.Module) -> Declared:
    """Raises UsageError where a name or a number of dimensions is not the example's, or a size cannot be."""
    names = _names_of(inputs, network)
    lost = [name for name in sizes if name not in names]
    if lost:
        raise UsageError(f"sizes of {lost[0]!r}: expected one of the inputs {', '.join(filter(None, names))}")
    pairs = list(zip(names, inputs.tensors, strict=True))
    found = tuple(_read(name, sizes[name], each) if name in sizes else None for name, each in pairs)
    try:
        _lengths(found, inputs, names)
    except GraphError as error:
        raise UsageError(str(error)) from error
    return found


def at_lengths(network: nn.Module, inputs: Inputs, sizes: Sizes, change: Callable[[int], int]) -> Inputs:
    """Noise in the place of inputs whose sizes are given, each length changed."""
    found = declared(sizes, inputs, network)
    own = _lengths(found, inputs, _names_of(inputs, network))
    lengths = {name: length if name == BATCH else change(length) for name, length in own.items()}
    made = [
        each if own is None else _noise([int(bind(size, lengths)) for size in own], each)
        for own, each in zip(found, inputs.tensors, strict=True)
    ]
    waiting = iter(made)
    return inputs.replaced(lambda _: next(waiting))


def _noise(shape: Sequence[int], like: Tensor) -> Tensor:
    """Numbers of any kind, or those of a tensor of whole numbers or truth values again and again."""
    if like.is_floating_point():
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(like)
    own = like.reshape(-1)
    return own[torch.arange(math.prod(shape)) % len(own)].reshape(shape)


def _lengths(sizes: Declared, inputs: Inputs, names: Sequence[str]) -> dict[str, int]:
    """What lengths are in an example."""
    return lengths_in(
        [
            (f"sizes of {name!r}: dimension {axis} of the example", size, each.shape[axis])
            for name, own, each in zip(names, sizes, inputs.tensors, strict=True)
            for axis, size in enumerate(own or ())
        ]
    )


def _names_of(inputs: Inputs, network: nn.Module) -> list[str]:
    """Of every tensor its argument's, empty for those inside of others."""
    parameters = [each.name for each in inspect.signature(network.forward).parameters.values() if each.kind.value < 2]
    given = [*zip(parameters, inputs.arguments, strict=False), *(inputs.named or {}).items()]
    found: list[str] = []
    for name, held in given:
        leaves = [leaf for leaf in _pytree.tree_leaves(held) if isinstance(leaf, Tensor)]
        found += [name if isinstance(held, Tensor) else "" for _ in leaves]
    return found + [""] * (len(inputs.tensors) - len(found))


def _read(name: str, sizes: Sequence[int | str], example: Tensor) -> tuple[Dimension, ...]:
    if isinstance(sizes, str) or not isinstance(sizes, Sequence):
        raise UsageError(f"sizes of {name!r}: expected a size for each dimension, as in ('batch', 3), got {sizes!r}")
    wrong = [size for size in sizes if not isinstance(size, int | str)]
    if wrong:
        raise UsageError(f"sizes of {name!r}: expected numbers and texts such as 'height', got {wrong[0]!r}")
    try:
        found = tuple(size if isinstance(size, int) else parse(size) for size in sizes)
    except GraphError as error:
        raise UsageError(f"sizes of {name!r}: {error}") from error
    others = [size for size in found if size != named(BATCH)]
    if len(found) != example.ndim or len(others) != len(found) - 1 or BATCH in names_of(others):
        expected = f"{example.ndim} as the example has them, one and only one of them {BATCH!r}"
        raise UsageError(f"sizes of {name!r}: expected {expected}; got {written(found)}")
    return found


def free_dimensions(sizes: tuple[Dimension, ...] | None) -> list[int]:
    """Which of an input's dimensions are free, beside the batch."""
    return [axis for axis, size in enumerate(sizes or ()) if not is_whole(size) and size != named(BATCH)]


def sizes_of(dynamic: Dynamic, inputs: Inputs, network: nn.Module) -> Sizes:
    """The sizes of inputs of which some dimensions get names, the others the example's. Raises UsageError."""
    named_inputs = dict(zip(_names_of(inputs, network), inputs.tensors, strict=True))
    if isinstance(dynamic, str):
        whole = {name: each for name, each in named_inputs.items() if not each.is_floating_point() and each.ndim > 1}
        dynamic = {name: {1: dynamic} for name in whole}
        if not dynamic:
            raise UsageError(
                "dynamic: no input of whole numbers has a second dimension: name one, as in input:1=length"
            )
    if lost := [name for name in dynamic if name not in named_inputs]:
        raise UsageError(f"dynamic: {lost[0]!r}: expected one of the inputs {', '.join(filter(None, named_inputs))}")
    axes = dict(zip(named_inputs, inputs.batch_axes, strict=True))
    return {name: _with_names(name, named_inputs[name], names, axes[name]) for name, names in dynamic.items()}


def _with_names(name: str, tensor: Tensor, names: Mapping[int, str], batch: int) -> list[int | str]:
    found: list[int | str] = list(tensor.shape)
    for dim, size in names.items():
        if not isinstance(dim, int) or not -tensor.ndim <= dim < tensor.ndim:
            raise UsageError(f"dynamic: {name!r} has no dimension {dim!r}: expected 0 to {tensor.ndim - 1}")
        found[dim] = size
    if BATCH not in found:
        found[batch] = BATCH
    return found


def placed(inputs: Inputs, network: nn.Module, sizes: Sizes | None) -> Inputs:
    """Inputs whose batch stands where sizes say so, of those that have any."""
    return with_batch(inputs, declared(sizes, inputs, network)) if sizes else inputs


def with_batch(inputs: Inputs, sizes: Declared) -> Inputs:
    """Inputs whose batch stands where sizes say so, of those that have any."""
    if not any(sizes):
        return inputs
    axes = [
        axis if own is None else own.index(named(BATCH)) for axis, own in zip(inputs.batch_axes, sizes, strict=True)
    ]
    return replace(inputs, axes=tuple(axes) if any(axes) else None)


def symbols_of(sizes: Declared, traced: Sequence[tuple[str, Sequence[Any]]]) -> dict[Any, Dimension]:
    """The symbols of a trace as lengths. traced: of each input tensor, its name and shape.

    Raises ExportError where the network needs sizes that are not of that form.
    """
    found: dict[Any, Dimension] = {}
    for own, (name, shape) in zip(sizes, traced, strict=True):
        for axis in free_dimensions(own):
            place, size = f"input {name!r}, dimension {axis}", own[axis] if own else 0
            symbol, length = _solved(place, size, shape[axis])
            if found.setdefault(symbol, length) != length:
                raise ExportError(
                    f"{place}: the network takes {length} only where it is {found[symbol]}: name them alike"
                )
    return found


def _solved(place: str, size: Dimension, traced: Any) -> tuple[Any, Dimension]:
    """The one symbol in a traced size, and what it is where that is `size`."""
    if not isinstance(traced, torch.SymInt) or len(traced.node.expr.free_symbols) != 1:
        raise ExportError(f"{place}: the network works for {traced} only, not for any {size}")
    expression = traced.node.expr
    (symbol,) = expression.free_symbols
    slope, rest = (expression.coeff(symbol, power) for power in (1, 0))
    if sympy.expand(expression - slope * symbol - rest) == 0 and slope.is_Integer and rest.is_Integer:
        length = (size - int(rest)) // int(slope)
        if length * int(slope) + int(rest) == size:
            return symbol, length
    raise ExportError(f"{place}: the network works for sizes of {expression} only, not for any {size}: name it so")


def to_dimension(size: Any, symbols: Mapping[Any, Dimension]) -> Dimension | None:
    """A traced size as a Graph's, None where it is none: it holds other symbols, or what no size says."""
    if isinstance(size, int):
        return size
    try:
        return _converted(size.node.expr if isinstance(size, torch.SymInt) else size, symbols)
    except (KeyError, GraphError):
        return None


def _converted(expression: Any, symbols: Mapping[Any, Dimension]) -> Dimension:
    if expression.is_Integer:
        return int(expression)
    if expression.is_Symbol:
        return symbols[expression]
    if isinstance(expression, FloorDiv):
        above, below = (_converted(each, symbols) for each in expression.args)
        return quotient(above, below)
    if expression.is_Add:
        return reduce(lambda left, right: left + right, [_converted(each, symbols) for each in expression.args])
    if expression.is_Pow and expression.exp.is_Integer and expression.exp > 0:
        return reduce(lambda left, right: left * right, [_converted(expression.base, symbols)] * int(expression.exp))
    if expression.is_Mul:
        numerator, denominator = expression.as_numer_denom()
        if denominator != 1:
            return quotient(_converted(numerator, symbols), _converted(denominator, symbols), exact=True)
        return reduce(lambda left, right: left * right, [_converted(each, symbols) for each in expression.args])
    raise KeyError(expression)


def mentions_size(value: Any) -> Size | None:
    """A size with a name among arguments, however deep."""
    if isinstance(value, (list, tuple)):
        return next((found for each in value if (found := mentions_size(each)) is not None), None)
    return value if isinstance(value, Size) else None
