"""Files from strangers: whatever is in them, there is a FormatError and nothing else, and soon."""

from __future__ import annotations

import copy
import ctypes
import json
import re
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import c_library
from packed import forge, linear, pruned, quantised_linear, reseal, squeeze
from secateur import packfile
from secateur.errors import FormatError
from secateur.network.graph import Weight
from secateur.packfile import codecs, container


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.secateur"
    packfile.write(linear(pruned(5, 20, density=0.3), pruned(5, density=1)), path)
    return path


@pytest.fixture
def quantised(tmp_path: Path) -> Path:
    """weights w, b and s; quantise, quantised_linear, dequantise."""
    path = tmp_path / "quantised.secateur"
    weight = np.random.default_rng(0).integers(-128, 128, (5, 60)).astype(np.int8)
    packfile.write(quantised_linear(np.where(pruned(5, 60), weight, np.int8(0)), np.arange(5, dtype=np.int32)), path)
    return path


@pytest.fixture
def little_memory() -> Iterator[None]:
    """No test here may make Python allocate much, whatever a file claims."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 << 20


@cache
def library() -> ctypes.CDLL | None:
    """The reader in C++, where it was built."""
    path = c_library.found()
    return None if path is None else c_library.load(path)


def is_refused_in_c(path: Path) -> bool:
    """True where there is no library."""
    native = library()
    if native is None:
        return True
    try:
        c_library.open_model(native, path)
    except c_library.Refused as error:
        return error.status == c_library.FORMAT
    return False


def test_the_reader_in_c_is_there_to_be_held_to_all_of_this() -> None:
    if library() is None:
        pytest.skip("libsecateur was not built: make native builds it; only Python's reader is tested")


def refused(path: Path) -> str:
    """The error's text, with every way of opening a file; C's reader refuses it, too."""
    assert is_refused_in_c(path)
    texts = set()
    for open_it in (packfile.read, packfile.describe, packfile.unpack):
        with pytest.raises(FormatError) as caught:
            open_it(path)
        texts.add(str(caught.value))
    assert all(text.startswith(f"{path}: ") and "\n" not in text for text in texts)
    return texts.pop()


def is_refused(path: Path, data: bytes) -> bool:
    path.unlink()  # a new file is written faster than an old one is overwritten
    path.write_bytes(data)
    try:
        packfile.read(path)
    except FormatError:
        return is_refused_in_c(path)
    return False


def test_every_truncation_is_refused(small: Path) -> None:
    data = small.read_bytes()
    assert all(is_refused(small, data[:size]) for size in range(len(data)))


def test_every_flipped_bit_is_refused(small: Path) -> None:
    data = small.read_bytes()
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert is_refused(small, bytes(flipped)), (bit // 8, bit % 8)
    assert not is_refused(small, data)


def test_anything_added_is_refused(small: Path) -> None:
    small.write_bytes(small.read_bytes() + b"\0")
    assert "cut short or something was added" in refused(small)


def test_a_damaged_weight_is_named(tmp_path: Path) -> None:
    path = tmp_path / "net.secateur"
    packfile.write(linear(pruned(300, 784)), path)
    data = bytearray(path.read_bytes())
    data[-1000] ^= 4
    path.write_bytes(data)
    assert refused(path) == f"{path}: weight 'fc.weight': a checksum does not match: the file is damaged, get it again"


def header_of(path: Path) -> tuple[bytes, bytes]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return data[8 : 8 + length], data[8 + length :]


def entry(start: int, stop: int, **changes: Any) -> dict[str, Any]:
    return {"dtype": "U8", "shape": [stop - start], "data_offsets": [start, stop], **changes}


def with_header(path: Path, text: bytes) -> Path:
    _, rest = header_of(path)
    path.write_bytes(reseal(text) + rest)
    return path


def listing(path: Path, make: Callable[[int, int], Any]) -> Path:
    """A file whose list of tensors is what `make` says of (bytes of the graph, bytes in all)."""
    text, rest = header_of(path)
    graph = json.loads(text)["secateur.graph"]["shape"][0]
    made = make(graph, len(rest))
    listed = made if isinstance(made, bytes) else json.dumps(made, separators=(",", ":")).encode()
    return with_header(path, text[:43] + listed[1:])


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(
    "make",
    [
        lambda graph, size: {"secateur.graph": entry(0, graph), "secateur.pool": entry(0, size)},  # overlapping
        lambda graph, size: {"secateur.graph": entry(0, graph), "secateur.pool": entry(graph - 1, size)},
        lambda graph, size: {
            "secateur.graph": entry(0, graph),
            "secateur.pool": entry(graph + 1, size),
        },  # a gap
        lambda graph, size: {
            "secateur.pool": entry(graph, size),
            "secateur.graph": entry(0, graph),
        },  # out of order
        lambda graph, size: {"secateur.graph": entry(0, graph), "secateur.pool": entry(graph, size + 1)},
        lambda graph, size: {"secateur.graph": entry(0, graph), "secateur.pool": entry(graph, 2**63)},
        lambda graph, size: {"secateur.graph": entry(0, graph), "secateur.pool": entry(graph, 2**64 + size)},
        lambda graph, size: {
            "secateur.graph": entry(0, graph),
            "secateur.pool": entry(graph, size, dtype="F32"),
        },
        lambda graph, size: {
            "secateur.graph": entry(0, graph),
            "secateur.pool": entry(graph, size, shape=[1, 9]),
        },
        lambda graph, size: {"secateur.graph": entry(0, graph), "secateur.pool": entry(graph, size, extra=1)},
        lambda graph, size: {
            "secateur.graph": entry(0, graph),
            "secateur.pool": entry(graph, size, shape=[True]),
        },
        lambda graph, size: {"secateur.graph": entry(0, graph), "secateur.pool": [graph, size]},
        lambda graph, size: {
            "secateur.graph": entry(0, graph),
            "x": entry(graph, graph + 3),
            "y": entry(graph + 3, size),
        },
        lambda graph, size: {"secateur.graph": entry(0, graph), "stranger": entry(graph, size)},
        lambda graph, size: {"secateur.pool": entry(0, size)},
        lambda graph, size: {},
        lambda graph, size: b'{"a":{},"a":{}}',
        lambda graph, size: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        lambda graph, size: b'{"a":' + b"[" * 100_000,
        lambda graph, size: b'{"a":' + b"9" * 5000 + b"}",
        lambda graph, size: b'{"a":NaN}',
        lambda graph, size: b'{"a":1e999}',
        lambda graph, size: b'{"\\ud800":{}}',
        lambda graph, size: b'{"\xff":{}}',
        lambda graph, size: b"{",
        lambda graph, size: b"{}{}",
    ],
)
def test_headers_that_make_no_sense_are_refused(make: Callable[[int, int], Any], small: Path) -> None:
    refused(listing(small, make))


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("length", [0, 1, 40, 2**31, 2**63, 2**64 - 1])
def test_lengths_of_headers_are_checked_first(length: int, small: Path) -> None:
    small.write_bytes(length.to_bytes(8, "little") + small.read_bytes()[8:])
    refused(small)


@pytest.mark.parametrize(
    ("version", "text"),
    [
        (b"2.0", "format version 2, but this Secateur reads 1: use the Secateur that wrote the file"),
        (b"0.9", "format version 0, but this Secateur reads 1"),
        (b"1", "its version cannot be read"),
        (b"1.0.0", "its version cannot be read"),
        (b"one.0", "its version cannot be read"),
        (b"99999999999", "its version cannot be read"),
        ("¹.0".encode(), "its version cannot be read"),
    ],
)
def test_other_versions_are_refused(version: bytes, text: str, small: Path) -> None:
    assert text in refused(with_header(small, header_of(small)[0].replace(b"1.0", version, 1)))


def test_a_later_minor_version_is_read(small: Path) -> None:
    packfile.read(with_header(small, header_of(small)[0].replace(b'"1.0 ', b'"1.7 ', 1)))


def description(path: Path) -> dict[str, Any]:
    """What a file's graph section says, and its pool under "pool"."""
    with container.opened(path) as held:
        squeezed = held.read(held.sections["secateur.graph"])
        pool = path.read_bytes()[held.sections["secateur.pool"].start :]
    stretch = zlib.decompressobj(-15, zdict=packfile.document.DICTIONARY)
    return {**json.loads(stretch.decompress(squeezed)), "pool": pool}


def forged(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    described = description(path)
    change(described)
    pool = described.pop("pool")
    return forge(path, described, pool=pool)


def weight_entry(described: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = described["weights"][0]
    return found


def test_an_unchanged_forgery_is_read(small: Path) -> None:
    before = packfile.read(small)
    assert packfile.read(forged(small, lambda described: None)).nodes == before.nodes


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ([2**20, 2**20], "too good to be true|more than the limit"),
        ([2**40, 2**40], "larger than anything that could be meant"),
        ([2**40 + 1], "where a whole number"),
        ([10**30], "a number of 31 digits"),
        ([-1, -100], "where a whole number"),
        ([0, 2**40, 2**40], "larger than anything that could be meant"),
        ([0, 2**40], "coded although it is empty|raw bytes where|."),
        ([2**40, 0], "coded although it is empty|raw bytes where|."),
        ([1] * 9, "at most 8"),
        ([5, 20.0], "where a whole number"),
        ([True, 100], "where a whole number"),
        (100, "where a list is expected"),
        ([20, 5], "."),
        ([5, 21], "."),
        ([], "."),
    ],
)
@pytest.mark.parametrize("codec", [0, 1, 2])
def test_shapes_are_checked_before_anything_is_allocated(shape: Any, text: str, codec: int, small: Path) -> None:
    found = refused(forged(small, lambda described: weight_entry(described).update(shape=shape, codec=codec)))
    assert re.search(text, found)


def test_a_limit_is_kept(small: Path) -> None:
    packfile.read(small, limit=420)
    with pytest.raises(FormatError, match=r"420 bytes of weights: more than the limit of 419; raise it if you trust"):
        packfile.read(small, limit=419)


@pytest.mark.usefixtures("little_memory")
def test_many_small_claims_are_summed(small: Path) -> None:
    def change(described: dict[str, Any]) -> None:
        one = {**weight_entry(described), "shape": [1 << 20], "bytes": 0}
        described["weights"] = [{**one, "name": str(i)} for i in range(2000)]

    assert "more than the limit" in refused(forged(small, change))


def test_a_description_that_inflates_without_end_is_refused(tmp_path: Path) -> None:
    bomb = forge(tmp_path / "bomb", b" " * (packfile.document.MOST_TEXT + 1))
    assert bomb.stat().st_size < 100_000
    assert "is longer than 67108864 bytes" in refused(bomb)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("part", [b"{},", b"[],", b"1,"])
def test_a_description_of_endlessly_many_parts_is_refused(part: bytes, tmp_path: Path) -> None:
    bomb = forge(tmp_path / "bomb", b'{"nodes":[' + part * (2 << 20) + b"0]}")
    assert "more than 1048576 parts" in refused(bomb)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"producer":"a","producer":"b"}',
        b'{"producer":NaN}',
        b'{"producer":-Infinity}',
        b'{"producer":' + b"1" * 4000 + b"}",
        b'{"producer":"\xff"}',
        b'{"producer":"a","inputs":{},"outputs":[],"nodes":[],"weights":[]}',
    ],
)
def test_texts_that_are_no_description_are_refused(text: bytes, tmp_path: Path) -> None:
    refused(forge(tmp_path / "net", text))


def test_what_is_not_deflated_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net"
    for squeezed in (b"", b"\xff" * 100, squeeze(b"{}")[:-1], squeeze(b"{}") + b"more"):
        sealed = container.seal(squeezed)
        path.write_bytes(container.header({"secateur.graph": len(sealed)}) + sealed)
        refused(path)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value within a JSON value."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*path, key))


STRANGE: list[Any] = [None, True, -1, 0, 2**40 + 1, 0.5, 1e308, "", "x", [], [[]], [-1], {}, {"x": {}}, [2**39, 2**39]]


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(("network", "strange_ones"), [("small", STRANGE), ("quantised", STRANGE[2:10:2])])
def test_any_value_of_another_kind_is_refused_or_harmless(
    network: str, strange_ones: list[Any], request: pytest.FixtureRequest
) -> None:
    """Every value of a description is replaced by strange ones: there is a network, or a FormatError."""
    path = request.getfixturevalue(network)
    whole = description(path)
    pool = whole.pop("pool")
    read, refusals = 0, 0
    for at in places(whole):
        for strange in strange_ones:
            described: Any = copy.deepcopy(whole)
            if not at:
                described = strange
            else:
                inner = described
                for key in at[:-1]:
                    inner = inner[key]
                inner[at[-1]] = strange
            forge(path, described, pool=pool)
            try:
                packfile.read(path)
                read += 1
            except FormatError:
                refusals += 1
    assert refusals > 5 * read > 0


def stated(node: int, **attributes: Any) -> Callable[[dict[str, Any]], object]:
    """A change of a node's attributes."""
    return lambda it: it["nodes"][node]["attributes"].update(attributes)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (stated(0, scale=0), "expected scale of at least 1.17549e-38, got 0"),
        (stated(0, scale=-0.5), "expected scale of at least 1.17549e-38, got -0.5"),
        (stated(0, scale=1e-320), "expected scale of at least 1.17549e-38"),
        (stated(0, scale=1e300), "expected scale of at most 8.50706e"),
        (stated(0, zero_point=128), r"expected zero_point in \[-128, 127\], got 128"),
        (stated(0, zero_point=-(2**41)), "where a whole number from -1099511627776"),
        (stated(0, zero_point=0.0), r"expected zero_point in \[-128, 255\], got 0.0"),
        (stated(0, element="uint8", zero_point=9), "expected an input of scale 0.05, zero point -3, got uint8"),
        (stated(0, element="float32"), "expected element to be 'uint8' or 'int8', got 'float32'"),
        (stated(0, element="int4"), "expected element to be 'uint8' or 'int8', got 'int4'"),
        (stated(1, input_scale=0.06), "expected an input of scale 0.06, zero point -3, got int8"),
        (stated(1, input_scale=1e37, output_scale=1e-37), "expected an input of scale 1e.37|whose product"),
        (stated(1, low=5, high=4), "expected low up to high, got 5 and 4"),
        (stated(1, high=255), r"expected high in \[-128, 127\], got 255"),
        (stated(1, residual_scale=0.5), "expected residual_scale of at least 1, got 0.5"),
        (stated(2, scale=0.2500001), "expected an input of scale 0.2500001"),
        (lambda it: it.update(elements={"x": "int8"}), "expected an input of float32, got int8"),
        (lambda it: it["nodes"][1]["inputs"].append("q"), r"expected a residual of shape \(5,\), got \(60,\)"),
        (lambda it: it["nodes"][1]["inputs"].append("x"), r"expected a residual of shape \(5,\), got \(60,\)"),
        (lambda it: it["nodes"][1].update(inputs=["x"]), "expected an input of scale 0.05, zero point -3, got float32"),
        (lambda it: it["nodes"][1].update(op="linear", attributes={}), "expected weights"),
        (lambda it: it["nodes"][1]["weights"].pop("scale"), "expected weights"),
        (lambda it: it["nodes"][1]["weights"].update(scale="b", bias="s"), "expected bias of int32, got float32"),
        (lambda it: it["weights"][0].update(dtype="float32"), "expected weight of int8, got float32"),
        (lambda it: it["weights"][0].update(dtype="int32"), "expected weight of int8, got int32"),
        (lambda it: it["weights"][0].update(dtype="uint8"), "a weight of dtype 'uint8'"),
        (lambda it: it["weights"][0].update(shape=[5, 1 << 30]), "too good to be true|more than the limit"),
        (lambda it: it["weights"][0].update(codec=1), "weight 'w': codec floats, which no weight of int8 has"),
        (lambda it: it["weights"][1].update(codec=2), "weight 'b': codec levels, which no weight of int32 has"),
    ],
)
def test_quantised_networks_that_do_not_fit_are_refused(
    change: Callable[[dict[str, Any]], object], text: str, quantised: Path
) -> None:
    assert re.search(text, refused(forged(quantised, change)))


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ({"s": np.zeros(5, np.float32)}, "expected scales of weights above 0, and finite"),
        ({"s": np.full(5, np.nan, np.float32)}, "expected scales of weights above 0, and finite"),
        ({"b": np.full(5, 2**31 - 1, np.int32)}, "stay below 2³¹ whatever the input"),
    ],
)
def test_weights_that_mean_nothing_are_refused_when_they_are_read(
    weights: dict[str, np.ndarray], text: str, quantised: Path
) -> None:
    """All checksums are right: what they say is seen once they are there."""
    held = packfile.read(quantised).weights

    def change(described: dict[str, Any]) -> None:
        made = [codecs.encode(Weight.of(weights[name]) if name in weights else each) for name, each in held.items()]
        described["pool"] = b"".join(container.seal(each.content) for each in made)
        for entry, each in zip(described["weights"], made, strict=True):
            entry.update(codec=each.codec, bytes=len(each.content))

    found = refused(forged(quantised, change))
    assert re.search("its graph cannot be used: node 'l' .quantised_linear.: .*" + text, found)


@settings(max_examples=100, deadline=None)
@given(
    noise=st.binary(max_size=120), dtype=st.sampled_from(["int8", "int32", "int64", "bool"]), plausible=st.booleans()
)
def test_noise_is_refused_or_integers(noise: bytes, dtype: str, plausible: bool) -> None:
    codec = codecs.LEVELS if dtype in ("int8", "bool") else codecs.FLOATS
    if plausible:
        noise = (b"\x03" if codec == codecs.LEVELS else b"") + HEAD[:1] + noise[:1] + HEAD[2:] + noise[1:]
    try:
        found = codecs.decode(codec, noise, dtype, (5, 8))
    except FormatError:
        return
    assert (found.dtype, found.shape) == (dtype, (5, 8))


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda it: weight_entry(it).update(codec=3), "codec 3, which this Secateur does not know"),
        (lambda it: weight_entry(it).update(error=-1.0), "largest error of -1.0: expected 0 or more"),
        (lambda it: it.update(mean=[0.1], std=[0.0]), "expected as many of both, and std above 0"),
        (lambda it: it.update(mean=[0.1], std=[1.0, 1.0]), "expected as many of both, and std above 0"),
        (lambda it: weight_entry(it).update(dtype="float64"), "dtype 'float64': expected one of"),
        (lambda it: weight_entry(it).update(bytes=1), "bytes that belong to no weight"),
        (lambda it: weight_entry(it).update(bytes=2**40), "not in the file"),
        (lambda it: weight_entry(it).update(name="secateur.graph"), "."),
        (lambda it: it["weights"].append(it["weights"][0]), "stands twice"),
        (lambda it: it["weights"].pop(), "bytes that belong to no weight"),
        (lambda it: it["weights"].clear(), "bytes that belong to no weight"),
        (lambda it: it["nodes"].append(it["nodes"][0]), "the name stands twice"),
        (lambda it: it["nodes"][0].update(op="eval"), "unknown operation 'eval'"),
        (lambda it: it["nodes"][0].update(shape=[2**40]), "more than 268435456 elements"),
        (lambda it: it["inputs"].update(y=[2**14, 2**15]), "more than 268435456 elements"),
        (lambda it: it["nodes"][0].update(inputs=["fc"]), "is no value before it"),
        (lambda it: it["nodes"][0].update(shape=["length"]), r"its shape is given as \(length,\)"),
        (lambda it: it["inputs"].update(y=["a·b"]), "no input tells the length 'a'"),
        (lambda it: it["inputs"].update(y=["2 * length"]), r"a size written '2 \* length': expected 2·length"),
        (lambda it: it["inputs"].update(y=["3"]), "a size written '3': expected 3"),
        (lambda it: it["inputs"].update(y=["⌊" * 200]), "a size written"),
        (
            lambda it: it["inputs"].update(y=["+".join(f"a{i}" for i in range(99))]),
            "expected a size that is a sum of fewer",
        ),
        (lambda it: it["inputs"].update({f"y{i}": [f"a{i}"] for i in range(5000)}), "more than 4096 different sizes"),
        (lambda it: it["inputs"].update(y=["length"] * 9), "9 sizes where at most 8 are expected"),
        (lambda it: it["inputs"].update(y=["length", 2**14, 2**15]), "more than 268435456 elements"),
        (lambda it: it.update(pool=it["pool"] + bytes(4)), "bytes that belong to no weight"),
        (lambda it: it.update(pool=b""), "."),
        (lambda it: it.update(unknown=1), "the keys"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(
    change: Callable[[dict[str, Any]], object], text: str, small: Path
) -> None:
    assert re.search(text, refused(forged(small, change)))


def with_content(path: Path, content: bytes, codec: int, shape: list[int], dtype: str = "float32") -> Path:
    """A network of one constant, stored in these bytes."""
    stored = {"name": "w", "dtype": dtype, "shape": shape, "codec": codec, "bytes": len(content)}
    node = {"name": "c", "op": "constant", "inputs": [], "weights": {"value": "w"}, "shape": shape}
    described = {"producer": "", "inputs": {"x": [1]}, "outputs": ["c"], "nodes": [node], "weights": [stored]}
    return forge(path, described, pool=container.seal(content))


HEAD = bytes([0, 100, 0, 0, 0, 0, 0, 128])


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        HEAD,
        HEAD + b"\x05ab",  # a stream longer than what is there
        HEAD + b"\xff" * 9 + b"\x01",  # a length of 63 bits
        HEAD + b"\x80" * 20,  # a length without an end
        HEAD[:6] + bytes(2) + b"\x00",  # a density of 0
        HEAD[:4] + b"\x01\x00" + HEAD[6:] + b"\x00",  # a lag of 1
        HEAD[:4] + b"\xff\xff" + HEAD[6:] + b"\x00",  # a lag longer than a row
        bytes([128]) + HEAD[1:] + b"\x00",  # a flag of the future
        HEAD[:2] + bytes([20 << 2]) + HEAD[3:] + b"\x00",  # a pivot beyond the levels
        HEAD[:3] + bytes([24]) + HEAD[4:] + b"\x00",  # more trimmed than there is
        HEAD + b"\x00" + b"\x00" * 1000,  # more plain bits than weights
        HEAD + b"\x00",  # fewer
        HEAD + b"\x28" + b"\x55" * 40,  # a stream that goes on
    ],
)
def test_coded_weights_that_make_no_sense_are_refused(content: bytes, tmp_path: Path) -> None:
    assert "weight 'w': its bytes make no sense" in refused(with_content(tmp_path / "net", content, 1, [4, 10]))


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(
    "book",
    [
        b"",
        b"\x03",
        b"\x00\x01",
        b"\x00\xff\xff\xff\xff",
        b"\x00\x01\x00\x00\x00\x00",
        b"\x01\x00\x00\x00" + bytes(8),
        b"\x01\x04\x00\x02" + bytes(8),
        b"\x01\x04\x00\x01" + bytes(8),
        b"\x01\x04\x00\x00" + b"\x00\x00\xc0\x7f" * 2,
        b"\x02\x04\x00" + b"\x00" * 15,
        b"\x02\x04\x00" + b"\x00\x00\x80\xff" * 4,
        b"\x02\xff\xff" + bytes(16),
    ],
)
def test_codebooks_that_make_no_sense_are_refused(book: bytes, tmp_path: Path) -> None:
    refused(with_content(tmp_path / "net", book + HEAD[:1] + b"\x00" + HEAD[2:] + b"\x00", 2, [4, 10]))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    noise=st.binary(max_size=200),
    codec=st.sampled_from([1, 1, 2]),
    shape=st.sampled_from([[1, 40], [40, 1], [5, 8], [40], [2, 2, 2, 5], [0, 5], [1 << 40, 0], [0, 1 << 40]]),
    dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
    plausible=st.booleans(),
)
def test_noise_is_refused_or_read(
    noise: bytes, codec: int, shape: list[int], dtype: str, plausible: bool, tmp_path: Path
) -> None:
    """What the coder is given has a checksum that fits; what comes out has the shape that was promised."""
    if plausible:
        noise = (b"\x01\x02\x00\x00" + bytes(8) if codec == 2 else b"") + HEAD[:1] + noise[:1] + HEAD[2:] + noise[1:]
    path = with_content(tmp_path / "net", noise, codec, shape, dtype)
    try:
        found = packfile.read(path)
    except FormatError:
        assert is_refused_in_c(path)
        return
    assert library() is None or not is_refused_in_c(path)
    assert found.weights["w"].shape == tuple(shape)
    assert found.weights["w"].bits.dtype == np.dtype("<u4" if dtype == "float32" else "<u2")
