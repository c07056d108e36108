"""What eight bits cost a network, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from secateur.exporting.quantising.moments import Floats

MOST_ERROR = 0.02
"""Squared, of the outputs as a share of their variance: beyond it layers that do most harm stay in float32. Static
quantisation by ONNX Runtime and OpenVINO of an untrained ResNet-18 (7×7 stem) is at 2.4 %.

Of classes whose outputs hardly differ from image to image, so that every image keeps its class: as a share of how far
an image's outputs are apart.
"""
FEW = 32
"""Fewer calibration images than these are said to be few."""
_NONE = 1e-30


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One layer. operations: the float graph's, as "conv2d+add+relu". element: "int8", or "float32" where it stays so.

    reason: why it stays in float32. input: how the range of what it reads was found, and its scale and zero_point.
    noise_db: signal to noise of the sums that it computes, its input and weights rounded and all before it exact, on
    images that no weight was fitted to. harm: squared error of the network's outputs, as a share of their variance over
    the images, where this layer alone is in eight bits; None where that was not measured.
    """

    name: str
    operations: str
    element: str
    reason: str = ""
    input: str = ""
    scale: float = 0.0
    zero_point: int = 0
    noise_db: float | None = None
    harm: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a network costs in eight bits.

    images: of the calibration. compared: those of them that outputs were compared on. error: squared, of the
    outputs, as a share of their variance over these images. agreement: share of these whose largest output stayed where
    it was, None where the outputs are no classes.

    words, words_ordered: the share of words of four weights that are not zero, with the channels as they were and in
    the order that they got.
    """

    layers: tuple[LayerCost, ...]
    images: int
    compared: int
    error: float
    agreement: float | None
    words: float = 1.0
    words_ordered: float = 1.0

    @property
    def left_float(self) -> tuple[LayerCost, ...]:
        return tuple(layer for layer in self.layers if layer.element == "float32")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join([*(_line(layer) for layer in self.layers), *self.summary])

    @property
    def summary(self) -> list[str]:
        """What is to be said of the network as a whole, line by line."""
        whole = len(self.layers) - len(self.left_float)
        agreed = (
            "" if self.agreement is None else f", the same class for {self.agreement:.2%} of {self.compared:,} images"
        )
        lines = [
            f"{whole} of {len(self.layers)} layers in eight bits, calibrated on {self.images:,} "
            f"image{'s' * (self.images != 1)}: outputs {decibels(1.0, self.error):.1f} dB above their error{agreed}"
        ]
        if self.images < FEW:
            lines.append(
                f"{self.images} may not show how large values become: take some hundred that are unlike each other"
            )
        if self.error > MOST_ERROR:
            lines.append(
                f"that is an error of {self.error:.1%} of their variance over the images, "
                + ("which is small" if self.agreement == 1 else "though no layer is left to keep in float32")
                + ": compare accuracies before you use it"
            )
        if self.words < 1:
            lines.append(
                f"words of four weights that are multiplied: {self.words:.1%} with the channels as they were, "
                f"{self.words_ordered:.1%} in the order that they got"
            )
        return lines


def _line(layer: LayerCost) -> str:
    text = f"{layer.name:28.28} {layer.operations:20.20} {layer.element:7}"
    if layer.element == "float32":
        return f"{text} {layer.reason}"
    noise = "" if layer.noise_db is None else f"{layer.noise_db:6.1f} dB"
    harm = "" if layer.harm is None else f"{decibels(1.0, layer.harm):6.1f} dB"
    return f"{text} own sums {noise}, outputs with it alone {harm}, input by {layer.input}"


def decibels(signal: float, noise: float) -> float:
    """-300 where the noise is not finite."""
    return 10 * math.log10(max(max(signal, _NONE) / max(noise, _NONE), _NONE))


def output_error(found: Sequence[Floats], expected: Sequence[Floats]) -> float:
    """Squared error as a share of the variance over images, of the output where that is largest."""
    return max((_error(one, other) for one, other in zip(found, expected, strict=True)), default=0.0)


def is_tolerable(found: Sequence[Floats], expected: Sequence[Floats]) -> bool:
    """Whether outputs are as near to those expected as MOST_ERROR says."""
    if output_error(found, expected) <= MOST_ERROR:
        return True
    if agreement_of(found, expected) != 1:
        return False
    (made,), (right,) = found, expected
    between = right - right.mean(1, keepdims=True)
    return bool(np.square(made - right).sum() <= MOST_ERROR * np.square(between).sum())


def _error(found: Floats, expected: Floats) -> float:
    """Without the sixteenth of images whose outputs vary most, among which there may be broken ones."""
    right = expected.astype(np.float64).reshape(len(expected), -1)
    apart = np.where(np.isfinite(right), found.reshape(right.shape) - right, 0)
    known = np.where(np.isfinite(right), right, 0)
    signals = np.square(known - (np.median(known, axis=0) if len(known) > 1 else 0)).sum(1)
    usual = np.argsort(signals, kind="stable")[: len(signals) - len(signals) // 16]
    error, signal = float(np.square(apart[usual]).sum()), float(signals[usual].sum())
    return error / signal if signal > 0 else error / max(float(np.square(known[usual]).sum()), _NONE)


def agreement_of(found: Sequence[Floats], expected: Sequence[Floats]) -> float | None:
    """The share of images whose largest of all outputs (N, classes) is the same."""
    if len(expected) != 1 or expected[0].ndim != 2 or expected[0].shape[1] < 2:
        return None
    return float((found[0].argmax(1) == expected[0].argmax(1)).mean())
