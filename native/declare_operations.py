"""Every operation, as src/secateur/network/operations declares it, for the reader of files in C++.

    python native/declare_operations.py   # after a change there: writes native/src/packfile/operations.inc

A test holds that file to what this prints.
"""

from __future__ import annotations

import json
import keyword
import math
from collections.abc import Iterable
from pathlib import Path

from secateur.network.formats import FORMATS
from secateur.network.operations import FUNCTIONS, OPERATIONS, Operation
from secateur.network.operations.elements import Each, Elements, OfWeight, Same, Stated
from secateur.network.operations.ranges import Choice, Extent, Extents, Flag, Range, Real, Reals, Whole, Wholes
from secateur.packfile.document import DICTIONARY

WRITTEN = Path(__file__).parent / "src" / "packfile" / "operations.inc"


def text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def listed(texts: Iterable[str]) -> str:
    return "{" + ", ".join(texts) + "}"


def flag(value: bool) -> str:
    return "true" if value else "false"


def number(value: float) -> str:
    if math.isinf(value):
        return "-kInfinite" if value < 0 else "kInfinite"
    return repr(float(value))


def range_of(held: Range) -> str:
    kind = "Range::Kind::k" + {"Scale": "Real", "Code": "Whole"}.get(type(held).__name__, type(held).__name__)
    if isinstance(held, Real):
        return f"{{{kind}, {number(held.least)}, {number(held.above)}, {number(held.most)}}}"
    if isinstance(held, Reals):
        return f"{{{kind}, {number(-math.inf)}, {number(held.above)}, {number(math.inf)}}}"
    if isinstance(held, Whole):
        return f"{{{kind}, {number(held.least)}, 0, {number(-1 if held.most is None else held.most)}}}"
    if isinstance(held, Wholes):
        return f"{{{kind}, {number(held.least)}, 0, -1, {-1 if held.length is None else held.length}}}"
    if isinstance(held, Choice):
        return f"{{{kind}, 0, 0, 0, -1, {listed(map(text, held.texts))}}}"
    assert isinstance(held, (Flag, Extents)) or held == Extent(), held
    return f"{{{kind}}}"


def prefix(value: str | None) -> str:
    return "Elements::kNone" if value is None else text(value)


def elements_of(held: Elements) -> str:
    kind = f".kind = Elements::Kind::k{type(held).__name__}"
    if isinstance(held, Same):
        return f"{{{kind}, .formats = {listed(map(text, held.formats))}, .quantised = {flag(held.quantised)}}}"
    if isinstance(held, Stated):
        prefixes = listed(map(prefix, held.inputs))
        return f"{{{kind}, .prefixes = {prefixes}, .output = {prefix(held.output)}, .beside = {prefix(held.beside)}}}"
    if isinstance(held, OfWeight):
        return f"{{{kind}, .output = {text(held.role)}}}"
    assert isinstance(held, Each)
    inputs = listed(listed(map(text, formats)) for formats in held.inputs)
    output = prefix(held.output if isinstance(held.output, str) else None)
    same_as = held.output if isinstance(held.output, int) else -1
    alike = listed(map(str, held.alike))
    return f"{{{kind}, .output = {output}, .inputs = {inputs}, .alike = {alike}, .same_as = {same_as}}}"


def operation(name: str, held: Operation) -> str:
    weights = listed(
        f"{{{text(role)}, {flag(each.optional)}, {listed(map(text, each.formats))}}}"
        for role, each in held.weights.items()
    )
    attributes = listed(f"{{{text(attribute)}, {range_of(each)}}}" for attribute, each in held.attributes.items())
    demands = held.demands.__name__ if held.demands else ""
    fields = [
        *(text(name), text(held.rule.__name__.lstrip("_")), text(demands)),
        *(str(-1 if held.inputs is None else held.inputs), str(held.more)),
        *(elements_of(held.element), weights, attributes),
        *(str(-1 if held.ordinary is None else int(held.ordinary)), text(held.matrix), str(held.axis)),
    ]
    return "        " + listed(fields) + ","


def function(name: str) -> str:
    op, texts = FUNCTIONS[name]
    parameters = [each for each in OPERATIONS[op].attributes if each not in texts]
    return f"        {{{text(name)}, {text(op)}, {listed(map(text, parameters))}}},"


def declarations() -> str:
    formats = [
        f"    {{{text(name)}, {each.bits}, {each.exponent}, {each.mantissa}, {flag(each.weighs)}}},"
        for name, each in FORMATS.items()
    ]
    lines = [
        "// Written by native/declare_operations.py from src/secateur/network/operations; not to be changed by hand.",
        "constexpr double kInfinite = std::numeric_limits<double>::infinity();",
        "",
        *("constexpr Format kFormats[] = {", *formats, "};", ""),
        *("constexpr std::string_view kKeywords[] = " + listed(map(text, keyword.kwlist)) + ";", ""),
        "std::vector<Declared> declared_operations() {",
        *("    return {", *(operation(name, each) for name, each in OPERATIONS.items()), "    };", "}", ""),
        "std::vector<DeclaredFunction> declared_functions() {",
        *("    return {", *map(function, FUNCTIONS), "    };", "}", ""),
        "constexpr char kDictionaryBytes[] =",
        *(f"    {text(DICTIONARY[at : at + 100].decode())}" for at in range(0, len(DICTIONARY), 100)),
        "    ;",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    WRITTEN.write_text(declarations(), encoding="utf-8")
