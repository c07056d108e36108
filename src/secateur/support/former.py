"""Modules under the names that they had before there were rooms: what was written against those still imports."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

FORMER = {
    "allocation": "pruning.allocation",
    "axes": "pruning.axes",
    "bench": "measure.bench",
    "blocks": "pruning.blocks",
    "cache": "experiments.cache",
    "candidates": "modules.candidates",
    "catalogue": "training.catalogue",
    "checkpoints": "importing.checkpoints",
    "checksums": "support.checksums",
    "compilation": "runtime.compilation",
    "data": "training.data",
    "dataflow": "modules.dataflow",
    "delivery": "experiments.delivery",
    "dependencies": "pruning.dependencies",
    "environment": "records.environment",
    "executors": "experiments.executors",
    "export": "importing.aten",
    "freezing": "pruning.freezing",
    "graph": "network.graph",
    "guarding": "modules.guarding",
    "handover": "runtime.handover",
    "heads": "modules.heads",
    "inputs": "modules.inputs",
    "intervals": "measure.intervals",
    "jobs": "experiments.jobs",
    "layer_ratios": "experiments.layer_ratios",
    "layers": "modules.layers",
    "limits": "network.limits",
    "measure.accuracy": "measure.correctness",
    "measure.agreement": "runtime.agreement",
    "measure.doubts": "measure.plausibility",
    "models": "training.models",
    "moments": "pruning.moments",
    "onnx_export": "exporting.onnx",
    "operations": "pruning.channel_operations",
    "packing": "exporting.packing",
    "paper": "report.paper",
    "patterns": "records.patterns",
    "pipeline": "experiments.pipeline",
    "progress": "support.progress",
    "quantities": "support.quantities",
    "ranking": "pruning.ranking",
    "rebuilding": "exporting.rebuilding",
    "reconstruction": "pruning.reconstruction",
    "references": "support.references",
    "removal": "pruning.removal",
    "repairing": "pruning.repairing",
    "replacing": "support.replacing",
    "results": "records.results",
    "retraining": "pruning.retraining",
    "schedules": "training.schedules",
    "schema": "records.schema",
    "score": "pruning.score",
    "searching": "experiments.searching",
    "selection": "records.selection",
    "shrinking": "pruning.shrinking",
    "simplification": "network.simplification",
    "snapshots": "runtime.snapshots",
    "sources": "support.sources",
    "spec": "records.spec",
    "standardised": "modules.standardised",
    "store": "records.store",
    "structures": "pruning.structures",
    "sweeping": "experiments.sweeping",
    "timing": "measure.timing",
    "tracing": "pruning.channel_tracing",
    "train": "training.train",
    "weight_norms": "modules.weight_norms",
}
"""Former name → the name now, both within secateur. A package's modules moved with it."""
MOVED = {
    "catalogue": {"user_cache": "support.settings"},
    "spec": {"retraining_for": "records.recipes"},
}
"""Former name of a module → public names that other modules now have, each with where."""


class _Same(Loader):
    """Gives the module of another name, as it is. moved: names that it had, and where they are."""

    def __init__(self, name: str, moved: Mapping[str, str]) -> None:
        self.name, self.moved = name, moved

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.name)
        self.own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.own
        for name, home in self.moved.items():
            setattr(module, name, getattr(importlib.import_module(f"secateur.{home}"), name))


class _Former(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        root, _, rest = name.partition(".")
        former = next((each for each in (rest, rest.partition(".")[0]) if each in FORMER), None)
        if root != "secateur" or former is None:
            return None
        now = f"secateur.{FORMER[former]}{rest.removeprefix(former)}"
        return ModuleSpec(name, _Same(now, MOVED.get(rest, {})))


def know_former_names() -> None:
    """Let imports find modules under their former names.

    In front: a package that moved would else give its modules anew, under the former names.
    """
    if not any(isinstance(finder, _Former) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Former())
