"""What an attribute of an operation may be: each range says what it expected of a value that is none of its own."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from secateur.network.nodes import Attribute
from secateur.network.quantisation import LARGEST_SCALE, SMALLEST_SCALE
from secateur.network.sizes import Dimension, Size, at_least


@dataclass(frozen=True, slots=True)
class Real:
    """A finite number in [least, most] and above `above`. typical: such as networks in use have."""

    least: float = -math.inf
    above: float = -math.inf
    most: float = math.inf
    typical: tuple[float, ...] = ()

    def expected(self, name: str, value: Attribute) -> str:
        """What was expected in place of a value, nothing where it is one of these."""
        if not (type(value) in (int, float) and abs(value) <= sys.float_info.max):  # type: ignore[arg-type]
            return f"{name} to be a finite number"
        if value < self.least:  # type: ignore[operator]
            return f"{name} of at least {self.least:g}"
        if value > self.most:  # type: ignore[operator]
            return f"{name} of at most {self.most:g}"
        return "" if value > self.above else f"{name} above {self.above:g}"  # type: ignore[operator]

    def __str__(self) -> str:
        bounds = [(self.least, f"from {self.least:g} on"), (self.above, f"above {self.above:g}")]
        return ", ".join(text for bound, text in bounds if math.isfinite(bound))


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number in [least, most]; most None: as far as the shapes at hand allow."""

    least: int = 0
    most: int | None = None

    def expected(self, name: str, value: Attribute) -> str:
        most = math.inf if self.most is None else self.most
        good = type(value) is int and self.least <= value <= most
        return "" if good else f"{name} in [{self.least}, {most}]"

    def __str__(self) -> str:
        return f"from {self.least} on" if self.most is None else f"from {self.least} to {self.most}"


@dataclass(frozen=True, slots=True)
class Scale(Real):
    """What a step between integers is worth: a number with which float32 can divide."""

    least: float = SMALLEST_SCALE
    most: float = LARGEST_SCALE

    def __str__(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class Code(Whole):
    """An integer of eight bits, with a sign or without."""

    least: int = -128
    most: int | None = 255

    def __str__(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class Extent:
    """A size in [least, most], with names or without; most None: as far as the shapes at hand allow."""

    least: Dimension = 0
    most: Dimension | None = None

    def expected(self, name: str, value: Attribute) -> str:
        good = _is_size(value) and at_least(value, self.least)  # type: ignore[arg-type]
        good = good and (self.most is None or at_least(self.most, value))  # type: ignore[arg-type]
        return "" if good else f"{name} in [{self.least}, {math.inf if self.most is None else self.most}]"

    def __str__(self) -> str:
        return f"from {self.least} on"


@dataclass(frozen=True, slots=True)
class Extents:
    """Any number of sizes, with names or without, each from 0 on."""

    def expected(self, name: str, value: Attribute) -> str:
        good = isinstance(value, tuple) and all(_is_size(part) and at_least(part, 0) for part in value)  # type: ignore[arg-type]
        return "" if good else f"{name} to be some whole numbers from 0 on"

    def __str__(self) -> str:
        return "some, from 0 on"


def _is_size(value: object) -> bool:
    return type(value) is int or isinstance(value, Size)


@dataclass(frozen=True, slots=True)
class Wholes:
    """So many whole numbers (None: any number of them), each from `least` on. each: what they are, in this order."""

    length: int | None
    least: int = 0
    each: str = ""

    def expected(self, name: str, value: Attribute) -> str:
        good = isinstance(value, tuple) and all(type(part) is int and part >= self.least for part in value)
        good = good and (self.length is None or len(value) == self.length)  # type: ignore[arg-type]
        return "" if good else f"{name} to be {self.length or 'some'} whole numbers from {self.least} on"

    def __str__(self) -> str:
        return self.each or f"{self.length or 'some'}, from {self.least} on"


@dataclass(frozen=True, slots=True)
class Reals:
    """Any number of finite numbers above `above`."""

    above: float = -math.inf

    def expected(self, name: str, value: Attribute) -> str:
        one = Real(above=self.above)
        good = isinstance(value, tuple) and not any(one.expected(name, part) for part in value)
        above = f" above {self.above:g}" if math.isfinite(self.above) else ""
        return "" if good else f"{name} to be some finite numbers{above}"

    def __str__(self) -> str:
        return f"some, above {self.above:g}" if math.isfinite(self.above) else "some"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few texts."""

    texts: tuple[str, ...]

    def expected(self, name: str, value: Attribute) -> str:
        return "" if value in self.texts else f"{name} to be {' or '.join(map(repr, self.texts))}"

    def __str__(self) -> str:
        return " or ".join(f"`{text}`" for text in self.texts)


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    def expected(self, name: str, value: Attribute) -> str:
        return "" if type(value) is bool else f"{name} to be true or false"

    def __str__(self) -> str:
        return "`true` or `false`"


Range = Real | Reals | Whole | Wholes | Extent | Extents | Choice | Flag
