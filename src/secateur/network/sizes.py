"""Sizes with names: a dimension is a whole number, or an expression of lengths that are known when a network is called.

An expression is a sum of products of names, with whole factors, and of such sums divided by a whole number and rounded
down, as windows need it: `2·length + 1`, `⌊(height + 3)/4⌋`. Two that are always equal are nearly always written the
same way, and are then equal here; arithmetic that leaves no name gives an int.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from secateur.errors import GraphError

BATCH = "batch"
"""The name of the number of images."""
MOST_TERMS = 12
"""Of a sum: networks need a few, and products of long sums would take whatever time a file asks for."""
MOST_DEPTH = 8
"""Of divisions inside divisions."""
MOST_SIZE = 1 << 40
"""Of a number in an expression."""
MOST_TEXT = 512
"""Characters of an expression."""

_NAME = re.compile(r"[A-Za-z_]\w{0,62}", re.ASCII)
_TOKEN = re.compile(r"\s*([A-Za-z_]\w{0,62}|\d{1,13}|[-+·*⌊⌋/()])", re.ASCII)

Product = tuple["str | Floor", ...]
"""What is multiplied, sorted; empty for the number in a sum."""


@dataclass(frozen=True, slots=True)
class Floor:
    """⌊numerator / divisor⌋, the divisor above 1."""

    numerator: Size
    divisor: int

    def __str__(self) -> str:
        text = str(self.numerator)
        return f"⌊({text})/{self.divisor}⌋" if " " in text else f"⌊{text}/{self.divisor}⌋"


@dataclass(frozen=True, slots=True)
class Size:
    """A sum of products that holds a name. terms: (product, factor), sorted, no factor 0: one way to say each sum.

    Sums, differences and products with sizes and ints, and // by an int above 0, give a Size or an int. Raises
    GraphError for what would have more than MOST_TERMS terms, numbers beyond MOST_SIZE, or deeper divisions.
    """

    terms: tuple[tuple[Product, int], ...]

    def __add__(self, other: Dimension) -> Dimension:
        return _sum([*self.terms, *_terms(other)])

    def __radd__(self, other: int) -> Dimension:
        return self + other

    def __neg__(self) -> Dimension:
        return self * -1

    def __sub__(self, other: Dimension) -> Dimension:
        return self + other * -1

    def __rsub__(self, other: int) -> Dimension:
        return self * -1 + other

    def __mul__(self, other: Dimension) -> Dimension:
        pairs = [(left, right) for left in self.terms for right in _terms(other)]
        _demand(len(pairs) <= MOST_TERMS**2, "a size that is a sum of fewer products")
        return _sum((_sorted((*a, *b)), m * n) for (a, m), (b, n) in pairs)

    def __rmul__(self, other: int) -> Dimension:
        return self * other

    def __floordiv__(self, divisor: int) -> Dimension:
        _demand(type(divisor) is int and divisor > 0, "a size to be divided by a whole number above 0")
        whole = _sum((product, factor // divisor) for product, factor in self.terms)
        return whole + _fraction(_sum((product, factor % divisor) for product, factor in self.terms), divisor)

    def __str__(self) -> str:
        ordered = sorted(self.terms, key=lambda term: (not term[0], [str(each) for each in term[0]]))
        text = "".join(f" {'-' if factor < 0 else '+'} {_written(product, abs(factor))}" for product, factor in ordered)
        return text[3:] if text.startswith(" + ") else f"-{text[3:]}"

    __repr__ = __str__

    def __bool__(self) -> bool:
        raise self._unknown()

    def __index__(self) -> int:
        raise self._unknown()

    def __lt__(self, other: object) -> bool:
        raise self._unknown()

    __le__ = __gt__ = __ge__ = __lt__

    def __mod__(self, other: object) -> int:
        raise self._unknown()

    __rmod__ = __rfloordiv__ = __truediv__ = __rtruediv__ = __pow__ = __mod__

    def __float__(self) -> float:
        raise self._unknown()

    def _unknown(self) -> GraphError:
        """What has to be a number, or is compared with one, is not known before the graph is bound."""
        return GraphError(f"a size of {self}: expected a whole number; bind the graph to lengths first (Graph.bind)")

    @property
    def names(self) -> frozenset[str]:
        """The names in it, however deep."""
        return frozenset(name for product, _ in self.terms for each in product for name in _names(each))

    def bind(self, lengths: Mapping[str, Dimension]) -> Dimension:
        """With lengths in place of the names that are among them."""
        return _total(factor * _product(_bound(each, lengths) for each in product) for product, factor in self.terms)

    @property
    def line(self) -> tuple[int, str, int] | None:
        """(a, name, b) where it is a·name + b, so that it says what the name is; else None."""
        slopes = [(product, factor) for product, factor in self.terms if product]
        if len(slopes) != 1 or len(slopes[0][0]) != 1 or not isinstance(slopes[0][0][0], str):
            return None
        return slopes[0][1], slopes[0][0][0], dict(self.terms).get((), 0)


Dimension = int | Size


def named(name: str) -> Size:
    """A length of that name. Raises GraphError where it is no name: letters, digits and _, 63 at most."""
    if not _NAME.fullmatch(name):
        raise GraphError(f"a size named {name!r}: expected up to 63 letters, digits and _, no digit first")
    return Size((((name,), 1),))


def parse(text: str) -> Dimension:
    """What str gives of a size, read again; * may stand for ·. Raises GraphError for any other text."""
    return _Parser(text).whole()


def bind(size: Dimension, lengths: Mapping[str, Dimension]) -> Dimension:
    """A dimension with lengths in place of names."""
    return size.bind(lengths) if isinstance(size, Size) else size


def at_least(size: Dimension, least: Dimension) -> bool:
    """Whether a size is as large as another; where lengths decide about that, it may be, and is seen when bound."""
    apart = size - least
    return isinstance(apart, Size) or apart >= 0


def is_whole(value: object) -> bool:
    """Whether a size, or all sizes of a shape, are numbers."""
    return all(map(is_whole, value)) if isinstance(value, tuple) else not isinstance(value, Size)


def names_of(sizes: Iterable[Dimension]) -> frozenset[str]:
    return frozenset(name for size in sizes if isinstance(size, Size) for name in size.names)


def quotient(size: Dimension, divisor: Dimension, exact: bool = False) -> Dimension:
    """size // divisor. A divisor with names, or any if `exact`, has to be a product that divides every term.

    Raises GraphError.
    """
    if not isinstance(divisor, Size) and not (exact and isinstance(size, Size)):
        _demand(divisor > 0, "a size to be divided by a whole number above 0")
        return size // divisor
    terms = _terms(divisor)
    _demand(len(terms) == 1, "a size to be divided by a product")
    ((below, by),) = terms
    return _sum((_without(product, below), _divided(factor, by)) for product, factor in _terms(size))


def _without(product: Product, others: Product) -> Product:
    left = list(product)
    for each in others:
        _demand(each in left, "a size to be divided by what divides all of it")
        left.remove(each)
    return tuple(left)


def _divided(factor: int, by: int) -> int:
    _demand(factor % by == 0, "a size to be divided by what divides all of it")
    return factor // by


def written(shape: Iterable[Dimension]) -> str:
    """A shape for people: "(3, height, 2·width + 1)"."""
    return "(" + ", ".join(map(str, shape)) + ")"


def lengths_in(places: Sequence[tuple[str, Dimension, int]]) -> dict[str, int]:
    """Name → length, from what came in each place where a size was expected: (place, expected, came).

    Raises GraphError where a size came that cannot be, or two that do not go together.
    """
    found: dict[str, int] = {}
    for place, expected, came in places:
        line = expected.line if isinstance(expected, Size) else None
        if line is not None and line[1] not in found:
            slope, name, more = line
            length, rest = divmod(came - more, slope)
            if rest or length < 0:
                raise GraphError(f"{place}: expected {expected} of a whole {name}, got {came}")
            found[name] = length
    for place, expected, came in places:
        if bind(expected, found) != came:
            raise GraphError(f"{place}: expected {_explained(expected, found)}, got {came}")
    return found


def _explained(size: Dimension, lengths: Mapping[str, int]) -> str:
    """A size with what it is at these lengths."""
    if str(size) in lengths:
        return f"{size} = {lengths[str(size)]}"
    known = ", ".join(f"{name} is {lengths[name]}" for name in sorted(names_of([size])) if name in lengths)
    return f"{size} = {bind(size, lengths)} where {known}" if known else str(size)


def _terms(size: Dimension) -> tuple[tuple[Product, int], ...]:
    if isinstance(size, Size):
        return size.terms
    return (((), size),) if size else ()


def _sum(terms: Iterable[tuple[Product, int]]) -> Dimension:
    found: dict[Product, int] = {}
    for product, factor in terms:
        found[product] = found.get(product, 0) + factor
    left = {product: factor for product, factor in found.items() if factor}
    if not any(left):
        return left.get((), 0)
    _demand(len(left) <= MOST_TERMS, "a size that is a sum of fewer products")
    _demand(all(abs(factor) <= MOST_SIZE for factor in left.values()), f"a size of numbers up to {MOST_SIZE}")
    _demand(all(len(product) <= MOST_DEPTH for product in left), "a size that is a product of fewer lengths")
    return Size(tuple(sorted(left.items(), key=lambda term: [str(each) for each in term[0]])))


def _fraction(rest: Dimension, divisor: int) -> Dimension:
    """⌊rest / divisor⌋ where every factor in rest is from 0 to divisor − 1."""
    if not isinstance(rest, Size):
        return rest // divisor
    more = dict(rest.terms).get((), 0)
    common = math.gcd(divisor, *(factor for product, factor in rest.terms if product))
    if common > 1:  # ⌊(g·x + b) / (g·d)⌋ = ⌊(x + ⌊b/g⌋) / d⌋
        smaller = _sum((product, factor // common) for product, factor in rest.terms)
        return smaller // (divisor // common) if divisor > common else smaller
    inner = [product for product, _ in rest.terms if product]
    if len(inner) == 1 and len(inner[0]) == 1 and isinstance(inner[0][0], Floor) and dict(rest.terms)[inner[0]] == 1:
        below = inner[0][0]  # ⌊(⌊x/a⌋ + b) / d⌋ = ⌊(x + a·b) / (a·d)⌋
        return (below.numerator + below.divisor * more) // (below.divisor * divisor)
    floor = Floor(rest, divisor)
    _demand(_depth(floor) <= MOST_DEPTH, "a size with fewer divisions inside one another")
    return Size((((floor,), 1),))


def _depth(part: str | Floor) -> int:
    if isinstance(part, str):
        return 0
    return 1 + max(_depth(each) for product, _ in part.numerator.terms for each in product)


def _sorted(product: Product) -> Product:
    return tuple(sorted(product, key=str))


def _names(part: str | Floor) -> Iterable[str]:
    return (part,) if isinstance(part, str) else part.numerator.names


def _bound(part: str | Floor, lengths: Mapping[str, Dimension]) -> Dimension:
    if isinstance(part, str):
        return lengths[part] if part in lengths else named(part)
    return part.numerator.bind(lengths) // part.divisor


def _total(sizes: Iterable[Dimension]) -> Dimension:
    zero: Dimension = 0
    return reduce(lambda left, right: left + right, sizes, zero)


def _product(sizes: Iterable[Dimension]) -> Dimension:
    one: Dimension = 1
    return reduce(lambda left, right: left * right, sizes, one)


def _written(product: Product, factor: int) -> str:
    parts = [str(each) for each in product]
    return "·".join([str(factor), *parts] if factor != 1 or not parts else parts)


def _demand(holds: bool, expected: str) -> None:
    if not holds:
        raise GraphError(f"sizes with names: expected {expected}")


class _Parser:
    """sum: ["-"] product {("+" | "-") product}; product: factor {"·" factor}; factor: number, name, or "⌊" sum "/"
    number "⌋", the sum in brackets where it has several products."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = self._tokens()
        self.depth = 0
        self.next = next(self.tokens)

    def whole(self) -> Dimension:
        size = self._sum()
        self._expect("")
        return size

    def _tokens(self) -> Iterator[str]:
        at, end = 0, len(self.text.rstrip())
        self._check(0 < end <= MOST_TEXT)
        while at < end:
            found = _TOKEN.match(self.text, at)
            if found is None:
                raise self._error()
            yield found[1]
            at = found.end()
        yield ""

    def _take(self) -> str:
        taken = self.next
        self.next = next(self.tokens, "")
        return taken

    def _expect(self, token: str) -> None:
        self._check(self.next == token)
        self._take()

    def _sum(self) -> Dimension:
        sign = self._sign() if self.next == "-" else 1
        size = self._product() * sign
        while self.next in ("+", "-"):
            sign = self._sign()
            size = size + self._product() * sign
        return size

    def _sign(self) -> int:
        return -1 if self._take() == "-" else 1

    def _product(self) -> Dimension:
        size = self._factor()
        while self.next in ("·", "*"):
            self._take()
            size = size * self._factor()
        return size

    def _factor(self) -> Dimension:
        token = self._take()
        if token == "⌊":
            return self._floor()
        self._check(token[:1].isalnum() or token[:1] == "_")
        return int(token) if token.isdigit() else named(token)

    def _floor(self) -> Dimension:
        self.depth += 1
        self._check(self.depth <= MOST_DEPTH)
        several = self.next == "("
        if several:
            self._take()
        size = self._sum()
        if several:
            self._expect(")")
        self._expect("/")
        divisor = self._take()
        self._check(divisor.isdigit() and int(divisor) > 0)
        self._expect("⌋")
        self.depth -= 1
        return size // int(divisor)

    def _check(self, holds: bool) -> None:
        if not holds:
            raise self._error()

    def _error(self) -> GraphError:
        return GraphError(f"a size written {self.text[:80]!r}: expected one such as 2·length + 1 or ⌊(height + 3)/4⌋")
