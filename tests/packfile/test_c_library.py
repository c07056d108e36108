"""The C library runs what Python runs, bit for bit, and refuses what Python refuses."""

from __future__ import annotations

import copy
import ctypes
import importlib.util
import json
import os
import random
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import c_library
import graph_strategies
from c_library import Model, Refused
from packed import linear, pruned, squeeze
from quantised_strategies import quantised_graphs
from secateur import __version__, packfile
from secateur.errors import FormatError
from secateur.network.graph import Graph, Node
from secateur.network.limits import Limits
from secateur.network.operations import OPERATIONS
from secateur.packfile import container, document
from secateur.runtime import Session
from secateur.runtime.normalisation import Normalisation

ROOT = Path(__file__).parents[2]
GOLDEN = sorted((ROOT / "tests" / "golden").rglob("*.secateur"))
_NUMBERS = (np.float32, np.int64, np.int32, np.bool_)


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    path = c_library.found()
    if path is None:
        pytest.skip("libsecateur was not built: make native builds it")
    return c_library.load(path)


def drawn(model: Model, images: int) -> list[np.ndarray]:
    """Arrays for a model's inputs: normal numbers, and whole ones below 2."""
    source = np.random.default_rng(images)
    return [
        source.normal(size=(images, *value.shape)).astype(np.float32)
        if value.element == 0
        else source.integers(0, 2, (images, *value.shape)).astype(_NUMBERS[value.element])
        for value in model.inputs
    ]


def at_some_lengths(model: Model, images: int) -> Model:
    lengths = {name: images if name == "batch" else 9 for name in model.lengths}
    return model.bind(lengths) if lengths else model


def test_it_is_of_the_version_that_the_package_is_of(library: ctypes.CDLL) -> None:
    assert library.secateur_version().decode() == __version__
    assert c_library.Options.from_buffer_copy(library.secateur_defaults()).threads == 1


def test_its_limits_are_those_of_python(library: ctypes.CDLL) -> None:
    defaults, limits = library.secateur_defaults(), Limits()
    assert {name: getattr(defaults, name) for name in c_library.LIMITS} == {
        name: getattr(limits, name) for name in c_library.LIMITS
    }


def test_the_operations_that_it_knows_are_those_that_are_declared() -> None:
    path = ROOT / "native" / "declare_operations.py"
    spec = importlib.util.spec_from_file_location("declare_operations", path)
    assert spec is not None
    assert spec.loader is not None
    declaring = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(declaring)
    found = declaring.WRITTEN.read_text(encoding="utf-8")
    assert found == declaring.declarations(), "run: python native/declare_operations.py"


def test_it_has_a_rule_for_every_shape() -> None:
    rules = (ROOT / "native" / "src" / "packfile" / "shapes.cpp").read_text()
    lost = {name for name, each in OPERATIONS.items() if f'{{"{each.rule.__name__.lstrip("_")}",' not in rules}
    assert not lost, "each needs its rule in native/src/packfile/shapes.cpp"


@pytest.mark.parametrize("images", [1, 5])
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: "-".join(path.relative_to(ROOT / "tests/golden").parts))
def test_files_of_every_version_give_pythons_bits(path: Path, images: int, library: ctypes.CDLL) -> None:
    graph = packfile.read(path)
    model = c_library.open_model(library, path)
    assert tuple(model.lengths) == graph.lengths
    assert [value.name.decode() for value in model.inputs] == list(graph.inputs)
    assert [value.name.decode() for value in model.outputs] == list(graph.output_names)
    model = at_some_lengths(model, images)
    inputs = drawn(model, images)
    same(Session(graph, calibrate=False).run_all(*inputs), model.run(inputs))


def same(expected: tuple[np.ndarray, ...], found: list[np.ndarray]) -> None:
    for one, other in zip(expected, found, strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other, equal_nan=one.dtype == np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.secateur"


QUICK = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(graph=graph_strategies.graphs())
def test_any_network_gives_pythons_numbers(graph: Graph, path: Path, library: ctypes.CDLL) -> None:
    """To within the last bits: what constants alone come to is worked out by NumPy there, and by the kernels here."""
    packfile.write(graph, path, force=True)
    images = graph.images or 3
    model = at_some_lengths(c_library.open_model(library, path), images)
    inputs = drawn(model, images)
    for expected, found in zip(Session(graph, calibrate=False).run_all(*inputs), model.run(inputs), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@QUICK
@given(graph=quantised_graphs())
def test_any_quantised_network_gives_pythons_bits(graph: Graph, path: Path, library: ctypes.CDLL) -> None:
    packfile.write(graph, path, force=True)
    model = c_library.open_model(library, path.read_bytes())
    inputs = drawn(model, 3)
    same(Session(graph, calibrate=False).run_all(*inputs), model.run(inputs))


@pytest.mark.parametrize("kernel", ["scalar", None])
@pytest.mark.parametrize("threads", [1, 3])
def test_threads_and_kernels_are_chosen(kernel: str | None, threads: int, library: ctypes.CDLL) -> None:
    model = c_library.open_model(library, GOLDEN[0], threads=threads, kernel=kernel.encode() if kernel else None)
    inputs = drawn(model, 40)
    assert library.secateur_threads(model.handle) == threads
    same(Session(packfile.read(GOLDEN[0]), threads, kernel, calibrate=False).run_all(*inputs), model.run(inputs))


def test_images_are_normalised_as_python_does(path: Path, library: ctypes.CDLL) -> None:
    meta = packfile.Metadata(mean=(0.4914, 0.1), std=(0.2470, 0.5), classes=("cat", "größer"))
    nodes = (Node("r", "relu", ("x",), {}, {}, (2, 3, 3)),)
    packfile.write(Graph({"x": (2, 3, 3)}, ("r",), nodes, {}), path, meta=meta)
    model = c_library.open_model(library, path)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 2, 3, 3)).astype(np.uint8)
    assert np.array_equal(model.normalise(pixels), Normalisation(meta.mean, meta.std)(pixels))
    assert model.classes == ["cat", "größer"]
    with pytest.raises(Refused, match="not known") as caught:
        c_library.open_model(library, GOLDEN[0]).normalise(pixels)
    assert caught.value.status == c_library.UNSUPPORTED


def test_what_makes_no_sense_is_said(library: ctypes.CDLL, tmp_path: Path) -> None:
    def status(text: str, **options: Any) -> int:
        with pytest.raises(Refused, match=text) as caught:
            c_library.open_model(library, options.pop("path", GOLDEN[0]), **options)
        return caught.value.status

    assert status("threads: expected", threads=0) == c_library.ARGUMENT
    assert status("kernel quick: this processor runs", kernel=b"quick") == c_library.ARGUMENT
    assert status("limits: expected", nodes=-1) == c_library.ARGUMENT
    assert status("gone: cannot be read: No such file", path=tmp_path / "gone") == c_library.FILE
    assert status("it is a folder", path=tmp_path) == c_library.FILE
    assert status("more than the limit of 0", nodes=0) == c_library.FORMAT
    assert status("more than the limit of 9", weight_bytes=9) == c_library.FORMAT
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert status("a pipe or a device", path=tmp_path / "pipe") == c_library.FILE


def test_runs_that_make_no_sense_are_said(library: ctypes.CDLL) -> None:
    lengths = c_library.open_model(library, next(path for path in GOLDEN if path.stem == "1.1-lengths"))
    assert [value.shape for value in lengths.inputs] == [(3, -1, -1)]
    assert library.secateur_run(lengths.handle, None, None, ctypes.c_int64(1)) == c_library.ARGUMENT
    assert "secateur_bind" in library.secateur_error().decode()
    with pytest.raises(Refused, match="height: expected a whole number from 0 on") as caught:
        lengths.bind({"height": -1, "width": 0})
    assert caught.value.status == c_library.ARGUMENT
    bound = c_library.open_model(library, next(path for path in GOLDEN if path.stem == "1.1-images"))
    bound = bound.bind({"batch": 2, "length": 3})
    with pytest.raises(Refused, match="3 images: expected 2"):
        bound.run([np.zeros((3, 3, 3), np.float32)])


def test_an_index_that_is_none_stops_a_run(library: ctypes.CDLL, path: Path) -> None:
    graph = linear(pruned(4, 5, density=1))
    nodes = (Node("e", "embedding", ("ids",), {"weight": "fc.weight"}, {}, (2, 5)),)
    packfile.write(Graph({"ids": (2,)}, ("e",), nodes, graph.weights, {"ids": "int64"}), path)
    model = c_library.open_model(library, path)
    assert model.run([np.array([[3, 0]])])[0].shape == (1, 2, 5)
    with pytest.raises(Refused, match="index 4: expected indices from 0 to 3") as caught:
        model.run([np.array([[4, 0]])])
    assert caught.value.status == c_library.RUN
    with pytest.raises(Refused, match="which float32 has") as caught:
        model.run([np.array([[1 << 40, 0]])])
    assert caught.value.status == c_library.ARGUMENT


# ---- Files that lie -------------------------------------------------------------------------------------------------


@cache
def parts_of(path: Path) -> tuple[Any, dict[str, bytes]]:
    """A file's description, and its other sections as they lie in it."""
    data = path.read_bytes()
    with container.opened(path) as held:
        text = zlib.decompressobj(-15, zdict=document.DICTIONARY).decompress(held.read(held.sections["secateur.graph"]))
        rest = {name: data[each.start : each.start + each.size + 4] for name, each in held.sections.items()}
    return json.loads(text), {name: each for name, each in rest.items() if name != "secateur.graph"}


def places_in(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if at:
        yield at
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places_in(part, (*at, key))


def value_at(value: Any, at: tuple[Any, ...]) -> Any:
    for key in at:
        value = value[key]
    return value


_VALUES: list[Any] = [
    *(0, 1, 2, 3, -1, 7, 255, 4096, 2**24, 2**28, 2**40, 2**41, -(2**40), 10**18, 0.5, -0.0, 1e300, True, False, None),
    *("", "x", "batch", "length", "2·length", "float32", "int8", "int64", [], {}, [1], [1, 2], *OPERATIONS),
]


def mutated(described: Any, chance: random.Random) -> Any:
    described = copy.deepcopy(described)
    for _ in range(chance.choice((1, 1, 2))):
        *around, key = chance.choice(places := list(places_in(described)))
        holder, other = value_at(described, tuple(around)), value_at(described, chance.choice(places))
        change = chance.randrange(4)
        if change == 0:
            holder.pop(key)
        elif change == 1 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(other))
        elif change == 2 and type(holder[key]) in (int, float):
            holder[key] += chance.choice((1, -1, 2, 0.5))
        else:
            holder[key] = copy.deepcopy(chance.choice((chance.choice(_VALUES), other)))
    return described


def text_of(open_it: Any) -> str:
    """What is wrong with a file, nothing where it is opened."""
    try:
        open_it()
    except FormatError as error:
        return str(error)
    except Refused as error:
        return str(error) if error.status == c_library.FORMAT else ""
    return ""


def test_files_that_lie_are_refused_where_python_refuses_them(library: ctypes.CDLL, path: Path) -> None:
    chance, refused = random.Random(0), 0
    for number in range(400):
        described, rest = parts_of(GOLDEN[number % len(GOLDEN)])
        described = mutated(described, chance)
        graph = container.seal(squeeze(json.dumps(described).encode()))
        sections = {"secateur.graph": graph, **rest}
        data = container.header({name: len(each) for name, each in sections.items()}) + b"".join(sections.values())
        path.write_bytes(data)
        python = text_of(lambda: packfile.read(path))
        native = text_of(lambda data=data: c_library.open_model(library, data))
        assert bool(python) == bool(native), (python, native, json.dumps(described))
        refused += bool(python)
    assert 200 < refused < 400


# ---- The library as it is installed ---------------------------------------------------------------------------------


def test_the_example_says_what_python_says(library: ctypes.CDLL, tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    built = c_library.found()
    assert built is not None
    example = tmp_path / "classify"
    sources = ["-I", str(ROOT / "native" / "c"), str(ROOT / "native" / "c" / "example" / "classify.c")]
    subprocess.run([compiler, "-std=c99", "-Wall", "-Werror", *sources, str(built), "-o", str(example)], check=True)
    path = next(path for path in GOLDEN if path.parent.parent.name == "former-run")
    packed = packfile.read_packed(path)
    (shape,) = packed.graph.inputs.values()
    image = np.random.default_rng(0).integers(0, 256, (1, *shape)).astype(np.uint8)
    (tmp_path / "image.bin").write_bytes(image.tobytes())
    found = subprocess.run(
        [example, path, tmp_path / "image.bin"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LD_LIBRARY_PATH": str(built.parent)},
    ).stdout
    meta = packed.metadata
    session = Session(packed.graph, normalisation=Normalisation(meta.mean, meta.std), calibrate=False)
    (scores,) = session(image)
    best = int(scores.argmax())
    name = f": {meta.classes[best]}" if meta.classes else ""
    assert found == f"class {best}{name}, score {scores[best]:.9g}\n"
