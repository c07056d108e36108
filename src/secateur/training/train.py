"""Train one network by SGD, under a one-cycle schedule or another course, resuming from the last epoch finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from secateur.errors import SecateurError, TrainingError, UsageError
from secateur.modules.guarding import first_line
from secateur.modules.inputs import Inputs, as_inputs, copied_to
from secateur.records.recipes import Recipe
from secateur.support.checksums import check_members
from secateur.support.progress import Reporter
from secateur.support.progress import Task as Progress
from secateur.support.replacing import replacing
from secateur.training.data import Data, Dataset, Split, augmentation, normalise
from secateur.training.schedules import one_cycle
from secateur.training.tasks import Task


@dataclass(frozen=True, slots=True)
class TrainingLog:
    """seconds of training, interruptions left out; the epochs at which a killed training took up again."""

    seconds: float
    resumed_from: tuple[int, ...]


def _nothing(step: int, steps: int, optimizer: Optimizer) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Course:
    """What differs from one training to another; step counts from 0, steps is how many an epoch has.

    rate(step, steps) is the learning rate. before_step(step, steps, optimizer) may prune. loss(inputs, outputs,
    target) is None for cross-entropy with the recipe's label smoothing, or a task's own. Draws (order, augmentation,
    dropout) are those of the epochs from first_draw on, so that a training which goes on from another sees new ones.
    """

    epochs: int
    rate: Callable[[int, int], float]
    before_step: Callable[[int, int, Optimizer], None] = field(default=_nothing)
    loss: Callable[[Inputs, Any, Any], Tensor] | None = None
    first_draw: int = 0


def recipe_course(recipe: Recipe, stop: int | None = None) -> Course:
    """The recipe's own course: one cycle over all epochs, of which only the first `stop` are run where given."""

    def rate(step: int, steps: int) -> float:
        return one_cycle(step, max(1, recipe.epochs * steps) + 1, recipe.learning_rate)

    return Course(recipe.epochs if stop is None else stop, rate)


def resolve_device(device: str) -> torch.device:
    """ "auto" is CUDA where there is one. Raises UsageError for a device that this machine lacks."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device not in ("cpu", "cuda"):
        raise UsageError(f"device {device!r}: expected auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device 'cuda': this PyTorch sees no CUDA device; it has: cpu")
    return torch.device(device)


def resolve_precision(precision: str, gains: bool, device: torch.device) -> str:
    """ "auto" is bf16 where the network gains from it and the device computes in it, else fp32."""
    if precision != "auto":
        return precision
    return "bf16" if gains and _computes_bf16(device) else "fp32"


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def train(
    network: nn.Module,
    dataset: Data,
    recipe: Recipe,
    seed: int,
    *,
    device: torch.device,
    precision: str,
    channels_last: bool,
    reporter: Reporter,
    label: str,
    checkpoint: Path | None = None,
    course: Course | None = None,
) -> TrainingLog:
    """Train a network in place on the training split; it comes back on the CPU, contiguous, in training mode.

    course: where it is not the recipe's own. A batch has recipe.batch_size images, whatever the course; those of a
    task are as it gives them.

    All randomness derives from (seed, epoch), so a training that was interrupted and resumed from
    `checkpoint` (written after each epoch, removed by the caller) ends with the same bits, and the same seed
    gives the same network on a CPU with the same number of threads. A checkpoint that is damaged is said, and training
    starts anew.
    Raises TrainingError where the loss stops being a number, or there is nothing to train.
    """
    course = course or recipe_course(recipe)
    if course.epochs == 0:
        return TrainingLog(0.0, ())
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise TrainingError(f"{type(network).__name__} has no parameters to train; load weights or use --epochs 0")
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network.to(device=device, memory_format=layout).train()  # type: ignore[call-overload]
    run = _Run(network, dataset, recipe, course, seed, device, precision, layout)
    state = run.resume(checkpoint, reporter)
    with reporter.task(label, course.epochs * run.steps, state.epoch * run.steps) as task:
        while state.epoch < course.epochs:
            state = run.epoch(state, task)
            if checkpoint:
                run.save(state, checkpoint)
    network.to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return TrainingLog(state.seconds, state.resumed_from)


@dataclass(frozen=True, slots=True)
class _State:
    epoch: int
    seconds: float
    resumed_from: tuple[int, ...]


class _Run:
    """What the epochs of one training share."""

    def __init__(
        self,
        network: nn.Module,
        dataset: Data,
        recipe: Recipe,
        course: Course,
        seed: int,
        device: torch.device,
        precision: str,
        layout: torch.memory_format,
    ) -> None:
        self.network, self.dataset, self.recipe, self.course, self.seed = network, dataset, recipe, course, seed
        self.device, self.precision, self.layout = device, precision, layout
        self.shown = (
            _TaskBatches(dataset, network, device)
            if isinstance(dataset, Task)
            else _Images(dataset, recipe, device, layout)
        )
        self.steps = self.shown.steps
        self.optimizer = self._new_optimizer()

    def epoch(self, state: _State, task: Progress) -> _State:
        """One pass over the shuffled training images; a last batch that is not full is left out."""
        started = time.perf_counter()
        draw = _mix(self.seed, self.course.first_draw + state.epoch)
        torch.manual_seed(draw)
        meter = _Meter(state.epoch, self.course.epochs, self.device)
        for count, (inputs, target) in enumerate(self.shown.epoch(draw)):
            self._prepare(state.epoch * self.steps + count)
            self._step(inputs, target, meter)
            task.advance(1, meter.describe)
        if not meter.is_finite():
            raise TrainingError(
                f"training diverged: the loss is not a number after epoch {state.epoch + 1} of {self.course.epochs} "
                f"at learning rate {self.recipe.learning_rate:g}; lower it with --lr (--retrain-lr for retraining)"
            )
        return _State(state.epoch + 1, state.seconds + time.perf_counter() - started, state.resumed_from)

    def _prepare(self, step: int) -> None:
        self.course.before_step(step, self.steps, self.optimizer)
        for group in self.optimizer.param_groups:
            group["lr"] = self.course.rate(step, self.steps)

    def _step(self, inputs: Inputs, target: Any, meter: _Meter) -> None:
        try:
            outputs, loss = self._forward(inputs, target)
        except SecateurError:
            raise
        except Exception as error:
            raise TrainingError(
                f"{type(self.network).__name__} cannot be trained on batches of {len(inputs)} "
                f"{self.shown.unit}: {first_line(error)}"
            ) from error
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()
        meter.add(loss.detach(), outputs, target)

    def _forward(self, inputs: Inputs, target: Any) -> tuple[Any, Tensor]:
        """Outputs and loss."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            outputs = inputs.call(self.network)
        if isinstance(outputs, Tensor):
            outputs = outputs.float()
        return outputs, self._loss(inputs, outputs, target)

    def _loss(self, inputs: Inputs, outputs: Any, target: Any) -> Tensor:
        if self.course.loss:
            return self.course.loss(inputs, outputs, target)
        if isinstance(self.dataset, Task):
            return self.dataset.loss_of(outputs, target)
        return F.cross_entropy(outputs, target, label_smoothing=self.recipe.label_smoothing)

    def save(self, state: _State, checkpoint: Path) -> None:
        content = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": state.epoch,
            "seconds": state.seconds,
            "resumed_from": list(state.resumed_from),
        }
        with replacing(checkpoint) as temporary:
            torch.save(content, temporary)

    def resume(self, checkpoint: Path | None, reporter: Reporter) -> _State:
        """The state of the last epoch finished; of none where there is no checkpoint, or one that is damaged."""
        if checkpoint is None or not checkpoint.exists():
            return _State(0, 0.0, ())
        initial = {name: value.clone() for name, value in self.network.state_dict().items()}
        try:
            return self._restored(checkpoint)
        except Exception as error:
            reporter.say(f"{checkpoint}: damaged ({first_line(error)}): training starts anew")
        self.network.load_state_dict(initial)
        self.optimizer = self._new_optimizer()
        return _State(0, 0.0, ())

    def _restored(self, checkpoint: Path) -> _State:
        check_members(checkpoint)
        content: dict[str, Any] = torch.load(checkpoint, map_location=self.device, weights_only=True)
        self.network.load_state_dict(content["network"])
        self.optimizer.load_state_dict(content["optimizer"])
        return _State(content["epoch"], content["seconds"], (*content["resumed_from"], content["epoch"]))

    def _new_optimizer(self) -> SGD:
        return SGD(
            self.network.parameters(),
            lr=self.recipe.learning_rate,
            momentum=self.recipe.momentum,
            weight_decay=self.recipe.weight_decay,
            fused=True,
        )


class _Images:
    """Training images on the device, shuffled and augmented anew for each epoch; a last batch that is not full is left
    out. steps: batches of an epoch."""

    unit = "images"

    def __init__(self, dataset: Dataset, recipe: Recipe, device: torch.device, layout: torch.memory_format) -> None:
        self._dataset, self._device, self._layout = dataset, device, layout
        self._split = Split(dataset.train.images.to(device), dataset.train.labels.to(device))
        self._batch = min(recipe.batch_size, len(self._split))
        self._augment = augmentation(dataset, recipe.augment)
        self.steps = len(self._split) // self._batch

    def epoch(self, draw: int) -> Iterator[tuple[Inputs, Any]]:
        generator = torch.Generator().manual_seed(draw)
        order = torch.randperm(len(self._split), generator=generator).to(self._device)
        shuffled = self._split.take(order)
        for count in range(self.steps):
            part = slice(count * self._batch, (count + 1) * self._batch)
            images = self._augment(shuffled.images[part], generator)
            normalised = normalise(images, self._dataset.mean, self._dataset.std)
            yield Inputs((normalised.contiguous(memory_format=self._layout),)), shuffled.labels[part]


class _TaskBatches:
    """A task's training batches, in the order and the size in which it gives them."""

    unit = "examples"

    def __init__(self, task: Task, network: nn.Module, device: torch.device) -> None:
        self._batches, self._network, self._device = task.batches("train"), network, device
        self.steps = len(self._batches)

    def epoch(self, draw: int) -> Iterator[tuple[Inputs, Any]]:
        for inputs, target in self._batches.seeded(draw):
            yield as_inputs(inputs, self._network, "training batch").to(self._device), copied_to(target, self._device)


class _Meter:
    """Running loss and, of logits, accuracy of an epoch, summed where the tensors are so that no step waits for them.

    Accuracy is taken of every fourth batch, as counting all would slow a small network down.
    """

    def __init__(self, epoch: int, epochs: int, device: torch.device) -> None:
        self._where = f"epoch {epoch + 1}/{epochs}"
        self._loss = torch.zeros((), device=device)
        self._right = torch.zeros((), dtype=torch.int64, device=device)
        self._steps = self._images = 0

    def add(self, loss: Tensor, outputs: Any, target: Any) -> None:
        self._loss += loss
        if self._steps % 4 == 0 and _are_logits(outputs, target):
            self._right += (outputs.detach().argmax(1) == target).sum()
            self._images += len(target)
        self._steps += 1

    def is_finite(self) -> bool:
        return bool(torch.isfinite(self._loss))

    def describe(self) -> str:
        accuracy = f", accuracy {self._right / self._images:.2%}" if self._images else ""
        return f"{self._where}, loss {self._loss / self._steps:.3f}{accuracy}"


def _are_logits(outputs: Any, target: Any) -> bool:
    if not isinstance(outputs, Tensor) or not isinstance(target, Tensor) or target.is_floating_point():
        return False
    return outputs.dim() == 2 and target.shape == outputs.shape[:1]


def _mix(seed: int, epoch: int) -> int:
    """One seed out of two numbers: neighbouring seeds and epochs must not share their draws."""
    return (seed * 1_000_003 + epoch * 7_919 + 1) % 2**63
