"""Networks as functions of what a task gives: in PyTorch and in Secateur's runtime, called alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree

from secateur.modules.inputs import Example, Inputs, as_inputs, opened
from secateur.runtime import Session

Given = Tensor | Inputs
"""One batch of inputs: a tensor where that is all that a network takes."""
Engine = Callable[[Any], Any]


def given_of(example: Example, network: nn.Module) -> Given:
    """An example as an engine of the network takes it."""
    found = as_inputs(example, network)
    alone = len(found.arguments) == 1 and not found.named and isinstance(found.arguments[0], Tensor)
    return found.arguments[0] if alone else found


def in_pytorch(network: nn.Module, channels_last: bool) -> Engine:
    """The network as a function, in the layout that suits it; the network itself is moved into it."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network.eval().to(memory_format=layout)  # type: ignore[call-overload]

    def run(given: Given) -> Any:
        if isinstance(given, Inputs):
            return given.call(network)
        return network(given.contiguous(memory_format=layout) if given.dim() == 4 else given)

    return run


def in_runtime(session: Session) -> Engine:
    """A session as a function of tensors, which gives tensors, nested as the network nests them."""

    def run(given: Given) -> Any:
        if isinstance(given, Inputs):
            made = session(*_arrays(given.arguments), **_arrays(dict(given.named or {})))
        else:
            made = session(_array(given))
        return torch.from_numpy(made) if isinstance(made, np.ndarray) else _tensors(made)

    return run


def arrays_of(example: Example, network: nn.Module) -> tuple[NDArray[Any], ...]:
    """The arrays of a batch of inputs, in the order in which the network's graph has them."""
    return tuple(_array(each) for each in as_inputs(example, network).tensors)


def outputs_of(made: Any) -> list[NDArray[Any]]:
    """Every tensor or array of what a network gives, in order, as arrays; of half precision as float32."""
    leaves = _pytree.tree_leaves(opened(made))
    return [_array(each) if isinstance(each, Tensor) else each
            for each in leaves if isinstance(each, (Tensor, np.ndarray))]  # fmt: skip


def _array(tensor: Tensor) -> NDArray[Any]:
    held = tensor.detach().cpu()
    if held.is_floating_point() and held.dtype is not torch.float32:
        held = held.float()
    found: NDArray[Any] = held.numpy()
    return found


def _arrays(values: Any) -> Any:
    return _pytree.tree_map_only(Tensor, _array, values)


def _tensors(values: Any) -> Any:
    return _pytree.tree_map_only(np.ndarray, torch.from_numpy, values)
