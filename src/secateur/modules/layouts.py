"""Images with channels innermost (torch.channels_last): convolutions run in half the time on a CPU, but not every
network bears it. A forward that takes its maps apart by `view` fails, and outputs that lie in memory otherwise make a
loss or a metric fail that does so. So it is tried out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from secateur.errors import ModelError
from secateur.modules.guarding import copied, outputs, run, untouched
from secateur.modules.habits import habit
from secateur.modules.inputs import Inputs

_DIFFERENCE = 1e-3
"""Of the largest output: far above what rounding does."""


def bears_channels_last(network: nn.Module, inputs: Inputs) -> bool:
    """Whether a network that has convolutions of images, moved into that layout, gives what it gives now, as it lies in
    memory now, and in training mode, too, with its gradients, if it runs so now."""
    if not _has_planes(network):
        return False
    moved, last = copied(network), with_channels_last(inputs)
    moved.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _alike(network, inputs, moved, last) and _learns_alike(network, inputs, moved, last)


def bears_such_inputs(network: nn.Module, inputs: Inputs) -> bool:
    """Likewise where inputs alone are in that layout, in evaluation mode; tried out once."""
    question = "channels last", *(each.shape for each in inputs.tensors)
    return _has_planes(network) and habit(
        network, question, lambda: _alike(network, inputs, network, with_channels_last(inputs))
    )


def with_channels_last(inputs: Inputs) -> Inputs:
    """Each tensor of four dimensions with the second innermost; the values are the same."""
    return inputs.replaced(lambda each: each.contiguous(memory_format=torch.channels_last) if each.dim() == 4 else each)


def _has_planes(network: nn.Module) -> bool:
    return any(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for module in network.modules())


def _alike(network: nn.Module, inputs: Inputs, other: nn.Module, others: Inputs) -> bool:
    try:
        expected, found = outputs(network, inputs), outputs(other, others)
    except ModelError:
        return False
    return len(found) == len(expected) and all(map(_same, found, expected))


def _same(found: Tensor, expected: Tensor) -> bool:
    if not _lie_alike(found, expected):
        return False
    apart, most = (found.double() - expected.double()).abs(), expected.double().abs()
    return not found.numel() or bool(apart.max() <= _DIFFERENCE * most.max())


def _learns_alike(network: nn.Module, inputs: Inputs, other: nn.Module, others: Inputs) -> bool:
    expected = _learnt(network, inputs)
    found = None if expected is None else _learnt(other, others)
    return expected is None or (found is not None and all(map(_lie_alike, found, expected)))


def _lie_alike(found: Tensor, expected: Tensor) -> bool:
    strides = zip(found.shape, found.stride(), expected.stride(), strict=False)
    return found.shape == expected.shape and all(one == other for size, one, other in strides if size > 1)


def _learnt(network: nn.Module, inputs: Inputs) -> list[Tensor] | None:
    """What it gives in training mode, if that and the way back run; it is left as it was."""
    with untouched(network), torch.inference_mode(False), torch.enable_grad():
        try:
            made = [each for each in _pytree.tree_leaves(run(network.train(), inputs)) if isinstance(each, Tensor)]
            learning = [each for each in made if each.requires_grad]
            if learning:
                torch.autograd.backward(learning, [torch.ones_like(each) for each in learning])
        except (ModelError, RuntimeError):
            return None
        return [each.detach().clone() for each in made]
