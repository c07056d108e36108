"""What becomes of a layer's weights on the way to the outputs: who reads whom, and which layers an output comes from.

Known by following values. A value is data (it depends on the network's inputs) or is made of weights alone; where both
meet in an operation, a layer is at work. That needs no call of the layer's module: weights that are read from outside,
standardised, transposed or cast first are followed as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from secateur.modules.guarding import run, watched
from secateur.modules.inputs import Inputs


@dataclass(frozen=True, slots=True)
class Value:
    """layers: of data, those that it comes from with no other layer between; else those whose weights it is made of."""

    layers: frozenset[str] = frozenset()
    is_data: bool = False


CONSTANT, INPUT = Value(), Value(is_data=True)


@dataclass(slots=True)
class Flow:
    """order: the layers at work, each where it last was. read: those whose values another layer is given."""

    order: dict[str, None] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)

    def through(self, given: Iterable[Value]) -> Value:
        """What an operation makes of its arguments. Of several layers at work in one the last one's value comes."""
        given = list(given)
        weights = [layer for each in given if not each.is_data for layer in sorted(each.layers)]
        data = frozenset(layer for each in given if each.is_data for layer in each.layers)
        if not any(each.is_data for each in given):
            return Value(frozenset(weights))
        if not weights:
            return Value(data, is_data=True)
        for layer in weights:
            self.order.pop(layer, None)
            self.order[layer] = None
        self.read |= {*data, *weights} - {weights[-1]}
        return Value(frozenset(weights[-1:]), is_data=True)

    def heads(self, outputs: Iterable[Value]) -> tuple[str, ...]:
        """The layers that give the outputs, in the order in which they ran: of each output the last one that it comes
        from, and every one whose values reach an output and no other layer. The last of all where none is known."""
        found: set[str] = set()
        place = {layer: position for position, layer in enumerate(self.order)}
        for each in outputs:
            if each.is_data and each.layers:
                found |= {max(each.layers, key=place.__getitem__), *(each.layers - self.read)}
        return tuple(layer for layer in self.order if layer in found) or tuple(self.order)[-1:]


class _Following(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Gives every tensor that an operation makes its Value, by the memory that it lies in."""

    supports_higher_order_operators = True

    def __init__(self, weights: Mapping[Tensor, str], inputs: Iterable[Tensor], flow: Flow) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._flow = flow
        self._values = {_memory(each): INPUT for each in inputs}
        self._weights: dict[int, list[tuple[range, Value]]] = {}
        for tensor, name in weights.items():
            self._weights.setdefault(_memory(tensor), []).append((_bytes(tensor), Value(frozenset([name]))))
        self._sizes = {(name, tensor.numel()) for tensor, name in weights.items()}
        self.derived: dict[str, float] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        tensors = [each for each in _pytree.tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        given = [self.value_of(each) for each in tensors]
        value = self._flow.through(given)
        if value.is_data:
            self._look_at_weights(tensors, given)
        for each in _pytree.tree_leaves(result):
            if isinstance(each, Tensor) and _has_memory(each) and _memory(each) not in self._weights:
                self._values[_memory(each)] = value
        return result

    def value_of(self, tensor: Tensor) -> Value:
        if not _has_memory(tensor):
            return CONSTANT
        memory, first = _memory(tensor), _bytes(tensor).start
        if memory in self._weights:
            return next((value for place, value in self._weights[memory] if first in place), CONSTANT)
        return self._values.get(memory, CONSTANT)

    def _look_at_weights(self, tensors: list[Tensor], given: list[Value]) -> None:
        """The zeros of what is made of a single layer's weight, is as large and meets data."""
        for tensor, value in zip(tensors, given, strict=True):
            if not value.is_data and len(value.layers) == 1 and _memory(tensor) not in self._weights:
                layer = next(iter(value.layers))
                if (layer, tensor.numel()) in self._sizes:
                    self.derived[layer] = share_of_zeros(tensor)


@dataclass(frozen=True, slots=True)
class Run:
    """heads: the layers that give the outputs. derived: the share of zeros in what a layer worked with in the place of
    its weight, for layers that compute another one from it."""

    heads: tuple[str, ...]
    derived: Mapping[str, float]


def follow(network: nn.Module, inputs: Inputs, weights: Mapping[Tensor, str]) -> Run:
    """Run the network once, in evaluation mode, and follow weights, each of the layer named. It is as it was."""
    flow = Flow()
    following = _Following(weights, inputs.tensors, flow)
    with watched(network), following:
        given = run(network, inputs)
    outputs = [following.value_of(each) for each in tensors_in(given)]
    return Run(flow.heads(outputs), following.derived)


def share_of_zeros(tensor: Tensor) -> float:
    return 1 - int(torch.count_nonzero(tensor)) / max(1, tensor.numel())


def tensors_in(given: Any) -> list[Tensor]:
    """Every tensor of what a network gives: in containers, and in objects that PyTorch knows no containers in."""
    found: list[Tensor] = []
    for each in _pytree.tree_leaves(given):
        held = [] if isinstance(each, (Tensor, type)) else list(getattr(each, "__dict__", {}).values())
        found += [each] if isinstance(each, Tensor) else []
        found += [inner for inner in _pytree.tree_leaves(held) if isinstance(inner, Tensor)]
    return found


def _has_memory(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and torch._C._has_storage(tensor)


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _bytes(tensor: Tensor) -> range:
    """Where in its memory a tensor lies that is all in one piece, as parameters are."""
    start = tensor.storage_offset() * tensor.element_size()
    return range(start, start + max(1, tensor.numel()) * tensor.element_size())
