"""Two networks side by side, layer by layer: what a layer is given in one, and what it gives in the other.

A run on a batch has a thread of its own and stands still at the layer that is looked at, so that the networks run once
for all layers and not once for each. Only one thread runs at a time. Runs hold what lies between layers: as many
batches stand still as there is memory for, and the others run anew, up to the layer, each time. So do all where runs
that stand still would not see what others see: `_can_stand` tries that out on an example first.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from secateur.modules.guarding import Enough, drawing_from, run, shared
from secateur.modules.habits import habit, nature
from secateur.modules.inputs import Example, Inputs, as_inputs
from secateur.modules.matrices import Matrix
from secateur.modules.uses import Heard, Use, decomposed, overheard
from secateur.support.machine import memory_bytes

HELD_BYTES = 1 << 30
"""What runs that stand still hold at most, about; less where that is more than an eighth of the machine's memory."""
MOST_HELD = 32
"""Batches that stand still at most: each has two threads."""
_ROOM = 2.0
"""What lies between layers, in inputs and outputs of the layer where those are largest."""
_PATIENCE, _LEAST_PATIENCE = 20, 5.0
"""Times as long as a whole run takes alone, and seconds, after which one that does not go on waits for another one;
if it still does not after as long again, during which the process was not held up."""

Pair = tuple[Sequence[Use], Sequence[Use]]
Counts = Mapping[str, int]


class Run:
    """A run in a thread of its own, which goes on only until a use that is asked for.

    go: runs a network and tells `heard` of every use of its layers. Raises in `uses` what the run raises.
    """

    def __init__(self, go: Callable[[Heard], None]) -> None:
        self._asked: queue.SimpleQueue[tuple[str, int] | None] = queue.SimpleQueue()
        self._told: queue.SimpleQueue[list[Use] | BaseException] = queue.SimpleQueue()
        self._wanted: tuple[str, int] | None = None
        self._calls: list[Use] = []
        self._thread = threading.Thread(target=self._begin, args=(go,), daemon=True)
        self._thread.start()

    def uses(self, name: str, count: int, patience: float) -> list[Use]:
        """The next `count` uses of a layer, or all that are left; the run stands still at the last one. Raises
        queue.Empty after so many seconds, twice."""
        self._asked.put((name, count))
        wait = None if patience == math.inf else patience
        try:
            found = self._told.get(timeout=wait)
        except queue.Empty:
            found = self._told.get(timeout=wait)
        if isinstance(found, BaseException):
            raise found
        return found

    def give_up(self) -> None:
        """What is left of the run is not wanted; once is enough."""
        self._asked.put(None)

    def join(self) -> None:
        self._thread.join()

    def _begin(self, go: Callable[[Heard], None]) -> None:
        self._wanted = self._asked.get()
        try:
            if self._wanted is not None:
                go(self._heard)
        except Enough:
            return
        except BaseException as error:
            self._told.put(error)
            return
        while self._wanted is not None:
            self._tell()

    def _heard(self, name: str, use: Use) -> None:
        if self._wanted is None:
            raise Enough
        wanted, count = self._wanted
        if name != wanted:
            return
        last = len(self._calls) + 1 == count
        self._calls.append(use if last else use.kept())  # what follows may change it in place
        del use
        if last:
            self._tell()
            if self._wanted is None:
                raise Enough

    def _tell(self) -> None:
        told, self._calls = self._calls, []
        self._told.put(told)
        del told
        self._wanted = self._asked.get()


Runs = tuple[Run, Run]


def _close(runs: Iterable[Run]) -> None:
    """All of them at once, as one may wait for what another has."""
    ended = list(runs)
    for each in ended:
        each.give_up()
    for each in ended:
        each.join()


@dataclass(frozen=True, slots=True)
class Standing:
    """A batch's runs that stand still, and how many seconds they may take to go on."""

    runs: Runs
    patience: float


@dataclass(slots=True)
class Walk:
    """What `walking` gives. room: bytes that may be held, none from when a run waited for what another one has; needs:
    bytes that a batch's runs hold; patience: seconds that a run of one example may take, beside others that stand
    still. _runs: those that stand still, by the batch's number; _whole: they are all that there are."""

    batches: Callable[[], Iterator[Inputs]]
    started: Callable[[Inputs], Runs]
    needs: Callable[[Inputs], float]
    room: float
    patience: float = math.inf
    _runs: dict[int, Standing] = field(default_factory=dict, init=False)
    _whole: bool = field(default=False, init=False)
    _used: float = field(default=0.0, init=False)

    def at(self, name: str, count: int) -> Generator[Pair, None, None]:
        """For each batch the uses of a layer in the network, before it gave anything, and in the dense one. Layers are
        asked for in the order in which they last run; one that runs several times as it was for the first time."""
        if count > 1:
            self.begin_anew()
        if self._whole:  # no batch is needed but those that stand still
            told = self._all_told(name, count)
            if told is not None:
                yield from told
                return
            self.begin_anew()
        yield from self._through_all(name, count)
        if count > 1:  # what was passed with its old weights is stale
            self.begin_anew()

    def _all_told(self, name: str, count: int) -> list[Pair] | None:
        """Of all runs that stand still; None where layers run in another order for some batches, or where one waits
        for what another one has."""
        try:
            told = [self._told(standing, name, count) for standing in self._runs.values()]
        except queue.Empty:
            self.room = 0.0
            return None
        return told if all(len(uses) == count for pair in told for uses in pair) else None

    def _through_all(self, name: str, count: int) -> Iterator[Pair]:
        number = -1
        for number, batch in enumerate(self.batches()):
            try:
                told = self._told_beside_others(number, batch, name, count)
            except queue.Empty:
                self.room = 0.0
                self.begin_anew()
                told = self._told_anew(batch, name, count, math.inf)
            yield told
        self._whole = number >= 0 and len(self._runs) == number + 1

    def _told_beside_others(self, number: int, batch: Inputs, name: str, count: int) -> Pair:
        """Raises queue.Empty where a run waits for what another one has that stands still."""
        standing = self._runs.get(number)
        if standing:
            told = self._told(standing, name, count)
            if all(len(uses) == count for uses in told):
                return told
        elif count == 1 and self._is_room(batch):
            self._runs[number] = Standing(self.started(batch), self._patience_with(batch))
            return self._told(self._runs[number], name, count)
        return self._told_anew(batch, name, count, self._patience_with(batch) if self._runs else math.inf)

    def _patience_with(self, batch: Inputs) -> float:
        return max(_LEAST_PATIENCE, self.patience * len(batch))

    def _is_room(self, batch: Inputs) -> bool:
        needs = self.needs(batch)
        if len(self._runs) >= MOST_HELD or self._used + needs > self.room:
            return False
        self._used += needs
        return True

    @staticmethod
    def _told(standing: Standing, name: str, count: int) -> Pair:
        network, dense = standing.runs
        return network.uses(name, count, standing.patience), dense.uses(name, count, standing.patience)

    def _told_anew(self, batch: Inputs, name: str, count: int, patience: float) -> Pair:
        """By runs from the start, of which one is given up before the other begins."""
        own, dense = self.started(batch)
        try:
            given = own.uses(name, count, patience)
            _close([own])
            return given, dense.uses(name, count, patience)
        except queue.Empty:
            self.begin_anew()  # or they could not be joined
            raise
        finally:
            _close([own, dense])

    def begin_anew(self) -> None:
        """Give up all runs."""
        held, self._runs, self._whole, self._used = self._runs, {}, False, 0.0
        _close(itertools.chain.from_iterable(each.runs for each in held.values()))


@contextmanager
def walking(
    networks: tuple[nn.Module, nn.Module],
    layers: tuple[Mapping[str, Matrix], Mapping[str, Matrix]],
    inputs: Iterable[Example],
    counts: Counts,
    bytes_each: float,
) -> Iterator[Walk]:
    """A Walk of a network and a dense one over batches of inputs, in evaluation mode and without gradients. Weights may
    be changed between layers, and stay so; all else is as it was afterwards. layers: of each by name. counts: how often
    each layer runs for a batch, in the order in which they are asked for. bytes_each: as `widest` has it."""
    own = networks[0]
    room = min(HELD_BYTES, memory_bytes() // 8)

    def batches() -> Iterator[Inputs]:
        return (as_inputs(each, own) for each in inputs)

    def needs(batch: Inputs) -> float:
        return 2 * (_ROOM * bytes_each * len(batch) + sum(each.nbytes for each in batch.tensors))

    with ExitStack() as stack:
        inside = [stack.enter_context(shared(each)) for each in networks]
        stack.enter_context(decomposed(own))

        def started(given: Inputs) -> Runs:
            mine, dense = (
                _run(network, known, given, entered, ahead=network is own)
                for network, known, entered in zip(networks, layers, inside, strict=True)
            )
            return mine, dense

        walk = Walk(batches, started, needs, room)
        question = "stands", nature(own), *counts.items()
        patience = habit(networks[1], question, lambda: _can_stand(walk, layers[0], counts)) if room > 0 else None
        walk = dataclasses.replace(walk, room=0.0 if patience is None else room, patience=patience or math.inf)
        stack.callback(walk.begin_anew)
        yield walk


def _can_stand(walk: Walk, layers: Mapping[str, Matrix], counts: Counts) -> float | None:
    """Seconds that one may wait for a run of an example to go on, if runs of two that stand still in turns see what
    runs from the start see, while weights change.

    None where a forward keeps something beside its weights, holds a lock, or looks at the weight of a layer before that
    runs.
    """
    examples = list(itertools.islice((each for batch in walk.batches() for each in batch.singly()), 2))
    alone = dataclasses.replace(walk, batches=lambda: iter(examples), room=0.0)
    before = {name: layer.weight.clone() for name, layer in layers.items()}
    try:
        start = time.perf_counter()
        with drawing_from(0):
            told = _with_changes(alone, layers, counts)
        runs = 2 * max(1, len(examples)) * max(1, len(counts))  # each to its layer, so half of the network on average
        patience = _PATIENCE * 2 * (time.perf_counter() - start) / runs
        _put_back(layers, before)
        standing = dataclasses.replace(alone, needs=lambda _: 0.0, room=walk.room, patience=patience)
        try:
            with drawing_from(0):
                found = _with_changes(standing, layers, counts)
        finally:
            standing.begin_anew()
        stood = standing.room > 0 and len(found) == len(told) and all(map(_same, found, told))
        return patience if stood else None
    finally:
        _put_back(layers, before)


def _with_changes(walk: Walk, layers: Mapping[str, Matrix], counts: Counts) -> list[Tensor]:
    """What each layer is given and gives, its weight being halved after it was looked at."""
    seen: list[Tensor] = []
    for name, count in counts.items():
        for own, dense in walk.at(name, count):
            for use in (*own, *dense):
                seen += [each.clone() for each in (*use.given, *(() if use.output is None else (use.output,)))]
        layers[name].weight.mul_(0.5)
    return seen


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())


def _put_back(layers: Mapping[str, Matrix], weights: Mapping[str, Tensor]) -> None:
    for name, weight in weights.items():
        layers[name].weight.copy_(weight)


def _run(
    network: nn.Module,
    layers: Mapping[str, Matrix],
    given: Inputs,
    inside: Callable[[], AbstractContextManager[None]],
    ahead: bool,
) -> Run:
    surroundings = _surroundings()

    def go(heard: Heard) -> None:
        with ExitStack() as stack:
            for each in surroundings:
                stack.enter_context(each)
            stack.enter_context(inside())
            stack.enter_context(overheard(network, layers, heard, ahead=ahead))
            run(network, given)

    return Run(go)


def _surroundings() -> list[AbstractContextManager[object]]:
    """What this thread is in and another one is not: autocast, and the device on which tensors are made."""
    device = torch.get_default_device()
    mixed = [each for each in ("cpu", "cuda") if torch.is_autocast_enabled(each)]
    elsewhere = [] if device.type == "cpu" else [device]
    return [*(torch.autocast(each, dtype=torch.get_autocast_dtype(each)) for each in mixed), *elsewhere]


def widest(uses: Iterable[Use], images: int) -> float:
    """Bytes of an image's inputs and outputs of the layer where those are most."""
    tensors = ((*use.given, *(() if use.output is None else (use.output,))) for use in uses)
    return max((sum(each.nbytes for each in held) / images for held in tensors), default=0.0)
