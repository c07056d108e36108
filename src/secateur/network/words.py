"""Words of four: the weights that eight-bit kernels multiply, or skip, at once (docs/performance.md).

A word is four consecutive input channels of one tap of one output; in a grouped convolution channels are counted within
the group, and the last word of a number that is no multiple of four is shorter.
"""

from __future__ import annotations

import math

import numpy as np

from secateur.network.operations.units import Indices, Mask

WORD = 4
"""Channels in a word."""


def word_of(channels: int, pixels: int = 1) -> Indices:
    """The word that each of channels · pixels inputs lies in.

    pixels: of a plane, where a layer reads flattened planes (channels, pixels) as a convolution of them: then a word is
    four channels of one pixel. With 1 it is four consecutive inputs, in whatever they lie.
    """
    unit = np.arange(channels * pixels)
    return unit // pixels // WORD * pixels + unit % pixels


def count_words(nonzero: Mask, pixels: int = 1) -> int:
    """Words that are not zero. nonzero: (O, I/groups, …), where a layer's weight is not. pixels: as in word_of."""
    outputs, given = nonzero.shape[:2]
    planes = nonzero.reshape(outputs, given // pixels, pixels * math.prod(nonzero.shape[2:]))
    whole = np.pad(planes, ((0, 0), (0, -planes.shape[1] % WORD), (0, 0)))
    return int(whole.reshape(outputs, -1, WORD, whole.shape[2]).any(axis=2).sum())
