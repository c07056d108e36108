"""Trained networks on their way into a file: the best of a run, or a checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur.checkpoints import classes_of, entries_of, load_weights, read_weights_file
from secateur.data import Dataset
from secateur.errors import ModelError, UsageError
from secateur.models import Architecture, build_network, find_architecture
from secateur.packfile import Metadata


@dataclass(frozen=True, slots=True)
class Deliverable:
    """A network in eval mode with its weights, one image (1, …) that it takes, and what else the file should say.

    notes: what had to be done to load the weights, in words.
    """

    network: nn.Module
    example: Tensor
    metadata: Metadata
    notes: tuple[str, ...] = ()


def from_run(run: str | Path, model: str | None = None) -> Deliverable:
    """The best network of a run folder; `model` says which where the run kept several.

    Raises ModelError where the run kept none, or none of that name.
    """
    folder = Path(run) / "best"
    cards = {path: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    wanted = {path: card for path, card in cards.items() if model in (None, card["model"])}
    if not wanted:
        kept = ", ".join(sorted({card["model"] for card in cards.values()})) or "none"
        asked = f" of model {model!r}" if model else ""
        raise ModelError(f"{run}: kept no best network{asked}, but: {kept}; sweep again, with a larger --tolerance")
    if len(wanted) > 1:
        raise ModelError(
            f"{run}: kept {len(wanted)} networks ({', '.join(card['model'] for card in wanted.values())}): "
            "say which with --model"
        )
    ((path, card),) = wanted.items()
    if "input" not in card:
        raise ModelError(f"{path}: written by an older version, without the input's shape; run the sweep again")
    metadata = Metadata(mean=tuple(card["mean"]), std=tuple(card["std"]))
    shape = tuple(card["input"])
    return _load(card["model"], path.with_suffix(".safetensors"), card["classes"], shape, metadata)


def from_checkpoint(
    weights: str | Path, model: str, *, shape: tuple[int, ...] | None = None, classes: int | None = None
) -> Deliverable:
    """A network of models.py or a user's own ("package.module:callable") with the weights of a checkpoint.

    shape: of one image (C, H, W), where the network does not fix it. classes: by default those that make the
    network's shapes the checkpoint's. Raises UsageError where the shape is needed, ModelError where the checkpoint does
    not fit.
    """
    architecture = find_architecture(model)
    shape = shape or _own_shape(architecture)
    if shape is None:
        raise UsageError(f"model {model!r} takes images of any size: say which with --input, as in --input 3x32x32")
    if classes is None:
        read_weights_file(weights)
        classes = _classes(architecture, shape[0], weights)
    return _load(model, Path(weights), classes, shape, Metadata())


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


def card_fields(data: Dataset) -> dict[str, Any]:
    """What a best network's JSON has to say so that from_run can build it again."""
    return {"input": list(data.shape), "classes": data.classes, "mean": list(data.mean), "std": list(data.std)}
