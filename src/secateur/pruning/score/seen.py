"""The layers that a method looks at by what they are given."""

from __future__ import annotations

from secateur.modules.inputs import as_inputs
from secateur.modules.matrices import Matrix
from secateur.modules.uses import oriented
from secateur.pruning.moments import check_supported
from secateur.pruning.score.context import Context


def seen_by(context: Context) -> dict[str, Matrix]:
    """Those of a context, their axes as a run on its first batch shows them. Raises PruneError for one whose inputs
    form no matrix."""
    images, _ = next(context.batches())
    layers = oriented(context.network, context.layers, as_inputs(images, context.network, "calibration batch"))
    for name, layer in layers.items():
        check_supported(name, layer)
    return layers
