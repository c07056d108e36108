"""What a network costs and what it is worth: accuracy, multiply-adds, bytes, memory, latency.

Names are imported when they are first used, as timing and intervals need no PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secateur.measure.correctness import accuracy
    from secateur.measure.footprint import file_bytes, memory_of
    from secateur.measure.latency import compare_latency
    from secateur.measure.macs import layer_table
    from secateur.measure.plausibility import doubts
    from secateur.measure.prediction import faster_predictor
    from secateur.runtime.agreement import largest_difference

_HOMES = {
    "accuracy": "measure.correctness",
    "compare_latency": "measure.latency",
    "doubts": "measure.plausibility",
    "faster_predictor": "measure.prediction",
    "file_bytes": "measure.footprint",
    "largest_difference": "runtime.agreement",
    "layer_table": "measure.macs",
    "memory_of": "measure.footprint",
}

__all__ = [
    "accuracy",
    "compare_latency",
    "doubts",
    "faster_predictor",
    "file_bytes",
    "largest_difference",
    "layer_table",
    "memory_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'secateur.measure' has no attribute {name!r}")
    return getattr(importlib.import_module(f"secateur.{_HOMES[name]}"), name)
