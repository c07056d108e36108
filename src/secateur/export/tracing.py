"""torch.export, with its batch dimension free and its errors in one line."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from secateur.errors import ExportError
from secateur.guarding import untouched
from secateur.inputs import Inputs
from secateur.layers import evaluating


def trace(network: nn.Module, inputs: Inputs) -> Any:
    """A functional torch.export.ExportedProgram, its batch dimension a symbol."""
    for each in inputs.tensors:
        if each.ndim == 0 or len(each) == 0 or not each.is_floating_point():
            raise ExportError(
                f"example of shape {tuple(each.shape)}, {each.dtype}: expected floating-point inputs with a batch "
                "dimension that is not empty"
            )
    like = next((each for each in network.parameters() if each.is_floating_point()), torch.empty(0))
    pairs = inputs.pairs(like)
    batch = torch.export.Dim("batch", min=1)
    free = torch.export.ShapesCollection()  # type: ignore[no-untyped-call]
    for each in pairs.tensors:
        free[each] = {0: batch}
    with (
        untouched(network, copy_on_write=False),  # the tracer works on stand-ins for the tensors
        evaluating(network),
        torch.no_grad(),
        warnings.catch_warnings(),
        _quiet_torch(),
    ):
        warnings.simplefilter("ignore")  # of what torch deprecates inside itself, and of attributes set in forward
        try:
            return torch.export.export(
                network,
                pairs.arguments,
                dict(pairs.named or {}),
                dynamic_shapes=free,  # type: ignore[arg-type]
            ).run_decompositions({})
        except Exception as error:  # whatever the network's own code raises, and many kinds of torch.export's own
            raise ExportError(_why_untraceable(network, error)) from error


@contextmanager
def _quiet_torch() -> Iterator[None]:
    """torch.export logs a page about what it then raises."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _why_untraceable(network: nn.Module, error: Exception) -> str:
    name, text = type(network).__name__, str(error)
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    if "data-dependent" in text or "GuardOnDataDependent" in type(error).__name__ or "bool(" in first:
        return f"{name}: its control flow depends on values, which a graph cannot hold: {first}"
    if "batch" in text and ("onstraint" in text or "specialized" in text or "inferred to be a constant" in text):
        return f"{name}: it works for one batch size only; write x.size(0) for len(x) or a number: {first}"
    return f"{name}: torch.export cannot trace it: {first}"
