"""What networks score: the accuracies of one on validation and test data, by whatever predicts fastest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from secateur.measure.correctness import accuracy
from secateur.measure.prediction import faster_predictor
from secateur.modules.guarding import watched
from secateur.network.graph import Graph
from secateur.network.limits import NO_LIMITS
from secateur.records.results import Accuracy
from secateur.runtime import Session
from secateur.training.data import Dataset, Split
from secateur.training.models import Architecture

TRIAL = 16
"""Images on which the faster way to predict is found: few beside a test set, a block for the runtime."""
_FEW, _LITTLE = 2, 0.002
"""Images, and share of them, that rounding may decide otherwise."""


class Evaluation:
    """Measures networks of one architecture on a device."""

    def __init__(self, architecture: Architecture, device: torch.device) -> None:
        self._device, self._channels_last = device, uses_channels_last(architecture)

    def accuracies(self, network: nn.Module, data: Dataset, graph: Graph | None = None) -> tuple[Accuracy, Accuracy]:
        """(validation, test) of a network, measured on the device; the network ends on the CPU.

        With its graph, on a CPU, Secateur's runtime predicts where that is faster: the same classes, as PyTorch is
        asked again wherever rounding could decide.
        """
        validation, test = self._accuracies(network, data, graph, (data.validation, data.test))
        return validation, test

    def validation(self, network: nn.Module, data: Dataset, graph: Graph | None = None) -> Accuracy:
        """Likewise, of the validation split alone: what may be looked at while one chooses."""
        (found,) = self._accuracies(network, data, graph, (data.validation,))
        return found

    def _accuracies(
        self, network: nn.Module, data: Dataset, graph: Graph | None, splits: Sequence[Split]
    ) -> list[Accuracy]:
        layout = torch.channels_last if self._channels_last else None
        with on_device(network, self._device, layout), watched(network):
            predict = self._predictor(network, data, graph)
            return [accuracy(predict, data, split, device=self._device) for split in splits]

    def _predictor(self, network: nn.Module, data: Dataset, graph: Graph | None) -> Callable[[Tensor], Tensor]:
        if graph is None or self._device.type != "cpu":
            return network
        # With built-in costs, as another machine would.
        session = Session(graph, threads=torch.get_num_threads(), calibrate=False, limits=NO_LIMITS)
        return faster_predictor(network, lambda images: torch.from_numpy(session(images.numpy())), data.example(TRIAL))


def in_runtime(graph: Graph, data: Dataset, split: Split) -> Accuracy:
    """What a graph scores in Secateur's runtime, whose outputs are its own: it computes in eight bits."""
    session = Session(graph, threads=torch.get_num_threads(), calibrate=False, limits=NO_LIMITS)
    return accuracy(lambda images: torch.from_numpy(session(images.numpy())), data, split)


def uses_channels_last(architecture: Architecture) -> bool:
    return architecture.convolutional


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


def agree(then: Accuracy, now: Accuracy) -> bool:
    """Whether two accuracies on the same images can be one network's: rounding may decide a few images otherwise."""
    return abs(then.top1 - now.top1) <= max(_FEW / then.n, _LITTLE)
