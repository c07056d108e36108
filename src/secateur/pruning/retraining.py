"""Training that follows pruning, or goes on beside it: schedules of what goes when, with zeros held in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from secateur.errors import UsageError
from secateur.modules.guarding import copied
from secateur.modules.inputs import Example, Inputs, as_inputs
from secateur.modules.layers import weighted_layers
from secateur.modules.weight_norms import plain_weights
from secateur.pruning.freezing import frozen_zeros
from secateur.pruning.pruning import prune
from secateur.records.recipes import Recipe, Retraining
from secateur.records.results import Retrained
from secateur.support.progress import Reporter, SilentReporter
from secateur.support.quantities import as_float, is_share
from secateur.training.data import Data
from secateur.training.metrics import class_axis, tensor_of
from secateur.training.schedules import cubic_ratio, one_cycle, round_ratio
from secateur.training.tasks import Loss, loss_of
from secateur.training.train import Course, resolve_device, train

HANDED_OVER = Recipe(epochs=0, learning_rate=0.01)
"""Of a network of which nobody says how it was trained."""
CutTo = Callable[[nn.Module, float], object]


def retrain(
    network: nn.Module,
    dataset: Data,
    ratio: float,
    retraining: Retraining | None = None,
    *,
    recipe: Recipe | None = None,
    seed: int = 0,
    cut: CutTo | None = None,
    include: Sequence[str] = (),
    start: Mapping[str, Tensor] | None = None,
    teacher: nn.Module | None = None,
    device: torch.device | str = "auto",
    precision: str = "fp32",
    channels_last: bool = False,
    reporter: Reporter | None = None,
    label: str = "retraining",
    checkpoint: Path | None = None,
) -> Retrained:
    """Prune a trained network to `ratio` and retrain it, in place; it comes back on the CPU in evaluation mode.

    dataset: images in memory, or a Task. retraining: by default ten epochs of
    one-shot. recipe: the one that the network was trained with, by default HANDED_OVER. cut(network, ratio) prunes
    in place, so that zeros of an earlier cut count; by default magnitude per layer. include: what is pruned beside
    layers, as prune has it. start: for "rewind-weights" the state dict of epoch recipe.epochs - epochs / rounds, for
    "scratch" that of a fresh network. teacher: the network to distil from, by default a copy of the given one.
    checkpoint, device, precision and channels_last are as in train.

    Raises UsageError where the schedule needs a start that is not given, or would go back too far; what cut
    raises; TrainingError where the loss stops being a number.
    Zeros are held as by frozen_zeros, and every round begins with an optimizer that remembers nothing.
    """
    retraining, recipe = retraining or Retraining(), recipe or HANDED_OVER
    ratio = as_float(ratio)
    if not is_share(ratio):
        raise UsageError(f"ratio {ratio!r}: expected in [0, 1): the share of weights to zero, so 0.9 for 90 %")
    if retraining.starts_over and start is None:
        raise UsageError(f"schedule {retraining.schedule!r} needs `start`, the state dict that weights are set back to")
    target = resolve_device(device) if isinstance(device, str) else device
    round_recipe = retraining.recipe(recipe)
    cut = cut or partial(_cut_evenly, include=include, example=dataset.example())
    pruner = _Pruner(network, ratio, retraining, cut, start, include)
    course = Course(
        epochs=retraining.epochs,
        rate=_rate(retraining, round_recipe),
        before_step=pruner.before_step,
        loss=_loss(retraining, round_recipe, teacher or network, target, precision, channels_last, loss_of(dataset)),
        first_draw=recipe.epochs,
    )
    try:
        log = train(
            network, dataset, round_recipe, seed, device=target, precision=precision, channels_last=channels_last,
            reporter=reporter or SilentReporter(), label=label, checkpoint=checkpoint, course=course,
        )  # fmt: skip
    finally:
        pruner.detach()
    network.eval()
    return Retrained(retraining.epochs, log.seconds, log.resumed_from)


def _cut_evenly(network: nn.Module, ratio: float, *, include: Sequence[str], example: Example) -> None:
    """By magnitude, per layer; the example shows which layers give the outputs."""
    device = next(network.parameters()).device
    prune(network, ratio, include=include, example=as_inputs(example, network).to(device))


def _rate(retraining: Retraining, recipe: Recipe) -> Callable[[int, int], float]:
    """One cycle a round, or for the rewinding schedules the end of the recipe's."""
    length = retraining.epochs // retraining.rounds

    def rate(step: int, steps: int) -> float:
        within = step % (length * steps)
        return one_cycle((recipe.epochs - length) * steps + within, recipe.epochs * steps + 1, recipe.learning_rate)

    return rate


class _Pruner:
    """Cuts when the schedule says so, and holds the zeros from then on."""

    def __init__(
        self,
        network: nn.Module,
        ratio: float,
        retraining: Retraining,
        cut: CutTo,
        start: Mapping[str, Tensor] | None,
        include: Sequence[str],
    ) -> None:
        self._network, self._ratio, self._retraining, self._cut, self._start = network, ratio, retraining, cut, start
        self._include = include
        self._hold: frozen_zeros | None = None

    def before_step(self, step: int, steps: int, optimizer: Optimizer) -> None:
        due = self._due(step, steps)
        if due is not None:
            self._cut(self._network, due)
            if self._retraining.schedule != "gradual":
                self._begin_round(optimizer)
        if self._hold is None:
            self._hold = frozen_zeros(self._network, optimizer, include=self._include)
        elif due is not None:
            self._hold.refresh()

    def detach(self) -> None:
        if self._hold:
            self._hold.detach()

    def _due(self, step: int, steps: int) -> float | None:
        """The ratio to prune to before this step, or None."""
        plan = self._retraining
        if plan.schedule == "gradual":
            span = max(1, int(plan.ramp * plan.epochs * steps))
            every = min(plan.every, span)
            times = span // every
            due = step > 0 and step % every == 0 and step <= times * every
            return cubic_ratio(step, 0, every, times, 0.0, self._ratio) if due else None
        done, within = divmod(step, plan.epochs // plan.rounds * steps)
        return round_ratio(done + 1, plan.rounds, self._ratio) if within == 0 else None

    def _begin_round(self, optimizer: Optimizer) -> None:
        optimizer.state.clear()
        if self._start is not None and self._retraining.starts_over:
            set_back(self._network, self._start, self._include)


@torch.no_grad()
def set_back(network: nn.Module, state: Mapping[str, Tensor], include: Sequence[str] = ()) -> None:
    """Load a state dict into a pruned network, whose zeros stay."""
    zeros = {name: layer.weight == 0 for name, layer in weighted_layers(network, include).items()}
    network.load_state_dict(state)
    with plain_weights(network):
        for name, layer in weighted_layers(network, include).items():
            layer.weight.masked_fill_(zeros[name], 0)


def _loss(
    retraining: Retraining,
    recipe: Recipe,
    teacher: nn.Module,
    device: torch.device,
    precision: str,
    channels_last: bool,
    own: Loss | None = None,
) -> Callable[[Inputs, Any, Any], Tensor] | None:
    """(1 - a) × the loss + a × T² × KL(teacher ‖ student) of the logits over T. Hinton et al. 2015, §2. own: a task's
    loss, else it is cross-entropy. Of outputs that are no logits (N, classes, …) the agreement is the mean square of
    their difference as a share of the teacher's."""
    if not retraining.distill:
        return None
    share, heat = retraining.distill, retraining.temperature
    layout = torch.channels_last if channels_last else torch.contiguous_format
    wise = copied(teacher).eval().requires_grad_(False)
    wise.to(device=device, memory_format=layout)  # type: ignore[call-overload]

    def loss(inputs: Inputs, outputs: Any, target: Any) -> Tensor:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            told = tensor_of(inputs.call(wise)).float()
        logits = tensor_of(outputs).float()
        if own is None:
            plain = F.cross_entropy(logits, target, label_smoothing=recipe.label_smoothing)
        else:
            plain = own(outputs, target)
        return (1 - share) * plain + share * _agreement(logits, told, target, heat)

    return loss


def _agreement(logits: Tensor, told: Tensor, target: Any, heat: float) -> Tensor:
    axis = class_axis(logits, target) if isinstance(target, Tensor) and not target.is_floating_point() else None
    if axis is None:
        return (logits - told).square().mean() / told.square().mean().clamp(min=1e-12)
    student, teacher = (F.log_softmax(each.movedim(axis, -1).flatten(0, -2) / heat, 1) for each in (logits, told))
    return heat**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)
