"""|w|: the paper's score, Han et al. 2015."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn


class magnitude(Mapping[str, Tensor]):  # noqa: N801 - a method is called like a function
    """|w| of each layer, computed when asked for, so that one layer's scores are held at a time."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        self._layers = layers

    def __getitem__(self, name: str) -> Tensor:
        weight = self._layers[name].weight
        assert isinstance(weight, Tensor)
        return weight.detach().abs()

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)
