"""What a layer is given, as a matrix, and the sums over it that second-order methods need.

A row of the matrix is what one output position sees: the inputs of a linear layer, or a convolution's patch. So
the layer is rows × weightᵀ, and a convolution is no special case beyond this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.errors import PruneError
from secateur.modules.guarding import run, watched
from secateur.modules.inputs import Example, as_inputs
from secateur.modules.layers import input_of, sharing_weight

ROWS_BYTES = 1 << 26
DOUBLE_COLUMNS = 4096
MOST_COLUMNS = 16384
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def groups_of(layer: nn.Module) -> int:
    return int(layer.groups) if isinstance(layer, _CONVOLUTIONS) else 1


def columns_of(layer: nn.Module) -> int:
    """The inputs of one output position of one group."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight[0].numel()


def as_matrices(layer: nn.Module, values: Tensor) -> Tensor:
    """Values shaped as the layer's weight, as (groups, outputs per group, columns); a view where possible."""
    return values.reshape(groups_of(layer), -1, columns_of(layer))


def check_supported(name: str, layer: nn.Module) -> None:
    """Raises PruneError for a layer whose inputs form no matrix, or too wide a one."""
    if not isinstance(layer, (nn.Linear, *_CONVOLUTIONS)):
        raise PruneError(
            f"layer {name!r}: expected a linear layer or a convolution to gather the inputs of, got "
            f"{type(layer).__name__}; exclude it or take another method"
        )
    if columns_of(layer) > MOST_COLUMNS:
        raise PruneError(
            f"layer {name!r}: expected at most {MOST_COLUMNS} inputs for each output, got {columns_of(layer)}, whose "
            "second moments would not fit into memory; exclude it or take another method"
        )


def rows_and_outputs(layer: nn.Module, given: Tensor, output: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows that a layer is given, (groups, positions, columns), with (groups, positions, outputs) of `output`."""
    flat = output.reshape(-1, output.shape[-1])[None] if isinstance(layer, nn.Linear) else _by_position(layer, output)
    start = 0
    for part in rows(layer, given):
        yield part, flat[:, start : start + part.shape[1]]
        start += part.shape[1]


def _by_position(layer: nn.Module, output: Tensor) -> Tensor:
    """A convolution's output (N, channels, …) as (groups, N × positions, channels per group)."""
    assert isinstance(layer, _CONVOLUTIONS)
    images = output if output.dim() == len(layer.kernel_size) + 2 else output[None]
    grouped = torch.unflatten(images.flatten(2), 1, (layer.groups, -1))  # (N, groups, channels per group, positions)
    return grouped.permute(1, 0, 3, 2).flatten(1, 2)


def rows(layer: nn.Module, given: Tensor) -> Iterator[Tensor]:
    """(groups, positions, columns) of what the layer is given, some images at a time, 64 MiB at most where possible."""
    if isinstance(layer, nn.Linear):
        flat = given.reshape(-1, given.shape[-1])
        yield from (part[None] for part in torch.split(flat, max(1, ROWS_BYTES // (4 * flat.shape[1]))))
        return
    spatial = len(layer.kernel_size)  # type: ignore[arg-type]
    images = given if given.dim() == spatial + 2 else given[None]
    bytes_each = 4 * columns_of(layer) * groups_of(layer) * images[0, 0].numel()
    for part in torch.split(images, max(1, ROWS_BYTES // bytes_each)):
        yield _patches(layer, part)


def _patches(layer: nn.Module, images: Tensor) -> Tensor:
    """Unfolding: (N, channels, …) → (groups, N × positions, channels per group × taps)."""
    assert isinstance(layer, _CONVOLUTIONS)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    seen = F.pad(images, layer._reversed_padding_repeated_twice, mode=mode)
    for axis, (size, stride, dilation) in enumerate(zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)):
        seen = seen.unfold(2 + axis, dilation * (size - 1) + 1, stride)[..., ::dilation]
    spatial = len(layer.kernel_size)
    seen = torch.unflatten(seen, 1, (layer.groups, -1))  # (N, groups, channels per group, positions…, taps…)
    positions, taps = range(3, 3 + spatial), range(3 + spatial, 3 + 2 * spatial)
    return seen.permute(1, 0, *positions, 2, *taps).reshape(layer.groups, -1, columns_of(layer))


@dataclass(slots=True)
class Moments:
    """Sums over a layer's rows: count of them; squares (groups, columns); products (groups, columns, columns)."""

    count: int
    squares: Tensor
    products: Tensor | None

    @property
    def mean_squares(self) -> Tensor:
        return self.squares / max(1, self.count)

    @property
    def hessian(self) -> Tensor:
        """XᵀX / n: half the Hessian of the mean squared output error, the same for every output."""
        assert self.products is not None
        return self.products / max(1, self.count)


def gather_moments(
    network: nn.Module, names: Sequence[str], inputs: Iterable[Example], products: bool = True
) -> dict[str, Moments]:
    """The moments of what some layers are given as the network runs over batches of inputs, in evaluation mode.

    Raises PruneError for a layer that is given nothing, as it never runs.
    """
    layers = {name: network.get_submodule(name) for name in names}
    found = {name: _empty(layer, products) for name, layer in layers.items()}

    def add(name: str, given: Tensor) -> None:
        moments = found[name]
        for part in rows(layers[name], given):
            moments.count += part.shape[1]
            if moments.products is not None:
                moments.products += part.transpose(1, 2) @ part
            else:
                moments.squares += part.square().sum(1)

    with watched(network), listening(network, layers, add):
        for batch in inputs:
            run(network, as_inputs(batch, network, "calibration batch"))
    for name, moments in found.items():
        if not moments.count:
            raise PruneError(
                f"layer {name!r}: expected it to run on the calibration images, but it is given nothing (unused, or "
                "its weight is read past it, as attention's output projection); exclude it or take another method"
            )
        if moments.products is not None:
            moments.squares = moments.products.diagonal(dim1=1, dim2=2).clone()
    return found


def moment_dtype(columns: int) -> torch.dtype:
    """Double precision where a square matrix of it is of moderate size."""
    return torch.float64 if columns <= DOUBLE_COLUMNS else torch.float32


def _empty(layer: nn.Module, products: bool) -> Moments:
    groups, columns = groups_of(layer), columns_of(layer)
    weight = layer.weight
    assert isinstance(weight, Tensor)
    dtype = moment_dtype(columns)
    squares = torch.zeros(groups, columns, dtype=torch.float64, device=weight.device)
    return Moments(
        0, squares, torch.zeros(groups, columns, columns, dtype=dtype, device=weight.device) if products else None
    )


@contextmanager
def listening(
    network: nn.Module, layers: Mapping[str, nn.Module], heard: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Inside the block, heard(name, input) is called before each of the layers runs, or one that shares its weight."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Tensor]], None]:
        return lambda _, given, named: heard(name, input_of(given, named))

    handles = [
        module.register_forward_pre_hook(hook(name), with_kwargs=True)
        for name, layer in layers.items()
        for module in sharing_weight(network, layer)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def damped_inverse(hessian: Tensor, dampening: float) -> Tensor:
    """(H + λI)⁻¹ of (…, d, d), λ being `dampening` times the mean of H's diagonal; by Cholesky.

    Inputs that are always zero get the curvature λ. Raises PruneError where H is not finite.
    """
    return torch.cholesky_inverse(damped_cholesky(hessian, dampening))


def damped_cholesky(hessian: Tensor, dampening: float) -> Tensor:
    """L with L Lᵀ = H + λI; λ grows tenfold while rounding keeps that from being positive definite."""
    if not bool(torch.isfinite(hessian).all()):
        raise PruneError(
            "the second moments of a layer's inputs are not finite: mend the network or its calibration images"
        )
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    level = diagonal.mean(-1, keepdim=True)
    level = torch.where(level > 0, level, torch.ones_like(level))
    for _ in range(8):
        raised = hessian.clone()
        raised.diagonal(dim1=-2, dim2=-1).add_(dampening * level)
        factor, failed = torch.linalg.cholesky_ex(raised)
        if not bool(failed.any()):
            return factor
        dampening *= 10
    raise PruneError("the second moments of a layer's inputs cannot be inverted: take more calibration images")
