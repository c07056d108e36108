"""Whether tensors hold what they held, whoever wrote to them and by which way: a view, .data, NumPy, an optimizer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from secateur import _native
from secateur.errors import UsageError


class Snapshot:
    """What tensors on the CPU hold now, as 64 bits over all their bytes.

    A change within eight bytes in line is noticed whatever it is, a larger one but for a chance of 2^-64. A version
    that moved counts as a change; not every write moves one, so the bytes are looked at too. Linux from 6.7 on marks
    pages that are written to, so that large tensors are read again only where that happened; elsewhere all bytes are
    read each time. What a device writes to pinned memory leaves no mark, so that is read each time too.
    Raises UsageError for a tensor without strided memory of its own.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        marked, unmarked = list[tuple[int, int]](), list[tuple[int, int]]()
        for each in tensors:
            (unmarked if each.is_pinned() else marked).append(_place(each))
        self._states = [_state(each) for each in tensors]
        self._watch = _native.Watch(marked, unmarked)

    def holds(self, tensors: Sequence[Tensor]) -> bool:
        """Whether these, of the same shapes and strides, are where and what the others were."""
        return [_state(each) for each in tensors] == self._states and not self._watch.changed()


def _state(tensor: Tensor) -> tuple[int, int]:
    """Address and version, which a tensor made in inference mode lacks."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def unwatchable(tensor: Tensor) -> str:
    """Why its bytes cannot be looked at; nothing where they can."""
    if is_traceable_wrapper_subclass(tensor):
        return f"is a {type(tensor).__name__}, whose numbers lie elsewhere"
    if tensor.layout is not torch.strided:
        return f"is {tensor.layout}"
    return ""


def _place(tensor: Tensor) -> tuple[int, int]:
    """Address, and bytes from its first number to its last, whatever lies between them."""
    reason = unwatchable(tensor)
    if reason:
        raise UsageError(f"a tensor of shape {tuple(tensor.shape)} {reason}: expected numbers in strided memory")
    if tensor.numel() == 0:
        return tensor.data_ptr(), 0
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    needed = (1 + reach) * tensor.itemsize
    held = tensor.untyped_storage().nbytes() - tensor.storage_offset() * tensor.itemsize
    if held < needed:
        raise UsageError(f"a tensor of shape {tuple(tensor.shape)} has {held} bytes of memory: expected {needed}")
    return tensor.data_ptr(), needed
