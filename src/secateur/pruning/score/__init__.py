"""How important is each weight? A family of methods a file; a method only scores, pruning decides how many go.

A method takes a Context and returns Scores. To add one: a function in a file here and a line in METHODS; or, from
outside the package, name it "package.module:callable" (docs/adding-a-method.md).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from secateur.errors import PruneError, UsageError
from secateur.modules.guarding import untouched
from secateur.modules.layers import evaluating
from secateur.pruning.score.context import NEEDS_CALIBRATION, Batch, Context, gone_through
from secateur.pruning.score.fisher import fisher
from secateur.pruning.score.gradient import gradient, taylor, taylor_squared
from secateur.pruning.score.grasp import grasp
from secateur.pruning.score.losses import Loss, cross_entropy
from secateur.pruning.score.magnitude import magnitude
from secateur.pruning.score.method import GRADIENTS, INPUTS, NOTHING, SHAPE, Method
from secateur.pruning.score.random import random
from secateur.pruning.score.scores import PART, Scores
from secateur.pruning.score.second_order import second_order
from secateur.pruning.score.snip import snip
from secateur.pruning.score.synflow import ROUNDS, synflow
from secateur.pruning.score.wanda import wanda
from secateur.support.references import import_callable, own_code
from secateur.support.sources import source_digest

__all__ = [
    "METHODS",
    "PART",
    "Batch",
    "Context",
    "Loss",
    "Method",
    "Scores",
    "check_scores",
    "cross_entropy",
    "find_method",
    "gone_through",
    "score",
]

METHODS = {
    "magnitude": Method(magnitude, NOTHING, "|w|", "Han et al. 2015"),
    "random": Method(random, NOTHING, "uniform in [0, 1)", "control; Blalock et al. 2020"),
    "gradient": Method(gradient, GRADIENTS, "|g|", "Blalock et al. 2020, §7.2"),
    "taylor": Method(taylor, GRADIENTS, "|w·g|", "Molchanov et al. 2017, eq. 7"),
    "taylor-squared": Method(taylor_squared, GRADIENTS, "E[(w·g)²] over batches", "Molchanov et al. 2019, eq. 8"),
    "fisher": Method(fisher, GRADIENTS, "½·w²·E[g²] over images", "Theis et al. 2018, eq. 5"),
    "snip": Method(snip, GRADIENTS, "|∂L/∂c| / Σ|∂L/∂c|", "Lee et al. 2019, eq. 6"),
    "grasp": Method(grasp, GRADIENTS, "w·(H·g)", "Wang et al. 2020, eq. 8"),
    "synflow": Method(synflow, SHAPE, "|w|·∂R/∂|w|, in 100 rounds", "Tanaka et al. 2020, alg. 1", ROUNDS),
    "wanda": Method(wanda, INPUTS, "|w|·‖x‖", "Sun et al. 2024, eq. 1"),
    "second-order": Method(
        second_order, INPUTS, "w²/[H⁻¹]ⱼⱼ, H = XᵀX/n", "Hassibi & Stork 1993; Frantar & Alistarh 2022"
    ),
}


def find_method(name: str) -> Method:
    """A method of the table, or anyone's own as "package.module:callable", which may be a Method itself.

    Raises UsageError for an unknown name, CallableError where it cannot be imported.
    """
    if name in METHODS:
        return METHODS[name]
    if ":" not in name:
        raise UsageError(
            f"method {name!r}: expected one of {', '.join(METHODS)}, or your own as package.module:callable"
        )
    found = import_callable(name, "method")
    method = found if isinstance(found, Method) else Method(found, GRADIENTS, "", name)
    return dataclasses.replace(method, source=source_digest(name, method.score))


def score(name: str, context: Context) -> Scores:
    """The scores of a method, a finite number per weight.

    Raises UsageError for an unknown method or one that needs calibration batches where there are none, PruneError
    for scores that do not fit the weights or are not finite.
    """
    method = find_method(name)
    if name in METHODS and method.needs_calibration and context.calibration is None:
        raise UsageError(f"method {name!r}: {NEEDS_CALIBRATION}")
    with untouched(context.network), evaluating(context.network), _differentiable(context.parameters()):
        made = method.score(context) if name in METHODS else _own_scores(name, method, context)
    if not isinstance(made, Mapping):
        raise PruneError(
            f"method {name!r}: expected Scores, or a tensor of scores by layer name, got {type(made).__name__}; "
            "mend the method"
        )
    scores = made if isinstance(made, Scores) else Scores(made)
    for layer, weight in context.weights.items():
        check_scores(scores, layer, weight, name)
    if method.needs_calibration and _tie_everywhere(scores, context.weights):
        raise PruneError(
            f"method {name!r}: in every layer all weights have one and the same score, so nothing tells which go; "
            "give a loss that depends on them (loss=…), other calibration batches, or another method"
        )
    return scores


def _own_scores(name: str, method: Method, context: Context) -> object:
    with own_code(PruneError, f"method {name!r}: calling it failed"):
        return method.score(context)


def _tie_everywhere(scores: Scores, weights: Mapping[str, Tensor]) -> bool:
    """Whether no layer tells any of its weights that are not zero from another."""
    differing, several = False, False
    for layer, weight in weights.items():
        values = scores[layer][weight != 0]
        several |= values.numel() > 1
        differing = differing or (values.numel() > 1 and bool((values != values.flatten()[0]).any()))
    return several and not differing


def check_scores(scores: Scores, layer: str, weight: Tensor, method: str) -> None:
    """Raises PruneError where a layer's scores do not fit its weight or are not finite."""
    _check_fit(scores, layer, weight, method)
    _check_finite(scores, layer, weight, method)


@contextmanager
def _differentiable(parameters: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside the block autograd follows the parameters, frozen ones too."""
    frozen = [parameter for parameter in parameters.values() if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _check_fit(scores: Scores, layer: str, weight: Tensor, method: str) -> None:
    values = scores.values_by_layer.get(layer)
    if not isinstance(values, Tensor) or values.shape != weight.shape or values.device != weight.device:
        got = f"{tuple(values.shape)} on {values.device}" if isinstance(values, Tensor) else type(values).__name__
        raise PruneError(
            f"layer {layer!r}: expected a {method} score for each weight, {tuple(weight.shape)} on {weight.device}, "
            f"got {got}; mend the method"
        )


def _check_finite(scores: Scores, layer: str, weight: Tensor, method: str) -> None:
    bad = sum(int((~torch.isfinite(part)).sum()) for part in scores.parts(layer))
    if bad:
        if not bool(torch.isfinite(weight).all()):
            culprit = "the checkpoint"
        else:
            culprit = "the network or its calibration images" if method in METHODS else "the method"
        raise PruneError(
            f"layer {layer!r}: {bad} of its {method} scores are not finite, so its weights cannot be ranked; "
            f"mend {culprit} or exclude the layer"
        )
