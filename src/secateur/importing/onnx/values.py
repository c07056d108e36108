"""What a value of ONNX stands for while a file is read, and where the batch is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secateur.importing.onnx.tensors import Constant
from secateur.importing.placing import Extent, Place
from secateur.network.graph import Shape
from secateur.network.sizes import BATCH, Dimension, Size, named, names_of, quotient

FREE = named(BATCH)
"""The number of images, where that is free."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value of the graph. place: where the batch is in what the file has, None where no image has a part in it.

    shape: as the file has it. format: its elements there, in NumPy's words.
    """

    base: str
    place: Place | None
    shape: Shape
    format: str = "float32"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def batch_axis(self) -> int:
        """The dimension that is the batch, or that it is folded into; -1 for none."""
        return -1 if self.place is None else self.place.axis(self.rank)


@dataclass(frozen=True, slots=True)
class Lost:
    """Stands for what a node that was refused would have made."""


Held = Constant | Tensor | Lost | tuple["Constant | Tensor", ...]
"""A tuple stands for a sequence."""


def whole_shape(own: Shape, place: Place | None, images: Dimension | None) -> Shape:
    """The shape that the file has of a value that is `own` for each image."""
    if place is None or images is None:
        return own
    axis = place.axis(place.rank(own))
    if place.fold:
        return (*own[:axis], own[axis] * images, *own[axis + 1 :])
    return (*own[:axis], images, *own[axis:])


def extents_of(shape: Shape, images: Dimension) -> list[Extent]:
    return [Extent(None if BATCH in names_of([size]) else size, _share(size, images)) for size in shape]


def _share(size: Dimension, images: Dimension) -> Dimension:
    """How many times the batch a size is, 0 where it is no multiple."""
    if size == images:
        return 1
    if not isinstance(size, Size) and not isinstance(images, Size):
        return size // images if images > 0 and size % images == 0 else 0
    if isinstance(images, Size) and BATCH not in names_of([size]):
        return 0
    try:
        return quotient(size, images, exact=True)
    except Exception:
        return 0


def images_of(shapes: Sequence[Shape]) -> bool:
    """Whether any of these depends on the number of images."""
    return BATCH in names_of(size for shape in shapes for size in shape)
