"""Weights that a training kept in parts (masks, norms, directions), put together again as the network computed them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from secateur.importing.checkpoints.files import Contents


@dataclass(frozen=True, slots=True)
class _Form:
    """what: its name. main: of the entry that tells it; others and target: templates of what belongs to it and of the
    weight. compute(main, *others) is that weight, None where the shapes are none of this form."""

    what: str
    main: re.Pattern[str]
    others: tuple[str, ...]
    target: str
    compute: Callable[..., Tensor | None]


def _masked(original: Tensor, mask: Tensor) -> Tensor | None:
    return original * mask.to(original.dtype) if original.shape == mask.shape else None


def _weight_normed(direction: Tensor, size: Tensor) -> Tensor | None:
    """g · v / ‖v‖ over all dimensions but that of g (Salimans & Kingma 2016, equation 2)."""
    if size.dim() == 0:
        return torch._weight_norm(direction, size, -1)
    own = [one == 1 or one == other for one, other in zip(size.shape, direction.shape, strict=False)]
    wide = [place for place, one in enumerate(size.shape) if one != 1]
    if size.dim() != direction.dim() or not all(own) or len(wide) > 1:
        return None
    alone = next((place for place, length in enumerate(direction.shape) if length == 1), None)
    dim = wide[0] if wide else alone
    return None if dim is None else torch._weight_norm(direction, size, dim)


def _spectrally_normed(original: Tensor, left: Tensor, right: Tensor) -> Tensor | None:
    """W / (uᵀ W v), W a matrix by that dimension for which u is what W makes of v (Miyato et al. 2018, equation 8)."""
    if left.dim() != 1 or right.dim() != 1:
        return None
    matrices = [original.movedim(dim, 0).flatten(1) for dim in range(original.dim())]
    fitting = [matrix for matrix in matrices if matrix.shape == (len(left), len(right))]
    if not fitting:
        return None
    images = [torch.mv(matrix, right) for matrix in fitting]
    norms = [float(torch.dot(left, image)) for image in images]
    apart = [float((image - norm * left).norm()) for image, norm in zip(images, norms, strict=True)]
    return original / norms[apart.index(min(apart))]


_PARAMETRIZED = r"((?:.*\.)?)parametrizations\.([^.]+)\."
_FORMS = (
    _Form("the masks of torch.nn.utils.prune", re.compile(r"(.*)_orig"), (r"\1_mask",), r"\1", _masked),
    _Form("weight_norm", re.compile(r"(.*)_v"), (r"\1_g",), r"\1", _weight_normed),
    _Form(
        "weight_norm",
        re.compile(_PARAMETRIZED + "original1"),
        (r"\1parametrizations.\2.original0",),
        r"\1\2",
        _weight_normed,
    ),
    _Form("spectral_norm", re.compile(r"(.*)_orig"), (r"\1_u", r"\1_v"), r"\1", _spectrally_normed),
    _Form(
        "spectral_norm",
        re.compile(_PARAMETRIZED + "original"),
        (r"\1parametrizations.\2.0._u", r"\1parametrizations.\2.0._v"),
        r"\1\2",
        _spectrally_normed,
    ),
)


def put_together(contents: Contents) -> tuple[Contents, tuple[str, ...]]:
    """The contents with every weight that is there in parts as one tensor, and in words how many of which form."""
    tensors, groups = dict(contents.tensors), dict(contents.groups)
    counts: dict[str, int] = {}
    for name in contents.tensors:
        for form in _FORMS:
            if (match := form.main.fullmatch(name)) and name in tensors:
                parts = [name, *map(match.expand, form.others)]
                weight = _computed(form, [tensors.get(part) for part in parts])
                if weight is not None:
                    target = match.expand(form.target)
                    groups[target] = groups[name]
                    for part in parts:
                        del tensors[part]
                    tensors[target] = weight
                    counts[form.what] = counts.get(form.what, 0) + 1
    said = tuple(f"{what} worked into {count} tensor{'s' if count > 1 else ''}" for what, count in counts.items())
    return replace(contents, tensors=tensors, groups=groups), said


def _computed(form: _Form, parts: list[Tensor | None]) -> Tensor | None:
    """In the format of the first part, half of which is computed in float32."""
    usual = [part for part in parts if part is not None and part.layout == torch.strided and not part.is_meta]
    if len(usual) < len(parts) or not usual[0].is_floating_point() or any(part.is_quantized for part in usual):
        return None
    if usual[0].untyped_storage().nbytes() < usual[0].numel() * usual[0].element_size():
        return None  # one number said to be billions
    wide = torch.promote_types(usual[0].dtype, torch.float32)
    weight = form.compute(*(part.to(wide) for part in usual))
    return None if weight is None else weight.to(usual[0].dtype)
