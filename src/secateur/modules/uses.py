"""What the matrices of a network are given as it runs: by the calls of their modules, and by the products that anything
else takes of them.

A recurrent layer multiplies its matrices itself, attention reads its output projection past the layer's own call, and a
forward may do so with any layer. So products are looked for among the operations of the run, and a matrix is known by
the memory that it lies in; one that is copied, cast or changed first is another one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from secateur.modules.guarding import run, watched
from secateur.modules.inputs import Inputs
from secateur.modules.matrices import INNER, LAYER, TRANSPOSED, Axes, Matrix, every_matrix


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a matrix: a call of its module, or a product.

    given: what the module was called with; or the one tensor (positions, inputs) that was multiplied. output: what the
    module gave; None of a product, or before it gave anything. groups: those of the matrix that took part, first and
    behind the last. biased: whether its bias was added. transposed: whether it was multiplied as (inputs, outputs).
    """

    matrix: Matrix
    given: tuple[Tensor, ...]
    output: Tensor | None
    groups: tuple[int, int]
    biased: bool = True
    transposed: bool = False

    @property
    def positions(self) -> Fraction:
        """How often the whole matrix was applied: output positions, or rows; a part of it counts as that part."""
        if self.output is None:
            first, last = self.groups
            return Fraction(len(self.given[0]) * (last - first), self.matrix.axes.groups)
        if isinstance(self.matrix.module, nn.modules.conv._ConvNd):
            upside_down = isinstance(self.matrix.module, TRANSPOSED)
            channels = self.matrix.module.in_channels if upside_down else self.matrix.module.out_channels
            return Fraction((self.given[0] if upside_down else self.output).numel() // channels)
        return Fraction(self.output.numel() // self.output.shape[-1])

    def kept(self) -> Use:
        """With copies, as what follows may change them in place."""
        output = None if self.output is None else self.output.clone()
        return replace(self, given=tuple(each.clone() for each in self.given), output=output)

    def at(self, index: Tensor) -> Use:
        """For some of what the first dimension counts."""
        output = None if self.output is None else self.output[index]
        return replace(self, given=tuple(each[index] for each in self.given), output=output)


Heard = Callable[[str, Use], None]


@contextmanager
def listening(network: nn.Module, matrices: Mapping[str, Matrix], heard: Heard) -> Iterator[None]:
    """Inside the block, heard(name, use) is told each use of some matrices, or of one that is tied to one of them. For
    use inside of `watched`."""
    with decomposed(network), overheard(network, matrices, heard):
        yield


@contextmanager
def overheard(
    network: nn.Module, matrices: Mapping[str, Matrix], heard: Heard, *, ahead: bool = False
) -> Iterator[None]:
    """As listening, of what this thread runs; inside of `decomposed`. ahead: a module's call is told before it begins,
    without its output, as products always are."""
    names = {each.identity: name for name, each in matrices.items()}
    inside: list[tuple[int, str]] = []
    with ExitStack() as stack:
        for each in every_matrix(network):
            if each.identity in names and each.kind.role == LAYER:
                for handle in _hooked(each, names[each.identity], inside, heard, ahead):
                    stack.callback(handle.remove)
        stack.enter_context(_Products(matrices, inside, heard))
        yield


def _hooked(matrix: Matrix, name: str, inside: list[tuple[int, str]], heard: Heard, ahead: bool) -> Iterator[Any]:
    thread = threading.get_ident()

    def told(given: tuple[Any, ...], named: Mapping[str, Any], output: Tensor | None) -> None:
        arguments = (*given, *(named[key] for key in sorted(named)))
        tensors = tuple(each for each in arguments if isinstance(each, Tensor))
        heard(name, Use(matrix, tensors, output, (0, matrix.axes.groups)))

    def enter(_: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        if threading.get_ident() == thread:
            if ahead:
                told(given, named, None)
            inside.append(matrix.identity)

    def leave(_: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any], output: Tensor) -> None:
        if threading.get_ident() == thread:
            inside.pop()
            if not ahead:
                told(given, named, output)

    yield matrix.module.register_forward_pre_hook(enter, with_kwargs=True)
    yield matrix.module.register_forward_hook(leave, with_kwargs=True)


@contextmanager
def decomposed(network: nn.Module) -> Iterator[None]:
    """Attention and recurrent layers as the operations that they are made of, not as one."""
    fast, fused = torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled()
    recurrent = any(isinstance(module, nn.RNNBase) for module in network.modules())
    torch.backends.mha.set_fastpath_enabled(False)
    torch._C._set_mkldnn_enabled(fused and not recurrent)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch._C._set_mkldnn_enabled(fused)


_OPERANDS = {
    "aten::mm": (0, 1, None),
    "aten::addmm": (1, 2, 0),
    "aten::bmm": (0, 1, None),
    "aten::baddbmm": (1, 2, 0),
    "aten::mv": (0, 1, None),
    "aten::addmv": (1, 2, 0),
}
"""Products: which arguments are multiplied, and which is added."""


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tells of each product in which a matrix is a factor, outside of the calls that are told of anyway."""

    supports_higher_order_operators = True

    def __init__(self, matrices: Mapping[str, Matrix], inside: list[tuple[int, str]], heard: Heard) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._inside, self._heard = inside, heard
        self._held: dict[int, list[tuple[str, Matrix, Tensor]]] = {}
        for name, each in matrices.items():
            if not each.is_computed and each.weight.dim() > 1:
                self._held.setdefault(_memory(each.weight), []).append((name, each, each.weight))

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        where = _OPERANDS.get(function._schema.name) if hasattr(function, "_schema") else None
        if where is not None:
            left, right = args[where[0]], args[where[1]]
            added = None if where[2] is None else args[where[2]]
            right = right[:, None] if right.dim() == 1 else right
            self._look(right, left, added)
            self._look(left.transpose(-1, -2), right.transpose(-1, -2), added)
        return function(*args, **(kwargs or {}))

    def _look(self, factor: Tensor, other: Tensor, added: Tensor | None) -> None:
        """factor: (…, inputs, outputs) if it is a matrix; other: (…, positions, inputs)."""
        for name, matrix, weight in self._held.get(_memory(factor), ()):
            found = _part(factor, weight, matrix.axes)
            if found is not None and matrix.identity not in self._inside:
                (first, last), transposed = found
                rows = other.reshape(-1, other.shape[-1])
                biased = matrix.kind.role == INNER or _is_bias(added, matrix.bias)
                self._heard(name, Use(matrix, (rows,), None, (first, last), biased, transposed))


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata) if torch._C._has_storage(tensor) else 0


def _is_bias(added: Tensor | None, bias: Tensor | None) -> bool:
    return added is not None and bias is not None and added.data_ptr() == bias.data_ptr()


def _part(factor: Tensor, weight: Tensor, axes: Axes) -> tuple[tuple[int, int], bool] | None:
    """Which groups of a weight a factor (inputs, outputs) is, first and behind the last, and whether the weight lies as
    (inputs, outputs), too. None where it is no whole groups of it."""
    if factor.dim() == 3 and (factor.shape[0] == 1 or factor.stride(0) == 0):
        factor = factor[0]
    if factor.dim() != 2 or not weight.is_contiguous():
        return None
    rows, width = len(weight), weight[0].numel()
    row, column = divmod(int(factor.storage_offset()) - int(weight.storage_offset()), width)
    inputs, outputs = factor.shape
    within = column == 0 and row >= 0 and row + outputs <= rows
    if within and inputs == width and _lies(factor.t(), width) and not axes.transposed:
        each = rows // axes.groups
        return None if row % each or outputs % each else ((row // each, (row + outputs) // each), False)
    whole = row == column == 0 and (inputs, outputs) == (rows, width)
    if whole and _lies(factor, width) and (axes.transposed or not axes.known):
        return (0, 1), True
    return None


def _lies(view: Tensor, width: int) -> bool:
    """Whether rows follow each other at this distance, and what is in them in their order."""
    return (view.shape[0] == 1 or view.stride(0) == width) and (view.shape[1] == 1 or view.stride(1) == 1)


def oriented(network: nn.Module, matrices: Mapping[str, Matrix], inputs: Inputs) -> dict[str, Matrix]:
    """The same matrices, and of those of which nothing says how their axes lie what a run shows: always multiplied in
    one way, they are a linear layer's. The network is run where there are some."""
    unknown = {name: each for name, each in matrices.items() if not each.axes.known}
    ways: dict[str, set[bool]] = {}

    def note(name: str, use: Use) -> None:
        ways.setdefault(name, set()).add(use.transposed)

    if unknown:
        with watched(network), listening(network, unknown, note):
            run(network, inputs)
    known = {
        name: _with_axes(unknown[name], Axes(transposed=True in seen)) for name, seen in ways.items() if len(seen) == 1
    }
    return {**matrices, **known}


def _with_axes(matrix: Matrix, axes: Axes) -> Matrix:
    return replace(matrix, kind=replace(matrix.kind, axes=lambda *_: axes))
