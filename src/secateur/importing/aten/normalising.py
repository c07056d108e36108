"""Normalisations, softmax among them."""

from __future__ import annotations

from typing import Any

from secateur.importing.aten.calls import Call, Conversion
from secateur.importing.aten.reading import along_last, anywhere


def _batch_norm(call: Call) -> Any:
    if call.get("training"):
        raise call.error("uses the statistics of the batch (track_running_stats=False?), which a graph cannot")
    names = {"mean": "running_mean", "variance": "running_var", "weight": "weight", "bias": "bias"}
    weights = {role: bits for role, argument in names.items() for bits in call.weight(argument, role).values()}
    if "mean" not in weights:
        raise call.error("uses the statistics of the batch (track_running_stats=False?), which a graph cannot")
    made = call.emit("batch_norm", call.value("input"), weights=weights, eps=float(call["eps"]))
    return made if call.name in ("batch_norm", "cudnn_batch_norm") else [made, None, None]


def _layer_norm(call: Call) -> Any:
    value, over = call.value("input"), call["normalized_shape"]
    if tuple(over) != call.size(value)[-len(over) :]:
        raise call.error("works across the batch; a graph treats each image on its own")
    weights = {**call.weight("weight", "weight"), **call.weight("bias", "bias")}
    made = call.emit("layer_norm", value, weights=weights, axes=len(over), eps=float(call["eps"]))
    return made if call.name == "layer_norm" else [made, None, None]


def _softmax(call: Call) -> str:
    value = call.value("self")
    return call.emit("softmax", value, axis=call.axis(call["dim"], value))


def _log_softmax(call: Call) -> str:
    raise call.error("is not supported: let the network return its logits and leave that to the loss (cross_entropy)")


_of_layers = along_last(_layer_norm, lambda call: len(call["normalized_shape"]))

CONVERSIONS: dict[str, Conversion] = {
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "layer_norm": _of_layers,
    "native_layer_norm": _of_layers,
    "softmax": anywhere(_softmax),
    "_softmax": anywhere(_softmax),
    "log_softmax": _log_softmax,
}
