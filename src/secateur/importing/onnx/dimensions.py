"""What the inputs of a model are: which dimension is the batch, which are free under which names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from secateur.errors import FormatError, GraphError, UsageError
from secateur.importing.onnx.tensors import ELEMENTS, format_of
from secateur.importing.onnx.values import FREE
from secateur.importing.placing import Place
from secateur.network.graph import Shape
from secateur.network.sizes import BATCH, Dimension, is_whole, named, names_of, parse, written

Shapes = Mapping[str, Sequence[int | str]]
_MOST_RANK = 16


@dataclass(frozen=True, slots=True)
class Given:
    """An input. own: its shape for each image. place, axis: where the batch is, None where it has none."""

    own: Shape
    place: Place | None
    axis: int | None
    format: str


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is read. images: how many there are, None where all is one image's. count: of the signature."""

    images: Dimension | None
    inputs: Mapping[str, Given]
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Declared:
    """An input as the file and whoever reads it say. label: what a dimension is called there, "" for nothing."""

    name: str
    format: str
    shape: Shape
    labels: tuple[str, ...]


def inputs_of(model: Any, path: Path) -> list[Declared]:
    """Those that are no initializers. Raises FormatError."""
    stored = {each.name for each in model.graph.initializer} | {e.values.name for e in model.graph.sparse_initializer}
    found = [_declared(each, path) for each in model.graph.input if each.name not in stored]
    names = [each.name for each in found]
    if len(set(names)) < len(names):
        raise FormatError(f"{path}: has an input that stands twice")
    return found


def _declared(info: Any, path: Path) -> Declared:
    place = f"{path}: input {info.name[:80]!r}"
    if not info.type.HasField("tensor_type"):
        raise FormatError(f"{place}: is no tensor, which is what a graph takes")
    kind = info.type.tensor_type
    format = format_of(kind.elem_type, place)
    if format not in ELEMENTS:
        raise FormatError(f"{place}: holds {format}, which a graph does not")
    if not kind.HasField("shape"):
        return Declared(info.name, format, (), ("?",))
    if len(kind.shape.dim) > _MOST_RANK:
        raise FormatError(f"{place}: has {len(kind.shape.dim)} dimensions: expected {_MOST_RANK} at most")
    dims = list(kind.shape.dim)
    labels = tuple("" if each.dim_value > 0 else (each.dim_param or "?") for each in dims)
    shape = tuple(
        int(each.dim_value) if each.dim_value > 0 else _size(each.dim_param, info.name, axis)
        for axis, each in enumerate(dims)
    )
    return Declared(info.name, format, shape, labels)


def _size(label: str, name: str, axis: int) -> Dimension:
    """A free dimension: an expression of names where it is one, else a name of its own."""
    try:
        found = parse(label)
        return found if not is_whole(found) else named(_as_name(f"{name}_{axis}"))
    except GraphError:
        plain = label if re.search(r"\w", label) and not label.lstrip("-").isdigit() else f"{name}_{axis}"
        return named(_as_name(plain))


def _as_name(text: str) -> str:
    made = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")[:60] or "size"
    return made if not made[0].isdigit() else f"size_{made}"


def with_shapes(inputs: Sequence[Declared], shapes: Shapes, path: Path) -> list[Declared]:
    """Inputs with the sizes that were asked for. Raises UsageError for those that are none of theirs."""
    known = {each.name: each for each in inputs}
    if lost := [name for name in shapes if name not in known]:
        raise UsageError(f"{path}: shape of {lost[0]!r}: expected one of the inputs {', '.join(known)}")
    lengths: dict[str, Dimension] = {}
    found = [_with_shape(each, shapes[each.name], lengths, path) if each.name in shapes else each for each in inputs]
    unknown = [each.name for each in found if each.labels == ("?",) and not each.shape]
    if unknown:
        raise UsageError(f"{path}: does not say the shape of input {unknown[0]!r}: give it with --shape")
    lengths.pop(BATCH, None)
    return [replace(each, shape=tuple(_bound(size, lengths) for size in each.shape)) for each in found]


def _bound(size: Dimension, lengths: Mapping[str, Dimension]) -> Dimension:
    return size if isinstance(size, int) else size.bind(lengths)


def _with_shape(own: Declared, wanted: Sequence[int | str], lengths: dict[str, Dimension], path: Path) -> Declared:
    place = f"{path}: shape of {own.name!r}"
    sizes = tuple(_asked(each, place) for each in wanted)
    if own.labels == ("?",) and not own.shape:
        labels = tuple("" if isinstance(size, int) else str(size) for size in sizes)
        return replace(own, shape=sizes, labels=labels)
    if len(sizes) != len(own.shape):
        raise UsageError(f"{place}: expected {len(own.shape)} sizes, as in {written(own.shape)}, got {written(sizes)}")
    for size, have in zip(sizes, own.shape, strict=True):
        if isinstance(have, int) and have != size:
            raise UsageError(f"{place}: expected {written(own.shape)}, as the file has it, got {written(sizes)}")
        line = None if isinstance(have, int) else have.line
        if line is not None and line[0] == 1 and line[2] == 0:
            lengths[line[1]] = size
    return replace(own, shape=sizes)


def _asked(size: int | str, place: str) -> Dimension:
    try:
        found = parse(str(size))
    except GraphError as error:
        raise UsageError(f"{place}: {error}") from error
    if isinstance(found, int) and found < 0:
        raise UsageError(f"{place}: expected sizes from 0 on, got {found}")
    return found


def plans_of(inputs: Sequence[Declared]) -> Iterator[Plan]:
    """Ways to read a model: with its batch free, with the batch that it is given, and as one image's."""
    axes = _batch_axes(inputs)
    if axes is not None:
        sizes = {each.shape[axis] for each, axis in zip(inputs, axes, strict=True)}
        labelled = any(each.labels[axis] for each, axis in zip(inputs, axes, strict=True))
        (size,) = sizes if len(sizes) == 1 else (None,)
        whole = size if isinstance(size, int) else None
        if labelled or whole is None:
            yield _plan(inputs, axes, FREE)
        if whole is not None:
            yield _plan(inputs, axes, whole, whole if labelled else None)
    yield _plan(inputs, [None] * len(inputs), None, 1)


def _batch_axes(inputs: Sequence[Declared]) -> list[int] | None:
    """Which dimension of each input is the batch, None where none is in all of them."""
    if not inputs or any(not each.shape for each in inputs):
        return None
    told = [[axis for axis, size in enumerate(each.shape) if size == FREE] for each in inputs]
    if all(len(each) == 1 for each in told):
        return [each[0] for each in told]
    for label in _labels(inputs):
        found = [[axis for axis, own in enumerate(each.labels) if own == label] for each in inputs]
        if all(len(each) == 1 for each in found):
            return [each[0] for each in found]
    if all(each.labels[0] for each in inputs):
        return [0] * len(inputs)
    first = inputs[0].shape[0]
    places = [next((at for at, size in enumerate(each.shape) if size == first), None) for each in inputs]
    return None if None in places or not isinstance(first, int) else places  # type: ignore[return-value]


def _labels(inputs: Sequence[Declared]) -> list[str]:
    """Names of dimensions that may be the batch's: those called so, then that of the first one."""
    known = [
        label for label in dict.fromkeys(label for each in inputs for label in each.labels) if label not in ("", "?")
    ]
    called = [label for label in known if re.fullmatch(r"(.*[_.])?(batch|batch_?size|n|b)", label.lower())]
    first = inputs[0].labels[0]
    return [*called, *([first] if first in known else [])]


def _plan(
    inputs: Sequence[Declared], axes: Sequence[int | None], images: Dimension | None, count: int | None = None
) -> Plan:
    made = {each.name: _given(each, axis, images) for each, axis in zip(inputs, axes, strict=True)}
    return Plan(images, made, count)


def _given(declared: Declared, axis: int | None, images: Dimension | None) -> Given:
    if axis is None:
        return Given(tuple(map(_without_batch, declared.shape)), None, None, declared.format)
    own = tuple(_without_batch(size) for at, size in enumerate(declared.shape) if at != axis)
    return Given(own, Place(len(declared.shape) - axis), axis, declared.format)


def _without_batch(size: Dimension) -> Dimension:
    """A size in which a length that is called as the batch is has another name."""
    if BATCH not in names_of([size]) or isinstance(size, int):
        return size
    return size.bind({BATCH: named("images")})
