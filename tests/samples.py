"""Small networks, data sets and rows that several tests use."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secateur.experiments.keys import EarlyKey, Parcel
from secateur.pruning.score import Context
from secateur.records.environment import environment
from secateur.records.recipes import Recipe, recipe_for
from secateur.records.results import (
    Contender,
    Footprint,
    FrontPoint,
    Latency,
    Layer,
    Outcome,
    Row,
    SearchRecord,
    Trained,
)
from secateur.records.scores import Score
from secateur.records.spec import Cell
from secateur.report.paper import published
from secateur.support.progress import SilentReporter
from secateur.training.data import Dataset, from_arrays
from secateur.training.models import ARCHITECTURES, build_network


def build(name: str, seed: int = 0, channels: int = 3) -> Any:
    """A built-in network with ten classes; its layers can be read as attributes."""
    architecture = ARCHITECTURES[name]
    return build_network(architecture, 10, architecture.channels or channels, seed)


class Backwards(nn.Module):
    """Registers its output layer first, and runs one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 3)
        self.again = nn.Linear(8, 8)
        self.body = nn.Conv2d(1, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x).relu().mean((2, 3))
        return self.head(self.again(self.again(x).relu()))


class Tied(nn.Module):
    """Two layers that share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.out = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.second(self.first(x.flatten(1)).relu()).relu())


class Fragile(nn.Module):
    """A network whose weights are not numbers: it cannot be ranked, so pruning it fails."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(64, 16)
        self.out = nn.Linear(16, 10)
        nn.init.constant_(self.body.weight, float("nan"))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x.flatten(1)).relu())


class Gray(nn.Module):
    """Says what it takes: three channels of 20×20."""

    input_shape = (3, 20, 20)

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class Headless(nn.Module):
    """Gives images back, not logits."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Spoken(nn.Module):
    """As speech models have them, for 8×8 digits: a weight-normalised convolution, a recurrent layer, one that does not
    learn, and a table."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.utils.parametrizations.weight_norm(nn.Conv1d(8, 16, 3, padding=1))
        self.fixed, self.rnn = nn.Linear(8, 8).requires_grad_(False), nn.GRU(8, 16, batch_first=True)
        self.words, self.hidden, self.out = nn.Embedding(2, 16), nn.Linear(16, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fixed(self.rows(x.squeeze(1)))
        return self.out(self.hidden(self.rnn(x)[0][:, -1] + self.words.weight[0]).relu())


def tiny(num_classes: int = 10) -> nn.Module:
    """A user's own network for the embedded 8×8 digits."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, num_classes))


def wide(num_classes: int = 10) -> nn.Module:
    """Millions of weights for 8×8 digits, so that what they take is seen beside the rest of the process."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 2000), nn.ReLU(), nn.Linear(2000, 2000), nn.ReLU(), nn.Linear(2000, num_classes)
    )  # fmt: skip


def batch_normed(num_classes: int = 10) -> nn.Module:
    """Likewise, with statistics to set right."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, num_classes)
    )  # fmt: skip


class Plain(nn.Module):
    """Takes 0.5 from its 8×8 images and scales them by a table."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.body, self.out = nn.Linear(64, 32), nn.Linear(32, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - 0.5).flatten(1)
        return self.out(self.body(x * torch.linspace(0.5, 1.5, 64)).relu())


class Keeping(Plain):
    """Computes what Plain does, but changes its input in place, keeps its table and its last results, and counts."""

    table: Tensor | None = None
    last: Tensor | None = None
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.linspace(0.5, 1.5, 64)
        self.calls += 1
        self.last = self.body(x.sub_(0.5).flatten(1) * self.table).relu()
        return self.out(self.last)


def stripes() -> Dataset:
    """Noise with a bright row that gives the label away: anything learns it."""
    generator = torch.Generator().manual_seed(1)

    def split(count: int) -> tuple[Tensor, Tensor]:
        labels = torch.randint(0, 10, (count,), generator=generator)
        images = torch.randint(0, 100, (count, 1, 10, 10), dtype=torch.uint8, generator=generator)
        images[torch.arange(count), 0, labels] += 120
        return images, labels

    return from_arrays("stripes", split(400), split(100), split(100), source="made up")


def colour() -> Dataset:
    """A few colour images, for networks that need three channels."""
    images = torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(20) % 10
    return from_arrays("colour", (images, labels), (images, labels), (images, labels))


class Interrupting(SilentReporter):
    """Stops training in the middle of an epoch, as a kill would."""

    def __init__(self, after: int) -> None:
        self.left = after

    def task(self, label: str, total: int, done: int = 0, *, brief: bool = False):  # type: ignore[no-untyped-def]
        outer = self
        manager = super().task(label, total, done)

        class Task:
            def advance(self, steps: int = 1, note: object = None) -> None:
                outer.left -= steps
                if outer.left < 0:
                    raise KeyboardInterrupt

        class Manager:
            def __enter__(self) -> Task:
                manager.__enter__()
                return Task()

            def __exit__(self, *_: object) -> None:
                return None

        return Manager()


def largest_first(context: Context) -> dict[str, Tensor]:
    """A method that cuts what magnitude would keep."""
    return {name: -weight.abs() for name, weight in context.weights.items()}


def last_layers_first(context: Context) -> dict[str, Tensor]:
    """A method that cuts a layer before those that are registered before it."""
    return {name: weight.abs() - 100 * place for place, (name, weight) in enumerate(context.weights.items())}


def no_scores(context: Context) -> None:
    return None


def undefined(context: Context) -> dict[str, Tensor]:
    return {name: weight / 0 for name, weight in context.weights.items()}


def wrong_shape(context: Context) -> dict[str, Tensor]:
    return {name: weight.sum(0) for name, weight in context.weights.items()}


def make_row(ratio: float = 0.9, seed: int = 0, model: str = "net", accuracy: float = 0.9, dense: float = 0.95) -> Row:
    """A row as the pipeline makes it, with numbers of our choosing."""
    trained = Trained(
        key=f"key-{model}-{seed}",
        device="cpu",
        precision="fp32",
        seconds=1.5,
        epochs=2,
        resumed_from=(1,),
        data_digest="d1",
        data_source="made up",
        parameters=110,
        file_bytes=1000,
        validation=Score(dense, 100),
        test=Score(dense, 200),
    )
    kept = round(100 * (1 - ratio))
    return Row(
        cell=Cell(model, "data", "magnitude", "layer", ratio, seed, Recipe()),
        trained=trained,
        validation=Score(accuracy, 100),
        test=Score(accuracy, 200),
        layers=(Layer("fc1", kept, 100, 400, 4 * kept), Layer("fc2", 10, 10, 10, 10)),
        ours=Footprint(900, 10, 0),
        pytorch=Footprint(1990, 300, 200) if ratio else None,
        latencies=(Latency("dense", 1, 1, 0.5, 0.4, 0.6, 50), Latency("pruned", 1, 1, 0.25, 0.2, 0.3, 50)),
        environment=environment(),
        seconds=0.1,
        measured_at="2026-01-01T00:00:00+00:00",
    )


def contender(name: str, milliseconds: float, validation: float = 0.97, test: float = 0.96) -> Contender:
    """A network of a search's comparison, its latency known to 1 %."""
    latency = Latency("secateur", 1, 1, milliseconds, 0.99 * milliseconds, 1.01 * milliseconds, 99)
    accuracies = Score(validation, 240), Score(test, 360)
    return Contender(name, f"id-{name}", 0.5, *accuracies, kept=50, macs=400, bytes=900, latency=latency, tried=8)


def search_record(chosen: str, *contenders: Contender, minimize: str = "latency") -> SearchRecord:
    """A finished search for a point, of contenders of our choosing."""
    template = {"model": "net", "data": "data", "method": "magnitude", "seed": 0}
    asked = {"template": template, "minimize": minimize, "max_drop": 1.0, "batch": 1}
    front = tuple(FrontPoint(each.cell, each.cost(minimize), each.validation, each.name) for each in contenders[::-1])
    outcome = Outcome(chosen, contenders, None, front, contenders[0].cost(minimize))
    return SearchRecord(1, json.dumps(asked), "secateur search", outcome)


def on_host(row: Row, host: str) -> Row:
    return dataclasses.replace(row, environment=dataclasses.replace(row.environment, host=host))


def with_digest(row: Row, digest: str) -> Row:
    return dataclasses.replace(row, trained=dataclasses.replace(row.trained, key=digest, data_digest=digest))


def paper_row(ratio: float, seed: int = 0, accuracy: float = 0.9, model: str = "lenet-5", norms: bool = False) -> Row:
    """A row of one of the paper's networks, as `secateur paper` would store it."""
    data = next(each.data for each in published() if each.model == model)
    row = make_row(ratio, seed, accuracy=accuracy)
    cell = dataclasses.replace(row.cell, model=model, data=data, recipe=recipe_for(model), norms=norms)
    return dataclasses.replace(row, cell=cell)


def row_of(cell: Cell) -> Row:
    """A row of the cell, made without work."""
    return dataclasses.replace(make_row(), cell=cell)


def unlucky_row(cell: Cell) -> Row:
    if cell.ratio == 0.2:
        raise ValueError("no luck\nat all")
    return row_of(cell)


def grateful_row(cell: Cell, thanks: Path) -> Row:
    """At 30 % the row comes only once somebody has made the file."""
    deadline = time.monotonic() + 60
    while cell.ratio == 0.3 and not thanks.exists():
        if time.monotonic() > deadline:
            raise TimeoutError("nobody said thanks")
        time.sleep(0.01)
    return row_of(cell)


class FunctionJob:
    """A job that is a function of a cell, and of what else it is given; its cells share nothing."""

    def __init__(self, work: Callable[..., Row], *others: object) -> None:
        self._work, self._others = work, others

    def __call__(self, cell: Cell) -> Row:
        return self._work(cell, *self._others)

    def time(self, row: Row) -> Row:
        return dataclasses.replace(row, timed_on=environment())

    def network(self, cell: Cell) -> Hashable | None:
        return None

    def known(self) -> frozenset[str]:
        return frozenset()

    def train(self, cell: Cell, known: frozenset[str]) -> Parcel:
        raise NotImplementedError

    def receive(self, cell: Cell, parcel: Parcel) -> Parcel:
        raise NotImplementedError

    def made(self, cell: Cell) -> tuple[Parcel, ...]:
        return ()

    def keep(self, parcel: Parcel) -> None:
        raise NotImplementedError


class SharingJob(FunctionJob):
    """Cells of a seed share a "network", which takes a line in folder/made; that of the unlucky seed cannot be made."""

    def __init__(self, folder: Path, unlucky: int = -1) -> None:
        self._folder, self._unlucky, self._had = folder, unlucky, set[int]()

    def __reduce__(self) -> tuple[Any, ...]:
        return SharingJob, (self._folder, self._unlucky)

    def __call__(self, cell: Cell) -> Row:
        if cell.seed not in self._had:
            self.receive(cell, self.train(cell, frozenset()))
        return row_of(cell)

    def network(self, cell: Cell) -> Hashable | None:
        return cell.seed

    def train(self, cell: Cell, known: frozenset[str]) -> Parcel:
        if cell.seed == self._unlucky:
            raise ValueError("no network")
        with (self._folder / "made").open("a") as made:
            made.write(f"{cell.seed}\n")
        return Parcel(EarlyKey("", cell.seed), np.zeros(100_000, np.uint8))  # type: ignore[arg-type]

    def receive(self, cell: Cell, parcel: Parcel) -> Parcel:
        self._had.add(cell.seed)
        return parcel
