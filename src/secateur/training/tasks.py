"""A Task: what a network is for, in the words of whoever trained it: batches, a loss and a metric."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree

from secateur.errors import DataError, UsageError
from secateur.records.scores import Metric, Score
from secateur.support.fingerprints import code_digest
from secateur.support.references import own_code
from secateur.training.metrics import METRICS, Measure, Predict, class_axis, tensor_of

SPLITS = ("train", "validation", "test")
CALIBRATION = 1024
"""Examples of a task that stands where calibration batches are asked for."""
_LONGEST = 80
_SAMPLED = 4
"""Batches at a split's beginning that its identity is made of."""
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_TARGETS = ("labels", "label", "target", "targets")

Loss = Callable[[Any, Any], Tensor]
Pair = tuple[Any, Any]


@dataclass(frozen=True, eq=False)
class Task:
    """What a network is for: batches to learn from, to choose by and to report on, a loss, and a metric.

    train, validation, test: iterables of batches that start anew each time, such as a DataLoader or a list; validation
    and test in the same order each time. Of `train` calibration takes what it needs, and retraining learns from it;
    without test, validation is reported on, which flatters what was chosen by it. A batch is (inputs, target), where
    inputs are whatever forward takes (a tensor, a tuple, a mapping of keywords); of more than two the last is the
    target; of a mapping "labels", "label", "target" or "targets" is. split(batch) → (inputs, target) changes that.
    loss(outputs, target) → the mean over a batch; by default cross-entropy.
    metric: one of METRICS ("top-1", "top-5", "cross-entropy", "perplexity", "rmse", "r2", "mean-iou", "spearman"), or
    metric(predict, batches) → a number, where predict(inputs) runs the network, in PyTorch or in Secateur's runtime,
    and batches are pairs of (inputs, target). higher_is_better and share are of a metric of one's own: whether 1 is the
    most there is, so that a point is a hundredth; else a point is a hundredth of the dense network's value.
    name: under which a run folder knows it. classes: what a network that is built by name is made for.
    Raises UsageError for what makes no sense, DataError where batches cannot be had.
    """

    train: Iterable[Any]
    validation: Iterable[Any]
    test: Iterable[Any] | None = None
    loss: Loss | None = None
    metric: str | Measure = "top-1"
    higher_is_better: bool = True
    share: bool | None = None
    name: str = "task"
    split: Callable[[Any], Pair] | None = None
    classes: int | None = None
    _held: dict[Any, Any] = dataclasses.field(default_factory=dict, init=False, repr=False)

    mean = std = ()
    augment = ""

    def __post_init__(self) -> None:
        for which in SPLITS[: 2 if self.test is None else 3]:
            given = getattr(self, which)
            if isinstance(given, (Iterator, Tensor)) or not isinstance(given, Iterable):
                raise UsageError(
                    f"task {self.name!r}, {which}: expected batches that can be gone through several times (a "
                    f"DataLoader, a list), got {type(given).__name__}"
                )
        if isinstance(self.metric, str) and self.metric not in METRICS:
            raise UsageError(
                f"task {self.name!r}: metric {self.metric!r}: expected one of {', '.join(METRICS)}, or a function "
                "(predict, batches) → number"
            )
        if not isinstance(self.metric, str) and not callable(self.metric):
            raise UsageError(f"task {self.name!r}: metric: expected a name or a function, got {self.metric!r}")
        short = isinstance(self.name, str) and 0 < len(self.name) <= _LONGEST and self.name.isprintable()
        if not short or set("/#") & set(self.name) or self.name in (".", ".."):
            raise UsageError(
                f"task name {self.name!r}: expected a text of at most {_LONGEST} characters without / and #"
            )

    @property
    def measured(self) -> Metric:
        """What its scores count."""
        if isinstance(self.metric, str):
            return METRICS[self.metric][1]
        name = getattr(self.metric, "__name__", type(self.metric).__name__).strip("<>")
        return Metric(name, self.higher_is_better, self.higher_is_better if self.share is None else self.share)

    @property
    def source(self) -> str:
        return f"the task {self.name!r}"

    @property
    def told(self) -> str:
        """What is counted."""
        return self.measured.unit

    @property
    def card(self) -> dict[str, Any]:
        """As Dataset.card: that it is a task, which only a program can hand over again."""
        return {"task": self.name}

    def pieces(self, which: str) -> int:
        """Into how many parts a split can be cut: its batches."""
        return len(self.batches(which))

    def shown(self, count: int, seed: int) -> Iterator[Pair]:
        """So many validation examples, the first whatever the seed, in batches as they come."""
        return self.first("validation", count)

    def batches(self, which: str) -> Batches:
        """The pairs of a split, as often as one likes; the random state stays as it was."""
        return Batches(self, which)

    def pair(self, batch: Any, which: str) -> Pair:
        """(inputs, target) of a batch; the target is None where there is none."""
        if self.split is not None:
            with own_code(DataError, f"task {self.name!r}, {which}: split failed"):
                inputs, target = self.split(batch)
            return inputs, target
        if isinstance(batch, Mapping):
            target = next((name for name in _TARGETS if name in batch), None)
            return {name: each for name, each in batch.items() if name != target}, batch[target] if target else None
        if isinstance(batch, (tuple, list)) and len(batch) >= 2:
            *inputs, target = batch
            return inputs[0] if len(inputs) == 1 else tuple(inputs), target
        return batch, None

    def score(self, predict: Predict, which: str) -> Score:
        """The metric over a split's batches. Raises DataError where it fails or gives no number."""
        return self._score(predict, which, self.batches(which))

    def score_parts(self, predict: Predict, which: str, parts: int) -> list[Score]:
        """Likewise over each of so many parts of a split, of batches that follow each other, in one pass. Raises
        DataError where it has fewer batches."""
        total, through = len(self.batches(which)), iter(self.batches(which))
        sizes = [total // parts + (number < total % parts) for number in range(parts)]
        held = (Held(itertools.islice(through, size)) for size in sizes)
        return [self._score(predict, which, each) for each in held if each]

    def _score(self, predict: Predict, which: str, batches: Batches | Held) -> Score:
        measure = METRICS[self.metric][0] if isinstance(self.metric, str) else self.metric
        with torch.no_grad(), own_code(DataError, f"task {self.name!r}: its metric failed on {which} data"):
            found = measure(predict, batches)
        try:
            value = float(found)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"task {self.name!r}: its metric gave a {type(found).__name__}: expected a number"
            ) from error
        if not math.isfinite(value):
            raise DataError(f"task {self.name!r}: its metric gave {value} on {which} data: expected a finite number")
        return Score(value, max(1, batches.seen), None, self.measured)

    def example(self, count: int = 1) -> Any:
        """The inputs of so many validation examples, the first; over and over where its first batch has fewer."""
        key = "example", count
        if key not in self._held:
            inputs, _ = next(iter(self.batches("validation")))
            self._held[key] = _tiled(_pytree.tree_map_only(np.ndarray, torch.as_tensor, _plain(inputs)), count)
        return self._held[key]

    def calibration(self, count: int, seed: int, augment: str = "auto") -> Examples:
        """The first `count` training examples, or all that there are, in the order of a pass that begins at a seed, in
        batches as they come; gone through when they are first asked for, and kept."""
        return Examples(self, count, seed)

    def examples(self, count: int, seed: int) -> list[Pair]:
        """What `calibration` gives, as a list; the last that was asked for is kept."""
        key = "calibration", count, seed
        if key not in self._held:
            for other in [each for each in self._held if each[0] == "calibration"]:
                del self._held[other]
            self._held[key] = list(self.first("train", count, seed))
        found: list[Pair] = self._held[key]
        return found

    def __iter__(self) -> Iterator[Pair]:
        """The training examples that stand for the task where calibration batches are asked for: CALIBRATION of them,
        or all that there are."""
        return iter(self.examples(CALIBRATION, 0))

    def first(self, which: str, count: int, seed: int | None = None) -> Iterator[Pair]:
        """So many examples of a split, or all that there are, in batches as they come; in the order of a pass that
        begins at a seed, if one is given."""
        batches, left = self.batches(which), count
        for inputs, target in batches if seed is None else batches.seeded(seed):
            size = _length(inputs)
            yield (inputs, target) if size <= left else (_cut(inputs, size, left), _cut(target, size, left))
            left -= size
            if left <= 0:
                return

    def loss_of(self, outputs: Any, target: Any) -> Tensor:
        """The mean loss over a batch."""
        if self.loss is not None:
            return self.loss(outputs, target)
        logits = tensor_of(outputs)
        axis = None if not isinstance(target, Tensor) else class_axis(logits, target)
        if axis is None or target.is_floating_point() or logits.shape[axis] < 2:
            got = tuple(target.shape) if isinstance(target, Tensor) else type(target).__name__
            raise DataError(
                f"task {self.name!r}: outputs {tuple(logits.shape)} and target {got} are no logits of classes and "
                "classes (N, …), which cross-entropy takes: give the loss that the network was trained with (loss=…)"
            )
        return F.cross_entropy(logits.movedim(axis, 1), target.long())

    @property
    def digest(self) -> str:
        """Sixteen hex digits of what it is: its code, and the first batches of each split.

        A split that changes from pass to pass, as one that is shuffled or augmented, counts by its length alone where
        it is to learn from. Raises DataError where validation or test data change.
        """
        if "digest" not in self._held:
            self._held["digest"] = self._digest()
        found: str = self._held["digest"]
        return found

    def _digest(self) -> str:
        told = hashlib.sha256(repr((self.name, self.measured)).encode())
        for part in (self.loss, self.metric, self.split):
            told.update((part if isinstance(part, str) else code_digest(part) if part else "").encode())
        for which in SPLITS[: 2 if self.test is None else 3]:
            first, again = (self._sampled(which, seed) for seed in (0, 1))
            if first != again and which != "train":
                raise DataError(
                    f"task {self.name!r}: its {which} batches differ from pass to pass, so that nothing measured on "
                    "them can be compared: expected them in one order (shuffle=False) and without augmentation"
                )
            given = self._given(which)
            told.update(first.encode() if first == again else b"changing")
            told.update(str(len(given) if isinstance(given, Sized) else "").encode())
        return told.hexdigest()[:16]

    def _sampled(self, which: str, seed: int) -> str:
        told = hashlib.sha256()
        for pair in itertools.islice(self.batches(which).seeded(seed), _SAMPLED):
            for leaf in _pytree.tree_leaves(pair):
                told.update(_bytes_of(leaf))
        return told.hexdigest()

    def _given(self, which: str) -> Iterable[Any]:
        given: Iterable[Any] = getattr(self, which)
        return self.validation if given is None else given

    def check(self) -> None:
        """Raises DataError where a split has no batches, or one without inputs."""
        for which in SPLITS:
            first = next(iter(self.batches(which)), None)
            if first is None:
                raise DataError(f"task {self.name!r}: its {which} split has no batches")
            if not [leaf for leaf in _pytree.tree_leaves(first[0]) if isinstance(leaf, (Tensor, np.ndarray))]:
                raise DataError(
                    f"task {self.name!r}, {which}: a batch is a {type(first[0]).__name__} without tensors: expected "
                    "(inputs, target), or split=… that makes it of a batch"
                )


@dataclass(frozen=True)
class Examples:
    """A task's calibration examples, as pairs of (inputs, target)."""

    task: Task
    count: int
    seed: int

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.task.examples(self.count, self.seed))


def loss_of(data: object) -> Loss | None:
    """A task's loss; None where that is the usual one."""
    return data.loss_of if isinstance(data, Task) else None


class Batches:
    """The pairs of a task's split, without those of no example; seen: the examples of the last pass."""

    def __init__(self, task: Task, which: str) -> None:
        self._task, self._which = task, which
        self.seen = 0

    def __iter__(self) -> Iterator[Pair]:
        return self._through(None)

    def seeded(self, seed: int) -> Iterator[Pair]:
        """A pass in which whatever the batches draw begins at a seed."""
        return self._through(seed)

    def __len__(self) -> int:
        """Batches of a pass, which are counted where they lie in a list or have no length of their own."""
        given = self._task._given(self._which)
        return len(given) if isinstance(given, Sized) and not isinstance(given, (list, tuple)) else sum(1 for _ in self)

    def _through(self, seed: int | None) -> Iterator[Pair]:
        self.seen = 0
        task, which = self._task, self._which
        draws = _Draws(seed)
        with draws.inside(), own_code(DataError, f"task {task.name!r}: its {which} batches cannot be had"):
            walk = iter(task._given(which))
        while True:
            with draws.inside(), own_code(DataError, f"task {task.name!r}: its {which} batches cannot be had"):
                batch = next(walk, _END)
            if batch is _END:
                return
            pair = task.pair(batch, which)
            if not _is_empty(pair[0]):
                self.seen += _length(pair[0])
                yield pair


class Held(list[Pair]):
    """Pairs that are there already; seen: their examples."""

    @property
    def seen(self) -> int:
        return sum(_length(inputs) for inputs, _ in self)


_END: Any = object()


class _Draws:
    """The random state of Python, NumPy and PyTorch that belongs to a pass, beside everybody else's: from a seed, or
    from theirs."""

    def __init__(self, seed: int | None) -> None:
        self._seed = seed
        self._own: tuple[Any, ...] | None = None

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        before = _random_state()
        if self._own is not None:
            _set_random_state(self._own)
        elif self._seed is not None:
            random.seed(self._seed)
            np.random.seed(self._seed % 2**32)
            torch.manual_seed(self._seed)
        try:
            yield
        finally:
            self._own = _random_state()
            _set_random_state(before)


def _random_state() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _set_random_state(state: tuple[Any, ...]) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])


def _bytes_of(leaf: Any) -> bytes:
    if isinstance(leaf, Tensor):
        held = leaf.detach().cpu().contiguous()
        return repr((held.dtype, tuple(held.shape))).encode() + held.reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(leaf, np.ndarray):
        return repr((leaf.dtype, leaf.shape)).encode() + np.ascontiguousarray(leaf).tobytes()
    return (repr(leaf) if isinstance(leaf, _PLAIN) else code_digest(leaf)).encode()


def _plain(inputs: Any) -> Any:
    """Mappings of any kind (as tokenizers give them) as dictionaries."""
    return dict(inputs) if isinstance(inputs, Mapping) else inputs


def _length(inputs: Any) -> int:
    return next((len(leaf) for leaf in _in_rows(inputs)), 0)


def _is_empty(inputs: Any) -> bool:
    """Whether it holds examples, but none."""
    return next((len(leaf) == 0 for leaf in _in_rows(inputs)), False)


def _in_rows(inputs: Any) -> Iterator[Any]:
    """Tensors and arrays that have an axis of examples."""
    return (leaf for leaf in _pytree.tree_leaves(inputs) if isinstance(leaf, (Tensor, np.ndarray)) and leaf.ndim)


def _cut(values: Any, size: int, count: int) -> Any:
    """The first `count` of what is `size` long."""

    def first(each: Any) -> Any:
        longs = isinstance(each, (Tensor, np.ndarray)) and each.ndim and len(each) == size
        return each[:count] if longs else each

    return _pytree.tree_map(first, values)


def _tiled(inputs: Any, count: int) -> Any:
    """A batch over and over until it has so many, no more."""
    size = _length(inputs)
    if not size:
        raise DataError("task: inputs of its validation batches have no axis of examples: expected tensors (N, …)")
    times = -(-count // size)

    def grown(each: Any) -> Any:
        longs = isinstance(each, Tensor) and each.dim() and len(each) == size
        return torch.cat([each] * times)[:count] if longs else each

    return _pytree.tree_map(grown, inputs)
