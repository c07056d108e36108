"""What a .secateur file holds, weight by weight, for people and tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from secateur.network.formats import WEIGHT_FORMATS
from secateur.network.graph import Shape, Weight
from secateur.network.limits import Limits
from secateur.packfile import container
from secateur.packfile.codecs import NAMES
from secateur.packfile.document import Metadata, Stored, minor_version
from secateur.packfile.reading import LIMIT, read_packed


@dataclass(frozen=True, slots=True)
class WeightDescription:
    """One weight. bytes: in the file, checksum included. bound: see bound_bytes. error: 0 where every bit is kept."""

    name: str
    shape: Shape
    dtype: str
    density: float
    codec: str
    bytes: int
    bound: float
    error: float

    @property
    def share(self) -> float:
        """bytes ÷ bound; below 1 is better than zeros and values that know nothing of each other would allow."""
        return self.bytes / self.bound if self.bound else math.inf


@dataclass(frozen=True, slots=True)
class Description:
    """A whole file, every checksum verified. bytes: of the file, headers and graph included."""

    version: str
    metadata: Metadata
    nodes: int
    weights: tuple[WeightDescription, ...]
    bytes: int

    @property
    def dense_bytes(self) -> int:
        return sum(math.prod(each.shape) * WEIGHT_FORMATS[each.dtype].carrier.itemsize for each in self.weights)

    @property
    def bound(self) -> float:
        return sum(each.bound for each in self.weights)

    @property
    def share(self) -> float:
        return self.bytes / self.bound if self.bound else math.inf

    @property
    def error(self) -> float:
        return max((each.error for each in self.weights), default=0.0)


def describe(path: str | Path, *, limit: int | None = LIMIT, limits: Limits | None = None) -> Description:
    """Read a file whole to say what is in it. Raises FormatError as read does."""
    packed = read_packed(path, limit=limit, limits=limits)
    weights = tuple(_described(each, packed.graph.weights[each.name]) for each in packed.stored)
    version = f"{container.MAJOR}.{minor_version(packed.graph)}"
    return Description(version, packed.metadata, len(packed.graph.nodes), weights, packed.size)


def _described(stored: Stored, weight: Weight) -> WeightDescription:
    density = weight.nonzero / weight.count if weight.count else 0.0
    name, codec = stored.name, NAMES[stored.codec]
    size, bound = stored.size + 4, bound_bytes(weight)
    return WeightDescription(name, stored.shape, stored.dtype, density, codec, size, bound, stored.error)


def bound_bytes(weight: Weight) -> float:
    """n · (H(density) + density · bits of a value) / 8: what zeros at random places and values at random would take."""
    if weight.count == 0:
        return 0.0
    density = weight.nonzero / weight.count
    entropy = -sum(p * math.log2(p) for p in (density, 1 - density) if p > 0)
    return weight.count * (entropy + density * weight.bits.itemsize * 8) / 8
