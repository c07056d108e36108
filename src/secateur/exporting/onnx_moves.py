"""Lookups, resizing, choices and whole numbers in ONNX."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from secateur.errors import ExportError
from secateur.network.formats import FORMATS, INTEGERS
from secateur.network.graph import Node, Shape
from secateur.network.operations.sampling import taps
from secateur.network.sizes import is_whole

if TYPE_CHECKING:
    from secateur.exporting.onnx import Translation


def take(made: Translation, node: Node) -> None:
    made.add("Gather", [node.inputs[0], made.stored(node.weights["indices"])], node.name, axis=node.attributes["axis"])


def embedding(made: Translation, node: Node) -> None:
    made.add("Gather", [made.weight(node, "weight"), node.inputs[0]], node.name)


def gather(made: Translation, node: Node) -> None:
    made.add("GatherElements", made.of_one_batch(node), node.name, axis=node.attributes["axis"])


def place_of(op: str) -> Callable[[Translation, Node], None]:
    def convert(made: Translation, node: Node) -> None:
        keep = int(bool(node.attributes["keepdims"]))
        made.add(op, node.inputs, node.name, axis=node.attributes["axis"], keepdims=keep)

    return convert


def topk(made: Translation, node: Node) -> None:
    count = node.attributes["count"]
    counted = made.tensor(f"{node.name}.count", np.array([count])) if is_whole(count) else made.size(count)  # type: ignore[arg-type]
    outputs, largest = [made.fresh(f"{node.name}.values"), node.name], int(bool(node.attributes["largest"]))
    made.nodes.append(
        made.onnx.helper.make_node(
            "TopK", [node.inputs[0], counted], outputs, name=node.name, axis=node.attributes["axis"], largest=largest
        )
    )


def resize(made: Translation, node: Node) -> None:
    """As ONNX has it where that is the same everywhere; else pixel by pixel, times how much each counts."""
    size = node.numbers("size")
    old = made.shapes[node.inputs[0]][-len(size) :]
    if is_whole((*size, *old)) and not _is_theirs(node, old):
        _resize_by_pixels(made, node, old)
    elif node.attributes["steps"]:
        raise ExportError(f"{node.name!r} resizes lengths {old} by given steps, which ONNX does not have")
    else:
        _resize(made, node, len(size))


def _resize(made: Translation, node: Node, axes: int) -> None:
    rank, mode = len(node.shape), str(node.attributes["mode"])
    sizes = [made.size(size) for size in node.numbers("size")]
    made.add(
        "Resize",
        [node.inputs[0], "", "", made.step("Concat", sizes, node, axis=0)],
        node.name,
        axes=list(range(1 + rank - axes, 1 + rank)),
        coordinate_transformation_mode="align_corners" if node.attributes["aligned"] else _PLACED[mode],
        mode=mode.removesuffix("_exact"),
        nearest_mode="floor" if mode == "nearest" else "round_prefer_ceil",
        cubic_coeff_a=-0.75,
    )


_PLACED = {"nearest": "asymmetric", "nearest_exact": "half_pixel", "linear": "half_pixel", "cubic": "half_pixel"}


def _is_theirs(node: Node, old: Shape) -> bool:
    """Whether engines agree on the pixels: planes between pixels, and each pixel several times."""
    if node.attributes["steps"] or len(node.shape) != 3 or len(old) != 2:
        return False
    several = all(new % each == 0 for new, each in zip(node.numbers("size"), old, strict=True))
    return node.attributes["mode"] == "linear" or (node.attributes["mode"] == "nearest" and several)


def _resize_by_pixels(made: Translation, node: Node, old: Shape) -> None:
    value = node.inputs[0]
    for place, (have, want) in enumerate(zip(old, node.numbers("size"), strict=True)):
        axis = 1 + len(node.shape) - len(old) + place
        terms = []
        for sources, shares in zip(*taps(node, place, have, want), strict=True):
            picked = made.step("Gather", [value, made.tensor(f"{node.name}.sources", sources)], node, axis=axis)
            spread = shares.reshape(-1, *(1,) * (len(node.shape) - axis))
            exact = bool((shares == 1).all())
            terms.append(
                picked if exact else made.step("Mul", [picked, made.tensor(f"{node.name}.shares", spread)], node)
            )
        value = reduce(lambda left, right: made.step("Add", [left, right], node), terms)
    made.add("Identity", [value], node.name)


def grid_sample(made: Translation, node: Node) -> None:
    made.add(
        "GridSample",
        made.of_one_batch(node),
        node.name,
        mode=node.attributes["mode"],
        padding_mode=node.attributes["padding"],
        align_corners=int(bool(node.attributes["aligned"])),
    )


def where(made: Translation, node: Node) -> None:
    """Of truth values as whole numbers, which engines choose between."""
    truth, *choices = made.aligned(node)
    if made.graph.value_elements[node.name] != "bool":
        made.add("Where", [truth, *choices], node.name)
        return
    whole, back = made.onnx.TensorProto.INT32, made.onnx.TensorProto.BOOL
    chosen = made.step("Where", [truth, *(made.step("Cast", [each], node, to=whole) for each in choices)], node)
    made.add("Cast", [chosen], node.name, to=back)


def cast(made: Translation, node: Node) -> None:
    kind = getattr(made.onnx.TensorProto, FORMATS[str(node.attributes["element"])].onnx)
    made.add("Cast", node.inputs, node.name, to=kind)


def remainder(made: Translation, node: Node) -> None:
    made.add("Identity", [_left_over(made, node, *made.aligned(node))], node.name)


def floor_div(made: Translation, node: Node) -> None:
    """What is left over taken away, the quotient is a whole number, but for rounding."""
    x, y = made.aligned(node)
    less = made.step("Sub", [x, _left_over(made, node, x, y)], node)
    if made.graph.value_elements[node.name] in INTEGERS:
        made.add("Div", [less, y], node.name)
    else:
        made.add("Round", [made.step("Div", [less, y], node)], node.name)


def _left_over(made: Translation, node: Node, x: str, y: str) -> str:
    """With the divisor's sign, which ONNX's Mod gives it among whole numbers only."""
    if made.graph.value_elements[node.name] in INTEGERS:
        return made.step("Mod", [x, y], node)
    zero, left = made.number(f"{node.name}.zero", 0), made.step("Mod", [x, y], node, fmod=1)
    below = [made.step("Less", [each, zero], node) for each in (left, y)]
    other = made.step("Not", [made.step("Equal", [left, zero], node)], node)
    wrong = made.step("And", [made.step("Xor", below, node), other], node)
    return made.step("Where", [wrong, made.step("Add", [left, y], node), left], node)
