"""Zeros that stay zero while a network learns, in anyone's own training loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from secateur.errors import UsageError
from secateur.modules.candidates import check_network
from secateur.modules.layers import weighted_layers
from secateur.modules.matrices import LAYER, NORMS, TRANSPOSED, Matrix
from secateur.modules.weight_norms import normed


class frozen_zeros:  # noqa: N801 - reads as a statement
    """Hold the zeros that a network has now through every step of an optimizer.

        with secateur.frozen_zeros(model, optimizer):
            ...  # train as ever: closures, schedulers, gradient scaling, any optimizer of torch.optim

    After each optimizer.step() the weights that were zero at the start are zero again, whatever momentum,
    weight decay or adaptive rates made of them. Held are the weights of all layers that prune may prune, and with
    `include`, as prune has it, those of embeddings and parameters of one's own; of units without any weight, the bias
    that is zero; and of normalisations the scales that are zero, with the shift where that is zero too. Parameters
    that the optimizer is given later are held like the others. Costs a byte per weight of the layers that have zeros.

    Without `with`, it holds from the call until detach(). Raises UsageError where the optimizer updates none of
    the network's weights that have zeros (as after the network was copied), PruneError for weights without values. Of a
    layer under weight normalisation the zeros of v and g are held.
    """

    def __init__(self, network: nn.Module, optimizer: Optimizer, *, include: Sequence[str] = ()) -> None:
        check_network(network)
        self._network, self._optimizer, self._include = network, optimizer, tuple(include)
        self._held: list[tuple[nn.Parameter, Tensor]] = []
        self.refresh()
        self._hook = optimizer.register_step_post_hook(lambda *_: self.apply())

    def refresh(self) -> None:
        """Derive the pattern again, after more weights were pruned."""
        found, updated = list(held_zeros(self._network, self._include)), self._updated()
        if found and not any(id(parameter) in updated for parameter, _ in found):
            raise UsageError(
                f"frozen_zeros: the optimizer updates none of the {len(found)} parameters of "
                f"{type(self._network).__name__} that have zeros; make it from this network's parameters()"
            )
        self._held = found

    def _updated(self) -> set[int]:
        """The identities of the parameters that the optimizer updates now."""
        return {id(parameter) for group in self._optimizer.param_groups for parameter in group["params"]}

    @torch.no_grad()
    def apply(self) -> None:
        """Zero what was zero; done after every optimizer step by itself."""
        updated = self._updated()
        for position, (parameter, zeros) in enumerate(self._held):
            if id(parameter) not in updated:
                continue
            if zeros.device != parameter.device:
                zeros = zeros.to(parameter.device)
                self._held[position] = (parameter, zeros)
            parameter.masked_fill_(zeros, 0)

    def detach(self) -> None:
        """Hold no longer; what the optimizer remembers may revive a weight from its next step on."""
        self._hook.remove()
        self._held = []

    def __enter__(self) -> frozen_zeros:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()


@torch.no_grad()
def held_zeros(network: nn.Module, include: Sequence[str]) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """Every parameter that has zeros to hold, with a mask of them. include: as in weighted_layers."""
    for layer in weighted_layers(network, include).values():
        yield from _zeros_of_layer(layer)
    for module in network.modules():
        yield from _zeros_of_normalisation(module)


def _zeros_of_layer(layer: Matrix) -> Iterator[tuple[nn.Parameter, Tensor]]:
    found = normed(layer.module) if layer.parameter == "weight" else None
    if layer.is_computed and found is None:  # from other tensors, which are no zeros of ours
        return
    zeros = layer.weight == 0
    if not zeros.any():
        return
    for parameter in [found.direction, found.scale] if found else layer.sources:
        yield parameter, parameter == 0
    bias = layer.module._parameters.get("bias")
    if bias is not None and layer.kind.role == LAYER and not isinstance(layer.module, TRANSPOSED):
        dead = layer.axes.turned(zeros).flatten(1).all(1) & (bias == 0)
        if dead.any():
            yield bias, dead


def _zeros_of_normalisation(module: nn.Module) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """Scales that were pruned, on their own or with the whole channel. Where every scale is zero, none was: residual
    branches may start so."""
    scale, shift = module._parameters.get("weight"), module._parameters.get("bias")
    if scale is None or not isinstance(module, NORMS):
        return
    zeros = scale == 0
    if not zeros.any() or zeros.all():
        return
    yield scale, zeros
    if shift is not None and (dead := zeros & (shift == 0)).any():
        yield shift, dead
