"""What the values of an operation hold, as it declares it: numbers of a format, or integers that stand for others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from secateur.errors import GraphError
from secateur.network.formats import FORMATS, INTEGERS
from secateur.network.nodes import Node
from secateur.network.quantisation import Quantisation, described, in_single

Element = str | Quantisation
"""The name of a format, or what is quantised and how."""


def format_of(element: Element) -> str:
    return element if isinstance(element, str) else element.element


@dataclass(frozen=True, slots=True)
class Same:
    """Inputs and output hold the same, of one of some formats. quantised: or integers that stand for others."""

    formats: tuple[str, ...]
    quantised: bool = False

    def made(self, node: Node, inputs: Sequence[Element], weights: Mapping[str, str]) -> Element:
        """What a node's output holds. inputs: what they hold. weights: formats, by role. Raises GraphError."""
        expected = inputs[0] if inputs and self._takes(inputs[0]) else self.formats[0]
        for came in inputs:
            if came != expected:
                raise GraphError(f"node {node.name!r} ({node.op}): expected inputs of {expected}, got {came}")
        return expected

    def _takes(self, element: Element) -> bool:
        return element in self.formats if isinstance(element, str) else self.quantised


@dataclass(frozen=True, slots=True)
class Stated:
    """Inputs and output hold what a node's attributes say.

    inputs: for each the prefix of the attributes that are its `scale` and `zero_point`, None where it is float32.
    output: likewise, with `element` for its format. beside: the prefix of one more input, which may be absent and is
    float32 where the output is.
    """

    inputs: tuple[str | None, ...]
    output: str | None
    beside: str | None = None

    def made(self, node: Node, inputs: Sequence[Element], weights: Mapping[str, str]) -> Element:
        """As of Same."""
        made = self._output(node)
        beside = None if made == "float32" else self.beside
        for prefix, came in zip((*self.inputs, beside), inputs, strict=False):
            expected = "float32" if prefix is None else _stated(node, prefix, came)
            if came != expected:
                raise GraphError(f"node {node.name!r} ({node.op}): expected an input of {expected}, got {came}")
        return made

    def _output(self, node: Node) -> Element:
        element = node.attributes.get("element", "float32")
        if self.output is None or element == "float32":
            return "float32"
        return Quantisation(str(element), node.number(f"{self.output}scale"), node.whole(f"{self.output}zero_point"))


def _stated(node: Node, prefix: str, came: Element) -> Element:
    """What came, where it is quantised as attributes say; else the words for what they say."""
    scale, zero_point = in_single(node.number(f"{prefix}scale")), node.whole(f"{prefix}zero_point")
    fits = isinstance(came, Quantisation) and (came.scale, came.zero_point) == (scale, zero_point)
    return came if fits else described(scale, zero_point)


@dataclass(frozen=True, slots=True)
class Each:
    """Each input holds one of formats of its own, the output what is said here.

    inputs: for each the formats that it may have. alike: places of inputs that hold the same. output: a format, the
    place of an input that holds the same, or None where the node's attribute `element` says it.
    """

    inputs: tuple[tuple[str, ...], ...]
    output: str | int | None
    alike: tuple[int, ...] = ()

    def made(self, node: Node, inputs: Sequence[Element], weights: Mapping[str, str]) -> Element:
        """As of Same."""
        for formats, came in zip(self.inputs, inputs, strict=False):
            if came not in formats:
                raise GraphError(
                    f"node {node.name!r} ({node.op}): expected an input of {' or '.join(formats)}, got {came}"
                )
        same = [inputs[place] for place in self.alike]
        if len(set(same)) > 1:
            raise GraphError(f"node {node.name!r} ({node.op}): expected inputs of {same[0]}, got {same[1]}")
        if isinstance(self.output, int):
            return inputs[self.output]
        return str(node.attributes["element"]) if self.output is None else self.output


@dataclass(frozen=True, slots=True)
class OfWeight:
    """No inputs; the output holds what a weight does, numbers of any precision as float32."""

    role: str

    def made(self, node: Node, inputs: Sequence[Element], weights: Mapping[str, str]) -> Element:
        """As of Same."""
        held = weights[self.role]
        return "float32" if FORMATS[held].mantissa else held


Elements = Same | Stated | Each | OfWeight
FLOAT = Same(("float32",))
FLOAT_OR_QUANTISED = Same(("float32",), quantised=True)
ANY_FORMAT = Same(tuple(FORMATS))
ANY = Same(tuple(FORMATS), quantised=True)
NUMBERS = Same(("float32", *INTEGERS))
TRUTH = Same(("bool",))
