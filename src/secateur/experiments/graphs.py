"""Graphs of cells' networks: those of one kind are traced once, every one is compared with PyTorch, and where the cell
says so it is made to compute in eight bits."""

from __future__ import annotations

import math

from torch import nn

from secateur.errors import ExportError, GraphError, ModelError, RunError
from secateur.experiments.calling import arrays_of, given_of, in_runtime, outputs_of
from secateur.experiments.evaluation import DIFFERENCE
from secateur.exporting.quantising import quantise
from secateur.importing.aten import Structure, structure_of
from secateur.modules.guarding import outputs
from secateur.modules.inputs import as_inputs
from secateur.network.graph import Graph
from secateur.network.simplification import simplify
from secateur.records.spec import Cell
from secateur.runtime import Session
from secateur.runtime.agreement import largest_difference
from secateur.support.progress import Reporter
from secateur.support.references import short
from secateur.training.data import Calibration, Data
from secateur.training.tasks import Examples

COMPARED = 16
"""Images on which a graph is compared with PyTorch."""


def calibration_of(cell: Cell, data: Data) -> Calibration | Examples:
    """The training examples that the cell's method, repair and quantisation look at."""
    return data.calibration(cell.calibration_images, cell.draw, cell.recipe.augment)


def check_calibration(cell: Cell, data: Data) -> None:
    """Raises DataError where training images are fewer; of a task all that there are will do."""
    found = calibration_of(cell, data)
    if isinstance(found, Calibration):
        found.check()


class Graphs:
    """Makes graphs, and remembers the structure of each kind of network: a model on a data set."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._structures: dict[tuple[str, str], Structure] = {}
        self._unpackable: set[str] = set()

    def graph(
        self, network: nn.Module, cell: Cell, data: Data, simplified: bool = True, compared: bool = True
    ) -> Graph | None:
        """The Graph of a cell's network, simplified if asked, None where it cannot be one.

        Networks of one kind are traced once. Every graph is compared with PyTorch on validation images: where one made
        from another network's trace differs, the network is traced itself, and where that differs there is none. Not
        compared: taken as it is if another of its kind was compared; for what decides little and is asked often.
        """
        structure = self._structures.get((cell.model, cell.data))
        try:
            if not compared and structure is not None and structure.fits(network):
                graph = structure.graph(network)
                return simplify(graph) if simplified else graph
            return self._reused(network, cell, data, simplified) or self._traced(network, cell, data, simplified)
        except (ExportError, GraphError) as error:
            key = f"{cell.model} {cell.data}"
            if key not in self._unpackable:
                self._unpackable.add(key)
                self._reporter.say(f"{short(cell.model)} is measured in PyTorch only: {error}")
            return None

    def quantised(self, network: nn.Module, cell: Cell, data: Data) -> Graph:
        """The Graph of a cell's network in eight bits, scaled by the cell's calibration images. Raises ModelError where
        the network can be no Graph."""
        graph = self.graph(network, cell, data)
        if graph is None:
            raise ModelError(
                f"model {cell.model!r} runs in PyTorch only, so it cannot compute in {cell.element}: "
                "expected --quantize none"
            )
        there = {name for node in graph.nodes for name in (node.name, node.source)}
        quantised, _ = quantise(
            graph,
            (arrays_of(inputs, network) for inputs, _ in calibration_of(cell, data)),
            keep_float=[name for name in cell.keep_float if name in there],  # the others were simplified away
        )
        return quantised

    def _reused(self, network: nn.Module, cell: Cell, data: Data, simplified: bool) -> Graph | None:
        structure = self._structures.get((cell.model, cell.data))
        if structure is None or not structure.fits(network):
            return None
        try:
            return self._checked(structure, network, data, simplified)
        except (ExportError, GraphError) as error:
            self._reporter.say(f"{short(cell.model)} is traced anew: {error}", loud=True)
            return None

    def _traced(self, network: nn.Module, cell: Cell, data: Data, simplified: bool) -> Graph:
        structure = structure_of(network, data.example())
        graph = self._checked(structure, network, data, simplified)
        self._structures[cell.model, cell.data] = structure
        return graph

    def _checked(self, structure: Structure, network: nn.Module, data: Data, simplified: bool) -> Graph:
        """Raises ExportError where PyTorch gives something else on a few validation images."""
        graph = structure.graph(network)
        graph = simplify(graph) if simplified else graph
        example = data.example(COMPARED)
        session = Session(graph, threads=1, calibrate=False)
        try:
            found = outputs_of(in_runtime(session)(given_of(example, network)))
        except RunError as error:
            raise ExportError(f"its graph does not run {COMPARED} examples: {error}") from error
        expected = outputs_of(outputs(network, as_inputs(example, network)))
        apart = largest_difference(found, expected) if len(found) == len(expected) else math.inf
        if apart > DIFFERENCE:
            raise ExportError(f"its graph is off by {apart:.2g} of the largest output from PyTorch")
        return graph


def float_layers(graph: Graph) -> tuple[str, ...]:
    """The convolutions and fully connected layers of a graph that compute in float32."""
    return tuple(node.name for node in graph.nodes if node.op in ("conv2d", "linear"))
