"""Session: a Graph compiled for this processor, called like a function."""

from __future__ import annotations

import math
import operator
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from secateur import _native
from secateur.errors import GraphError, RunError
from secateur.network.formats import FORMATS
from secateur.network.graph import Graph, Shape
from secateur.network.limits import Limits, check_costs, check_parts
from secateur.network.signature import leaves
from secateur.network.simplification import settle
from secateur.network.sizes import BATCH
from secateur.network.stages import crosses_images
from secateur.runtime.calibration import Costs, costs_for
from secateur.runtime.elements import HELD, as_floats, fits, from_floats
from secateur.runtime.entries import entries_of, outputs_of
from secateur.runtime.normalisation import Normalisation
from secateur.runtime.staging import Staged
from secateur.support import settings

Floats = NDArray[np.float32]
Images = NDArray[np.float32] | NDArray[np.uint8]

_FLOAT32 = np.dtype(np.float32)
MOST_THREADS = 1024
MOST_IMAGES = sys.maxsize  # that an array holds
MOST_ROUNDS = 1_000_000
MOST_NUMBERS = 1 << 40  # of an image in one value
MOST_LENGTHS = 16
"""For so many lengths, those last used, a session of a graph with free ones keeps what was made."""


def available_kernels() -> list[str]:
    """Names of the kernels that this processor can run, fastest first; "scalar" is always among them."""
    return _native.kernels()


def has_dot_products() -> bool:
    """Whether this processor has an instruction that sums products of bytes in 32 bits (VNNI, NEON's dot product)."""
    return available_kernels()[0].endswith(("vnni", "dot"))


@dataclass(frozen=True, slots=True)
class PlanStep:
    """What one step of a plan does. name: of its first node, the one with the weights.

    operations: the graph's operations in it, as "conv2d+batch_norm+relu". layer: "3×3 convolution", "fully connected",
    empty where there are no weights. multiply_adds, nonzero_multiply_adds: per
    image, the latter without taps that see padding only, and in eight bits with all four of each word that is not zero,
    so that of dense layers it may be the larger. bytes: of the weights as the kernel reads them. seconds: of
    one run, which is for so many images, None where it was not measured; predicted_cycles: of the same on one thread,
    by the cost model, 0 where it has none. threads: that share a run; where the plan has more, each runs the step for
    other images.
    """

    name: str
    operations: str
    kernel: str
    layer: str
    shape: Shape
    images: int
    density: float
    multiply_adds: int
    nonzero_multiply_adds: int
    bytes: int
    predicted_cycles: float
    seconds: float | None
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """How a batch is run. steps: those of the first part.

    parts: (images in a block, how many operations of it run image by image before the rest runs on the whole block,
    how many such blocks). costs: "measured" on this machine, "built in" or "given". stages: where the network mixes
    images, what runs image by image and what once for all of them, and the plan of each; steps are then all of theirs,
    parts those of the first, and arena_bytes are of the largest.
    """

    kernel: str
    costs: str
    threads: int
    parts: tuple[tuple[int, int, int], ...]
    arena_bytes: int
    steps: tuple[PlanStep, ...]
    stages: tuple[tuple[str, Plan], ...] = ()

    def __str__(self) -> str:
        if self.stages:
            return "\n".join(f"{kind}: {plan}" for kind, plan in self.stages)
        return "\n".join([self._heading(), *(_line(step) for step in self.steps)])

    def _heading(self) -> str:
        parts = " + ".join(f"{count} × {images}" for images, _, count in self.parts)
        return (
            f"{self.kernel}, {self.threads} thread(s), costs {self.costs}, blocks of images: {parts}, "
            f"arena {self.arena_bytes / 1e6:.1f} MB"
        )


def _line(step: PlanStep) -> str:
    text = f"{step.name:28.28} {step.operations:32.32} {'×'.join(map(str, step.shape)):>14} {step.kernel:56.56}"
    if step.multiply_adds:
        text += f" {100 * step.density:5.1f} % {step.nonzero_multiply_adds / 1e6:9.3f} MMAC {step.bytes / 1e3:8.1f} kB"
    return text if step.seconds is None else f"{text} {1e3 * step.seconds:8.4f} ms / {step.images}"


class Session:
    """A Graph compiled for this processor.

    Called with one float32 array (N, *input shape), C-contiguous, for each of the graph's inputs, by position or by
    name; returns one for each of its outputs (alone, or as a tuple). A graph with a signature is called, and gives its
    outputs nested, as that says. N may be anything, 0 included, unless the signature says how many; what is made for a
    batch size is kept. A session may be used by several threads at once.

    threads: how many work on one call, from 1 to 1,024; the outputs do not depend on it. kernel: one of
    available_kernels(), None for the fastest (or what SECATEUR_KERNEL names). normalisation: with it, uint8 images
    (N, C, H, W) may be given too. calibrate: whether how each layer of a large network is run is decided by constants
    timed on this machine (once: they are cached) rather than by those built in; SECATEUR_CALIBRATE=0 says no for all.
    Layers run otherwise may round otherwise. limits: what the graph may ask for at most, None for limits.Limits().
    costs: constants to decide by, whatever calibrate says. parts: sessions of parts of the graph, by outputs.
    Where the graph has lengths that are free, the inputs' shapes tell them, and it is compiled for those: see bind.
    Where it mixes images, the parts that do run once for all images, and the others in blocks of them as ever; a mean
    of no images is refused.
    Pickles and copies are made from its graph and these arguments.
    out: the array to write to, for graphs with one input and one output: the input itself, or apart from it.
    Raises RunError.
    """

    def __init__(
        self,
        graph: Graph,
        threads: int = 1,
        kernel: str | None = None,
        normalisation: Normalisation | None = None,
        calibrate: bool = True,
        limits: Limits | None = None,
        costs: Costs | None = None,
        *,
        parts: Mapping[tuple[str, ...], Session] | None = None,
    ) -> None:
        threads = _whole("threads", threads, 1, MOST_THREADS)
        if costs is not None and not isinstance(costs, Costs):
            raise RunError(f"costs {costs!r}: expected a runtime.calibration.Costs, or None")
        limits = limits or Limits()
        if not graph.lengths:
            _check_sizes(graph)
        _check_elements(graph)
        _check_limits(graph, limits)
        self._graph = graph
        self._made_with = (threads, kernel, normalisation, calibrate, limits, costs)
        self._kernel = _chosen_kernel(kernel)
        self._threads = threads
        self._inputs = tuple(graph.inputs.items())
        self._normalisation = normalisation
        self._lengths = graph.lengths
        self._images = graph.called.images
        self._bound: OrderedDict[tuple[tuple[str, int], ...], Session] = OrderedDict()
        self._lock = Lock()
        self._single = False
        if self._lengths:
            return
        self._shapes = tuple(tuple(shape) for _, shape in self._inputs)
        self._output_shapes = tuple(map(tuple, graph.output_shapes))
        self._costs = costs or costs_for(graph, self._kernel, calibrate)
        self._native = self._compiled(graph, parts or {})
        elements = graph.value_elements
        self._elements = tuple(elements[name] for name in graph.inputs)
        self._output_elements = tuple(elements[name] for name in graph.outputs)
        self._single = len(self._shapes) == 1 and self._output_elements == ("float32",)

    def __reduce__(self) -> tuple[type[Session], tuple[object, ...]]:
        """Pickled and copied as its graph and what it was made with: a copy plans for the processor it is on."""
        return Session, (self._graph, *self._made_with)

    @property
    def kernel(self) -> str:
        return self._kernel

    @property
    def threads(self) -> int:
        return self._threads

    def __call__(self, *inputs: Any, out: Floats | None = None, **named: Any) -> Any:
        if not named and self._graph.signature is None:
            return self._run(inputs, out)
        made = self._run(self._graph.called.arrays(inputs, named), out)
        return self._graph.called.result(made if isinstance(made, tuple) else (made,))

    def run_all(self, *inputs: Images) -> tuple[Floats, ...]:
        """The graph's outputs in order, for its inputs in order, whatever its signature says."""
        made = self._run(inputs, None)
        return made if isinstance(made, tuple) else (made,)

    def run_named(self, inputs: Mapping[str, Images]) -> tuple[Floats, ...]:
        """As run_all, the graph's inputs by their names."""
        names = [name for name, _ in self._inputs]
        if inputs.keys() != set(names):
            raise RunError(f"inputs {', '.join(inputs) or 'none'}: expected {', '.join(names)}")
        return self.run_all(*(inputs[name] for name in names))

    def run_called(self, inputs: Mapping[str, Any]) -> tuple[Any, ...]:
        """The graph's outputs in order as the network gives them, for arguments by name as it takes them."""
        called = self._graph.called
        made = self.run_all(*called.arrays((), inputs))
        values = {each.place: each for _, each in leaves(called.outputs)}
        return tuple(values[at].back(each) if at in values else each for at, each in enumerate(made))

    @property
    def arguments(self) -> tuple[str, ...]:
        """What the network is called with, by name."""
        return tuple(name for name, _ in self._graph.called.arguments)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Of the outputs in order: where they are in what the network gives, or the graph's own names."""
        return self._graph.output_names

    def _run(self, inputs: tuple[Images, ...], out: Floats | None) -> Floats | tuple[Floats, ...]:
        try:
            if not self._single:
                return self._call_many(inputs, out)
            if len(inputs) != 1:
                raise RunError(f"expected 1 input, got {len(inputs)}")
            (x,) = inputs
            taken = self._taken(0, x)
            self._check_images(len(taken))
            shape = (len(taken), *self._output_shapes[0])
            if out is None:
                out = np.empty(shape, _FLOAT32)
            else:
                _check_output(out, shape, taken)
            self._native.run(taken, out)
            return out
        except IndexError as error:
            raise RunError(str(error)) from error
        except (MemoryError, ValueError, RuntimeError) as error:
            raise self._stopped(error, len(inputs[0])) from error

    def _call_many(self, inputs: tuple[Images, ...], out: Floats | None) -> Floats | tuple[Floats, ...]:
        if len(inputs) != len(self._inputs):
            raise RunError(f"expected {len(self._inputs)} inputs, got {len(inputs)}")
        if self._lengths:
            return self.bind(self._lengths_of(inputs))._run(inputs, out)
        if out is not None:
            raise RunError("out= is for graphs with one input and one output")
        taken = tuple(self._taken(index, x) for index, x in enumerate(inputs))
        if len({len(x) for x in taken}) > 1:
            raise RunError(f"expected as many images in every input, got {[len(x) for x in taken]}")
        self._check_images(len(taken[0]))
        outputs = zip(self._graph.outputs, self._output_elements, self.run_floats(taken), strict=True)
        made = tuple(from_floats(each, element, f"output {name!r}") for name, element, each in outputs)
        return made[0] if len(made) == 1 else made

    def run_floats(self, inputs: Sequence[Floats]) -> tuple[Floats, ...]:
        """The outputs as the core makes them of what it takes: whole numbers and truth values are float32, too."""
        made = tuple(np.empty((len(inputs[0]), *shape), np.float32) for shape in self._output_shapes)
        self._native.run_many(inputs, made)
        return made

    def _check_images(self, images: int) -> None:
        if self._images not in (None, images):
            raise RunError(
                f"{images} images: expected {self._images}, as the network was packed for batches of that size only; "
                f"pack it again with an example of {images}"
            )

    def _compiled(self, graph: Graph, parts: Mapping[tuple[str, ...], Session]) -> _native.Session | Staged:
        if crosses_images(graph):
            return Staged(graph, lambda part: self._part(part, parts))
        return _compile(graph, self._kernel, self._threads, self._costs)

    def _part(self, graph: Graph, made: Mapping[tuple[str, ...], Session]) -> Session:
        """What runs a part of the graph: one that was made for the same already, or a new one."""
        threads, kernel, _, calibrate, limits, _ = self._made_with
        found = made.get(graph.outputs)
        if found is not None and found._graph == graph:
            return found
        return Session(graph, threads, kernel, None, calibrate, limits, self._costs)

    @property
    def _parts(self) -> dict[tuple[str, ...], Session]:
        found = self._native.parts if isinstance(self._native, Staged) else []
        return {step.graph.outputs: session for step, session in found}

    def _taken(self, index: int, x: Images) -> Floats:
        """An input as the core takes it: as it is, uint8 images normalised, whole numbers as floats."""
        shape, element = self._shapes[index], self._elements[index]
        if isinstance(x, np.ndarray) and x.ndim > 0 and x.shape[1:] == shape:
            if element != "float32" and fits(x, element):
                return as_floats(x, f"input {self._inputs[index][0]!r}")
            if x.dtype == _FLOAT32 == FORMATS[element].numbers:
                if x.flags.c_contiguous:
                    return x  # type: ignore[return-value]
                name, _ = self._inputs[index]
                raise RunError(f"input {name!r}: expected a C-contiguous array; numpy.ascontiguousarray makes one")
            if x.dtype == np.uint8 and self._normalisation is not None and self._normalisation.fits(shape):
                return self._normalisation(x)  # type: ignore[arg-type]
        raise self._wrong(index, x)

    def _wrong(self, index: int, x: object) -> RunError:
        name, shape = self._inputs[index]
        images = self._normalisation is not None and self._normalisation.fits(shape)
        element = self._graph.elements.get(name, "float32")
        kinds = f"{element} or uint8" if images else element
        came = x.dtype if isinstance(x, np.ndarray) else None
        uint8 = came == np.uint8 and not images and element == "float32"
        hint = "; how uint8 would be normalised is not known" if uint8 else ""
        hint += f"; x.astype(numpy.{element}) makes one" if came == np.float64 else ""
        hint += _resizing(shape, x)
        return RunError(f"input {name!r}: expected {kinds} {_described(shape)}, got {_came(x)}{hint}")

    @property
    def lengths(self) -> tuple[str, ...]:
        """Names of the lengths that are free, beside the number of images."""
        return tuple(name for name in self._lengths if name != BATCH)

    def bind(self, lengths: Mapping[str, int]) -> Session:
        """The session of the graph at lengths, given by name: all that are free. Raises RunError for others.

        What was made for the MOST_LENGTHS lengths last used is kept, and made again for others.
        """
        if not isinstance(lengths, Mapping):
            raise RunError(f"lengths {lengths!r}: expected a mapping of names to whole numbers")
        lengths = {name: _whole(name, length, 0, MOST_NUMBERS) for name, length in lengths.items()}
        key = tuple(sorted(lengths.items()))
        with self._lock:
            if key in self._bound:
                self._bound.move_to_end(key)
                return self._bound[key]
            parts = {name: part for each in self._bound.values() for name, part in each._parts.items()}
        made = Session(self._graph_at(lengths), *self._made_with, parts=parts)
        with self._lock:
            self._bound[key] = made
            while len(self._bound) > MOST_LENGTHS:
                self._bound.popitem(last=False)
        return made

    def _graph_at(self, lengths: Mapping[str, int]) -> Graph:
        try:
            return settle(self._graph.bind(lengths))
        except GraphError as error:
            raise RunError(str(error)) from error

    def _lengths_of(self, inputs: tuple[Images, ...]) -> dict[str, int]:
        for index, (x, (_, shape)) in enumerate(zip(inputs, self._inputs, strict=True)):
            if not isinstance(x, np.ndarray) or x.ndim != 1 + len(shape):
                raise self._wrong(index, x)
        try:
            shapes = {name: x.shape[1:] for (name, _), x in zip(self._inputs, inputs, strict=True)}
            return self._graph.lengths_of(shapes, len(inputs[0]))
        except GraphError as error:
            raise RunError(str(error)) from error

    def plan(self, batch: int = 1, rounds: int = 0, lengths: Mapping[str, int] | None = None) -> Plan:
        """How a batch of that size is run. rounds: how often every step is timed, 0 not to. Raises RunError.

        lengths: where the graph has some that are free, those to plan for, by name.
        """
        if self._lengths or lengths:
            own = {BATCH: batch} if BATCH in self._lengths else {}
            return self.bind({**(lengths or {}), **own}).plan(batch, rounds)
        batch, rounds = _whole("batch", batch, 0, MOST_IMAGES), _whole("rounds", rounds, 0, MOST_ROUNDS)
        if isinstance(self._native, Staged):
            return self._plan_of_stages(self._native, batch, rounds)
        try:
            parts = tuple(self._native.divide(batch))
            block, cut, _ = parts[0] if parts else self._native.divide(1)[0]
            places = [index for index, element in enumerate(self._elements) if element != "float32"]
            steps = tuple(PlanStep(**step) for step in self._native.steps(block, cut, rounds, places))
            arena = self._native.arena_bytes(block, cut)
        except (MemoryError, ValueError, RuntimeError) as error:
            raise self._stopped(error, batch) from error
        return Plan(self._kernel, self._costs.source, self._threads, parts, arena, steps)

    def _plan_of_stages(self, staged: Staged, batch: int, rounds: int) -> Plan:
        staged.check_images(batch)
        plans = tuple((step.kind, part.plan(1 if step.ordinary else batch, rounds)) for step, part in staged.parts)
        steps = tuple(step for _, plan in plans for step in plan.steps)
        arena = max((plan.arena_bytes for _, plan in plans), default=0)
        parts = plans[0][1].parts if plans else ()
        return Plan(self._kernel, self._costs.source, self._threads, parts, arena, steps, plans)

    def _stopped(self, error: Exception, images: int) -> RunError:
        """What an exception of NumPy or of the core means to a caller."""
        largest = max((4 * images * math.prod(shape) for shape in self._output_shapes), default=0)
        if isinstance(error, MemoryError) or largest > sys.maxsize:
            return RunError(f"{images} images take more memory than there is: run fewer at once")
        return RunError(
            f"{images} images on {self._threads} threads (kernel {self._kernel}): the runtime stopped: {error}: "
            "try fewer threads, fewer images or another kernel"
        )


def _whole(name: str, value: SupportsIndex, least: int, most: int) -> int:
    try:
        found = operator.index(value)
    except TypeError:
        found = least - 1
    if not least <= found <= most:
        raise RunError(f"{name}: expected a whole number from {least} to {most}, got {value!r}")
    return found


def _check_sizes(graph: Graph) -> None:
    """That the core can count bytes of any block of images, an empty axis or not."""
    for name, shape in (*graph.inputs.items(), *((node.name, node.shape) for node in graph.nodes)):
        if math.prod(size for size in shape if size) > MOST_NUMBERS:
            raise RunError(f"value {name!r}: expected at most {MOST_NUMBERS} numbers an image, got shape {shape}")


def _check_elements(graph: Graph) -> None:
    for name, element in graph.elements.items():
        if element not in HELD:
            raise RunError(f"input {name!r} is {element}: the runtime takes {_LISTED} only; convert it before")
    elements = graph.value_elements
    for name in graph.outputs:
        if elements[name] not in HELD:
            raise RunError(
                f"output {name!r} is {elements[name]}: the runtime gives {_LISTED} only; dequantise it in the graph"
            )


_LISTED = f"{', '.join(HELD[:-1])} and {HELD[-1]}"


def _check_limits(graph: Graph, limits: Limits) -> None:
    shapes = {name: weight.shape for name, weight in graph.weights.items()}
    try:
        check_parts(graph.inputs, graph.outputs, graph.nodes, shapes, limits)
        check_costs(graph.inputs, graph.outputs, graph.nodes, shapes, limits)
    except GraphError as error:
        raise RunError(str(error)) from error


def _chosen_kernel(kernel: str | None) -> str:
    asked, by = (kernel, "kernel") if kernel is not None else (settings.KERNEL.value, settings.KERNEL.name)
    if not asked:
        return available_kernels()[0]
    if asked not in available_kernels():
        raise RunError(f"{by}={asked}: this processor runs {', '.join(available_kernels())}")
    return asked


def _compile(graph: Graph, kernel: str, threads: int, costs: Costs) -> _native.Session:
    entries = entries_of(graph)
    try:
        return _native.Session(
            list(graph.inputs.values()), entries, outputs_of(graph, entries), kernel, threads, costs.values
        )
    except (ValueError, RuntimeError, MemoryError) as error:
        raise RunError(str(error) or "the network takes more memory than there is") from error


def _check_output(out: Floats, shape: Shape, taken: Floats) -> None:
    good = isinstance(out, np.ndarray) and out.dtype == _FLOAT32 and out.shape == shape
    if not good:
        raise RunError(f"out: expected float32 {shape}, got {_came(out)}")
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise RunError("out: expected a C-contiguous array that can be written to")
    if np.may_share_memory(out, taken) and (out.ctypes.data, out.nbytes) != (taken.ctypes.data, taken.nbytes):
        raise RunError("out: overlaps the input, got part of it: expected the whole input or an array apart from it")


def _described(shape: Shape) -> str:
    return "(" + ", ".join(["N", *map(str, shape)]) + ("" if shape else ",") + ")"


def _resizing(shape: Shape, x: object) -> str:
    """What to do with images that only have another size than the network takes, else nothing."""
    if not (isinstance(x, np.ndarray) and x.ndim == 4 and len(shape) == 3 and x.shape[1] == shape[0]):
        return ""
    if x.shape[2:] == shape[1:]:
        return ""
    size = f"({shape[1]}, {shape[2]})"
    return (
        f"; resize the images first, as those of smaller data sets are for training: "
        f"torch.nn.functional.interpolate(images.float(), {size}, mode='bilinear').round(), as uint8"
    )


def _came(x: object) -> str:
    return f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
