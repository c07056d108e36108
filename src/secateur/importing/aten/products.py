"""Products of matrices, with constant ones and of two values, and sums over letters."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

from secateur.importing.aten.calls import Call, Conversion, MixedCall, OrdinaryCall, PlacedCall
from secateur.importing.aten.held import Constant
from secateur.importing.aten.reading import ACROSS, anywhere, pair_of_values, scaled
from secateur.importing.placing import Mixed, Ordinary, Place, Placed
from secateur.network import composites
from secateur.network.graph import Weight


def _multiplied(call: Call) -> Any:
    """As a product anywhere; images that are rows of a matrix stay rows where a constant has more dimensions.

    Rows of images by columns of images are a product of all images.
    """
    if _every_with_every(call):
        return Mixed(_product(MixedCall(call.translation, call.node)))
    if type(call.where_placed()) is not Call or call.rank <= (rank := _highest(call)):
        return anywhere(_product, _lost)(call)
    place = Place(rank)
    return call.placed(_product(PlacedCall(call.translation, call.node, place)), place)


def _every_with_every(call: Call) -> bool:
    """Whether a matrix (N, …) is multiplied by one (…, N), where the number of images is free."""
    places = [_place_of(call, each) for each in _factors(call)]
    return places == [Place(2), Place(1)] and call.translation.takes_any_images


def _highest(call: Call) -> int:
    """The most dimensions that a factor with images has, the batch counted."""
    return max(call.dims(held) for held in _factors(call) if isinstance(held, str))


def _factors(call: Call) -> tuple[Any, Any]:
    return call.first, call["mat2" if "mat2" in call.arguments else "other"]


def _product(call: Call) -> str:
    return _of(call, *_factors(call))


def _of(call: Call, left: Any, right: Any) -> str:
    """Of two of which one at least is no constant; a vector becomes a matrix of one row or column for a while."""
    _check_batch(call, left, right)
    row, column = _rank(call, left) == 1 or _is_alone(call, left, 2), _rank(call, right) == 1
    column = column or _is_alone(call, right, 1)
    if isinstance(right, Constant) and right.tensor.ndim == 2:
        return composites.matrix_product(call.build, call.value_of(left), call.bits(right, "weight"))
    if isinstance(left, Constant) and left.tensor.ndim == 2 and _right(call, right) != 0:
        return _from_left(call, call.bits(left, "weight"), call.value_of(right), column)
    rows, columns = _factor(call, left, 2), _factor(call, right, 1)
    one, other = call.size(rows), call.size(columns)
    rows = composites.reshape(call.build, rows, (*one[:-1], 1, *one[-1:]) if row else one)
    columns = composites.reshape(call.build, columns, (*other, 1) if column else other)
    made = call.emit("matmul", rows, columns, transposed=False)
    shape = call.size(made)
    return composites.reshape(
        call.build, made, (*shape[:-2], *(() if row else shape[-2:-1]), *(() if column else shape[-1:]))
    )


def _from_left(call: Call, matrix: Weight, value: str, column: bool) -> str:
    if column:
        return call.emit("linear", value, weights={"weight": matrix})
    return composites.product_from_left(call.build, matrix, value)


def _factor(call: Call, held: Any, dim: int) -> str:
    """An operand as a value. dim: that of its own, the last being 1, which the other has not: images that are rows of
    the other, or its columns, meet all of a constant."""
    if isinstance(held, Constant) and isinstance(call, PlacedCall) and call.place.right == 3 - dim:
        return call.whole(held)
    return call.value_of(held, max(3, call.rank))


def _distances(call: Call) -> str:
    """How far each row of one value is from each row of another, or of a constant: (…, P, M), (…, R, M) → (…, P, R)."""
    left, right = call["x1"], call["x2"]
    if isinstance(left, Constant) or _right(call, right) in (1, 2):
        raise call.error("is supported of rows of a value from rows of each image, or from constant ones")
    rows, others = call.value_of(left), call.value_of(right, call.rank + 1)
    return composites.distances(call.build, rows, others, float(call["p"]))


def _check_batch(call: Call, left: Any, right: Any) -> None:
    """That it is in no dimension that is summed over, and that columns are images of one factor only."""
    if _right(call, left) == 1 or _right(call, right) == 2 or (_right(call, right) == 1 and _right(call, left)):
        raise call.error(ACROSS)
    if not isinstance(call, (PlacedCall, OrdinaryCall)):
        ranks = {_rank(call, held) for held in (left, right) if isinstance(held, str)}
        if len(ranks) > 1:
            raise call.error("broadcasts values of different numbers of dimensions, the batch against another")


def _right(call: Call, held: Any) -> int:
    """The batch's dimension in an operand, the last being 1; 0 where it has none, or shares it with others."""
    if not isinstance(held, str) or isinstance(call, OrdinaryCall):
        return 0
    place = call.place if isinstance(call, PlacedCall) else Place(call.dims(held))
    return 0 if place.fold and place.right > 2 else place.right


def _is_alone(call: Call, held: Any, right: int) -> bool:
    """Whether the batch is a dimension of an operand, alone, the last being 1."""
    return _right(call, held) == right and not (isinstance(call, PlacedCall) and call.place.fold)


def _rank(call: Call, held: Any) -> int:
    """Dimensions of an operand, the batch counted."""
    if isinstance(held, Constant):
        return held.tensor.ndim
    return len(call.size(held.base)) if isinstance(held, Ordinary) else call.dims(call.value_of(held))


def _lost(call: PlacedCall) -> int:
    """Dimensions less behind the batch, as a negative number: those of vectors."""
    return 0 if call.place.right == 1 else -sum(_rank(call, each) == 1 for each in _factors(call))


def _sum_and_product(call: Call) -> str:
    """beta · x + alpha · (left @ right)."""
    names = ("mat1", "mat2") if call.name == "addmm" else ("batch1", "batch2")
    left, right = (call[name] for name in names)
    added = call["self"]
    if call.name == "addmm" and isinstance(added, Constant) and isinstance(right, Constant):
        weight, vector = call.bits(right, "weight"), call.bits(added, "bias")
        if (call["beta"], call["alpha"]) == (1, 1) and vector.shape == weight.shape[1:]:
            return composites.matrix_product(call.build, call.value_of(left), weight, vector)
    made = scaled(call, _of(call, left, right), call["alpha"])
    if call["beta"] == 0:
        return str(made)
    return pair_of_values(call, "add", scaled(call, added, call["beta"]), made)


def _einsum(call: Call) -> str | Placed | Ordinary:
    """The batch's letter is left out wherever it stands, unless it shares its dimension with others."""
    held = list(call["tensors"])
    terms, wanted = _letters(str(call["equation"]), [_dims(call, each) for each in held])
    places = [_place_of(call, each) for each in held]
    found = {
        (letters[place.axis(len(letters))], place.fold)
        for letters, place in zip(terms, places, strict=True)
        if place is not None
    }
    if (
        len(found) > 1
        and call.translation.takes_any_images
        and all(each in wanted and not fold for each, fold in found)
    ):
        return _of_all_images(call, terms, wanted)
    (batch, fold), *more = found or {("", "")}
    if more or (batch and batch not in wanted):
        raise call.error(ACROSS)
    dropped = "" if fold else batch
    operands = [_term(call, each, letters, dropped) for each, letters in zip(held, terms, strict=True)]
    made = composites.contraction(call.build, operands, "".join(each for each in wanted if each != dropped))
    return call.placed(made, Place(len(wanted) - wanted.index(batch), fold)) if batch else Ordinary(made)


def _of_all_images(call: Call, terms: Sequence[str], wanted: str) -> Mixed:
    inner = MixedCall(call.translation, call.node)
    operands = [
        (each if isinstance(each, str) else call.bits(each, "weight"), letters)
        for each, letters in zip(inner["tensors"], terms, strict=True)
    ]
    return Mixed(composites.contraction(call.build, operands, wanted))


def _letters(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Of each operand, and of the result, with letters for what "..." stands for."""
    given, arrow, wanted = equation.replace(" ", "").partition("->")
    free = "".join(each for each in string.ascii_letters if each not in equation)
    names = given.split(",")
    spans = [rank - len(each.replace("...", "")) for each, rank in zip(names, ranks, strict=True)]
    most = max((span for each, span in zip(names, spans, strict=True) if "..." in each), default=0)
    terms = [each.replace("...", free[most - span : most]) for each, span in zip(names, spans, strict=True)]
    if arrow:
        return terms, wanted.replace("...", free[:most])
    every = "".join(terms).translate(str.maketrans("", "", free[:most]))
    return terms, free[:most] + "".join(sorted(each for each in every if every.count(each) == 1))


def _dims(call: Call, held: Any) -> int:
    place = _place_of(call, held)
    if isinstance(held, Constant):
        return held.tensor.ndim
    base = held if isinstance(held, str) else held.base
    return place.rank(call.size(base)) if place else len(call.size(base))


def _place_of(call: Call, held: Any) -> Place | None:
    if isinstance(held, Placed):
        return held.place
    return Place(call.dims(held)) if isinstance(held, str) else None


def _term(call: Call, held: Any, letters: str, dropped: str) -> tuple[str | Weight, str]:
    """What an operand is for each image."""
    kept = "".join(each for each in letters if each != dropped)
    if not isinstance(held, Constant):
        return held if isinstance(held, str) else held.base, kept
    at = letters.find(dropped) if dropped else -1
    shape = held.tensor.shape
    if at >= 0 and shape[at] != 1:
        raise call.error(f"takes a constant of shape {tuple(shape)}, dimension {at} of which would be the batch")
    return call.bits(Constant(held.tensor.squeeze(at)) if at >= 0 else held, "weight"), kept


CONVERSIONS: dict[str, Conversion] = {
    **dict.fromkeys(("matmul", "mm", "bmm", "mv"), _multiplied),
    **dict.fromkeys(("addmm", "baddbmm"), anywhere(_sum_and_product)),
    "einsum": _einsum,
    **dict.fromkeys(("cdist", "_cdist_forward"), _distances),
}
