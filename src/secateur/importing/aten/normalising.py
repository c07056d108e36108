"""Normalisations, softmax among them."""

from __future__ import annotations

from typing import Any

import numpy as np

from secateur.importing.aten.calls import Call, Conversion
from secateur.importing.aten.reading import ACROSS, along_last, anywhere, removed
from secateur.network import composites

_BY_BATCH = "uses the statistics of the batch (track_running_stats=False?), which a graph cannot"


def _batch_norm(call: Call) -> Any:
    if call.get("training"):
        raise call.error(_BY_BATCH)
    made = _by_statistics(call)
    return made if call.name in ("batch_norm", "cudnn_batch_norm") else [made, None, None]


def _by_statistics(call: Call) -> str:
    """(x − mean) / √(variance + eps) · weight + bias along dimension 1."""
    names = {"mean": "running_mean", "variance": "running_var", "weight": "weight", "bias": "bias"}
    weights = {role: bits for role, argument in names.items() for bits in call.weight(argument, role).values()}
    if "mean" not in weights:
        raise call.error(_BY_BATCH)
    value = call.value("input")
    axis, rank = call.axis(1, value), len(call.size(value))
    order = (axis, *(each for each in range(1, rank + 1) if each != axis))
    made = call.emit(
        "batch_norm", composites.permute(call.build, value, order), weights=weights, eps=float(call["eps"])
    )
    return composites.permute(call.build, made, tuple(order.index(each) + 1 for each in range(1, rank + 1)))


def _layer_norm(call: Call) -> Any:
    value, over = call.value("input"), call["normalized_shape"]
    if tuple(over) != call.size(value)[-len(over) :]:
        raise call.error(ACROSS)
    weights = {**call.weight("weight", "weight"), **call.weight("bias", "bias")}
    made = call.emit("layer_norm", value, weights=weights, axes=len(over), eps=float(call["eps"]))
    return made if call.name == "layer_norm" else [made, None, None]


def _rms_norm(call: Call) -> Any:
    value, over, eps = call.value("input"), call["normalized_shape"], call["eps"]
    if tuple(over) != call.size(value)[-len(over) :]:
        raise call.error(ACROSS)
    found = call.weight("weight", "weight").get("weight")
    eps = float(np.finfo(np.float32).eps) if eps is None else float(eps)
    made = composites.rms_norm(call.build, value, len(over), eps, found)
    return made if call.name == "rms_norm" else [made, None]


def _group_norm(call: Call) -> Any:
    groups = int(call["num_groups"] if call.name == "group_norm" else call["group"])
    made = _by_groups(call, groups)
    return made if call.name == "group_norm" else [made, None, None]


def _instance_norm(call: Call) -> str:
    return _by_groups(call, None) if call["use_input_stats"] else _by_statistics(call)


def _by_groups(call: Call, groups: int | None) -> str:
    """groups: of channels, None: each is one."""
    value = call.value("input")
    axis = call.own_axis(1, value)
    if axis == 0 or (not call.is_ordinary and call.own_axis(0, value) != 0):
        raise call.error(ACROSS)
    weights = {**call.weight("weight", "weight"), **call.weight("bias", "bias")}
    count = call.size(value)[axis - 1] if groups is None else groups
    return composites.group_norm(call.build, value, axis, count, float(call["eps"]), weights)


def _softmax(call: Call) -> str:
    value = call.value("self")
    return call.emit("softmax", value, axis=call.axis(call["dim"], value))


def _log_softmax(call: Call) -> str:
    value = call.value("self")
    return composites.log_softmax(call.build, value, call.axis(call["dim"], value))


def _log_sum_exp(call: Call) -> str:
    """The largest number, and the logarithm of the sum of eˣ of how far all are below it."""
    value = call.value("self")
    axes = tuple(sorted(call.axis(dim, value) for dim in call["dim"]))
    return composites.log_sum_exp(call.build, value, axes, keepdims=bool(call["keepdim"]))


_of_layers = along_last(_layer_norm, lambda call: len(call["normalized_shape"]))
_of_roots = along_last(_rms_norm, lambda call: len(call["normalized_shape"]))

CONVERSIONS: dict[str, Conversion] = {
    **dict.fromkeys(
        ("batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
        anywhere(_batch_norm),
    ),
    **dict.fromkeys(("layer_norm", "native_layer_norm"), _of_layers),
    **dict.fromkeys(("rms_norm", "_fused_rms_norm"), _of_roots),
    **dict.fromkeys(("group_norm", "native_group_norm"), anywhere(_group_norm)),
    "instance_norm": anywhere(_instance_norm),
    **dict.fromkeys(("softmax", "_softmax"), anywhere(_softmax)),
    **dict.fromkeys(("log_softmax", "_log_softmax"), anywhere(_log_softmax)),
    "logsumexp": anywhere(_log_sum_exp, lambda call: 0 if call["keepdim"] else removed(call)),
}
