"""Two networks side by side, layer by layer: what a layer is given in one, and what it gives in the other.

A run on a batch has a thread of its own and stands still at the layer that is looked at, so that the networks run once
for all layers and not once for each. Only one thread runs at a time. Runs hold what lies between layers: as many
batches stand still as there is memory for, and the others run anew, up to the layer, each time.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field

from torch import nn

from secateur.modules.guarding import Enough, run, shared
from secateur.modules.inputs import Example, Inputs, as_inputs
from secateur.modules.matrices import Matrix
from secateur.modules.uses import Heard, Use, decomposed, overheard

HELD_BYTES = 1 << 30
"""What runs that stand still hold at most, about; less where that is more than an eighth of the machine's memory."""
_ROOM = 2.0
"""What lies between layers, in inputs and outputs of the layer where those are largest."""

Pair = tuple[Sequence[Use], Sequence[Use]]


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

    def uses(self, name: str, count: int) -> list[Use]:
        """The next `count` uses of a layer, or all that are left; the run stands still at the last one."""
        self._asked.put((name, count))
        found = self._told.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def close(self) -> None:
        """Give up what is left of the run."""
        self._asked.put(None)
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


@dataclass(slots=True)
class Walk:
    """What `walking` gives. _held: so many batches stand still; _runs: theirs, by the batch's number; _whole: they are
    all that there are."""

    _inputs: Iterable[Example]
    _started: Callable[[Inputs], tuple[Run, Run]]
    _network: nn.Module
    _held: int
    _runs: dict[int, tuple[Run, Run]] = field(default_factory=dict)
    _whole: bool = False

    def at(self, name: str, count: int) -> Iterator[Pair]:
        """For each batch the uses of a layer in the network, before it gave anything, and in the dense one. Layers are
        asked for in the order in which they last run; one that runs several times as it was for the first time."""
        if count > 1:
            self.begin_anew()
        if self._whole:  # no batch is needed but those that stand still
            yield from (self._told(runs, name, count) for runs in self._runs.values())
        else:
            yield from self._through_all(name, count)
        if count > 1:  # what was passed with its old weights is stale
            self.begin_anew()

    def _through_all(self, name: str, count: int) -> Iterator[Pair]:
        number = -1
        for number, batch in enumerate(self._inputs):
            runs = self._runs.get(number) or self._started(as_inputs(batch, self._network))
            if number < self._held and count == 1:
                self._runs[number] = runs
                yield self._told(runs, name, count)
            else:
                with _closed(runs):
                    yield self._told(runs, name, count)
        self._whole = 0 <= number < self._held and count == 1

    @staticmethod
    def _told(runs: tuple[Run, Run], name: str, count: int) -> Pair:
        network, dense = runs
        return network.uses(name, count), dense.uses(name, count)

    def begin_anew(self) -> None:
        """Give up all runs."""
        runs, self._runs, self._whole = self._runs, {}, False
        for each in runs.values():
            _close(each)


def _close(runs: tuple[Run, Run]) -> None:
    for each in runs:
        each.close()


@contextmanager
def _closed(runs: tuple[Run, Run]) -> Iterator[None]:
    try:
        yield
    finally:
        _close(runs)


@contextmanager
def walking(
    networks: tuple[nn.Module, nn.Module],
    layers: tuple[Mapping[str, Matrix], Mapping[str, Matrix]],
    inputs: Iterable[Example],
    bytes_each: float,
) -> Iterator[Walk]:
    """A Walk of a network and a dense one over batches of inputs, in evaluation mode and without gradients. Weights may
    be changed between layers, and stay so; all else is as it was afterwards. layers: of each by name. bytes_each: as
    `widest` has it."""
    batch = len(as_inputs(next(iter(inputs)), networks[0]))
    room = min(HELD_BYTES, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 8)
    held = int(room / max(1.0, 2 * _ROOM * bytes_each * batch))
    with ExitStack() as stack:
        inside = [stack.enter_context(shared(each)) for each in networks]
        stack.enter_context(decomposed(networks[0]))

        def started(given: Inputs) -> tuple[Run, Run]:
            own, dense = (
                _run(network, known, given, entered, ahead=network is networks[0])
                for network, known, entered in zip(networks, layers, inside, strict=True)
            )
            return own, dense

        walk = Walk(inputs, started, networks[0], held)
        stack.callback(walk.begin_anew)
        yield walk


def _run(
    network: nn.Module,
    layers: Mapping[str, Matrix],
    given: Inputs,
    inside: Callable[[], AbstractContextManager[None]],
    ahead: bool,
) -> Run:
    def go(heard: Heard) -> None:
        with inside(), overheard(network, layers, heard, ahead=ahead):
            run(network, given)

    return Run(go)


def widest(uses: Iterable[Use], images: int) -> float:
    """Bytes of an image's inputs and outputs of the layer where those are most."""
    tensors = ((*use.given, *(() if use.output is None else (use.output,))) for use in uses)
    return max((sum(each.nbytes for each in held) / images for held in tensors), default=0.0)
