"""What a value of a traced program is held as, where it is no value of the Graph."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, fx

from secateur.importing.placing import Placed
from secateur.network.sizes import Dimension


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A tensor that no input changes, and its name in the state dict where it is an entry of it, bit for bit."""

    tensor: Tensor
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """Stands for the number of each image, arange(N), times a step, in some shape. tensor: that of one image, 0."""

    tensor: Tensor
    step: int = 1


@dataclass(frozen=True, slots=True)
class Shifted:
    """Stands for whole numbers that each image's number times a step was added to. base: as they were before."""

    base: str | Placed
    step: int


@dataclass(frozen=True, slots=True)
class Starts:
    """Stands for where each image's part begins among those of all images in a row. step: how long each is."""

    step: Dimension


@dataclass(frozen=True, slots=True)
class Masked:
    """Stands for the numbers of a tensor that a mask is true for, in a row: how many is not known. base: all numbers.

    mask: the truth values, for the tensor's first dimensions. source: the tensor as it was traced.
    """

    base: str
    mask: fx.Node
    source: Tensor


@dataclass(frozen=True, slots=True)
class Foreign:
    """Stands for a value that no Graph holds, and says what it is."""

    what: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Stands for a number that depends on that of the images: share times as many, 0: it is no multiple."""

    share: Dimension


BATCH = Batch(1)
