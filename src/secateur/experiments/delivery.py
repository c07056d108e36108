"""Trained networks on their way into a file: the best of a run, or a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur.errors import ModelError, UsageError
from secateur.importing.checkpoints import classes_of, entries_of, load_weights, read_weights_file
from secateur.packfile import Metadata
from secateur.records.kept import WEIGHTS, checked, find_kept
from secateur.records.kept import Kept as Kept
from secateur.records.kept import place_of as place_of
from secateur.training.data import Data, Dataset, find_data, fit
from secateur.training.models import Architecture, build_network, find_architecture
from secateur.training.tasks import Task


@dataclass(frozen=True, slots=True)
class Deliverable:
    """A network in eval mode with its weights, one image (1, …) or batch that it takes, and what else the file says.

    notes: what had to be done to load the weights, in words. model, data: of a run's network, what it was trained as
    and on. quantize: what the run's network was measured as; keep_float: with which layers in float32.
    """

    network: nn.Module
    example: Any
    metadata: Metadata
    notes: tuple[str, ...] = ()
    model: str = ""
    data: str = ""
    quantize: str = "none"
    keep_float: tuple[str, ...] = ()

    def dataset(self, data_dir: str | Path | None = None) -> Dataset | None:
        """What the network was trained on, as it takes it; None where that is not known. Raises DataError as find_data
        does."""
        if not self.data:
            return None
        architecture, data = find_architecture(self.model), find_data(self.data, data_dir)
        return None if isinstance(data, Task) else fit(data, self.model, architecture.channels, architecture.size)


def from_run(run: str | Path, model: str | None = None) -> Deliverable:
    """The best network of a run folder; `model` says which where the run kept several, as its card's model or by the
    name of its files.

    Raises ModelError where the run kept none, or none of that name, or its files are damaged.
    """
    kept, card = find_kept(run, model)
    if "task" in card:
        raise ModelError(
            f"{kept.card_path}: its network was measured on task {card['task']!r}, whose inputs a run does not keep: "
            f"take {kept.packed.name} beside it, or call pack with the module and an example"
        )
    if missing := {"model", "input", "classes", "mean", "std"} - card.keys():
        raise ModelError(
            f"{kept.card_path}: written by an older version, or damaged: it does not say "
            f"{', '.join(sorted(missing))}; run the sweep again"
        )
    weights = checked(kept, card, WEIGHTS)
    metadata = Metadata(mean=tuple(card["mean"]), std=tuple(card["std"]))
    found = _load(card["model"], weights, card["classes"], tuple(card["input"]), metadata)
    data, quantize = str(card.get("data", "")), str(card.get("quantize", "none"))
    floats = tuple(card.get("keep_float", ()))
    return replace(found, model=card["model"], data=data, quantize=quantize, keep_float=floats)


def from_checkpoint(
    weights: str | Path,
    model: str,
    *,
    shape: tuple[int, ...] | None = None,
    classes: int | None = None,
    example: Any = None,
) -> Deliverable:
    """A network of models.py or a user's own ("package.module:callable") with the weights of a checkpoint.

    shape: of one image (C, H, W), where the network does not fix it. classes: by default those that make the
    network's shapes the checkpoint's. example: a batch of inputs, in place of one image of noise. Raises UsageError
    where the shape is needed, ModelError where the checkpoint does not fit.
    """
    architecture = find_architecture(model)
    shape = shape or _own_shape(architecture) or (None if example is None else (_ANY_CHANNELS,))
    if shape is None:
        raise UsageError(f"model {model!r} takes images of any size: say which with --input, as in --input 3x32x32")
    if classes is None:
        read_weights_file(weights)
        classes = _classes(architecture, shape[0], weights)
    made = _load(model, Path(weights), classes, shape, Metadata())
    return made if example is None else replace(made, example=example)


_ANY_CHANNELS = 3
"""Of a network that is handed its inputs: what a builder that asks for channels gets."""


def _own_shape(architecture: Architecture) -> tuple[int, ...] | None:
    if architecture.channels is None or architecture.size is None:
        return None
    return architecture.channels, architecture.size, architecture.size


def _classes(architecture: Architecture, channels: int, weights: str | Path) -> int:
    """Those that a checkpoint was made for, found by what changes in the network's shapes from 2 to 3 of them."""
    few, more = (_shapes(build_network(architecture, classes, channels, seed=0), weights) for classes in (2, 3))
    return classes_of(few, more, (2, 3), weights) or _CLASSES


_CLASSES = 10


def _shapes(network: nn.Module, weights: str | Path) -> dict[str, tuple[int | None, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in entries_of(network, str(weights)).items()}


def _load(model: str, weights: Path, classes: int, shape: tuple[int, ...], metadata: Metadata) -> Deliverable:
    network = build_network(find_architecture(model), classes, shape[0], seed=0)
    notes = load_weights(network, weights)
    generator = torch.Generator().manual_seed(0)
    return Deliverable(network.eval(), torch.randn(1, *shape, generator=generator), metadata, notes)


def metadata_of(data: Data) -> Metadata:
    """What a .secateur file says of how images are given; nothing of a task's inputs."""
    return Metadata(mean=data.mean, std=data.std)
