"""Trained networks, made once and kept: each is trained the first time that a cell needs it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import platform
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from secateur.errors import DamageError, DataError, MissingExtraError, ModelError
from secateur.experiments.calling import given_of, outputs_of
from secateur.experiments.evaluation import BOTH, DIFFERENCE, Evaluation, agree, on_device, scores_in_runtime
from secateur.experiments.graphs import Graphs
from secateur.experiments.keys import EarlyKey, Parcel, RetrainKey, TrainKey, train_key_from
from secateur.experiments.recent import Recent
from secateur.importing.checkpoints import load_weights
from secateur.measure.footprint import file_bytes
from secateur.measure.latency import Rivals, rivals_of
from secateur.measure.plausibility import doubts
from secateur.modules.candidates import prunable_layers
from secateur.modules.guarding import copied, drawing_from, first_line, run, watched
from secateur.modules.heads import output_layers
from secateur.modules.inputs import Example, as_inputs
from secateur.modules.layouts import bears_channels_last
from secateur.modules.weight_norms import plain_weights
from secateur.network.graph import Graph
from secateur.pruning.retraining import CutTo, retrain
from secateur.pruning.structures import Family, channel_families
from secateur.records.recipes import Retraining
from secateur.records.results import Retrained, Trained
from secateur.records.scores import Score, plain, score_from
from secateur.records.spec import Cell
from secateur.runtime.agreement import largest_difference
from secateur.support.checksums import check_members, is_sealed, read_sealed, sealed
from secateur.support.progress import Reporter, SilentReporter
from secateur.support.references import short
from secateur.support.replacing import replacing
from secateur.support.settings import user_cache
from secateur.training.data import Data, Dataset, find_data, fit, images_of
from secateur.training.models import ARCHITECTURES, build_network, find_architecture
from secateur.training.tasks import Task
from secateur.training.train import TrainingLog, recipe_course, resolve_device, resolve_precision, train

WITNESSES = 8
"""Validation images whose outputs are kept with a network."""
_TOLD = 10_000
"""Numbers of these at most."""
Facts = TypeVar("Facts")
_OTHER_SEED = 1_000_000_007
_DOUBT = "warning: "


class NetworkCache:
    """Trained networks and data sets, by cell.

    On disk (folder, by default the user's cache) each network is a state dict and a JSON of what it is, the
    latter written last; a training under way has a checkpoint of its last epoch beside them. The last
    network and data set are also kept in memory, as cells that share them follow each other.
    """

    def __init__(
        self,
        data_dir: str | Path | None = None,
        device: str = "auto",
        reporter: Reporter | None = None,
        folder: Path | None = None,
    ) -> None:
        self.device = resolve_device(device)
        self._data_dir = data_dir
        self.reporter = reporter or SilentReporter()
        self._folder = (folder or user_cache()) / "networks"
        self._datasets: dict[str, Data] = {}
        self._latest: tuple[str, nn.Module, Trained] | None = None
        self._introductions: dict[tuple[str, ...], None] = {}
        self._adopted: dict[str, TrainKey] = {}
        self._graphs = Graphs(self.reporter)
        self.recent = Recent()
        self._rivals: tuple[tuple[object, ...], Rivals] | None = None
        self._families: tuple[tuple[object, ...], Sequence[Family]] | None = None
        self._layouts: dict[tuple[str, str], bool] = {}
        self._outputs: dict[tuple[str, tuple[str, ...]], Collection[str]] = {}

    def data(self, cell: Cell) -> Data:
        """The cell's data, as its network takes it."""
        if cell.data not in self._datasets:
            self._datasets = {cell.data: find_data(cell.data, self._data_dir)}
        architecture = find_architecture(cell.model)
        data = self._datasets[cell.data]
        return data if isinstance(data, Task) else fit(data, cell.model, architecture.channels, architecture.size)

    def channels_last(self, cell: Cell) -> bool:
        """Whether networks of the cell's model run in that layout: tried out once."""
        key = cell.model, cell.data
        if key not in self._layouts:
            fast = find_architecture(cell.model).convolutional
            network = self.untrained(cell) if fast else nn.Identity()
            self._layouts[key] = fast and bears_channels_last(network, as_inputs(self.data(cell).example(2), network))
        return self._layouts[key]

    def dataset(self, cell: Cell) -> Dataset:
        """Likewise, of images. Raises UsageError for a task."""
        return images_of(self.data(cell))

    def check(self, cell: Cell) -> None:
        """Raises where the cell's data or network cannot be had, or its checkpoint does not fit: before anything is
        written."""
        self.data(cell)
        network = self.untrained(cell)
        if cell.weights:
            load_weights(network, cell.weights)

    def key(self, cell: Cell) -> TrainKey:
        own = self._own_key(cell)
        return self._adopted.get(own.id, own)

    def _own_key(self, cell: Cell) -> TrainKey:
        architecture, data = find_architecture(cell.model), self.data(cell)
        if cell.model_source not in ("", architecture.source):
            raise ModelError(
                f"model {cell.model!r}: its files are not those that this was planned with, on {platform.node()} or "
                "when Python loaded them: start again"
            )
        return TrainKey(
            model=cell.model,
            source=architecture.source,
            data_digest=data.digest,
            mean=data.mean,
            std=data.std,
            augment=data.augment,
            seed=cell.seed,
            recipe=None if cell.weights else cell.recipe,
            weights=cell.weights.sha256 if cell.weights else "",
            device=self.device.type,
            precision=resolve_precision(cell.recipe.precision, architecture.autocast, self.device),
            torch=torch.__version__,
        )

    def known(self) -> frozenset[str]:
        """The ids of the networks on disk."""
        return frozenset(facts.stem for facts in self._folder.glob("*.json") if facts.with_suffix(".pt").exists())

    def send(self, key: TrainKey | RetrainKey) -> Parcel:
        """A network that is on disk, for another cache."""
        weights, facts, _ = self._paths(key)
        return Parcel(key, np.fromfile(weights, np.uint8), np.fromfile(facts, np.uint8))

    def keep(self, parcel: Parcel) -> None:
        """Write a parcel's network to disk where it is not there yet."""
        weights, facts, _ = self._paths(parcel.key)
        if parcel.weights is None or parcel.facts is None or self._holds(parcel.key):
            return
        with self._locked(parcel.key.id, "it"):
            _write(weights, parcel.weights.tofile)
            _write(facts, parcel.facts.tofile)

    def _holds(self, key: TrainKey | RetrainKey) -> bool:
        """Whether a network is on disk, undamaged."""
        weights, facts, _ = self._paths(key)
        try:
            check_members(weights)
            return bool(read_sealed(facts))
        except DamageError:
            return False

    def adopt(self, cell: Cell, parcel: Parcel) -> None:
        """Keep a parcel's network, and take it as the cell's even if this process would train it under another key:
        on another device, with another PyTorch. Raises DataError where it was trained on other files than those here.
        """
        assert isinstance(parcel.key, TrainKey)
        own = self._own_key(cell)
        if own.data_digest != parcel.key.data_digest:
            raise DataError(
                f"data {cell.data!r} on {platform.node()} (digest {own.data_digest}) is not what the network was "
                f"trained on elsewhere ({parcel.key.data_digest}): give every machine the same files"
            )
        self.keep(parcel)
        self._adopted[own.id] = parcel.key

    def recall(self, cell: Cell, identifier: str) -> None:
        """Take the network of an id as the cell's where it is on disk, whoever trained it, on whatever device."""
        own = self._own_key(cell)
        facts = (self._folder / identifier).with_suffix(".json")
        if own.id == identifier or not facts.exists():
            return
        with contextlib.suppress(DamageError):
            self._adopted[own.id] = train_key_from(read_sealed(facts)["key"])

    def trained(self, cell: Cell) -> tuple[nn.Module, Trained]:
        """The cell's dense network, on the CPU in evaluation mode, and what is known of it.

        The caller copies before changing it. Trains where nothing is cached; another process that trains the
        same network is waited for.
        """
        key = self.key(cell)
        if self._latest is None or self._latest[0] != key.id:
            with self._locked(key.id, key.model):
                network, trained = self._kept(cell, key, _trained_from) or self._make(cell, key)
            self._latest = (key.id, network.eval(), trained)
            self._introduce(cell, key, trained)
        return self._latest[1], self._latest[2]

    def _introduce(self, cell: Cell, key: TrainKey, trained: Trained) -> None:
        """Say, once, how good the dense network is on which images, before anything is measured on it."""
        validation, test = (f"{each.text} of {each.n:,}" for each in (trained.validation, trained.test))
        lines = (
            f"dense {short(cell.model)} on {short(cell.data)}: {validation} validation and {test} test "
            f"{self.data(cell).told}",
            *self._loading_notes(key),
        )
        if lines in self._introductions:
            return
        self._introductions[lines] = None
        self.reporter.say(lines[0], loud=True)
        for line in lines[1:]:
            if line.startswith(_DOUBT):
                self.reporter.warn(line.removeprefix(_DOUBT))
            else:
                self.reporter.say(line)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was said of the dense networks that cells started from: their accuracy, how their checkpoint was loaded,
        and warnings, where they seem to have learnt on images that are normalised otherwise."""
        return tuple(line for lines in self._introductions for line in lines)

    def _loading_notes(self, key: TrainKey) -> tuple[str, ...]:
        _, facts, _ = self._paths(key)
        return tuple(json.loads(facts.read_text()).get("notes", ()))

    def retrained(self, cell: Cell, cut: CutTo) -> tuple[nn.Module, Retrained]:
        """The cell's network, pruned by `cut` and retrained, on the CPU in evaluation mode, and how long that took.

        Kept on disk under everything that determines it, with a checkpoint of its last epoch while it is under way.
        """
        key = self.retrain_key(cell)
        with self._locked(key.id, cell.nickname()):
            return self._kept(cell, key, _retrained_from) or self._retrain(cell, key, cut)

    def retrain_key(self, cell: Cell) -> RetrainKey:
        network = self.key(cell)
        precision = resolve_precision(cell.recipe.precision, find_architecture(cell.model).autocast, self.device)
        return RetrainKey(network.id, cell, network.device, precision)

    def _retrain(self, cell: Cell, key: RetrainKey, cut: CutTo) -> tuple[nn.Module, Retrained]:
        assert cell.retraining is not None
        weights, facts, checkpoint = self._paths(key)
        dense, _ = self.trained(cell)
        network = copied(dense)
        log = retrain(
            network,
            self.data(cell),
            cell.ratio,
            cell.retraining,
            recipe=cell.recipe,
            seed=cell.seed,
            cut=cut,
            include=cell.include,
            start=self._start(cell, cell.retraining),
            device=self.device,
            precision=key.precision,
            channels_last=self.channels_last(cell),
            reporter=self.reporter,
            label=f"retraining {cell.nickname()}",
            checkpoint=checkpoint,
        )
        _write(weights, lambda path: torch.save(network.state_dict(), path))
        told = {"retrained": dataclasses.asdict(log), "outputs": self._outputs_of(cell, network)}
        self._seal(facts, {"key": key.fields} | told)
        checkpoint.unlink(missing_ok=True)
        return network, log

    def _start(self, cell: Cell, retraining: Retraining) -> dict[str, torch.Tensor] | None:
        """The weights that the schedule sets those left back to: early ones, or fresh ones of another seed."""
        if retraining.schedule == "scratch":
            return self.untrained(dataclasses.replace(cell, seed=(cell.seed + _OTHER_SEED) % 2**63)).state_dict()
        if retraining.schedule == "rewind-weights":
            return self._early(cell, cell.recipe.epochs - retraining.epochs // retraining.rounds)
        return None

    def _early(self, cell: Cell, epochs: int) -> dict[str, torch.Tensor]:
        """The weights that the cell's dense network had after some epochs, by training for so long again."""
        network, dense = self.untrained(cell), self.key(cell)
        key = EarlyKey(dense.id, epochs)
        weights, _, checkpoint = self._paths(key)
        with self._locked(key.id, cell.nickname()):
            if weights.exists():
                try:
                    return _read_state(weights)
                except DamageError as error:
                    self.reporter.warn(f"{error}; it is made anew")
            self._train(cell, dense, network, checkpoint, epochs)
            _write(weights, lambda path: torch.save(network.state_dict(), path))
            checkpoint.unlink(missing_ok=True)
        return network.state_dict()

    def _paths(self, key: TrainKey | EarlyKey | RetrainKey) -> tuple[Path, Path, Path]:
        stem = self._folder / key.id
        return stem.with_suffix(".pt"), stem.with_suffix(".json"), stem.with_suffix(".checkpoint")

    def _kept(
        self, cell: Cell, key: TrainKey | RetrainKey, facts_from: Callable[[dict[str, Any]], Facts]
    ) -> tuple[nn.Module, Facts] | None:
        """A network from disk, in evaluation mode, and its facts.

        None, and why is said, where a file is damaged or the network is no longer the one that was kept.
        """
        weights, facts, _ = self._paths(key)
        if not (weights.exists() and facts.exists()):
            return None
        network = self.untrained(cell).eval()
        try:
            content = read_sealed(facts)
            network.load_state_dict(_read_state(weights))
            found = facts_from(content)
            self._check_same(cell, network, content)
        except Exception as error:
            place = "" if str(weights.parent) in str(error) else f"{weights}: "
            self.reporter.warn(f"{place}{first_line(error)}; the network is made anew")
            return None
        if not is_sealed(content):
            self._seal(facts, content | {"outputs": self._outputs_of(cell, network)})
        return network, found

    def _check_same(self, cell: Cell, network: nn.Module, content: dict[str, Any]) -> None:
        """Raises DamageError where a network is not what it was when it was kept.

        Then its outputs on a few validation images differ; of one that an earlier version kept, its accuracy.
        """
        if "outputs" in content:
            _check_outputs(self._outputs_of(cell, network), content["outputs"])
        elif "trained" in content:
            then, now = score_from(content["trained"]["validation"]), self.validation(network, cell)
            if not agree(then, now):
                raise DamageError(f"it scores {now.text} on validation data where it had {then.text}")

    def _outputs_of(self, cell: Cell, network: nn.Module) -> list[list[float]] | None:
        """Logits of a few validation images (some outputs, where they are no logits); None of a network that draws at
        random even in evaluation mode."""
        example = self.data(cell).example(WITNESSES)
        first, second = (_drawn(network, example, seed) for seed in (0, 1))
        return first.tolist() if np.array_equal(first, second, equal_nan=True) else None

    def _seal(self, facts: Path, content: dict[str, Any]) -> None:
        _write(facts, lambda path: path.write_text(sealed(content)))

    def _make(self, cell: Cell, key: TrainKey) -> tuple[nn.Module, Trained]:
        weights, facts, checkpoint = self._paths(key)
        network = self.untrained(cell)
        _check_outputs_of(network, self.data(cell), cell.model)
        loaded = load_weights(network, cell.weights) if cell.weights else ()
        log = TrainingLog(0.0, ()) if cell.weights else self._train(cell, key, network, checkpoint)
        trained = self._describe(cell, key, network.eval(), log)
        _write(weights, lambda path: torch.save(network.state_dict(), path))
        told = {"notes": self._notes(cell, network, loaded), "outputs": self._outputs_of(cell, network)}
        self._seal(facts, {"key": dataclasses.asdict(key), "trained": plain(trained)} | told)
        checkpoint.unlink(missing_ok=True)
        return network, trained

    def _notes(self, cell: Cell, network: nn.Module, loaded: Sequence[str]) -> list[str]:
        """Of a network that was loaded: how, and whether it seems to have learnt on other images than these."""
        data = self.data(cell)
        if not cell.weights or isinstance(data, Task):
            return [f"weights {Path(cell.weights.path).name}: {'; '.join(loaded)}"] if cell.weights and loaded else []
        with on_device(network, self.device, None), watched(network):
            doubted = doubts(network, data, self.device)
        name = Path(cell.weights.path).name
        return [*([f"weights {name}: {'; '.join(loaded)}"] if loaded else []), *(f"{_DOUBT}{each}" for each in doubted)]

    def untrained(self, cell: Cell) -> nn.Module:
        """The cell's network as its training finds it, in training mode."""
        data, architecture = self.data(cell), find_architecture(cell.model)
        if not isinstance(data, Task):
            return build_network(architecture, data.classes, data.shape[0], cell.seed)
        if data.classes is None and cell.model in ARCHITECTURES:
            raise ModelError(
                f"model {cell.model!r} is built for a number of classes, which task {data.name!r} does not say: "
                "give it as classes=…, or hand over a module"
            )
        planes = given_of(data.example(), nn.Identity())
        channels = planes.shape[1] if isinstance(planes, Tensor) and planes.dim() == 4 else 1
        return build_network(architecture, data.classes or 1, channels, cell.seed)

    def _train(
        self, cell: Cell, key: TrainKey, network: nn.Module, checkpoint: Path, stop: int | None = None
    ) -> TrainingLog:
        return train(
            network,
            self.data(cell),
            cell.recipe,
            cell.seed,
            device=self.device,
            precision=key.precision,
            channels_last=self.channels_last(cell),
            reporter=self.reporter,
            label=f"training {short(cell.model)} on {short(cell.data)}, seed {cell.seed}",
            checkpoint=checkpoint,
            course=recipe_course(cell.recipe, stop),
        )

    def _describe(self, cell: Cell, key: TrainKey, network: nn.Module, log: TrainingLog) -> Trained:
        data = self.data(cell)
        validation, test = self.accuracies(network, cell)
        return Trained(
            key=key.id,
            device=key.device if not cell.weights else "",
            precision=key.precision if not cell.weights else "",
            seconds=log.seconds,
            epochs=0 if cell.weights else cell.recipe.epochs,
            resumed_from=log.resumed_from,
            data_digest=data.digest,
            data_source=data.source,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            file_bytes=file_bytes(lambda path: torch.save(network.state_dict(), path)),
            validation=validation,
            test=test,
            mean=data.mean,
            std=data.std,
            augment=data.augment,
        )

    def graph(self, network: nn.Module, cell: Cell, *, simplified: bool = True, compared: bool = True) -> Graph | None:
        """The Graph of a cell's network, in float32 or eight bits, as Graphs makes it; None where it cannot be one.

        simplified: as a network in eight bits always is. compared: as in Graphs.graph.
        """
        if cell.quantize == "none":
            return self._graphs.graph(network, cell, self.data(cell), simplified, compared)
        made = self.recent.find(cell)
        if made and cell.keep_float in made.graphs:
            return made.graphs[cell.keep_float]
        graph = self._graphs.quantised(network, cell, self.data(cell))
        if made:
            made.graphs[cell.keep_float] = graph
        return graph

    def outputs(self, cell: Cell) -> Collection[str]:
        """The layers that give the outputs of the cell's dense network; found once."""
        key = self.key(cell).id, cell.include
        if key not in self._outputs:
            self._outputs = {key: output_layers(self.trained(cell)[0], self.data(cell).example(), cell.include)}
        return self._outputs[key]

    def families(self, cell: Cell) -> Sequence[Family]:
        """The channels of the cell's dense network that can go, of layers that it may prune; found once."""
        key = self.key(cell).id, cell.exclude, cell.include, cell.norms
        if self._families is None or self._families[0] != key:
            network, example = copied(self.trained(cell)[0]), self.data(cell).example()
            outputs = self.outputs(cell)
            layers = prunable_layers(network, cell.exclude, outputs, cell.norms, cell.include)
            with plain_weights(network):
                weights = {name: layer.weight for name, layer in layers.items()}
                self._families = key, channel_families(network, example, weights, outputs)
        return self._families[1]

    def rivals(self, cell: Cell, batches: Sequence[int]) -> Rivals:
        """The cell's dense network in other engines, made once for it and for batches of so many images; none where it
        is no Graph. Those that cannot run it are named to whoever listens."""
        key = self.key(cell).id, *batches
        if self._rivals is None or self._rivals[0] != key:
            whole = dataclasses.replace(cell, quantize="none")
            dense, data = self.trained(whole)[0], self.data(cell)
            graph = self.graph(dense, whole)
            examples = [given_of(data.example(each), dense) for each in batches]
            found = rivals_of(graph, examples) if graph else Rivals({}, ())
            if found.absent:
                self.reporter.say(f"not timed beside {short(cell.model)}: {_by_reason(found.absent)}")
            self._rivals = key, found
        return self._rivals[1]

    def accuracies(
        self, network: nn.Module, cell: Cell, graph: Graph | None = None, validation: Score | None = None
    ) -> tuple[Score, Score]:
        """(validation, test) of a cell's network, as Evaluation.scores has them; with the graph of one that is
        quantised, of that. validation: where it is known."""
        if validation is None:
            validation, test = self._scores(network, cell, graph, BOTH)
            return validation, test
        return validation, self._scores(network, cell, graph, BOTH[1:])[0]

    def validation(self, network: nn.Module, cell: Cell, graph: Graph | None = None) -> Score:
        """Likewise, of the validation split alone: what may be looked at while one chooses."""
        return self._scores(network, cell, graph, BOTH[:1])[0]

    def validation_parts(self, network: nn.Module, cell: Cell, graph: Graph | None, count: int) -> list[Score]:
        """Likewise, of each of so many parts of the validation split."""
        return self._scores(network, cell, graph, BOTH[:1], count)

    def _scores(
        self, network: nn.Module, cell: Cell, graph: Graph | None, splits: Sequence[str], parts: int = 1
    ) -> list[Score]:
        data = self.data(cell)
        if graph and cell.quantize != "none":
            return scores_in_runtime(network, graph, data, splits, parts)
        return Evaluation(self.channels_last(cell), self.device).scores(network, data, graph, splits, parts)

    @contextlib.contextmanager
    def _locked(self, key: str, name: str) -> Iterator[None]:
        try:
            from filelock import FileLock, Timeout
        except ImportError as error:
            raise MissingExtraError("sweeps need filelock: pip install 'secateur[torch]'") from error
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._folder / f"{key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.reporter.say(f"waiting for another process that trains {name} ({key})")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def _check_outputs_of(network: nn.Module, data: Data, model: str) -> None:
    """Before an hour of training rather than after it: does the network map these images to logits, or run at all?"""
    if isinstance(data, Task):
        with watched(network):
            made = run(network, as_inputs(data.example(2), network))
        if not outputs_of(made):
            raise ModelError(
                f"model {model!r} gives a {type(made).__name__}, in which no tensors are found: expected "
                "tensors, alone or in tuples, lists and dictionaries"
            )
        return
    try:
        with watched(network):
            logits = network(data.example(2))
    except Exception as error:
        raise ModelError(f"model {model!r} fails on images of shape {data.shape}: {first_line(error)}") from error
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2 or logits.shape[1] < data.classes:
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ModelError(f"model {model!r}: expected logits (N, {data.classes}) for data {data.name!r}, got {shape}")


def _read_state(path: Path) -> dict[str, Tensor]:
    """Raises DamageError where the file is not what was written."""
    check_members(path)
    try:
        found: dict[str, Tensor] = torch.load(path, weights_only=True)
    except Exception as error:
        raise DamageError(f"{path}: cannot be read: {type(error).__name__}") from error
    return found


def _check_outputs(now: list[list[float]] | None, then: list[list[float]] | None) -> None:
    if now is None or then is None:
        return
    apart = largest_difference([np.asarray(now)], [np.asarray(then)])
    if not apart <= DIFFERENCE:
        raise DamageError(f"its outputs are off by {apart:.2g} of the largest from those it had")


def _drawn(network: nn.Module, example: Example, seed: int) -> NDArray[Any]:
    """The network's logits where whatever it draws begins at a seed; of other outputs some numbers of all."""
    with watched(network), drawing_from(seed):
        found = outputs_of(run(network, as_inputs(example, network)))
    if len(found) == 1 and found[0].ndim == 2 and found[0].size <= _TOLD:
        return found[0]
    flat = np.concatenate([each.astype(np.float32).ravel() for each in found])
    return flat[None, :: 1 + len(flat) // _TOLD]


def _write(path: Path, write: Any) -> None:
    with replacing(path) as temporary:
        write(temporary)


def _trained_from(content: dict[str, Any]) -> Trained:
    fields = dict(content["trained"])
    listed = {name: tuple(fields[name]) for name in ("resumed_from", "mean", "std") if name in fields}
    measured = {name: score_from(fields[name]) for name in ("validation", "test")}
    return Trained(**(fields | listed | measured))


def _retrained_from(content: dict[str, Any]) -> Retrained:
    fields = content["retrained"]
    return Retrained(fields["epochs"], fields["seconds"], tuple(fields["resumed_from"]))


def _by_reason(absent: Sequence[tuple[str, str]]) -> str:
    """Names and why they are missing, in one line: those of the same reason together."""
    reasons: dict[str, list[str]] = {}
    for name, why in absent:
        reasons.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())
