"""How much of which weights goes: one ratio in a scope, or one for each layer, read once from what people write."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import SupportsFloat

from secateur.errors import UsageError
from secateur.records.options import check_value
from secateur.records.patterns import UNSTRUCTURED, WholeSets, check_pattern, check_pattern_in_scope, parse_pattern
from secateur.support.quantities import as_float, is_share

SCOPES = ("layer", "global", "erk", "lamp")
LIKE = "like:"


@dataclass(frozen=True, slots=True)
class Scope:
    """Over which weights one ratio is taken: of each layer, of all, or by a rule of shapes or scores.

    kind: one of SCOPES. like: each layer loses the share that it would lose to this method in the scope; "" where the
    method that scores decides.
    """

    kind: str
    like: str = ""

    def __str__(self) -> str:
        return f"{LIKE}{self.like}/{self.kind}" if self.like else self.kind


LAYER = Scope("layer")


def parse_scope(text: str) -> Scope:
    """The scope that a text names. Raises UsageError where it names none."""
    like, _, kind = text.removeprefix(LIKE).rpartition("/") if text.startswith(LIKE) else ("", "", text)
    nested = bool(like) == text.startswith(LIKE)
    check_value("scope", text, kind in SCOPES and nested, f"one of {', '.join(SCOPES)}, or like:METHOD/SCOPE")
    return Scope(kind, like)


def methods_of(method: str, scope: str) -> tuple[str, ...]:
    """The methods that decide on a cut: the one that scores, and the one that a scope is like.

    scope may also be the name of ratios that are given layer by layer, which no method decides on.
    """
    other = parse_scope(scope).like if scope.startswith(LIKE) else method
    return (method,) if other == method else (method, other)


@dataclass(frozen=True, slots=True)
class Cut:
    """What share of the weights is zero afterwards: `ratio` in a scope, or each layer's in by_layer, others whole.

    by_layer: (layer, ratio) each; with them the ratio is what they come to over all layers, where that is known.
    """

    ratio: float
    scope: Scope = LAYER
    by_layer: tuple[tuple[str, float], ...] | None = None

    def part(self, part: float) -> Cut:
        """After a part of an exponential schedule of densities (Tanaka et al. 2020, algorithm 1)."""

        def share(whole: float) -> float:
            return whole if part == 1 else 1 - (1 - whole) ** part

        layers = self.by_layer and tuple((name, share(ratio)) for name, ratio in self.by_layer)
        return dataclasses.replace(self, ratio=share(self.ratio), by_layer=layers)

    def to(self, ratio: float) -> Cut:
        """The same to another ratio; ratios layer by layer are approached in step."""
        if self.by_layer is None:
            return dataclasses.replace(self, ratio=ratio)
        if not self.ratio:
            return Cut(ratio)
        return Cut(ratio, by_layer=tuple((name, own * ratio / self.ratio) for name, own in self.by_layer))

    def check(self, pattern: str | Mapping[str, str]) -> None:
        """Raises UsageError for a share outside [0, 1), or one that a pattern cannot have; 1 empties a layer that is
        named. pattern: by layer where every layer has a ratio of its own."""
        several = self.by_layer is not None
        if not isinstance(pattern, str | Mapping) or not all(isinstance(each, str) for each in _texts(pattern)):
            raise UsageError(
                f"pattern {pattern!r}: expected a text such as 1x4, or one for each layer as in {{'fc1': '1x4'}}"
            )
        patterns = pattern if not isinstance(pattern, str) else {}
        self._check_patterns(patterns)
        for name, share in self.by_layer if self.by_layer is not None else [("", self.ratio)]:
            if not is_share(share) and not (several and share == 1 and not isinstance(share, bool)):
                whole = ", or 1 for a layer that may be emptied" if several else ""
                raise UsageError(
                    f"ratio {share!r}: expected in [0, 1){whole}: the share of weights to zero, so 0.9 for 90 %"
                )
            check_pattern(pattern if isinstance(pattern, str) else pattern.get(name, UNSTRUCTURED), share)
        if isinstance(pattern, str) and not several:
            check_pattern_in_scope(pattern, str(self.scope))

    def _check_patterns(self, patterns: Mapping[str, str]) -> None:
        """Of those that are given by layer."""
        if patterns and self.by_layer is None:
            raise UsageError("patterns by layer: expected a ratio for each layer too, as in {'fc1': 0.9, 'fc2': 0.8}")
        ratios = dict(self.by_layer or ())
        if patterns and not ratios:
            raise UsageError("patterns by layer: expected a ratio for each of them too, got none")
        for name, text in patterns.items():
            if name not in ratios:
                raise UsageError(
                    f"pattern of {name!r}: expected the name of a layer with a ratio, one of {', '.join(ratios)}"
                )
            if isinstance(parse_pattern(text), WholeSets):
                raise UsageError(
                    f"pattern {text} of {name!r}: whole sets go in all layers alike: give pattern={text!r} alone"
                )

    def __str__(self) -> str:
        return f"ratio {self.ratio:g} (scope {self.scope})" if self.by_layer is None else "the ratio of the layer"


def asked_cut(ratio: SupportsFloat | Mapping[str, SupportsFloat], scope: str) -> Cut:
    """The cut that a ratio, or a ratio for each layer by name, asks for. Raises UsageError for a text that is no
    scope."""
    where = parse_scope(scope)
    if isinstance(ratio, Mapping):
        return Cut(0.0, by_layer=tuple((name, as_float(each)) for name, each in ratio.items()))
    return Cut(as_float(ratio), where)


def _texts(pattern: object) -> list[object]:
    return [*pattern.keys(), *pattern.values()] if isinstance(pattern, Mapping) else [pattern]
