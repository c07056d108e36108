"""Secateur prunes PyTorch networks and says honestly what that bought.

    import secateur
    log = secateur.prune(model, 0.9)        # zeros in place, no mask kept
    secateur.sparsity(model)                # 0.9, the output layer counted in

Names are imported when they are first used, so that the parts which need no PyTorch work without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secateur.experiments.searching import SearchResult, search
    from secateur.experiments.sweeping import SweepResult, sweep
    from secateur.exporting.packing import pack
    from secateur.exporting.rebuilding import from_onnx
    from secateur.importing.checkpoints import load_weights
    from secateur.packfile import Metadata, unpack
    from secateur.pruning.arrangement import arrange
    from secateur.pruning.freezing import frozen_zeros
    from secateur.pruning.pruning import PruneLog, layer_sparsity, prune, sparsity
    from secateur.pruning.repairing import repair
    from secateur.pruning.retraining import retrain
    from secateur.pruning.shrinking import shrink
    from secateur.records.recipes import Recipe, Retraining
    from secateur.records.spec import Cell, Sweep
    from secateur.records.store import Store
    from secateur.report.analysis import AnalysisResult, analyze
    from secateur.runtime import Engine, Session, load
    from secateur.runtime.compilation import compile_backend
    from secateur.training.tasks import Task

from secateur.errors import MissingExtraError, SecateurError
from secateur.support.former import know_former_names

__version__ = "0.1.0"

know_former_names()

_HOMES = {
    "AnalysisResult": "report.analysis",
    "Cell": "records.spec",
    "Engine": "runtime",
    "Metadata": "packfile",
    "PruneLog": "pruning.pruning",
    "Recipe": "records.recipes",
    "Retraining": "records.recipes",
    "SearchResult": "experiments.searching",
    "Store": "records.store",
    "Sweep": "records.spec",
    "SweepResult": "experiments.sweeping",
    "Task": "training.tasks",
    "Session": "runtime",
    "analyze": "report.analysis",
    "arrange": "pruning.arrangement",
    "compile_backend": "runtime.compilation",
    "from_onnx": "exporting.rebuilding",
    "frozen_zeros": "pruning.freezing",
    "layer_sparsity": "pruning.pruning",
    "load": "runtime",
    "load_weights": "importing.checkpoints",
    "pack": "exporting.packing",
    "prune": "pruning.pruning",
    "repair": "pruning.repairing",
    "retrain": "pruning.retraining",
    "search": "experiments.searching",
    "shrink": "pruning.shrinking",
    "sparsity": "pruning.pruning",
    "sweep": "experiments.sweeping",
    "unpack": "packfile",
}

__all__ = [
    "AnalysisResult",
    "Cell",
    "Engine",
    "Metadata",
    "MissingExtraError",
    "PruneLog",
    "Recipe",
    "Retraining",
    "SearchResult",
    "SecateurError",
    "Session",
    "Store",
    "Sweep",
    "SweepResult",
    "Task",
    "analyze",
    "arrange",
    "compile_backend",
    "from_onnx",
    "frozen_zeros",
    "layer_sparsity",
    "load",
    "load_weights",
    "pack",
    "prune",
    "repair",
    "retrain",
    "search",
    "shrink",
    "sparsity",
    "sweep",
    "unpack",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'secateur' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"secateur.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "torch":
            raise
        raise MissingExtraError(f"secateur.{name} needs PyTorch: pip install 'secateur[torch]'") from error


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
