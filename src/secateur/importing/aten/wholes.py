"""Number formats of traced tensors as a Graph's values have them: numbers, whole numbers, truth values."""

from __future__ import annotations

import torch
from torch import Tensor

HELD = (
    "a graph holds convolutions, products of matrices, attention, recurrent layers, lookups, normalisation, pooling, "
    "functions of numbers, comparisons and changes of shape"
)


def element_of(dtype: torch.dtype) -> str:
    """What a Graph's value holds that stands for a tensor of this type: numbers of any precision are float32."""
    if dtype.is_floating_point or dtype.is_complex:
        return "float32"
    return {torch.bool: "bool", torch.int64: "int64"}.get(dtype, "int32")


def common_element(*operands: Tensor | float) -> str:
    """What PyTorch makes of two tensors or numbers before it compares them."""
    left, right = (_stand_in(each) if isinstance(each, Tensor) else each for each in operands)
    return element_of(torch.result_type(left, right))


def _stand_in(tensor: Tensor) -> Tensor:
    """Of the same type, and a number where the tensor is one: that is what decides."""
    return torch.empty((1,) * tensor.ndim, dtype=tensor.dtype, device="meta")
