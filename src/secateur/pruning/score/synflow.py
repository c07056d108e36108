"""SynFlow, Tanaka et al. 2020: how much of the flow from all inputs to all outputs goes through each weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree

from secateur.errors import ModelError
from secateur.modules.guarding import first_line
from secateur.modules.inputs import Inputs, as_inputs
from secateur.pruning.score.context import Context
from secateur.pruning.score.gradient import gradients
from secateur.pruning.score.scores import Scores

ROUNDS = 100


def synflow(context: Context) -> Scores:
    """|w|·∂R/∂|w|, R being the sum of the outputs for an input of ones with every weight replaced by |w|
    (equation 3 with the objective of §6), in double precision.

    Every parameter counts by its absolute value and a running mean as zero. Looks at no image, only at their shape.
    Meant to be scored anew on an exponential schedule of 100 steps, so that no layer is cut off.
    """
    images, _ = next(context.batches())
    inputs = as_inputs(images, context.network, "calibration batch").first(1).ones()
    linear = _linearised(context.network)
    _widen_attributes(context.network)
    chosen = {name: linear[layer.path].requires_grad_() for name, layer in context.layers.items()}
    with torch.enable_grad():
        found = gradients(_flow(context.network, linear, inputs), chosen)
    return Scores({name: g.mul_(chosen[name].detach()) for name, g in zip(chosen, found, strict=True)})


def _flow(network: nn.Module, linear: dict[str, Tensor], inputs: Inputs) -> Tensor:
    """The sum of all outputs."""
    try:
        given = functional_call(network, linear, inputs.arguments, dict(inputs.named or {}))
    except Exception as error:
        raise ModelError(f"{type(network).__name__} fails on ones of double precision: {first_line(error)}") from error
    sums = [each.sum() for each in _pytree.tree_leaves(given) if isinstance(each, Tensor) and each.requires_grad]
    if not sums:
        raise ModelError(f"{type(network).__name__}: none of its outputs depends on its weights, as after detach()")
    return torch.stack(sums).sum()


def _linearised(network: nn.Module) -> dict[str, Tensor]:
    """Parameters as absolute values and running means as zeros, all in double precision."""
    values = {name: parameter.detach().double().abs() for name, parameter in network.named_parameters()}
    for name, buffer in network.named_buffers():
        shift = name.rpartition(".")[2] == "running_mean"
        values[name] = torch.zeros_like(buffer, dtype=torch.float64) if shift else _double(buffer)
    return values


def _widen_attributes(network: nn.Module) -> None:
    """Tensors that are no buffers in double precision, too; whoever scores puts them back."""
    for module in network.modules():
        held = vars(module)
        held |= {name: _double(each) for name, each in held.items() if isinstance(each, Tensor)}


def _double(buffer: Tensor) -> Tensor:
    return buffer.double() if buffer.is_floating_point() else buffer
