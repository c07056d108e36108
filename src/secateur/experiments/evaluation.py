"""What networks score: the accuracies of one on validation and test data, by whatever predicts fastest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from secateur.errors import RunError
from secateur.experiments.calling import given_of, outputs_of
from secateur.experiments.calling import in_runtime as runtime_engine
from secateur.measure.correctness import accuracy
from secateur.measure.prediction import faster_predictor, seconds
from secateur.modules.guarding import drawing_from, run, watched
from secateur.modules.inputs import as_inputs
from secateur.network.graph import Graph
from secateur.network.limits import NO_LIMITS
from secateur.records.scores import Score
from secateur.runtime import Session
from secateur.runtime.agreement import largest_difference
from secateur.training.data import Data, Dataset
from secateur.training.metrics import Predict
from secateur.training.tasks import Task

BOTH = ("validation", "test")
DIFFERENCE = 1e-3
"""Of the largest output: far above rounding in float32, far below what a wrong graph would do."""
TRIAL = 16
"""Images on which the faster way to predict is found: few beside a test set, a block for the runtime."""
_FEW, _LITTLE, _TINY = 2, 0.002, 1e-12
"""Images, and share of them or of a metric's value, that rounding may decide otherwise."""


class Evaluation:
    """Measures networks on a device, in the layout that suits them."""

    def __init__(self, channels_last: bool, device: torch.device) -> None:
        self._device, self._channels_last = device, channels_last

    def scores(
        self, network: nn.Module, data: Data, graph: Graph | None = None, splits: Sequence[str] = BOTH, parts: int = 1
    ) -> list[Score]:
        """Of a network on each split, or on each of its parts, measured on the device; the network ends on the CPU. One
        that draws at random even in evaluation mode draws the same each time.

        With its graph, on a CPU, Secateur's runtime predicts where that is faster. Of images it gives the same classes,
        as PyTorch is asked again wherever rounding could decide.
        """
        layout = torch.channels_last if self._channels_last else None
        with on_device(network, self._device, layout), watched(network):
            if isinstance(data, Task):
                return _scores(self._predictor_of_task(network, data, graph), data, splits, parts)
            return _scores(self._predictor(network, data, graph), data, splits, parts, self._device)

    def _predictor_of_task(self, network: nn.Module, data: Task, graph: Graph | None) -> Predict:
        """Inputs → outputs as the network gives them, by whatever is faster on the first validation batch and agrees
        there."""

        def in_pytorch(inputs: Any) -> Any:
            return run(network, as_inputs(inputs, network, f"task {data.name!r}: a batch").to(self._device))

        if graph is None or self._device.type != "cpu":
            return in_pytorch
        session = Session(graph, threads=torch.get_num_threads(), calibrate=False, limits=NO_LIMITS)
        runtime = in_place_of(network, session)
        inputs = next(iter(data.batches("validation")))[0]
        try:
            found, expected = outputs_of(runtime(inputs)), outputs_of(in_pytorch(inputs))
        except RunError:
            return in_pytorch
        if len(found) != len(expected) or largest_difference(found, expected) > DIFFERENCE:
            return in_pytorch
        return _or_else(runtime, in_pytorch) if seconds(runtime, inputs) < seconds(in_pytorch, inputs) else in_pytorch

    def _predictor(self, network: nn.Module, data: Dataset, graph: Graph | None) -> Callable[[Tensor], Tensor]:
        if graph is None or self._device.type != "cpu":
            return network
        # With built-in costs, as another machine would.
        session = Session(graph, threads=torch.get_num_threads(), calibrate=False, limits=NO_LIMITS)
        return faster_predictor(network, lambda images: torch.from_numpy(session(images.numpy())), data.example(TRIAL))


def _or_else(runtime: Predict, in_pytorch: Predict) -> Predict:
    """The runtime, and PyTorch for what that has no plan for, as inputs of another length."""

    def predict(inputs: Any) -> Any:
        try:
            return runtime(inputs)
        except RunError:
            return in_pytorch(inputs)

    return predict


def in_place_of(network: nn.Module, session: Session) -> Predict:
    """A session as a function of a task's inputs, whose outputs come in what the network's come in."""
    called = runtime_engine(session)
    tree: Any = None

    def predict(inputs: Any) -> Any:
        nonlocal tree
        made = called(given_of(inputs, network))
        if tree is None:
            tree = _pytree.tree_flatten(run(network, as_inputs(inputs, network).first(1)))
        leaves, spec = tree
        values = iter(each for each in _pytree.tree_leaves(made) if isinstance(each, Tensor))
        return _pytree.tree_unflatten([next(values) if isinstance(each, Tensor) else each for each in leaves], spec)

    return predict


def scores_in_runtime(
    network: nn.Module, graph: Graph, data: Data, splits: Sequence[str], parts: int = 1
) -> list[Score]:
    """What a graph scores in Secateur's runtime, whose outputs are its own: it computes in eight bits."""
    session = Session(graph, threads=torch.get_num_threads(), calibrate=False, limits=NO_LIMITS)
    if isinstance(data, Task):
        with watched(network):
            return _scores(in_place_of(network, session), data, splits, parts)
    return _scores(lambda images: torch.from_numpy(session(images.numpy())), data, splits, parts)


def _scores(
    predict: Callable[[Any], Any], data: Data, splits: Sequence[str], parts: int, device: torch.device | str = "cpu"
) -> list[Score]:
    found: list[Score] = []
    for split in splits:
        with drawing_from(0):
            if not isinstance(data, Task):
                pieces = [getattr(data, split).part(number, parts) for number in range(parts)]
                found += [accuracy(predict, data, piece, device=device) for piece in pieces]
            elif parts == 1:
                found.append(data.score(predict, split))
            else:
                found += data.score_parts(predict, split, parts)
    return found


@contextlib.contextmanager
def on_device(network: nn.Module, device: torch.device, layout: torch.memory_format | None) -> Iterator[None]:
    """The network on a device and in a layout for a while; then on the CPU and contiguous again."""
    network.to(device)
    if layout is not None:
        network.to(memory_format=layout)  # type: ignore[call-overload]
    try:
        yield
    finally:
        network.to("cpu").to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def agree(then: Score, now: Score) -> bool:
    """Whether two accuracies on the same images can be one network's: rounding may decide a few images otherwise."""
    if then.is_accuracy:
        return abs(then.value - now.value) <= max(_FEW / then.n, _LITTLE)
    return abs(then.value - now.value) <= _LITTLE * max(1.0 if then.metric.share else abs(then.value), _TINY)
