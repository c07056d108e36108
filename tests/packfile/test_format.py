"""docs/format.md is what the files are: another reader, written from it, and files that were written before."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest

import plain_reader
from packed import graph_of, linear, pruned
from secateur import packfile
from secateur.network.graph import Graph, Weight
from secateur.network.operations import OPERATIONS, Operation
from secateur.packfile import document

ROOT = Path(__file__).parents[2]
GOLDEN = sorted((ROOT / "tests" / "golden").glob("*.secateur"))


def smooth(rows: int, width: int, density: float) -> np.ndarray:
    """Weights of images: neighbours, beside and below, are alike in size and sign, and so are columns."""
    random = np.random.default_rng(7)
    noise = random.normal(size=(rows, width, width))
    for axis in (1, 2):
        noise = np.sum([np.roll(noise, shift, axis) for shift in range(4)], axis=0)
    fading = np.hanning(width)[:, None] * np.hanning(width)
    values = (noise * fading * random.gamma(2, size=(rows, 1, 1))).reshape(rows, -1).astype(np.float32)
    return np.where(np.abs(values) < np.quantile(np.abs(values), 1 - density), np.float32(0), values)


def networks() -> dict[str, Graph]:
    image = smooth(24, 12, 0.2)
    spread = (image * np.exp(np.random.default_rng(1).normal(size=image.shape) * 9)).astype(np.float32)
    held = {
        "near": Weight.of(image),
        "dense": Weight.of(pruned(30, 40, density=1)),
        "kernels": Weight.of(pruned(16, 8, 3, 3, density=0.3)),
        "half": Weight.of(pruned(20, 50, density=0.5).astype(np.float16)),
        "brain": Weight("bfloat16", (pruned(20, 50, density=0.5).view(np.uint32) >> np.uint32(16)).astype(np.uint16)),
        "wide": Weight.of(spread),
        "rows": Weight.of(
            (pruned(60, 200) * np.exp(2 * np.random.default_rng(2).normal(size=(60, 1)))).astype(np.float32)
        ),
        "upcast": Weight.of(pruned(20, 50).astype(np.float16).astype(np.float32)),
        "few": Weight.of(np.rint(image * 3).astype(np.float32)),
        "long": Weight.of(pruned(2500, density=0.4)),
        "scalar": Weight.of(np.array(1.5, np.float32)),
        "empty": Weight.of(np.zeros((0, 3), np.float16)),
        "zero": Weight.of(np.zeros((50, 60), np.float32)),
    }
    return {"kinds": graph_of(held), "layer": linear(image, pruned(24, density=1))}


@pytest.mark.parametrize(
    ("network", "bits", "codebook"),
    [("kinds", None, "uniform"), ("layer", None, "uniform")]
    + [("layer", bits, codebook) for bits in (8, 5, 4) for codebook in packfile.CODEBOOKS],
)
def test_another_reader_finds_the_same(network: str, bits: int | None, codebook: str, tmp_path: Path) -> None:
    graph, path = networks()[network], tmp_path / "net.secateur"
    packfile.write(graph, path, bits=bits, codebook=codebook)
    described, found = plain_reader.read(path, document.DICTIONARY)
    expected = packfile.read(path)
    assert described["outputs"] == list(graph.outputs)
    assert list(found) == list(graph.weights)
    for name, weight in expected.weights.items():
        assert found[name] == weight.bits.reshape(-1).tolist(), name


def test_between_them_these_networks_use_all_that_the_format_has(tmp_path: Path) -> None:
    used, codecs, trimmed = 0, set(), set()
    for name, graph in networks().items():
        for bits in (None, 5):
            path = tmp_path / f"{name}{bits}"
            packfile.write(graph, path, bits=bits)
            data = path.read_bytes()
            codecs |= {each.codec for each in packfile.describe(path).weights}
            assert len(data) < 40_000
        for weight in graph.weights.values():
            made = packfile.codecs.encode(weight)
            if made.codec == packfile.codecs.FLOATS:
                used |= made.content[0]
                trimmed.add(made.content[3])
    assert codecs == {"raw", "floats", "levels"}
    assert used == 0b0111_1111
    assert {0, 13} <= trimmed


def test_the_specification_names_the_dictionary() -> None:
    assert hashlib.sha256(document.DICTIONARY).hexdigest() in (ROOT / "docs" / "format.md").read_text()


def test_the_specification_lists_the_operations_as_they_are_declared() -> None:
    page = (ROOT / "docs" / "format.md").read_text()
    _, _, after = page.partition("| operation | since |")
    listed = after.partition("\n\n")[0].splitlines()[2:]
    assert listed == [row(name, operation) for name, operation in OPERATIONS.items()]


def row(name: str, operation: Operation) -> str:
    weights = [
        f"[{each}]" if held.optional else each
        for role, held in operation.weights.items()
        for each in [f"{role} {held.shape}".strip()]
    ]
    attributes = [
        f"`{each}` ({wanted})" if str(wanted) else f"`{each}`" for each, wanted in operation.attributes.items()
    ]
    takes = filter(None, [counted(operation), ", ".join(weights), ", ".join(attributes)])
    return f"| `{name}` | 1.{operation.minor} | {'; '.join(takes)} | {operation.formula} |"


def counted(operation: Operation) -> str:
    if operation.inputs is None or operation.inputs + operation.more < 2:
        return {None: "any number of inputs", 0: "no input", 1: ""}[operation.inputs]
    words = ("no", "one", "two", "three", "four")
    least = f"{words[operation.inputs]} input{'s' * (operation.inputs > 1)}"
    most = words[operation.inputs + operation.more]
    return least + {0: "", 1: f" or {most}", 2: f" to {most}"}[operation.more]


def test_tables_do_not_depend_on_whose_logarithm_it_is() -> None:
    """No entry lies so near to a tie that a rounding error of the mathematical library could move it."""
    stretches = [256 * math.log((i + 0.5) / (4095.5 - i)) for i in range(4096)]
    squashes = [65536 / (1 + math.exp(-x / 256)) for x in range(-3071, 3072)]
    for value in (*stretches, *squashes):
        assert abs(value - math.floor(value) - 0.5) > 1e-7 or value == 32768


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_files_of_earlier_versions_are_read_for_ever(path: Path) -> None:
    """Each file lies beside the digest of what was packed; a file is added for each version, and none is changed."""
    graph = packfile.read(path)
    assert digest(graph) == path.with_suffix(".sha256").read_text().strip()
    assert plain_reader.read(path, document.DICTIONARY)[1].keys() == graph.weights.keys()


def test_there_is_a_file_of_each_version() -> None:
    assert {path.stem.split("-")[0] for path in GOLDEN} == {"1.0", "1.1", "1.2", "1.3"}


def digest(graph: Graph) -> str:
    seen = hashlib.sha256(repr((dict(graph.inputs), graph.outputs, graph.nodes)).encode())
    if graph.signature is not None:
        called = graph.signature
        seen.update(repr((dict(graph.elements), called.arguments, called.outputs)).encode())
    for name, weight in graph.weights.items():
        seen.update(repr((name, weight.dtype, weight.shape)).encode())
        seen.update(weight.bits.tobytes())
    return seen.hexdigest()
