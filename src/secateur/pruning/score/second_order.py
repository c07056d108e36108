"""w²/[H⁻¹]ⱼⱼ: the optimal brain surgeon's saliency, layer by layer (Hassibi & Stork 1993; Frantar & Alistarh 2022)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from secateur.modules.matrices import Matrix
from secateur.pruning.moments import (
    Products,
    as_matrices,
    columns_of,
    damped_inverse,
    from_matrices,
    gather_moments,
)
from secateur.pruning.score.context import Context
from secateur.pruning.score.scores import Scores
from secateur.pruning.score.seen import seen_by

DAMPENING = 0.01
HESSIAN_BYTES = 1 << 28


def second_order(context: Context) -> Scores:
    """w²/[H⁻¹]ⱼⱼ with H = XᵀX/n over what the layer is given: by how much the layer's mean squared output
    changes when the weight goes and all others of its output make up for it as well as they can (OBC, equation 3).

    H is damped by a hundredth of its mean diagonal. The inputs are gathered in as many passes as keep the
    Hessians held at once below 256 MiB, or a single one.
    """
    layers = seen_by(context)
    scores: dict[str, Tensor] = {}
    for names in _within_memory(layers):
        some = {name: layers[name] for name in names}
        moments = gather_moments(context.network, some, (images for images, _ in context.batches()))
        for name in names:
            scores[name] = saliency(layers[name], context.weights[name], moments.pop(name).hessian)
    return Scores({name: scores[name] for name in layers})


def saliency(layer: Matrix, weight: Tensor, hessian: Tensor) -> Tensor:
    """The score of one layer's weights; hessian: (groups, columns, columns)."""
    inverse = damped_inverse(hessian, DAMPENING).diagonal(dim1=1, dim2=2)
    return from_matrices(layer, as_matrices(layer, weight).square() / inverse[:, None, :].to(weight.dtype))


def _within_memory(layers: Mapping[str, Matrix]) -> Iterator[list[str]]:
    """The layers in groups whose Hessians fit into HESSIAN_BYTES together."""
    group: list[str] = []
    held = 0
    for name, layer in layers.items():
        size = Products.bytes_of(layer.axes.groups, columns_of(layer))
        if group and held + size > HESSIAN_BYTES:
            yield group
            group, held = [], 0
        group.append(name)
        held += size
    if group:
        yield group
