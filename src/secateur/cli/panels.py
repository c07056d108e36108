"""How `--help` is laid out: what most people need first, the rest by subject, examples at the end."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

from typer.models import OptionInfo

_DATA, _PRUNING, _LEARNING, _CHOOSING, _WHERE = (
    "Data and network", "Pruning", "Training and retraining", "Measuring and choosing", "Where to run",
)  # fmt: skip
_PANELS = {
    **dict.fromkeys(
        ("mean", "std", "weights", "data_dir", "seed", "seeds", "input", "classes", "shape", "bind"), _DATA
    ),
    **dict.fromkeys(
        (
            "method", "methods", "scope", "scopes", "pattern", "patterns", "repair", "repairs", "exclude", "include",
            "calibration", "calibration_seed", "allow_empty", "prune_norms",
        ),
        _PRUNING,
    ),
    **dict.fromkeys(
        (
            "epochs", "batch_size", "lr", "momentum", "weight_decay", "label_smoothing", "augment", "precision",
            "retrain", "retrain_trials", "retrain_epochs", "retrain_lr", "retrain_rounds", "distill",
        ),
        _LEARNING,
    ),
    **dict.fromkeys(
        ("select", "tolerance", "latency_on", "batch", "images", "rounds", "max_bytes", "max_latency_ms"), _CHOOSING
    ),
    **dict.fromkeys(
        (
            "device", "executor", "address", "cpus_per_cell", "gpus_per_cell", "memory_per_cell", "format", "debug",
            "threads", "kernel", "allowed",
        ),
        _WHERE,
    ),
}  # fmt: skip
MANY = 14
"""Options of a verb from which on they are grouped."""


def grouped(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with its options under headings, where it has many; those that most people need stay on top."""
    parameters = list(inspect.signature(verb, eval_str=True).parameters.values())
    options = {each.name: found for each in parameters if (found := _option(each)) is not None}
    if len(options) >= MANY:
        for name, option in options.items():
            option.rich_help_panel = _PANELS.get(name)
    return verb


def _option(parameter: inspect.Parameter) -> OptionInfo | None:
    told: tuple[Any, ...] = typing.get_args(parameter.annotation)
    return next((each for each in told if isinstance(each, OptionInfo)), None)


def examples(*lines: str) -> str:
    """What stands below a verb's options."""
    return "Examples:\n\n" + "\n\n".join(lines)
