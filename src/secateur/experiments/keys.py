"""What trained, half-trained and retrained networks are known by: everything that determines them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.records.recipes import Recipe
from secateur.records.spec import Cell, identifying_fields, identity


@dataclass(frozen=True, slots=True)
class TrainKey:
    """Everything that determines a trained network. For a loaded checkpoint the recipe is None."""

    model: str
    source: str
    data_digest: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: str
    seed: int
    recipe: Recipe | None
    weights: str
    device: str
    precision: str
    torch: str

    @property
    def id(self) -> str:
        return identity(self)


@dataclass(frozen=True, slots=True)
class EarlyKey:
    """A dense network as it was after some of its epochs."""

    network: str
    epochs: int

    @property
    def id(self) -> str:
        return identity(self)


SAID_OTHERWISE = {
    "model": "by the dense network",
    "data": "by the dense network",
    "seed": "by the dense network and the draw",
    "weights": "by the dense network",
    "model_source": "by the dense network",
    "calibration_seed": "by the draw",
    "method_source": "beside the method",
    "repair": "not at all: a network is repaired or retrained",
    "quantize": "not at all: a network is quantised after it was retrained",
    "keep_float": "not at all, likewise",
}
"""Fields of a cell that do not stand in the key of its retrained network under their names, and how they do."""


@dataclass(frozen=True, slots=True)
class RetrainKey:
    """Everything that determines a retrained network beside the dense one: how it was cut, and how it learnt.

    That is every field of its cell that its id depends on, but for those that are SAID_OTHERWISE.
    """

    network: str
    cell: Cell
    device: str
    precision: str

    @property
    def fields(self) -> dict[str, Any]:
        held, counted = dataclasses.asdict(self.cell), identifying_fields(self.cell)
        own = {name: held[name] for name in counted if name not in SAID_OTHERWISE}
        own["method"] = " ".join(filter(None, (self.cell.method, self.cell.method_source)))
        of_training = {"network": self.network, "device": self.device, "precision": self.precision}
        return own | of_training | {"draw": self.cell.draw}

    @property
    def id(self) -> str:
        return identity(self.fields)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A network on its way to another cache: its key and its files' bytes, None where the other has them already."""

    key: TrainKey | RetrainKey
    weights: NDArray[np.uint8] | None = None
    facts: NDArray[np.uint8] | None = None


def train_key_from(fields: dict[str, Any]) -> TrainKey:
    recipe = Recipe(**fields["recipe"]) if fields["recipe"] else None
    return TrainKey(**(fields | {"mean": tuple(fields["mean"]), "std": tuple(fields["std"]), "recipe": recipe}))
