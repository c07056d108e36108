"""How a network is called and what it gives, through the file and back."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secateur import packfile
from secateur.errors import FormatError, GraphError, RunError
from secateur.network.building import Builder
from secateur.network.graph import Graph
from secateur.network.signature import Fixed, Nest, Signature, Tree, Value, nest
from secateur.packfile import document

HEADS: Tree = Nest(
    "dict",
    (
        (
            "heads",
            Nest(
                "named tuple",
                (("boxes", Value(0)), ("scores", Nest("list", ((0, Value(1)), (1, Fixed(None)))))),
                "Heads",
            ),
        ),
        ("state", Nest("record", (("hidden", Value(2)), ("loss", Fixed(None))))),
        (3, Nest("tuple", ((0, Fixed("text")), (1, Fixed(2.5))))),
    ),
)
SIGNATURE = Signature(
    (("ids", Value(0)), ("flag", Fixed(False)), ("states", Nest("tuple", ((0, Value(1)), (1, Value(2)))))), HEADS, 4
)


ARRAYS = tuple(np.zeros(size) for size in (1, 2, 3))


def three(signature: Signature | None) -> Graph:
    build = Builder()
    values = [build.input(name, (2,)) for name in ("a", "b", "c")]
    return build.graph([build.emit("relu", value) for value in values], signature)


def test_a_signature_comes_back_from_a_file(tmp_path: Path) -> None:
    graph = three(SIGNATURE)
    packfile.write(graph, tmp_path / "net")
    assert packfile.read(tmp_path / "net").signature == graph.signature == SIGNATURE
    assert packfile.describe(tmp_path / "net").version == "1.3"


def test_what_goes_without_saying_is_not_in_the_file(tmp_path: Path) -> None:
    signature = Signature(
        (("a", Value(0)), ("b", Value(1)), ("c", Value(2)), ("flag", Fixed(False))), Signature.plain("abc", 3).outputs
    )
    graph = three(signature)
    packfile.write(graph, tmp_path / "net")
    assert graph.signature is None
    assert packfile.describe(tmp_path / "net").version == "1.0"


def test_outputs_are_nested_as_they_were() -> None:
    found = nest(HEADS, [10, 11, 12])
    assert found["heads"] == (10, [11, None])
    assert (type(found["heads"]).__name__, found["heads"].boxes) == ("Heads", 10)
    assert (found["state"].hidden, found["state"]["loss"], found["state"][0]) == (12, None, 12)
    assert found[3] == ("text", 2.5)
    with pytest.raises(AttributeError, match="no entry 'logits': expected hidden, loss"):
        _ = found["state"].logits


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ((ARRAYS[0], ARRAYS[1:]), {}),
        ((ARRAYS[0], False, list(ARRAYS[1:])), {}),
        ((ARRAYS[0], None, ARRAYS[1:]), {}),
        ((), {"states": ARRAYS[1:], "ids": ARRAYS[0], "other": None}),
        ((ARRAYS[0],), {"states": {0: ARRAYS[1], 1: ARRAYS[2]}, "flag": False}),
    ],
)
def test_arguments_are_taken_by_position_and_by_name(given: tuple[Any, ...], named: dict[str, Any]) -> None:
    assert [len(each) for each in SIGNATURE.arrays(given, named)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("given", "named", "message"),
    [
        ((), {"ids": 1}, "input 'states' is missing: expected ids, states"),
        ((), {"ids": 1, "mask": 2}, "no input 'mask': expected ids, states, those of the example"),
        (([1],), {"ids": 1}, "input 'ids' is given twice"),
        (([1], [2, 3], [4]), {}, "expected 2 inputs, got 3"),
        (([1], [2, 3, 4]), {}, "input 'states': expected a tuple of 2, got list of 3"),
        (([1], [2, 3]), {"flag": True}, "input 'flag': expected False as .*, got True"),
    ],
)
def test_other_arguments_are_refused_in_one_line(given: Any, named: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        SIGNATURE.arrays(given, named)


@pytest.mark.parametrize(
    "wrong",
    [
        Signature((("a", Value(0)),), Value(0)),
        Signature(tuple((name, Value(0)) for name in "abc"), Value(0)),
        Signature(Signature.plain("abc", 3).arguments, Value(3)),
        Signature(Signature.plain("abc", 3).arguments, Value(0), 0),
    ],
)
def test_a_signature_of_another_graph_is_refused(wrong: Signature) -> None:
    with pytest.raises(GraphError, match="a signature of"):
        three(wrong)


@pytest.mark.parametrize(
    "tree",
    [
        -1,
        "0",
        [0],
        {"is": [1]},
        {"kind": "set", "parts": []},
        {"kind": "list"},
        {"kind": "list", "parts": [[0]]},
        {"kind": "dict", "parts": [["a", 0], ["a", 1]]},
        {"kind": "named tuple", "parts": [["import", 0]], "name": "Heads"},
        {"kind": "named tuple", "parts": [["a", 0]], "name": "os.system('')"},
        {"kind": "dict", "parts": [[1.5, 0]]},
    ],
)
def test_a_strangers_signature_is_read_with_care(tree: Any) -> None:
    with pytest.raises(FormatError):
        document.from_bytes(described(tree))
    nested: Any = 0
    for _ in range(20):
        nested = {"kind": "list", "parts": [[0, nested]]}
    with pytest.raises(FormatError, match="more than 16 containers in each other"):
        document.from_bytes(described(nested))


def described(tree: Any) -> bytes:
    value = {"producer": "", "inputs": {"x": [2]}, "outputs": ["x"], "nodes": [], "weights": []}
    text = json.dumps({**value, "signature": {"arguments": [["x", 0]], "outputs": tree}}).encode()
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, document.DICTIONARY)
    return squeeze.compress(text) + squeeze.flush()
