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
    from secateur.checkpoints import load_weights
    from secateur.compilation import compile_backend
    from secateur.freezing import frozen_zeros
    from secateur.packfile import Metadata, unpack
    from secateur.packing import pack
    from secateur.pruning import PruneLog, layer_sparsity, prune, sparsity
    from secateur.repairing import repair
    from secateur.retraining import retrain
    from secateur.runtime import Session, load
    from secateur.searching import SearchResult, search
    from secateur.shrinking import shrink
    from secateur.spec import Cell, Recipe, Retraining, Sweep
    from secateur.store import Store
    from secateur.sweeping import SweepResult, sweep

from secateur.errors import MissingExtraError, SecateurError

__version__ = "0.1.0"

_HOMES = {
    "Cell": "spec",
    "Metadata": "packfile",
    "PruneLog": "pruning",
    "Recipe": "spec",
    "Retraining": "spec",
    "SearchResult": "searching",
    "Store": "store",
    "Sweep": "spec",
    "SweepResult": "sweeping",
    "Session": "runtime",
    "compile_backend": "compilation",
    "frozen_zeros": "freezing",
    "layer_sparsity": "pruning",
    "load": "runtime",
    "load_weights": "checkpoints",
    "pack": "packing",
    "prune": "pruning",
    "repair": "repairing",
    "retrain": "retraining",
    "search": "searching",
    "shrink": "shrinking",
    "sparsity": "pruning",
    "sweep": "sweeping",
    "unpack": "packfile",
}

__all__ = [
    "Cell",
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
    "compile_backend",
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
