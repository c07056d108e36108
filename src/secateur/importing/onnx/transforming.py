"""DFT and STFT: complex numbers as pairs in the last dimension, transforms as products with tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from secateur.importing.onnx.calls import Call, Conversion, Made, Refused
from secateur.importing.onnx.tensors import Constant
from secateur.importing.onnx.values import Tensor
from secateur.importing.placing import Place
from secateur.network import composites
from secateur.network.composites import Fourier
from secateur.network.sizes import is_whole


def _dft(call: Call) -> Made:
    """Along one dimension. Before operator set 20 an attribute names it, and the second is meant where it does not."""
    tensor = call.tensor(0)
    named = call.attribute("axis", 1) if call.version < 20 else call.number(2, "an axis", -2)
    dim = call.dim(named, tensor.rank)
    if dim == tensor.rank - 1:
        raise Refused("goes along the dimension of real and imaginary parts")
    size = int(call.number(1, "a length")) if call.has(1) else None
    asked = Fourier(size, call.flag("inverse"), call.flag("onesided"))
    _pay(call, tensor.shape[dim], size or tensor.shape[dim])
    real, imaginary = _parts(call, tensor)
    made = composites.transform(call.build, real, imaginary, call.axis(dim, tensor), asked)
    return call.like(tensor, _joined(call, *made))


def _pay(call: Call, given: Any, size: Any) -> None:
    """For two tables of a transform of so many numbers to so many. Raises Refused."""
    if is_whole((given, size)):
        call.translation.folding.count(4 * int(given) * int(size))


def _parts(call: Call, tensor: Tensor) -> tuple[str, str | None]:
    """Real and imaginary numbers, without the last dimension: where it has one number, those are real."""
    own = call.own(tensor)
    if tensor.batch_axis == tensor.rank - 1 or own[-1:] not in ((1,), (2,)):
        raise Refused(f"takes numbers of {own[-1:]} parts: expected 1 or 2, in the last dimension")
    found = composites.unbind(call.build, tensor.base, len(own))
    return found[0], found[1] if len(found) == 2 else None


def _joined(call: Call, real: str, imaginary: str | None) -> str:
    """Both parts in a dimension behind all others; real numbers alone, of which inverse transforms are, in one of 1."""
    shape = call.build.shape(real)
    if imaginary is None:
        return composites.reshape(call.build, real, (*shape, 1))
    return composites.stack(call.build, [real, imaginary], len(shape) + 1)


def _stft(call: Call) -> Made:
    """Of a signal (N, T, 1): each frame times a window, transformed: (N, frames, frequencies, 2)."""
    tensor, step = call.tensor(0), int(call.number(1, "a step"))
    window = call.numbers(2, "a window").reshape(-1) if call.has(2) else None
    size = int(call.number(3, "a frame's length")) if call.has(3) else len([] if window is None else window)
    if tensor.rank not in (2, 3) or tensor.batch_axis not in (-1, 0) or min(size, step) < 1:
        raise Refused(f"takes {tensor.rank} dimensions in frames of {size}, every {step}: expected (N, T, 1)")
    if window is not None and len(window) > size:
        raise Refused(f"has a window of {len(window)} numbers for frames of {size}")
    real, imaginary = _parts(call, tensor) if tensor.rank == 3 else (tensor.base, None)
    if imaginary is not None and call.flag("onesided", 1):
        raise Refused("takes half of the spectrum of complex numbers")
    _pay(call, size, size)
    if is_whole(tensor.shape[1]):
        call.translation.folding.count(size * max(0, (int(tensor.shape[1]) - size) // step + 1))
    parts = [_framed(call, each, size, step, window) for each in (real, imaginary) if each is not None]
    asked = Fourier(half=imaginary is None and call.flag("onesided", 1))
    axis = len(call.build.shape(parts[0]))
    made = composites.transform(call.build, parts[0], parts[1] if imaginary else None, axis, asked)
    return call.made(_joined(call, *made), tensor.place and Place(4))


def _framed(call: Call, value: str, size: int, step: int, window: Any) -> str:
    """(…, T) as (…, frames, size), each times the window, which is in their middle where it is shorter."""
    framed = composites.unfold(call.build, value, len(call.build.shape(value)), size, step)
    if window is None:
        return framed
    before = (size - len(window)) // 2
    padded = np.pad(window.astype(np.float32), (before, size - len(window) - before))
    return call.emit("mul", framed, call.weight_of(Constant(padded, "float32")))


CONVERSIONS: dict[str, Conversion] = {"DFT": _dft, "STFT": _stft}
