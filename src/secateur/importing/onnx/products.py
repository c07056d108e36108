"""Products of matrices, constant ones as linear layers."""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np

from secateur.importing.onnx.aligning import together, without_batch
from secateur.importing.onnx.calls import ACROSS, MIXED, Call, Conversion, Made, Refused, product
from secateur.importing.onnx.integers import layer
from secateur.importing.onnx.tensors import Constant
from secateur.importing.onnx.values import Held, Tensor
from secateur.importing.placing import Place
from secateur.network import composites
from secateur.network.graph import Weight


def _matmul(call: Call) -> Made:
    left, right = call.held[0], call.held[1]
    if left is None or right is None:
        raise Refused("lacks an input")
    return multiplied(call, left, right)


def multiplied(call: Call, left: Held, right: Held) -> Tensor:
    """As NumPy has it: vectors are rows on the left and columns on the right."""
    if isinstance(right, Constant) and len(right.shape) == 2 and isinstance(left, Tensor) and right.integers:
        made = of_integers(call, left, right, None, turned=True)
        if made is not None:
            return made
    if isinstance(right, Constant) and len(right.shape) <= 2 and isinstance(left, Tensor):
        return linear(call, left, call.weight_of(right), turned=True)
    if isinstance(left, Constant) and len(left.shape) == 2 and isinstance(right, Tensor) and right.rank > 1:
        if 0 <= right.batch_axis >= right.rank - 2:
            raise Refused(ACROSS)
        return call.like(right, composites.product_from_left(call.build, call.weight_of(left), right.base))
    return _of_values(call, left, right)


def of_integers(call: Call, tensor: Tensor, weight: Constant, bias: Constant | None, *, turned: bool) -> Tensor | None:
    """A linear layer of integers, None where those are not what is meant."""
    if tensor.batch_axis == tensor.rank - 1:
        raise Refused(ACROSS)
    made = layer(call, "linear", tensor.base, weight, bias, turned)
    return None if made is None else call.like(tensor, made)


def linear(call: Call, tensor: Tensor, matrix: Weight, *, turned: bool, bias: Weight | None = None) -> Tensor:
    """x Wᵀ + b along the last dimension. turned: the matrix is (I, O), or (I) for one output that is no dimension."""
    if tensor.batch_axis == tensor.rank - 1:
        raise Refused(ACROSS)
    single = len(matrix.shape) == 1
    matrix = call.build.reshaped(matrix, (matrix.shape[0], 1)) if single else matrix
    if turned:
        made = composites.matrix_product(call.build, tensor.base, matrix, bias)
    else:
        weights = {"weight": matrix, **({} if bias is None else {"bias": bias})}
        made = call.emit("linear", tensor.base, weights=weights)
    if not single:
        return call.like(tensor, made)
    made = composites.reshape(call.build, made, call.own(tensor)[:-1])
    return call.made(made, tensor.place and Place(tensor.place.right - 1, tensor.place.fold), tensor.format)


def _of_values(call: Call, left: Held, right: Held) -> Tensor:
    one, other = call.as_tensor(left), call.as_tensor(right)
    if one.rank == 0 or other.rank == 0:
        raise Refused("is of a number, which is no matrix")
    if one.rank == 1 or other.rank == 1:
        return _with_vectors(call, one, other)
    if any(0 <= each.batch_axis >= each.rank - 2 for each in (one, other)):
        return _of_rows(call, one, other)
    pair = together(
        call, [left if isinstance(left, Constant) else one, right if isinstance(right, Constant) else other]
    )
    return call.made(call.emit("matmul", *pair.values, transposed=False), pair.place, one.format)


def _of_rows(call: Call, one: Tensor, other: Tensor) -> Tensor:
    """Where the batch is the rows of the left: each image's is one row."""
    if one.place != Place(2) or other.place is not None:
        raise Refused(f"{MIXED}: it multiplies along it")
    own = call.own(one)
    row = composites.reshape(call.build, one.base, (*own[:-1], 1, own[-1]))
    made = call.emit("matmul", row, other.base, transposed=False)
    shape = call.build.shape(made)
    return call.made(composites.reshape(call.build, made, (*shape[:-2], shape[-1])), Place(2), one.format)


def _with_vectors(call: Call, one: Tensor, other: Tensor) -> Tensor:
    """A vector as a matrix of one row or column, which leaves afterwards."""
    if one.place is not None and other.place is not None:
        raise Refused(f"{MIXED}: it multiplies along it")
    row, column = one.rank == 1, other.rank == 1
    left, right = one, other
    if row:
        left = call.made(composites.reshape(call.build, one.base, (1, *call.own(one))), _moved(one, 0), one.format)
    if column:
        base = composites.reshape(call.build, other.base, (*call.own(other), 1))
        right = call.made(base, _moved(other, 1), other.format)
    made = _of_values(call, left, right)
    own = call.own(made)
    gone = [rank for rank, leaves in ((2, row), (1, column)) if leaves]
    kept = tuple(size for at, size in enumerate(own) if len(own) - at not in gone)
    less = sum(made.place is not None and rank < made.place.right for rank in gone)
    place = made.place and Place(made.place.right - less, made.place.fold)
    return call.made(composites.reshape(call.build, made.base, kept), place, one.format)


def _moved(tensor: Tensor, by: int) -> Place | None:
    return tensor.place and tensor.place.wider(by)


def _gemm(call: Call) -> Made:
    """α · A B + β · C."""
    alpha, beta = float(call.attribute("alpha", 1.0)), float(call.attribute("beta", 1.0))
    left, right = call.held[0], call.held[1]
    added = call.held[2] if call.has(2) and beta != 0 else None
    if not isinstance(right, Constant) or not isinstance(left, Tensor):
        return _general(call, _turned(call, left, "transA"), _turned(call, right, "transB"), alpha, beta, added)
    tensor = call.as_tensor(_turned(call, left, "transA"))
    if right.integers is not None and alpha == beta == 1 and (added is None or isinstance(added, Constant)):
        made = of_integers(call, tensor, right, added, turned=not call.flag("transB"))
        if made is not None:
            return made
    matrix = scaled(call, right, alpha)
    turned = not call.flag("transB")
    outputs = matrix.shape[1 if turned else 0]
    bias = _vector(call, added, beta, outputs)
    made = linear(call, tensor, matrix, turned=turned, bias=bias)
    return made if added is None or bias is not None else _plus(call, made, added, beta)


def scaled(call: Call, constant: Constant, factor: float) -> Weight:
    """A constant times a number: itself for 1."""
    if factor == 1:
        return call.weight_of(constant)
    return call.weight_of(Constant((constant.array * np.float32(factor)).astype(np.float32), "float32"))


def _vector(call: Call, added: Held | None, beta: float, outputs: int) -> Weight | None:
    if not isinstance(added, Constant) or added.array.size not in (1, outputs) or product(added.shape[:-1]) != 1:
        return None
    if added.array.size == outputs:
        return call.build.reshaped(scaled(call, added, beta), (outputs,))
    return call.weight_of(Constant(np.full(outputs, added.array.reshape(-1)[0] * beta, np.float32), "float32"))


def _turned(call: Call, held: Held | None, flag: str) -> Held:
    if held is None:
        raise Refused("lacks an input")
    if not call.flag(flag):
        return held
    tensor = call.as_tensor(held)
    if tensor.place is not None:
        raise Refused(ACROSS)
    return call.made(composites.permute(call.build, tensor.base, (2, 1)), None, tensor.format)


def _general(call: Call, left: Held, right: Held, alpha: float, beta: float, added: Held | None) -> Tensor:
    made = _of_values(call, left, right)
    made = made if alpha == 1 else call.like(made, call.emit("mul", made.base, alpha))
    return made if added is None else _plus(call, made, added, beta)


def _plus(call: Call, made: Tensor, added: Held, beta: float) -> Tensor:
    pair = together(call, [made, added])
    base, more = pair.values
    more = more if beta == 1 else call.emit("mul", more, beta)
    return call.made(call.emit("add", base, more), pair.place, made.format)


def _einsum(call: Call) -> Made:
    """The letter of the batch, which is in all terms that images have a part in, is in none of a graph's."""
    held = [each for each in call.held if isinstance(each, (Constant, Tensor))]
    letters, wanted = _letters(str(call.attribute("equation", "")), [len(each.shape) for each in held])
    batch = {
        own[each.batch_axis] for own, each in zip(letters, held, strict=True) if isinstance(each, Tensor) and each.place
    }
    if len(batch) > 1 or (batch and not batch <= set(wanted)):
        raise Refused(ACROSS)
    (letter,) = batch or {""}
    if letter and any(
        letter in own and not (isinstance(each, Tensor) and each.place) for own, each in zip(letters, held, strict=True)
    ):
        raise Refused(MIXED)
    terms = [
        (
            call.weight_of(each) if isinstance(each, Constant) else without_batch(call, each, None),
            own.replace(letter, "") if letter else own,
        )
        for own, each in zip(letters, held, strict=True)
    ]
    made = composites.contraction(call.build, terms, wanted.replace(letter, "") if letter else wanted)
    return call.made(made, Place(len(wanted) - wanted.index(letter)) if letter else None)


def _letters(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Of each term and of the output: a letter for each dimension, those that an equation leaves out too.

    Dimensions under an ellipsis are aligned at their last; an output that is not said has them, and then the letters
    that stand once, in the alphabet's order (as NumPy's einsum).
    """
    inward, said, wanted = equation.replace(" ", "").partition("->")
    terms = inward.split(",")
    hidden = [rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=False)]
    spare = [each for each in string.ascii_letters if each not in equation][: max(hidden, default=0)]
    if len(terms) != len(ranks) or any(
        bool(count) > ("..." in term) for count, term in zip(hidden, terms, strict=True)
    ):
        raise Refused(f"has terms {inward!r} for {len(ranks)} inputs of {', '.join(map(str, ranks))} dimensions")
    found = [
        term.replace("...", "".join(spare[len(spare) - count :])) for term, count in zip(terms, hidden, strict=True)
    ]
    if said:
        return found, wanted.replace("...", "".join(spare))
    once = [each for each in sorted({*inward} - {*".,"}) if inward.count(each) == 1]
    return found, "".join([*spare, *once])


def _fused_matmul(call: Call) -> Made:
    """With its operands turned and its result scaled (com.microsoft)."""
    if call.flag("transBatchA") or call.flag("transBatchB"):
        raise Refused("turns batches, which is not supported")
    parts = [_last_two(call, held, flag) for held, flag in zip(call.held[:2], ("transA", "transB"), strict=True)]
    made = multiplied(call, *parts)
    alpha = float(call.attribute("alpha", 1.0))
    return made if alpha == 1 else call.like(made, call.emit("mul", made.base, alpha))


def _last_two(call: Call, held: Held | None, flag: str) -> Held:
    if held is None:
        raise Refused("lacks an input")
    if not call.flag(flag):
        return held
    if isinstance(held, Constant):
        return Constant(np.ascontiguousarray(held.array.swapaxes(-1, -2)), held.format)
    tensor = call.as_tensor(held)
    if 0 <= tensor.batch_axis >= tensor.rank - 2:
        raise Refused(ACROSS)
    rank = len(call.own(tensor))
    order: Sequence[int] = (*range(1, rank - 1), rank, rank - 1)
    return call.like(tensor, composites.permute(call.build, tensor.base, tuple(order)))


CONVERSIONS: dict[str, Conversion] = {"MatMul": _matmul, "Gemm": _gemm, "Einsum": _einsum}
MICROSOFT: dict[str, Conversion] = {"FusedMatMul": _fused_matmul, "TransposeMatMul": _fused_matmul}
