"""A stored row as the flat record that JSON, CSV and other programs read."""

from __future__ import annotations

import dataclasses
from typing import Any

from secateur.records.recipes import Recipe, Retraining
from secateur.records.results import Footprint, Row
from secateur.records.spec import OPTIONS, SHARED, Cell

_RECIPE = tuple(field.name for field in dataclasses.fields(Recipe))
_RETRAINING = tuple(field.name for field in dataclasses.fields(Retraining) if field.name != "epochs")

_SHARED = tuple(option.name for option in SHARED if option.option.column)
_MEASURED = (
    "model", "data", "method", "scope", "norms", "pattern", "repair", "retraining", "retraining_epochs",
    "retraining_seconds", "quantize", *_SHARED, "ratio", "seed", "accuracy", "dense_accuracy",
    "validation_accuracy", "dense_validation_accuracy", "float32_accuracy", "float32_validation_accuracy",
    "float32_layers", "top5", "test_images", "sparsity", "parameters", "macs",
    "nonzero_macs", "bytes", "packed_bytes", "safetensors_bytes", "dense_bytes", "pytorch_bytes",
    "prune_peak_memory", "prune_held_memory", "pytorch_peak_memory", "pytorch_held_memory", "latency_ms",
    "unpacked_latency_ms", "dense_latency_ms", "pytorch_latency_ms", "latency_ms_batch_64",
    "unpacked_latency_ms_batch_64", "dense_latency_ms_batch_64", "pytorch_latency_ms_batch_64", "latency_n",
    "training_seconds", "epochs", "weight_decay", "device", "precision", "data_source", "host", "cpu", "latency_host",
)  # fmt: skip
_OPTIONS = (
    *(option.name for option in OPTIONS if option.name not in _MEASURED), "weights_sha256", "layer_ratios",
    "layer_patterns", "keep_float", "method_source", "model_source",
    *(f"recipe_{name}" for name in _RECIPE), *(f"retraining_{name}" for name in _RETRAINING),
)  # fmt: skip
COLUMNS = (*_MEASURED, *_OPTIONS, "versions", "measured_at", "cell")
"""The columns of CSV, in order, every option of a cell among them; JSON adds `layers` and `latencies`, which are
lists, and `left`: what stayed dense, and why."""


def record(row: Row) -> dict[str, Any]:
    """Every number of a row under its column's name.

    accuracy is top-1 on test data; bytes the pruned network as a .secateur file (packed_bytes), or as safetensors
    where it cannot be packed; pytorch_* what torch.nn.utils.prune makes of the same cut. latency_ms is the pruned
    network in Secateur's runtime, batch 1; unpacked_* the same in PyTorch, dense_* the dense network there, all timed
    in turns. float32_* are of a network that computes in int8: its accuracies before that was so, and the layers in
    which it is not. recipe_* and retraining_* are what was asked for, None where nothing was trained here or retrained.
    Fractions are in [0, 1], memory is in bytes, missing values are None.
    """
    pytorch = row.pytorch or Footprint(0, None, None)
    one = row.our_latency(1)
    return {
        **{option.name: option.told(row.cell) for option in OPTIONS},
        "retraining_epochs": row.retrained.epochs if row.retrained else 0,
        "retraining_seconds": row.retrained.seconds if row.retrained else 0.0,
        "accuracy": row.test.value,
        "dense_accuracy": row.trained.test.value,
        "validation_accuracy": row.validation.value,
        "dense_validation_accuracy": row.trained.validation.value,
        "float32_accuracy": row.quantised.test.value if row.quantised else None,
        "float32_validation_accuracy": row.quantised.validation.value if row.quantised else None,
        "float32_layers": list(row.quantised.float_layers) if row.quantised else [],
        "top5": row.test.top5,
        "test_images": row.test.n,
        "sparsity": row.sparsity,
        "parameters": row.trained.parameters,
        "layers": [dataclasses.asdict(layer) | {"sparsity": layer.sparsity} for layer in row.layers],
        "left": dict(row.left),
        "macs": row.macs,
        "nonzero_macs": row.nonzero_macs,
        "bytes": row.bytes,
        "packed_bytes": row.packed_bytes,
        "safetensors_bytes": row.ours.file_bytes,
        "dense_bytes": row.trained.file_bytes,
        "pytorch_bytes": pytorch.file_bytes or None,
        "prune_peak_memory": row.ours.peak_memory,
        "prune_held_memory": row.ours.held_memory,
        "pytorch_peak_memory": pytorch.peak_memory,
        "pytorch_held_memory": pytorch.held_memory,
        "latency_ms": _ours(row, 1),
        "unpacked_latency_ms": _median(row, "pruned", 1),
        "dense_latency_ms": _median(row, "dense", 1),
        "pytorch_latency_ms": _median(row, "masked", 1),
        "latency_ms_batch_64": _ours(row, 64),
        "unpacked_latency_ms_batch_64": _median(row, "pruned", 64),
        "dense_latency_ms_batch_64": _median(row, "dense", 64),
        "pytorch_latency_ms_batch_64": _median(row, "masked", 64),
        "latency_n": one.n if one else None,
        "latencies": [dataclasses.asdict(latency) for latency in row.latencies],
        "training_seconds": row.trained.seconds,
        "epochs": row.trained.epochs,
        "weight_decay": None if row.cell.weights else row.cell.recipe.weight_decay,
        "device": row.trained.device,
        "precision": row.trained.precision,
        "data_source": row.trained.data_source,
        "host": row.environment.host,
        "cpu": row.environment.cpu,
        "latency_host": row.timing.host if row.timing else None,
        **_options(row.cell),
        "versions": dict(row.environment.versions),
        "measured_at": row.measured_at,
        "cell": row.cell.id,
    }


def _options(cell: Cell) -> dict[str, Any]:
    """What the columns above leave out of how the cell was made."""
    recipe, weights = None if cell.weights else cell.recipe, cell.weights
    return {
        "weights_sha256": weights.sha256 if weights else None,
        "layer_ratios": dict(cell.layer_ratios),
        "layer_patterns": dict(cell.layer_patterns),
        "keep_float": list(cell.keep_float),
        "method_source": cell.method_source,
        "model_source": cell.model_source,
        **{f"recipe_{name}": getattr(recipe, name, None) for name in _RECIPE},
        **{f"retraining_{name}": getattr(cell.retraining, name, None) for name in _RETRAINING},
    }


def _ours(row: Row, batch: int) -> float | None:
    latency = row.our_latency(batch)
    return latency.median_ms if latency else None


def _median(row: Row, engine: str, batch: int) -> float | None:
    latency = row.latency(engine, batch)
    return latency.median_ms if latency else None
