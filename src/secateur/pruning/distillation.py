"""Distillation from the dense network: all weights that stay learn at once to give what they gave, without labels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.utils import _pytree

from secateur.errors import PruneError, UsageError
from secateur.modules.guarding import copied, first_line, run, set_evaluating, untouched
from secateur.modules.inputs import Example, Inputs, as_inputs
from secateur.modules.layers import weighted_layers
from secateur.modules.uses import decomposed
from secateur.pruning.freezing import held_zeros
from secateur.support.progress import Reporter, SilentReporter, Task

STEPS, RATE, WARM_UP = 150, 3e-3, 0.05
"""Steps, the highest learning rate, and the share of steps in which it rises."""
BATCH = 128
"""Images of a step at most."""
SLOWER = 0.1
"""Of the rate, at which it is tried once more where the first led away."""
_COMPARED = 8
"""Last steps whose mean loss is compared with the first's."""


def distill(
    network: nn.Module,
    dense: nn.Module,
    inputs: Iterable[Example],
    *,
    steps: int = STEPS,
    rate: float = RATE,
    include: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> None:
    """Train a pruned network, in place, to give what the dense one gives; its zeros stay zero.

    The loss is that of `apart` for the outputs, whatever they mean, plus its mean over what the layers give (FitNets,
    Romero et al. 2015, with every layer a hint). Adam (Kingma & Ba 2015) takes `steps` steps, at most BATCH images
    each, at a rate that rises to `rate` and falls to zero as a cosine. In evaluation mode: buffers stay as they are,
    BatchNorm's statistics among them, and nothing is dropped. Whatever learns is trained; everything, where nothing
    does. Where that led away from the dense network it is tried again at SLOWER times the rate; a network that is no
    nearer then stays as it was, and the reporter says so.

    inputs: batches on the networks' device, gone through again and again. include: as in weighted_layers. Draws
    nothing. Raises UsageError where there are no inputs, PruneError where the network cannot be trained or its loss
    is not a number from the beginning; nothing is changed then.
    """
    reporter = reporter or SilentReporter()
    with torch.inference_mode(False):
        teacher = set_evaluating(copied(dense))
        for highest in (rate, SLOWER * rate):
            student = set_evaluating(copied(network))
            with untouched(student, copy_on_write=False), _trainable(student):
                learner = _Learner(student, teacher, steps, highest, include)
                with reporter.task("distilling", steps, brief=True) as task:
                    nearer = learner.learn(_parts(inputs, network), task)
            if nearer:
                _take_over(network, student)
                return
    reporter.say("distilling brought the network no nearer to the dense one: it stays as it was before that")


@torch.no_grad()
def _take_over(network: nn.Module, student: nn.Module) -> None:
    for own, learnt in zip(network.parameters(), student.parameters(), strict=True):
        own.copy_(learnt)


def apart(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference over the variance of what is wanted, in single precision at least; where that is
    constant, over 1. Numbers that are not finite in what is wanted do not count; NaN where none is."""
    found, wanted = (_real(each).flatten() for each in (found, wanted))
    known = torch.isfinite(wanted)
    if not bool(known.all()):
        found, wanted = found[known], wanted[known]
    if not len(wanted):
        return torch.full_like(found.sum(), torch.nan)
    variance = wanted.var(correction=0)
    return (found - wanted).square().mean() / torch.where(variance > 0, variance, 1.0)


def _real(values: Tensor) -> Tensor:
    values = torch.view_as_real(values) if values.is_complex() else values
    return values.float() if values.itemsize < 4 else values


def _parts(inputs: Iterable[Example], network: nn.Module) -> Iterator[Inputs]:
    """Batches of at most BATCH images, without end."""
    while True:
        batch = None
        for batch in inputs:
            yield from as_inputs(batch, network, "calibration batch").parts(BATCH)
        if batch is None:
            raise UsageError("distillation: expected at least one batch of calibration images, got none")


@contextmanager
def _trainable(network: nn.Module) -> Iterator[None]:
    """Inside the block recurrent layers have gradients in evaluation mode, too."""
    enabled = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = enabled and not any(isinstance(module, nn.RNNBase) for module in network.modules())
    try:
        with decomposed(network):
            yield
    finally:
        torch.backends.cudnn.enabled = enabled


class _Learner:
    """A network on its way to what the dense one gives; both are copies, in evaluation mode."""

    def __init__(self, network: nn.Module, dense: nn.Module, steps: int, rate: float, include: Sequence[str]) -> None:
        self._network, self._dense, self._steps, self._rate = network, dense, steps, rate
        self._layers = _layers_of(network, include), _layers_of(dense, include)
        self.learning = _learning(network)
        self._masters = [_master(each) for each in self.learning]
        places = {id(each): place for place, each in enumerate(self.learning)}
        zeros = held_zeros(network, include)
        self._held = [(self._masters[places[id(each)]], mask) for each, mask in zeros if id(each) in places]
        self._optimizer = Adam(self._masters, rate, fused=all(each.is_floating_point() for each in self._masters))

    def learn(self, batches: Iterator[Inputs], task: Task) -> bool:
        """Whether the mean loss of the last steps is below that of the first, whose network is as it was given."""
        losses: list[Tensor] = []
        for step, batch in zip(range(self._steps), batches, strict=False):
            losses.append(self._step(step, batch))
            task.advance(1, lambda: f"distance {losses[-1]:.4f}")
        return bool(torch.stack(losses[-_COMPARED:]).mean() < losses[0])

    def _step(self, step: int, batch: Inputs) -> Tensor:
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * course(step, self._steps)
        with torch.enable_grad():
            loss = self._loss(batch)
            if step == 0 and not bool(torch.isfinite(loss)):
                raise PruneError(
                    f"distillation: the distance of {type(self._network).__name__} from the dense network is not a "
                    "number: mend the network or its images"
                )
            self._derive(loss)
        with torch.no_grad():
            self._update()
        return loss.detach()

    def _derive(self, loss: Tensor) -> None:
        try:
            loss.backward()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise PruneError(
                f"{type(self._network).__name__} cannot be trained in evaluation mode: {first_line(error)}; "
                "repair it without distill"
            ) from error

    def _loss(self, batch: Inputs) -> Tensor:
        with torch.no_grad():
            aims, aims_inside = _given(self._dense, self._layers[1], batch)
        found, inside = _given(self._network, self._layers[0], batch)
        return _distance(found, aims) + _distance(inside, aims_inside)

    def _update(self) -> None:
        for own, master in zip(self.learning, self._masters, strict=True):
            if own.grad is not None:
                master.grad = own.grad.to_dense().to(master.dtype)
                own.grad = own.grad if own is master else None
        self._optimizer.step()
        self._optimizer.zero_grad()
        for master, mask in self._held:
            master.masked_fill_(mask, 0)
        for own, master in zip(self.learning, self._masters, strict=True):
            if own is not master:
                own.copy_(master)


def course(step: int, steps: int) -> float:
    """The share of the highest learning rate: a line up over the first WARM_UP of all steps, times a cosine down."""
    return min(1.0, (step + 1) / max(1.0, WARM_UP * steps)) * (1 + math.cos(math.pi * step / steps)) / 2


def _learning(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that learn; all of them, from now on, where none does."""
    real = [each for each in network.parameters() if each.is_floating_point() or each.is_complex()]
    learning = [each for each in real if each.requires_grad]
    for each in () if learning else real:
        each.requires_grad_()
    return learning or real


def _master(parameter: nn.Parameter) -> nn.Parameter:
    """What is updated for a parameter: itself, or of sixteen bits, which cannot take small steps, one in single
    precision."""
    return parameter if parameter.itemsize >= 4 else nn.Parameter(parameter.detach().float())


def _layers_of(network: nn.Module, include: Sequence[str]) -> dict[str, nn.Module]:
    """Every module with a layer's matrix once, by that matrix's name."""
    found = {id(each.module): (each.name, each.module) for each in weighted_layers(network, include).values()}
    return dict(found.values())


Given = Mapping[tuple[str, int], Tensor]
"""Tensors by what gave them and their places."""


def _given(network: nn.Module, layers: Mapping[str, nn.Module], batch: Inputs) -> tuple[Given, Given]:
    """The outputs of a network, and those of its layers, at each call."""
    inside: dict[tuple[str, int], Tensor] = {}
    counts = {name: itertools.count() for name in layers}

    def hear(name: str, output: Any) -> None:
        inside.update({(name, next(counts[name])): each for each in _numbers(output)})

    with ExitStack() as stack:
        for name, module in layers.items():
            handle = module.register_forward_hook(lambda _, __, output, name=name: hear(name, output))
            stack.callback(handle.remove)
        outputs = _numbers(run(network, batch))
    return {("", place): each for place, each in enumerate(outputs)}, inside


def _numbers(held: Any) -> list[Tensor]:
    """The tensors of real or complex numbers in whatever containers."""
    leaves = [each for each in _pytree.tree_leaves(held) if isinstance(each, Tensor)]
    return [each for each in leaves if each.is_floating_point() or each.is_complex()]


def _distance(found: Given, aims: Given) -> Tensor:
    """The mean over all tensors that both gave, in the same shape."""
    known = [key for key, aim in aims.items() if key in found and found[key].shape == aim.shape and aim.numel()]
    return torch.stack([apart(found[key], aims[key]) for key in known]).mean() if known else torch.zeros(())
