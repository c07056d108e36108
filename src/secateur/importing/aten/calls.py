"""One traced operation as a conversion reads it: its arguments, where the batch is, and the means to add nodes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from secateur.errors import ExportError, GraphError
from secateur.importing.aten.held import Batch, Constant, Foreign, Masked, Numbers, Shifted, Starts
from secateur.importing.aten.lengths import mentions_size
from secateur.importing.aten.nodes import arguments_of, describe, module_of, operation_of
from secateur.importing.aten.sized import MADE_OF_SIZES, made_of_sizes
from secateur.importing.aten.wholes import element_of
from secateur.importing.placing import Mixed, Ordinary, Place, Placed
from secateur.network.building import Operand
from secateur.network.composites import CompositeError, Padded, laid_out, permute, reshape
from secateur.network.graph import Shape, Weight
from secateur.network.sizes import BATCH as BATCH_NAME
from secateur.network.sizes import Dimension, Size, named

if TYPE_CHECKING:
    from secateur.importing.aten.translation import Translation

_UNREAD = {
    **dict.fromkeys(("zeros_like", "ones_like", "full_like", "empty_like", "fill"), "self"),
    **dict.fromkeys(("new_zeros", "new_ones", "new_full", "new_empty"), "self"),
    **dict.fromkeys(("type_as", "expand_as", "view_as", "reshape_as"), "other"),
}
"""Arguments of which operations take the shape or the type, and no number."""
_ALIKE = {
    *("expand", "full", "zeros", "ones", "empty", "repeat", "expand_as"),
    *(name for name, argument in _UNREAD.items() if argument == "self"),
}
"""Operations that make every image's part of a constant alike."""
RESHAPED = {"view", "reshape", "_unsafe_view", "unsqueeze", "squeeze", "expand"}
_STRIDELESS: Mapping[Any, Any] = dict.fromkeys(
    (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default), torch.ops.aten.reshape.default
)
"""Constants need not lie in memory as the values did that were traced."""
_SAME = {"alias", "clone", "contiguous", "detach", "lift_fresh_copy", "to", "_to_copy"}
"""Operations after which a constant of the same type is what it was."""
READ_WITHOUT_CONVERSION = frozenset({*_UNREAD, *_ALIKE, *RESHAPED, *_SAME, *MADE_OF_SIZES, "sym_size"})
"""Operations that make constants, or that say a size."""


Conversion = Callable[["Call"], Any]
"""Gives what a call's result became: the name of a value, a Padded, a Placed, an Ordinary, a Constant, or a list of
them."""


class Call:
    """One traced operation: its arguments by the names of ATen's schema, and the means to add nodes for it."""

    def __init__(self, translation: Translation, node: fx.Node) -> None:
        self.translation, self.node = translation, node
        schema = getattr(node.target, "_schema", None)
        self.schema = schema.arguments if schema else []
        self.name = operation_of(node)
        self.path, self.module = module_of(node, translation.network)
        self.arguments = arguments_of(node)
        self.build = translation.build.at(self.path, is_layer=self._is_layer(), what=self.name)

    def error(self, problem: str) -> ExportError:
        return ExportError(f"{describe(self.translation.network, self.node)} {problem}")

    def __getitem__(self, name: str) -> Any:
        return fx.node.map_arg(self.arguments[name], lambda node: self.translation.values[node])

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self.arguments else default

    @property
    def first(self) -> Any:
        """What the first argument became, whatever its name."""
        return self[self.schema[0].name]

    def reads_input(self) -> bool:
        """Whether any argument, however deep, depends on an input's values."""
        read: list[fx.Node] = []
        unread = _UNREAD.get(self.name)
        fx.node.map_arg({name: held for name, held in self.arguments.items() if name != unread}, read.append)
        values = [self.translation.values[node] for node in read]
        return any(not isinstance(value, (Constant, Batch, Size, int, float, type(None))) for value in values)

    def reads_numbers(self) -> bool:
        """Whether it only moves the numbers of images, or multiplies them by a whole number."""
        held = [self.translation.values[node] for node in self.node.all_input_nodes]
        moved = self.name in (*RESHAPED, *_SAME, "slice", "repeat") or (
            self.name == "mul" and any(isinstance(self[name], int) for name in ("self", "other"))
        )
        return moved and any(isinstance(each, Numbers) for each in held)

    def numbered(self) -> Numbers:
        """The numbers of images in another shape, or times another step."""
        step = math.prod(
            each.step if isinstance(each, Numbers) else each if self.name == "mul" else 1
            for each in (self[name] for name in self.arguments)
            if isinstance(each, (Numbers, int))
        )
        return Numbers(self._computed({name: self[name] for name in self.arguments}).tensor, step)

    def sym_size(self) -> Batch | Dimension:
        size = self.node.args[0].meta["val"].shape[self.node.args[1]]  # type: ignore[union-attr]
        return self.translation.number(size)

    def evaluated(self) -> Any:
        """What an operation on constants gives. One that is made as long as the batch is the same for every image."""
        arguments = {name: self[name] for name in self.arguments}
        place = self._place_of_batch() if self.name in _ALIKE else None
        if place is None and any(_mentions_batch(value) for value in arguments.values()):
            start, step = (arguments.get(name, default) for name, default in (("start", 0), ("step", 1)))
            if self.name == "arange" and (start, step) == (0, 1):
                return Numbers(torch.zeros(1, dtype=self.node.meta["val"].dtype))
            if self.name == "arange" and start == 0 and arguments["end"] == Batch(step):
                return Starts(step)
            raise self.error("depends on the number of images, which is free")
        if (size := self._mentioned_size(arguments)) is not None:
            return self._of_sizes(size)
        if self._is_random():
            raise self.error("draws random numbers in eval mode too, which a graph cannot")
        made = self._computed(arguments)
        return made if place is None else self._for_every_image(made, place)

    def _computed(self, arguments: Mapping[str, Any]) -> Any:
        """By PyTorch; of what is as long as the batch so much as one image has."""
        plain = {name: self._plain(value) for name, value in arguments.items()}
        if self.name in _UNREAD:
            plain[_UNREAD[self.name]] = self._blank(self.arguments[_UNREAD[self.name]].meta["val"])
        positional = [plain[each.name] for each in self.schema if not each.kwarg_only]
        keywords = {each.name: plain[each.name] for each in self.schema if each.kwarg_only}
        with torch.no_grad():
            made = _as_constants(_STRIDELESS.get(self.node.target, self.node.target)(*positional, **keywords))
        return self.first if self.name in _SAME and _are_same(made, self.first) else made

    def _plain(self, value: Any) -> Any:
        """What PyTorch is to be called with."""
        if isinstance(value, (list, tuple)):
            return [self._plain(each) for each in value]
        if isinstance(value, Batch):
            return value.share
        return value.tensor if isinstance(value, (Constant, Numbers)) else value

    def _blank(self, traced: Tensor) -> Tensor:
        """Of a traced tensor's type and shape, what one image has of it."""
        sizes = [each.share if each.size is None else each.size for each in self.translation.extents(traced)]
        return torch.zeros([1 if isinstance(size, Size) else size for size in sizes], dtype=traced.dtype)

    def _place_of_batch(self) -> Place | None:
        """In the result, None where it is in none or in several dimensions, or in one that is no multiple."""
        extents = self.translation.extents(self.node.meta["val"])
        held = [axis for axis, each in enumerate(extents) if each.size is None]
        if len(held) != 1 or extents[held[0]].share == 0:
            return None
        return Place(len(extents) - held[0], "" if extents[held[0]].share == 1 else "outer")

    def _for_every_image(self, made: Constant, place: Place) -> str | Placed:
        shape, axis = tuple(made.tensor.shape), place.axis(made.tensor.ndim)
        own = shape if place.fold else shape[:axis] + shape[axis + 1 :]
        return self.placed(self.translation.constant_value(made, own, self.build, self.element), place)

    def _mentioned_size(self, arguments: Mapping[str, Any]) -> Size | None:
        """A length with a name that decides about the result."""
        if self.name in _UNREAD:
            return mentions_size([each.size for each in self.translation.extents(self.node.meta["val"])])
        return mentions_size([*arguments.values()])

    def _of_sizes(self, size: Size) -> Any:
        inner = OrdinaryCall(self.translation, self.node)
        with told_by(self):
            made = made_of_sizes(inner)
            if made is None and self.name in self.translation.conversions:
                return self.translation.checked(self, self.translation.conversions[self.name](self))
        if made is None:
            raise self.error(f"makes a constant that depends on a length ({size}), which is free")
        found: Ordinary = self.translation.checked(self, Ordinary(made))
        return found

    def _is_random(self) -> bool:
        tags = getattr(self.node.target, "tags", ())
        return torch.Tag.nondeterministic_seeded in tags and "dropout" not in self.name

    @property
    def rank(self) -> int:
        """Dimensions of the result, the batch counted."""
        return len(self.node.meta["val"].shape)

    def shape(self, value: Any = None) -> Shape:
        """The shape of the result (or of another traced value) behind the batch.

        Raises ExportError where the batch is not the first dimension, alone.
        """
        shape = (self.node.meta["val"] if value is None else value).shape
        return self.shape_at(Place(len(shape)), value)

    def shape_at(self, place: Place, value: Any = None) -> Shape:
        """As shape, with the batch at a place."""
        extents = self.translation.extents(self.node.meta["val"] if value is None else value)
        axis = place.axis(len(extents))
        share = extents[axis].share if 0 <= axis < len(extents) else 0
        own = place.own(extents) if share != 0 and (share == 1 or place.fold) else (None,)
        if any(size is None for size in own):
            raise self.mixed(value)
        return own

    def mixed(self, value: Any = None) -> ExportError:
        shape = (self.node.meta["val"] if value is None else value).shape
        if self.translation.is_beyond(shape):
            return self.error(
                f"has sizes that a graph cannot hold: its result is {tuple(map(str, shape))}; a length that has "
                "to be a multiple may be given as one, as in 2·length"
            )
        return self.error(f"mixes the batch with other dimensions: its result is {tuple(map(str, shape))}")

    def size(self, value: str) -> Shape:
        return self.build.shape(value)

    def fits(self, value: str) -> bool:
        """Whether a value has the batch where the result has it."""
        return self.dims(value) == self.rank

    def axis(self, dim: Any, value: str) -> int:
        """A dimension counted from either end, as an axis of the graph. Raises ExportError where it is the batch."""
        axis = self.own_axis(self.dim(dim, value), value)
        if axis == 0:
            raise self.error("works across the batch; a graph treats each image on its own")
        return axis

    def own_axis(self, dim: int, value: str) -> int:
        """A dimension as an axis of the graph, 0 for the batch."""
        return dim

    @property
    def is_ordinary(self) -> bool:
        """Whether it is on tensors that no image has a part in."""
        return False

    def dims(self, value: str) -> int:
        """Dimensions that a value has for the network, the batch counted."""
        return 1 + len(self.size(value))

    def dim(self, dim: Any, value: str) -> int:
        """A dimension counted from either end, from the front."""
        return int(dim) % self.dims(value)

    def anywhere(self) -> tuple[str, Place]:
        """The first argument, and where the batch is in it."""
        held = self.first
        if isinstance(held, Placed):
            return held.base, held.place
        value = self.value_of(held)
        return value, Place(self.dims(value))

    def placed(self, value: str, place: Place) -> str | Placed:
        """A value with the batch at a place."""
        return value if place == Place(self.dims(value)) else Placed(value, place)

    def value(self, argument: str) -> str:
        """The name of the value that an argument is; a constant becomes a node."""
        return self.value_of(self[argument])

    def value_of(self, held: Any, rank: int | None = None) -> str:
        """As value. rank: of what a constant is combined with, the batch counted; None: it has the batch, of 1."""
        if isinstance(held, str):
            return held
        if isinstance(held, Padded):
            return laid_out(self.build, held)
        if isinstance(held, Placed):
            raise self.misplaced(held, "takes a value with the batch moved: expected it to be the first dimension")
        if isinstance(held, Ordinary):
            return reshape(self.build, held.base, self.constant_shape(self.size(held.base), rank))
        if isinstance(held, (int, float)):
            return self.build.value(float(held))
        if isinstance(held, Size):
            raise self.error(f"takes a length ({held}) as a number, which is not known before it runs")
        if isinstance(held, Foreign):
            raise self.error(f"takes {held.what}: expected float32 with the batch in front and all other sizes fixed")
        if isinstance(held, (Numbers, Shifted)):
            raise self.error("depends on the number of images, which is free")
        if not isinstance(held, Constant):
            raise self.error(f"takes a {type(held).__name__} where a tensor is expected")
        held = self._of_one_image(held, rank)
        shape, element = self.constant_shape(tuple(held.tensor.shape), rank), element_of(held.tensor.dtype)
        return self.translation.constant_value(held, shape, self.build, element)

    def whole(self, constant: Constant) -> str:
        """A constant as a value, none of whose dimensions is the batch."""
        shape, element = tuple(constant.tensor.shape), element_of(constant.tensor.dtype)
        return self.translation.constant_value(constant, shape, self.build, element)

    def _of_one_image(self, constant: Constant, rank: int | None) -> Constant:
        """A constant as long as a batch of a fixed size, where all images have the same; else the constant itself."""
        images, shape = self.translation.images, constant.tensor.shape
        axis = self.constant_axis(len(shape), rank)
        if not isinstance(images, int) or images == 1 or not 0 <= axis < len(shape) or shape[axis] != images:
            return constant
        first = constant.tensor.narrow(axis, 0, 1)
        return self.translation.alike(constant, axis) if bool((constant.tensor == first).all()) else constant

    def constant_axis(self, dims: int, rank: int | None) -> int:
        """The dimension of a constant that is the batch, -1 for none; rank as for value_of."""
        return 0 if rank is None or dims >= rank else -1

    @property
    def element(self) -> str:
        """What the result holds."""
        return element_of(self.node.meta["val"].dtype)

    def operand(self, held: Any, element: str, rank: int | None = None) -> str:
        """As value_of, in a format: a value of another is cast. A length is a number of its own."""
        if isinstance(held, (int, float)):
            return self.build.value(self.build.number(held, element))
        if isinstance(held, Size):
            ones = self.emit("fill", value=1.0, shape=(held,))
            return self.cast(self.emit("sum", ones, axes=(1,), keepdims=False), element)
        if isinstance(held, Constant):
            held = self._of_one_image(held, rank)
            shape = self.constant_shape(tuple(held.tensor.shape), rank)
            return self.translation.constant_value(held, shape, self.build, element)
        return self.cast(self.value_of(held, rank), element)

    def cast(self, value: str, element: str) -> str:
        """The value itself where it holds that."""
        return value if self.build.element(value) == element else self.emit("cast", value, element=element)

    def constant_shape(self, shape: Shape, rank: int | None) -> Shape:
        """The shape for each image of a constant of a shape; rank as for value_of."""
        if rank is None or len(shape) >= rank:
            if len(shape) != (rank or len(shape)) or shape[:1] != (1,):
                raise self.error(f"takes a constant of shape {shape}, the first dimension of which would be the batch")
            shape = shape[1:]
        return shape

    def misplaced(self, held: Placed, moved: str) -> ExportError:
        return self.error(
            "mixes the batch with other dimensions: it is about rows of all images, one under the other"
            if held.place.fold
            else moved
        )

    def weight(self, argument: str, role: str) -> dict[str, Weight]:
        """{role: weight} of an argument that must be constant, {} where it is None."""
        held = self[argument]
        if held is None:
            return {}
        if not isinstance(held, Constant):
            raise self.error(f"has a {role} that depends on the input")
        return {role: self.bits(held, role)}

    def bits(self, constant: Constant, role: str) -> Weight:
        return self.translation.weight(constant, self.build.label(role))

    def emit(self, op: str, *inputs: Operand, **attributes: Any) -> str:
        """As Builder.emit, at the place of the module that the operation is of."""
        return self.build.emit(op, *inputs, **attributes)

    def where_placed(self) -> Call:
        """The same call where it takes Placed: on what each image is; where no image has a part in it: on that."""
        held = [self.translation.values[node] for node in self.node.all_input_nodes]
        if any(isinstance(each, Mixed) for each in held):
            return MixedCall(self.translation, self.node)
        if not any(isinstance(each, (str, Placed, Padded, Foreign)) for each in held):
            return OrdinaryCall(self.translation, self.node)
        if not any(isinstance(each, Placed) for each in held):
            return self
        places = {each.place for each in held if isinstance(each, Placed)}
        places |= {Place(self.dims(each)) for each in held if isinstance(each, str)}
        if len(places) > 1 or any(isinstance(each, Padded) for each in held):
            raise self.error(
                "combines values that have the batch in different dimensions, or folded into one with others"
            )
        return PlacedCall(self.translation, self.node, *places)

    def _is_layer(self) -> bool:
        try:
            return not any(True for _ in self.translation.network.get_submodule(self.path).children())
        except AttributeError:
            return False


class PlacedCall(Call):
    """A call on values with the batch at a place as one on what each image is: dimensions are still the network's."""

    def __init__(self, translation: Translation, node: fx.Node, place: Place) -> None:
        super().__init__(translation, node)
        self.place = place

    def __getitem__(self, name: str) -> Any:
        held = super().__getitem__(name)
        return [_base(each, Placed) for each in held] if isinstance(held, (list, tuple)) else _base(held, Placed)

    def shape(self, value: Any = None) -> Shape:
        return self.shape_at(self.place, value)

    def own_axis(self, dim: int, value: str) -> int:
        return self.place.axis_of(dim, self.dims(value))

    def dims(self, value: str) -> int:
        return self.place.rank(self.size(value))

    def fits(self, value: str) -> bool:
        return True

    def constant_axis(self, dims: int, rank: int | None) -> int:
        return self.place.axis(dims)

    def constant_shape(self, shape: Shape, rank: int | None) -> Shape:
        axis = self.place.axis(len(shape))
        if axis < 0:
            return shape
        if shape[axis] != 1:
            raise self.error(f"takes a constant of shape {shape}, dimension {axis} of which would be the batch")
        return shape if self.place.fold else (*shape[:axis], *shape[axis + 1 :])


class ShiftedCall(Call):
    """A call on shifted whole numbers as one on what they were before."""

    def __getitem__(self, name: str) -> Any:
        return _base(super().__getitem__(name), Shifted)


class MaskedCall(Call):
    """A call on what masks have picked as one on all numbers, of which what the mask is false for is not looked at."""

    def __init__(self, translation: Translation, node: fx.Node, source: Tensor) -> None:
        super().__init__(translation, node)
        self.source = source

    def __getitem__(self, name: str) -> Any:
        return _base(super().__getitem__(name), Masked)

    @property
    def rank(self) -> int:
        return self.source.ndim

    def shape(self, value: Any = None) -> Shape:
        return super().shape(self.source if value is None else value)

    def where_placed(self) -> Call:
        return self


class OrdinaryCall(Call):
    """A call on tensors that no image has a part in, each dimension of which is an axis; the batch, as a size, is 1."""

    def __getitem__(self, name: str) -> Any:
        held = super().__getitem__(name)
        return [_base(each, Ordinary) for each in held] if isinstance(held, (list, tuple)) else _base(held, Ordinary)

    def shape(self, value: Any = None) -> Shape:
        extents = self.translation.extents(self.node.meta["val"] if value is None else value)
        sizes = tuple(1 if each.share == 1 else each.size for each in extents)
        if any(size is None for size in sizes):
            raise self.mixed(value)
        return sizes

    def own_axis(self, dim: int, value: str) -> int:
        return dim + 1

    @property
    def is_ordinary(self) -> bool:
        return True

    def dims(self, value: str) -> int:
        return len(self.size(value))

    def fits(self, value: str) -> bool:
        return True

    def constant_axis(self, dims: int, rank: int | None) -> int:
        return -1

    def constant_shape(self, shape: Shape, rank: int | None) -> Shape:
        return shape


class MixedCall(OrdinaryCall):
    """A call on tensors of all images, those of each image gathered first; the batch is a length."""

    def __getitem__(self, name: str) -> Any:
        held = Call.__getitem__(self, name)
        return [self._gathered(each) for each in held] if isinstance(held, (list, tuple)) else self._gathered(held)

    def shape(self, value: Any = None) -> Shape:
        extents = self.translation.extents(self.node.meta["val"] if value is None else value)
        sizes = tuple(each.share * named(BATCH_NAME) if each.share != 0 else each.size for each in extents)
        if any(size is None for size in sizes):
            raise self.mixed(value)
        return sizes

    def _gathered(self, held: Any) -> Any:
        """A value of images as one of all of them, in the network's dimensions."""
        if isinstance(held, Placed):
            return self._all_of(held.base, held.place)
        if isinstance(held, str):
            return self._all_of(held, Place(1 + len(self.size(held))))
        return _base(held, Ordinary)

    def _all_of(self, value: str, place: Place) -> str:
        axis, own = place.axis(place.rank(self.size(value))), self.size(value)
        made = self.emit("gather_images", value, images=named(BATCH_NAME))
        order = list(range(2, 2 + len(own)))
        order.insert(axis + (place.fold == "inner"), 1)
        made = permute(self.build, made, tuple(order))
        if not place.fold:
            return made
        return reshape(self.build, made, (*own[:axis], own[axis] * named(BATCH_NAME), *own[axis + 1 :]))


@contextlib.contextmanager
def told_by(call: Call) -> Iterator[None]:
    """What a Graph cannot hold is said of the operation that asked for it."""
    try:
        yield
    except CompositeError as error:
        raise call.error(str(error)) from error
    except GraphError as error:
        raise call.error(f"does not fit a graph: {error}") from error


def _base(held: Any, kind: type[Any]) -> Any:
    return held.base if isinstance(held, kind) else held


def _are_same(one: Any, other: Any) -> bool:
    """Whether two constants have the same type and shape."""
    return (
        isinstance(one, Constant)
        and isinstance(other, Constant)
        and (one.tensor.dtype, one.tensor.shape) == (other.tensor.dtype, other.tensor.shape)
    )


def _mentions_batch(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_mentions_batch(each) for each in value)
    return isinstance(value, Batch)


def _as_constants(result: Any) -> Any:
    if isinstance(result, (list, tuple)):
        return [_as_constants(each) for each in result]
    if not isinstance(result, Tensor):
        return result
    return Constant(
        result + 0.0 if result.is_floating_point() else result
    )  # a mask leaves -0.0, which is no zero bit for bit
