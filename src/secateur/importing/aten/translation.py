"""One pass over traced ATen operations: what each node becomes. How an operation is read is in calls.py."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sympy
import torch
from torch import Tensor, fx, nn

from secateur.errors import ExportError
from secateur.importing.aten.calls import (
    RESHAPED,
    Call,
    Conversion,
    MaskedCall,
    MixedCall,
    OrdinaryCall,
    ShiftedCall,
    told_by,
)
from secateur.importing.aten.complexes import converted, is_complex
from secateur.importing.aten.held import Batch, Constant, Masked, Shifted
from secateur.importing.aten.lengths import to_dimension
from secateur.importing.aten.nodes import are_alike
from secateur.importing.aten.wholes import HELD, element_of
from secateur.importing.placing import Extent, Mixed, Ordinary, Place, Placed
from secateur.network.building import Builder
from secateur.network.formats import FLOAT_FORMATS, INTEGERS, WEIGHT_FORMATS
from secateur.network.graph import Graph, Shape, Weight
from secateur.network.signature import Signature, Value, replaced
from secateur.network.sizes import BATCH, Dimension, named


@dataclass(frozen=True, slots=True)
class Program:
    """Traced ATen operations, in order. known: what the nodes stand for that neither is an operation here nor an input.

    network: what was traced, for names and messages. entries: names of its state dict. batch: its size in traced
    shapes, where this is a part of a larger program, with which rows of all images, (N·m, …), may be exchanged too;
    else the first input says. symbols: what others in traced sizes stand for. signature: how forward is called.
    """

    network: nn.Module
    operations: Sequence[fx.Node]
    inputs: Sequence[fx.Node]
    outputs: Sequence[fx.Node]
    known: Mapping[fx.Node, Any]
    entries: Collection[str] = ()
    batch: Any = None
    symbols: Mapping[Any, Dimension] = field(default_factory=dict)
    signature: Signature | None = None


class Translation:
    """One pass over a traced program. values: what each of its nodes became. copied: no weight shares memory."""

    def __init__(self, program: Program, conversions: Mapping[str, Conversion], copied: bool = True) -> None:
        self.copied = copied
        self.network, self.program, self.conversions = program.network, program, conversions
        self.images = program.batch
        self.values: dict[fx.Node, Any] = dict(program.known)
        names = (each.name for each in program.known.values() if isinstance(each, Constant))
        self.build = Builder.with_entries(filter(None, (*program.entries, *names)))
        self._weights: dict[Constant, Weight] = {}
        self._alike: dict[tuple[Constant, int], Constant] = {}
        self._in_shape: dict[tuple[Constant, Shape, str], Weight] = {}

    def graph(self) -> Graph:
        """Raises ExportError for what a Graph cannot hold."""
        called = self.program.signature
        axes = {each.place: each.axis for each in called.inputs} if called else {}
        for place, node in enumerate(self.program.inputs):
            self.take_input(node, axes.get(place) or 0)
        for node in needed(self.program.operations, self.program.outputs):
            self.translate(node)
        outputs = [self._output(Call(self, node)) for node in self.program.outputs]
        if called is not None:
            called = replace(called, outputs=replaced(called.outputs, self._moved()))
        return self.build.graph(outputs, called)

    @property
    def takes_any_images(self) -> bool:
        """Whether the number of images is free, so that it is a length."""
        return self.program.batch is None and not isinstance(self.images, int)

    def _moved(self) -> dict[int, Value]:
        """Outputs that have the batch elsewhere than in front."""
        found = {}
        for place, node in enumerate(self.program.outputs):
            held, rank = self.values[node], len(node.meta["val"].shape)
            if isinstance(held, Placed):
                found[place] = Value(place, held.place.axis(rank), held.is_rows(rank))
        return found

    def take_input(self, node: fx.Node, axis: int = 0) -> None:
        """The node's result, whatever made it, is an input of the graph; the first says what the batch is.

        axis: the dimension that is the batch.
        """
        rest = list(node.meta["val"].shape)
        size = rest.pop(axis)
        self.images = size if self.images is None else self.images
        count = self.share(size)
        shape = (*(() if count == 1 else (count,)), *(self.dimension(each) for each in rest))
        name = self.build.input(node.name, shape, element_of(node.meta["val"].dtype))
        place = Place(1 + len(rest) - axis, "" if count == 1 else "outer")
        self.values[node] = name if (axis, count) == (0, 1) else Placed(name, place)

    @property
    def batch(self) -> str:
        """The batch's size as traced shapes say it, empty where nothing is known yet."""
        return "" if self.images is None else str(self.images)

    def extents(self, value: Any) -> list[Extent]:
        """The dimensions of a traced tensor."""
        return [Extent(self.dimension(size), self.share(size)) for size in value.shape]

    def dimension(self, size: Any) -> Dimension | None:
        """A traced size as a Graph's, None where it depends on the batch or is none that a Graph holds."""
        return to_dimension(size, self.program.symbols)

    def is_beyond(self, shape: Sequence[Any]) -> bool:
        """Whether a traced shape has a size that no Graph holds and that does not depend on the batch."""
        own = _formula(self.images).free_symbols
        return any(self.dimension(size) is None and not own & _formula(size).free_symbols for size in shape)

    def share(self, size: Any) -> Dimension:
        """How many times the batch a dimension is; 0 where it is no multiple."""
        if str(size) == self.batch:
            return 1
        if isinstance(size, int):
            whole = isinstance(self.images, int) and self.images > 0 and size % self.images == 0
            return size // self.images if whole else 0
        found = to_dimension(_formula(size) / _formula(self.images), self.program.symbols)
        return 0 if found is None else found

    def number(self, size: Any) -> Batch | Dimension:
        """What a traced size is where a network counts with it."""
        if not isinstance(size, (int, torch.SymInt)):
            return Batch(0)
        share = self.share(size) if isinstance(size, torch.SymInt) or str(size) == self.batch else 0
        found = None if share != 0 else self.dimension(size)
        return Batch(share) if found is None else found

    def _output(self, call: Call) -> str:
        held = self.values[call.node]
        if isinstance(held, Placed):
            movable = not held.place.fold and self.program.batch is None
            if movable or held.is_rows(call.rank):
                return held.base
            raise call.misplaced(held, "moves the batch, which has to be the first dimension of an output")
        with told_by(call):
            return self._scattered(call, held) if isinstance(held, Mixed) else call.value_of(held)

    def _scattered(self, call: Call, held: Mixed) -> str:
        """Of a value of all images each its own part."""
        if self.share(call.node.meta["val"].shape[0]) != 1:
            raise call.error("gives what all images came to: expected the batch to be the first dimension of an output")
        return call.emit("scatter_images", held.base, images=named(BATCH))

    def translate(self, node: fx.Node) -> None:
        if node.target is operator.getitem:
            source, index = node.args
            self.values[node] = self.values[source][index]  # type: ignore[index]
            return
        call = Call(self, node)
        if call.name.startswith(("_assert", "sym_constrain")):
            self.values[node] = None
        elif not call.schema:  # arithmetic with sizes
            self.values[node] = self.number(node.meta.get("val"))
        elif call.name == "sym_size":
            self.values[node] = call.sym_size()
        elif call.reads_numbers():
            self.values[node] = call.numbered()
        elif not call.reads_input():
            self.values[node] = call.evaluated()
        elif is_complex(call):
            with told_by(call):
                self.values[node] = self.checked(call, converted(call))
        elif call.name in self.conversions:
            self.values[node] = self._converted(call)
        else:
            raise call.error(f"is not supported; {HELD}")

    def _converted(self, call: Call) -> Any:
        with told_by(call):
            masked = [each for node in call.node.all_input_nodes if isinstance(each := self.values[node], Masked)]
            if masked and call.name != "index_put":
                return self._of_masked(call, masked)
            shifted = [each for node in call.node.all_input_nodes if isinstance(each := self.values[node], Shifted)]
            if shifted and call.name in RESHAPED:
                made = self.checked(call, self.conversions[call.name](ShiftedCall(self, call.node)))
                return replace(shifted[0], base=made)
            made = self.conversions[call.name](call)
        if any(isinstance(self.values[node], Mixed) for node in call.node.all_input_nodes):
            made = [_mixed(each) for each in made] if isinstance(made, list) else _mixed(made)
        return self.checked(call, made)

    def _of_masked(self, call: Call, masked: Sequence[Masked]) -> Masked:
        """A function of each number that a mask picks."""
        first, pointwise = masked[0], torch.Tag.pointwise in getattr(call.node.target, "tags", ())
        if not pointwise or not all(are_alike(first.mask, each.mask) for each in masked):
            raise call.error("takes numbers that a mask picks: how many there are is not known before it runs")
        inner = MaskedCall(self, call.node, first.source)
        return replace(first, base=self.checked(inner, self.conversions[call.name](inner)))

    def checked(self, call: Call, made: Any) -> Any:
        """What a call became, its shape compared with the traced one."""
        if isinstance(made, Placed):
            self._check(call, made.base, call.shape_at(made.place))
        elif isinstance(made, Ordinary):
            kind = MixedCall if isinstance(made, Mixed) else OrdinaryCall
            self._check(call, made.base, kind(self, call.node).shape())
        elif isinstance(made, str):
            self._check(call, made, call.shape())
        return made

    def _check(self, call: Call, made: str, expected: Shape) -> None:
        shape = self.build.shape(made)
        if shape != expected:
            raise call.error(f"would give {shape} where the network has {expected}")

    def weight(self, constant: Constant, wanted: str) -> Weight:
        """The bits of a constant, of float64 as float32. wanted: what it is called where it is no entry."""
        if constant not in self._weights and constant.tensor.dtype is torch.float64:
            self._weights[constant] = self.weight(Constant(constant.tensor.float()), constant.name or wanted)
        if constant not in self._weights:
            name = constant.name or self.build.derived_name(wanted)
            made = _to_weight(constant.tensor, name, self.copied)
            self._weights[constant] = self.build.entry(name, made) if constant.name else made
        return self._weights[constant]

    def alike(self, constant: Constant, axis: int) -> Constant:
        """The first part along an axis of a constant: one for all who ask."""
        return self._alike.setdefault((constant, axis), Constant(constant.tensor.narrow(axis, 0, 1).clone()))

    def constant_value(self, constant: Constant, shape: Shape, build: Builder, element: str = "float32") -> str:
        """The value of a constant in a shape and format."""
        key = (constant, shape, element)
        if key not in self._in_shape:
            wanted = constant.name or build.label("constant")
            self._in_shape[key] = self.weight(_in_format(constant, shape, element), wanted)
        return build.constant(self._in_shape[key], constant.name)


def _mixed(made: Any) -> Any:
    return Mixed(made.base) if isinstance(made, Ordinary) else made


def needed(operations: Sequence[fx.Node], outputs: Sequence[fx.Node]) -> list[fx.Node]:
    """Those that an output depends on: not what only assertions look at."""
    found, waiting = set(outputs), list(outputs)
    while waiting:
        new = [each for each in waiting.pop().all_input_nodes if each not in found]
        found.update(new)
        waiting.extend(new)
    return [node for node in operations if node in found]


def _in_format(constant: Constant, shape: Shape, element: str) -> Constant:
    """The constant itself where it holds that (floats of less precision stay what they are) and has that shape."""
    tensor = constant.tensor
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype != element and (element != "float32" or dtype not in FLOAT_FORMATS):
        return Constant(tensor.to(getattr(torch, element)).reshape(shape))
    return constant if shape == tuple(tensor.shape) else Constant(tensor.reshape(shape))


def _to_weight(tensor: Tensor, name: str, copied: bool) -> Weight:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in (*FLOAT_FORMATS, *INTEGERS, "bool"):
        raise ExportError(
            f"weight {name!r} is {dtype}: expected {', '.join(FLOAT_FORMATS)}; call network.float() first"
        )
    found = WEIGHT_FORMATS[dtype]
    carrier = getattr(torch, f"int{found.bits}")
    bits = tensor.detach().cpu().contiguous().view(carrier).numpy().view(found.carrier)
    return Weight(dtype, bits.copy() if copied else bits)


def _formula(size: Any) -> Any:
    return size.node.expr if isinstance(size, torch.SymInt) else sympy.Integer(size)
