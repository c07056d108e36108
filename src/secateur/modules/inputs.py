"""What a network is called with: one tensor, several, or tensors by name; as tensors, handed over as copies."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree

from secateur.errors import UsageError

Example = Any
"""What verbs take as one batch of inputs: a tensor (N, …) or a NumPy array, a tuple or list of them for a forward with
several arguments, or a mapping of forward's keywords."""

_EXPECTED = "expected a tensor (N, …), a NumPy array, a tuple or list of them, or a mapping of forward's keywords"


@dataclass(frozen=True, slots=True)
class Inputs:
    """One batch of what forward takes: arguments in order, and by name.

    Nested lists, tuples and mappings are handed over as they are, their tensors treated like all others. axes: the
    dimension of each tensor that is the batch; None: the first of each.
    """

    arguments: tuple[Any, ...] = ()
    named: Mapping[str, Any] | None = None
    axes: tuple[int, ...] | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """Every tensor, in order."""
        leaves = _pytree.tree_leaves((self.arguments, dict(self.named or {})))
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]

    def __len__(self) -> int:
        """The batch: how many there are of in the first tensor."""
        return self.tensors[0].shape[self.batch_axes[0]]

    @property
    def batch_axes(self) -> tuple[int, ...]:
        """Of every tensor the dimension that is the batch."""
        return self.axes or (0,) * len(self.tensors)

    def _each_with_axis(self, change: Callable[[Tensor, int], Tensor]) -> Inputs:
        """With change(tensor, axis) in the place of each tensor that is as long as the batch."""
        whole, axes = len(self), iter(self.batch_axes)

        def changed(each: Tensor) -> Tensor:
            axis = next(axes)
            return change(each, axis) if each.dim() > axis and each.shape[axis] == whole else each

        return self.replaced(changed)

    def first(self, count: int) -> Inputs:
        """The first images (sentences, rows …) of the batch, of every tensor that is as long as the batch."""
        return self._each_with_axis(lambda each, axis: each.narrow(axis, 0, min(count, each.shape[axis])))

    def to(self, where: torch.device | str) -> Inputs:
        return self.replaced(lambda each: each.to(where))

    def copied(self) -> Inputs:
        """With copies of all tensors, apart from any graph of autograd, so that what changes its input in place changes
        nobody's."""
        return self.replaced(lambda each: each.detach().clone())

    def joined(self, other: Inputs) -> Inputs:
        """This batch and another behind it; what is not as long as the batch is this one's."""
        whole, behind, axes = len(self), iter(other.tensors), iter(self.batch_axes)

        def join(each: Tensor) -> Tensor:
            more, axis = next(behind), next(axes)
            return torch.cat([each, more], axis) if each.dim() > axis and each.shape[axis] == whole else each

        return self.replaced(join)

    def doubled(self) -> Inputs:
        """The batch twice over."""
        return self.joined(self)

    def like(self, other: Tensor) -> Inputs:
        """On the device of another tensor, and floating-point numbers of its type."""
        return self.replaced(lambda each: each.to(other) if each.is_floating_point() else each.to(other.device))

    def pairs(self, like: Tensor) -> Inputs:
        """The first image of every tensor twice, numbers in the type of another tensor, all on its device."""
        alike, axes = self.like(like), iter(self.batch_axes)
        return alike.replaced(lambda each: _twice(each.detach(), next(axes)))

    def ones(self) -> Inputs:
        """Ones of double precision in place of all numbers that are not whole."""
        return self.replaced(
            lambda each: torch.ones_like(each, dtype=torch.float64) if each.is_floating_point() else each
        )

    def singly(self) -> Iterator[Inputs]:
        """Each image of the batch as a batch of one."""
        return self.parts(1)

    def parts(self, size: int) -> Iterator[Inputs]:
        """The batch as batches of `size` images, the last one of what is left; one that is no larger as it is."""
        whole = len(self)
        if whole <= size:
            yield self
            return
        for start in range(0, whole, size):
            count = min(size, whole - start)
            yield self._each_with_axis(lambda each, axis, start=start, count=count: each.narrow(axis, start, count))  # type: ignore[misc]

    def describe(self) -> str:
        """The tensors' shapes, as in "(2, 3, 8, 8), (2, 4)"."""
        return ", ".join(str(tuple(each.shape)) for each in self.tensors)

    def replaced(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """With change(tensor) in the place of each tensor, in order."""
        arguments = _pytree.tree_map_only(Tensor, change, self.arguments)
        named = None if self.named is None else _pytree.tree_map_only(Tensor, change, dict(self.named))
        return Inputs(arguments, named, self.axes)

    def strangers(self, network: nn.Module) -> str:
        """Where a mapping is the only argument: its keys, which no argument of forward is called; else nothing."""
        if self.named is not None or len(self.arguments) != 1 or not isinstance(self.arguments[0], Mapping):
            return ""
        keys = ", ".join(map(repr, self.arguments[0]))
        taken = ", ".join(map(repr, inspect.signature(network.forward).parameters))
        return f"forward has no arguments {keys} but {taken}: call them by these names, or leave names out"

    def call(self, network: Callable[..., Any]) -> Any:
        return network(*self.arguments, **(self.named or {}))


def as_inputs(example: Example, network: nn.Module, what: str = "example") -> Inputs:
    """An example as Inputs of a network; `what` names it in messages. The tensors are the caller's own.

    A mapping whose keys are forward's keywords is spread over them, another one is the only argument. Raises
    UsageError where there is no tensor in it, an empty batch, or tensors that are sparse or have no values.
    """
    if isinstance(example, Inputs):
        return example
    held = _pytree.tree_map_only(np.ndarray, lambda each: _from_numpy(each, what), _plain(example))
    if isinstance(held, Mapping) and _are_keywords(held, network):
        inputs = Inputs((), _in_order(held, network))
    elif isinstance(held, (tuple, list)) and not hasattr(held, "_fields"):
        inputs = Inputs(tuple(held))
    else:
        inputs = Inputs((held,))
    _check(inputs, example, what)
    return replace(inputs, axes=_axes(inputs.tensors, network))


def own_example(network: nn.Module) -> Example | None:
    """What a network says itself that it takes, by a method secateur_example; None where it has none."""
    made = getattr(network, "secateur_example", None)
    return made() if callable(made) else None


def _axes(tensors: Sequence[Tensor], network: nn.Module) -> tuple[int, ...] | None:
    """Where the batch of each is: in front as in the first, or second in states of recurrent layers (layers, N, H)."""
    whole = len(tensors[0])
    recurrent = any(isinstance(each, nn.RNNBase) for each in network.modules())

    def axis(shape: torch.Size) -> int:
        second = len(shape) == 3 and shape[1] == whole and (recurrent or shape[0] != whole)
        return int(second)

    found = (0, *(axis(each.shape) for each in tensors[1:]))
    return found if any(found) else None


def _twice(tensor: Tensor, axis: int) -> Tensor:
    """The first along an axis twice."""
    first = tensor.narrow(axis, 0, 1)
    return torch.cat([first, first], axis).contiguous()


def opened(made: Any) -> Any:
    """What a network gives, with mappings of any kind and dataclasses in it as dictionaries, so that every tensor is
    found."""
    if isinstance(made, Mapping):
        return {name: opened(each) for name, each in made.items()}
    if dataclasses.is_dataclass(made) and not isinstance(made, type):
        return {field.name: opened(getattr(made, field.name)) for field in dataclasses.fields(made)}
    if isinstance(made, (tuple, list)):
        return [opened(each) for each in made]
    return made


def copied_to(example: Example, device: torch.device) -> Example:
    """An example with copies of its tensors on a device, in the containers that it came in."""
    held = _pytree.tree_map_only(np.ndarray, lambda each: _from_numpy(each, "example"), _plain(example))
    return _pytree.tree_map_only(Tensor, lambda each: each.detach().to(device, copy=True), held)


def _plain(example: Example) -> Any:
    """Mappings of any kind (as tokenizers give them) as dictionaries."""
    return dict(example) if isinstance(example, Mapping) else example


def _from_numpy(array: np.ndarray[Any, Any], what: str) -> Tensor:
    try:
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        forward = all(stride >= 0 for stride in native.strides)
        return torch.from_numpy(native if native.flags.writeable and forward else native.copy())
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what}: an array of {array.dtype} is no tensor: expected numbers") from error


def _are_keywords(held: Mapping[Any, Any], network: nn.Module) -> bool:
    try:
        parameters = inspect.signature(network.forward).parameters
    except (TypeError, ValueError):
        return False
    free = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    return all(isinstance(name, str) and (free or name in parameters) for name in held)


def _in_order(held: Mapping[str, Any], network: nn.Module) -> dict[str, Any]:
    """As forward has its arguments."""
    first = [name for name in inspect.signature(network.forward).parameters if name in held]
    return {name: held[name] for name in (*first, *(name for name in held if name not in first))}


def _check(inputs: Inputs, example: Example, what: str) -> None:
    if not inputs.tensors:
        raise UsageError(f"{what} of type {type(example).__name__}: {_EXPECTED}")
    for each in inputs.tensors:
        if each.layout is not torch.strided:
            raise UsageError(f"{what} is sparse ({each.layout}): expected a dense tensor; call to_dense() first")
        if each.is_meta:
            raise UsageError(f"{what} is on the meta device and has no values: expected a batch to run")
    first = inputs.tensors[0]
    if first.dim() == 0 or len(first) == 0:
        raise UsageError(f"{what} of shape {tuple(first.shape)}: expected a batch (N, …) with one input at least")
