"""A Graph with values of all images, run stage by stage: each has a session of its own, and hands its results on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.errors import RunError
from secateur.network.graph import Graph, Node
from secateur.network.operations import OPERATIONS
from secateur.network.stages import Stage, constants_of, stages_of
from secateur.runtime.reference import run_nodes

Floats = NDArray[np.float32]


class Staged:
    """Runs as a native session does, whole numbers and truth values as floats. session: what runs a part.

    An ordinary value is (1, …) here, one of images (N, …).
    """

    def __init__(self, graph: Graph, session: Callable[[Graph], Any]) -> None:
        self.graph, self.images = graph, graph.images
        self.steps: list[tuple[Stage | Node, Any]] = [
            (step, session(step.graph) if isinstance(step, Stage) else None) for step in stages_of(graph)
        ]
        self.constants = _constants(graph)

    @property
    def parts(self) -> list[tuple[Stage, Any]]:
        """The stages and their sessions, in order."""
        return [(step, session) for step, session in self.steps if isinstance(step, Stage)]

    def check_images(self, images: int) -> None:
        """Raises RunError for another number than the graph is bound to."""
        if self.images not in (None, images):
            raise RunError(f"{images} images: expected the {self.images} that the graph is bound to")

    def run(self, x: Floats, out: Floats) -> None:
        """As run_many, of one input and one output."""
        self.run_many((x,), (out,))

    def run_many(self, inputs: Sequence[Floats], outputs: Sequence[Floats]) -> None:
        """Write to the outputs, for as many images in each input as the graph is bound to."""
        images = len(inputs[0])
        self.check_images(images)
        values = dict(zip(self.graph.inputs, inputs, strict=True)) | self.constants
        for step, session in self.steps:
            if isinstance(step, Stage):
                rows = 1 if step.ordinary else images
                made = session.run_floats([_spread(values[name], rows) for name in step.graph.inputs])
                values.update(zip(step.graph.outputs, made, strict=True))
            else:
                value = values[step.inputs[0]]
                values[step.name] = value[None] if OPERATIONS[step.op].ordinary else value[0]
        for name, out in zip(self.graph.outputs, outputs, strict=True):
            out[...] = values[name]


def _spread(value: Floats, images: int) -> Floats:
    """With so many rows: an ordinary value is repeated."""
    if len(value) == images:
        return value
    return np.ascontiguousarray(np.broadcast_to(value, (images, *value.shape[1:])))


def _constants(graph: Graph) -> dict[str, Floats]:
    """Those that no stage makes: outputs, and what is scattered."""
    known = constants_of(graph)
    scattered = {node.inputs[0] for node in graph.nodes if OPERATIONS[node.op].ordinary is False}
    wanted = known & {*graph.outputs, *scattered}
    made = run_nodes(graph, [node for node in graph.nodes if node.name in known] if wanted else [])
    return {name: made[name].astype(np.float32) for name in wanted}
