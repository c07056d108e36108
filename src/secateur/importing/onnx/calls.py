"""One node as a conversion reads it: attributes or inputs, constants or tensors, and the means to add to the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from secateur.errors import ExportError
from secateur.importing.onnx.tensors import ELEMENTS, NARROW, Constant
from secateur.importing.onnx.values import Held, Tensor, whole_shape
from secateur.importing.placing import Place
from secateur.network.building import Operand
from secateur.network.graph import Shape, Weight
from secateur.network.sizes import Dimension, is_whole

if TYPE_CHECKING:
    from secateur.importing.onnx.translation import Translation

Array = NDArray[Any]
Made = Held | Sequence[Held | None]
Conversion = Callable[["Call"], Made]
"""What the outputs of a node became, alone or in their order."""
ACROSS = "works across the batch, where a graph treats each image on its own"
MIXED = "mixes the batch with other dimensions"


class Refused(ExportError):
    """Why one node cannot be held. Its text goes on where the node's name and operation end."""


class Call:
    """A node: version is that of its operator set, held what its inputs became, None for one that is left out."""

    def __init__(self, translation: Translation, node: Any, held: Sequence[Held | None]) -> None:
        self.translation, self.node, self.held = translation, node, held
        self.op, self.version = str(node.op_type), translation.version_of(node.domain)
        self.attributes = {each.name: each for each in node.attribute}
        self.build = translation.build.at(translation.path_of(node), is_layer=True, what=self.op.lower())
        self.images = translation.plan.images

    # ---- What it reads ----

    def attribute(self, name: str, default: Any = None) -> Any:
        """A number, a text, a list or a graph."""
        found = self.attributes.get(name)
        if found is None:
            return default
        value = self.translation.onnx.helper.get_attribute_value(found)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return value

    def flag(self, name: str, default: int = 0) -> bool:
        return bool(self.attribute(name, default))

    def has(self, place: int) -> bool:
        return place < len(self.held) and self.held[place] is not None

    def constant(self, place: int, what: str) -> Constant:
        """An input that has to be known. Raises Refused."""
        found = self.held[place] if self.has(place) else None
        if isinstance(found, Constant):
            return found
        raise Refused(f"takes {what} that {self.translation.decided_by(self.node.input[place])}")

    def numbers(self, place: int, what: str) -> Array:
        """A known input without sizes that are free."""
        found = self.constant(place, what)
        if found.array.dtype == object:
            raise Refused(f"takes {what} that depends on a size which is free: give it one with --shape")
        return found.array

    def number(self, place: int, what: str, default: float | None = None) -> Any:
        """A known input of one number."""
        if not self.has(place) and default is not None:
            return default
        found = self.numbers(place, what)
        if found.size != 1:
            raise Refused(f"takes {what} of shape {found.shape}: expected one number")
        return found.reshape(-1)[0].item()

    def sizes(self, name: str, place: int | None = None) -> list[Any] | None:
        """Whole numbers, or sizes, of an attribute or else of an input; None where neither is there."""
        if name in self.attributes:
            found = self.attribute(name)
            return [int(each) for each in (found if isinstance(found, (list, tuple)) else [found])]
        if place is None or not self.has(place):
            return None
        return [plain(each) for each in self.constant(place, name).array.reshape(-1)]

    def whole(self, name: str, place: int | None = None) -> list[int] | None:
        """As sizes, of those that are numbers."""
        found = self.sizes(name, place)
        if found is not None and not is_whole(tuple(found)):
            raise Refused(f"takes {name} {found} with sizes that are free: give them with --shape")
        return found

    def tensor(self, place: int, format: str | None = None) -> Tensor:
        """An input as a value of the graph."""
        found = self.held[place] if self.has(place) else None
        if found is None:
            raise Refused(f"lacks its input {place}")
        return self.as_tensor(found, format)

    def as_tensor(self, held: Held, format: str | None = None) -> Tensor:
        """format: what it is to hold, in place of its own."""
        if isinstance(held, Constant):
            held = self.translation.value_of(held, self.build)
        if not isinstance(held, Tensor):
            raise Refused("takes a sequence where a tensor is expected")
        if format is not None and ELEMENTS[held.format] != ELEMENTS[format]:
            return self.made(self.emit("cast", held.base, element=ELEMENTS[format]), held.place, format)
        return held

    def weight(self, place: int, what: str) -> Weight:
        """A known input as a weight."""
        return self.weight_of(self.constant(place, what))

    def weight_of(self, constant: Constant) -> Weight:
        return self.translation.weight_of(constant)

    # ---- What it makes ----

    def emit(self, op: str, *inputs: Operand, **attributes: Any) -> str:
        return self.build.emit(op, *inputs, **attributes)

    def own(self, tensor: Tensor) -> Shape:
        """What each image has of a tensor."""
        return self.build.shape(tensor.base)

    def made(self, base: str, place: Place | None, format: str | None = None) -> Tensor:
        """A value with the batch at a place. format: its elements', where the graph's do not say it."""
        shape = whole_shape(self.build.shape(base), place, self.images)
        return Tensor(base, place, shape, format or self.build.element(base))

    def like(self, tensor: Tensor, base: str) -> Tensor:
        """A value in which the batch is where it is in another, of the same numbers."""
        return self.made(base, tensor.place, tensor.format)

    # ---- Where dimensions are ----

    def dim(self, dim: Any, rank: int) -> int:
        """A dimension counted from either end, from the front. Raises Refused."""
        dim = int(dim)
        if not -rank <= dim < max(rank, 1):
            raise Refused(f"names dimension {dim} of {rank}")
        return dim % max(rank, 1)

    def axis(self, dim: Any, tensor: Tensor) -> int:
        """A dimension counted from either end, as an axis of the graph. Raises Refused where it is the batch."""
        dim = self.dim(dim, tensor.rank)
        at = tensor.batch_axis
        if tensor.place is None or tensor.place.fold:
            if dim == at:
                raise Refused(MIXED)
            return dim + 1
        if dim == at:
            raise Refused(ACROSS)
        return dim + 1 if dim < at else dim

    def refuse_narrow(self, *formats: str) -> None:
        """Whole numbers that come round where the graph's do not."""
        found = [each for each in formats if each in NARROW]
        if found:
            raise Refused(
                f"computes with {found[0]}, whose sums and products come round: expected floats, int32 or int64"
            )


def plain(number: Any) -> Any:
    """A number of NumPy's as Python's."""
    return number.item() if isinstance(number, np.generic) else number


def attributes_of(**attributes: Any) -> Mapping[str, Any]:
    return attributes


def product(sizes: Sequence[Dimension]) -> Any:
    total: Any = 1
    for size in sizes:
        total = total * size
    return total
