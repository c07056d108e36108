"""The verbs of .secateur files, with good input and bad."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import secateur
from samples import build
from secateur import packfile
from secateur.cli import main
from secateur.errors import BenchError, ExportError, MissingExtraError, RunError
from secateur.measure.bench import PEERS, bench
from secateur.network.building import Builder
from secateur.network.graph import Attribute, Graph, Node, Weight
from secateur.network.signature import Nest, Signature, Value
from secateur.network.sizes import named
from secateur.runtime import Plan, PlanStep, reference

Verb = Callable[..., tuple[int, str, str]]


@pytest.fixture
def verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Run a verb in this process, in an empty folder: (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(words)
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


def network() -> Graph:
    """A linear layer of 4 images' pixels and a ReLU, half of the weights zero."""
    values = np.random.default_rng(0).standard_normal((3, 4), np.float32)
    values[:, ::2] = 0
    nodes = (
        Node("flat", "reshape", ("x",), {}, {"shape": (4,)}, (4,)),
        Node("fc", "linear", ("flat",), {"weight": "fc.weight"}, {}, (3,)),
        Node("y", "relu", ("fc",), {}, {}, (3,)),
    )
    return Graph({"x": (1, 2, 2)}, ("y",), nodes, {"fc.weight": Weight.of(values)})


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    path = tmp_path / "a net.secateur"
    packfile.write(network(), path, meta=packfile.Metadata(mean=(0.5,), std=(0.25,)))
    return path


def test_inspect_says_what_is_in_a_file(verb: Verb, packed: Path) -> None:
    code, out, _ = verb("inspect", str(packed))
    assert code == 0
    assert "fc.weight" in out
    assert "all checksums right" in out
    code, out, _ = verb("inspect", str(packed), "--format", "json")
    found = json.loads(out)
    assert (code, found["bytes"], found["mean"]) == (0, packed.stat().st_size, [0.5])
    assert found["weights"][0]["density"] == 0.5


def test_inspect_shows_the_plan(verb: Verb, packed: Path) -> None:
    code, out, _ = verb("inspect", str(packed), "--plan", "--batch", "3", "--format", "json")
    plan = json.loads(out)
    assert code == 0
    assert "linear" in " ".join(step["operations"] for step in plan["steps"])
    assert sum(size * count for size, _, count in plan["parts"]) == 3
    assert verb("inspect", str(packed), "--plan")[0] == 0
    code, _, err = verb("inspect", str(packed), "--plan", "--kernel", "abacus")
    assert code == 1
    assert "this processor runs" in err


QUANTISED = str(Path(__file__).parents[1] / "golden" / "1.2-quantised.secateur")


def test_inspect_says_what_is_in_eight_bits_and_what_it_stands_for(verb: Verb) -> None:
    code, out, _ = verb("inspect", QUANTISED)
    assert code == 0
    rows = {line.split("│")[1].strip(): line for line in out.splitlines() if "│" in line}
    assert [cell.strip() for cell in rows["conv2"].split("│")[2:7]] == [
        "quantised_conv2d", "uint8", "0.0625", "0", "0 … 12.5"
    ]  # fmt: skip
    assert "float32" in rows["head"]
    assert "times smaller than dense in the same formats" in out
    found = json.loads(verb("inspect", QUANTISED, "--format", "json")[1])["quantised"]
    conv = next(each for each in found if each["name"] == "conv2")
    assert conv["output"] == {"element": "uint8", "scale": 0.0625, "zero_point": 0}
    assert conv["extent"] == [0, 12.5]
    scales = packfile.read(QUANTISED).weights["conv2.scale"].values()
    assert conv["weight_scales"] == [scales.min(), scales.max()]
    assert [each["output"] for each in found][-1] is None


def test_unpack_gives_the_numbers_that_integers_stand_for_or_the_integers(verb: Verb, tmp_path: Path) -> None:
    graph = packfile.read(QUANTISED)
    code, out, _ = verb("unpack", QUANTISED, "-o", "dense.safetensors")
    assert (code, "those of layers in eight bits times their scales" in out) == (0, True)
    found = load_file(tmp_path / "dense.safetensors")
    assert set(found) == {name for name in graph.weights if not name.endswith("scale")}
    weight, scale, bias = (graph.weights[f"conv2.{role}"].numbers() for role in ("weight", "scale", "bias"))
    np.testing.assert_array_equal(found["conv2.weight"], weight.astype(np.float32) * scale[:, None, None, None])
    np.testing.assert_allclose(found["conv2.bias"], bias * 0.0625 * scale, rtol=1e-6)
    assert (secateur.unpack(QUANTISED)["conv2.weight"] == found["conv2.weight"]).all()
    code, out, _ = verb("unpack", QUANTISED, "-o", "raw.safetensors", "--raw")
    assert (code, "times their scales" in out) == (0, False)
    found = load_file(tmp_path / "raw.safetensors")
    for name, integers in secateur.unpack(QUANTISED, raw=True).items():
        assert (found[name].dtype, found[name].tolist()) == (integers.dtype, integers.tolist())
    assert found["conv2.weight"].dtype == np.int8


def test_unpack_gives_ordinary_safetensors(verb: Verb, packed: Path, tmp_path: Path) -> None:
    code, _, _ = verb("unpack", str(packed), "-o", "dense.safetensors")
    assert code == 0
    found = load_file(tmp_path / "dense.safetensors")
    assert np.array_equal(found["fc.weight"].view("<u4"), network().weights["fc.weight"].bits)
    code, _, err = verb("unpack", str(packed), "-o", "dense.safetensors")
    assert (code, "--force" in err) == (1, True)


def test_run_takes_floats_and_pixels(verb: Verb, packed: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 1, 2, 2), np.uint8)
    floats = ((pixels / 255 - 0.5) / 0.25).astype(np.float32)
    np.save(tmp_path / "pixels.npy", pixels)
    np.save(tmp_path / "floats.npy", floats)
    for name in ("pixels", "floats"):
        code, _, _ = verb("run", str(packed), "--input", f"{name}.npy", "--output", f"{name}-y.npy")
        assert code == 0
        np.testing.assert_allclose(np.load(tmp_path / f"{name}-y.npy"), reference.run(network(), floats), rtol=1e-5)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (np.zeros((2, 4), np.float32), "x.npy: input 'x': expected float32 or uint8 (N, 1, 2, 2), got float32 (2, 4)"),
        (np.zeros((2, 1, 2, 2)), "got float64"),
        (np.zeros((2, 3, 2, 2), np.uint8), "expected float32 or uint8 (N, 1, 2, 2), got uint8 (2, 3, 2, 2)"),
        (np.array([{}], object), "expected a .npy file of images"),
    ],
)
def test_run_says_what_is_wrong_with_its_input(
    verb: Verb, packed: Path, tmp_path: Path, content: np.ndarray[tuple[int, ...], np.dtype[np.generic]], text: str
) -> None:
    np.save(tmp_path / "x.npy", content, allow_pickle=True)
    code, out, err = verb("run", str(packed), "--input", "x.npy")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert text in err
    assert not (tmp_path / "y.npy").exists()


@pytest.mark.parametrize("name", ["inspect", "unpack", "export", "bench"])
@pytest.mark.parametrize("content", [None, b"", b"not a network at all, by no means"])
def test_files_that_are_none_are_one_line(verb: Verb, tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "odd.secateur").write_bytes(content)
    code, out, err = verb(name, "odd.secateur")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "odd.secateur" in err


def test_names_from_strangers_are_shown_as_they_are(
    verb: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    name = "\x1b[2J[bold]w[/x]"
    node = Node("[/y]", "linear", ("x",), {"weight": name}, {}, (2,))
    graph = Graph({"x": (3,)}, ("[/y]",), (node,), {name: Weight.of(np.ones((2, 3), np.float32))})
    packfile.write(graph, tmp_path / "odd.secateur")
    for words in (["inspect"], ["inspect", "--plan"]):
        code, out, err = verb(words[0], "odd.secateur", *words[1:])
        assert (code, err, "\x1b[2J" in out) == (0, "", False)
    assert "[bold]" in verb("inspect", "odd.secateur")[1]


def test_what_is_no_regular_file_is_not_replaced(verb: Verb, packed: Path, tmp_path: Path) -> None:
    (tmp_path / "full").symlink_to("/dev/full")
    (tmp_path / "nowhere").symlink_to(tmp_path / "nothing")
    for name in ("full", "nowhere", "."):
        code, out, err = verb("unpack", str(packed), "-o", name, "--force")
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert "no regular file" in err
    assert (tmp_path / "full").is_symlink()
    assert (tmp_path / "nowhere").is_symlink()


def test_a_checkpoint_is_packed(verb: Verb, tmp_path: Path) -> None:
    lenet = build("lenet-300-100")
    secateur.prune(lenet, 0.9)
    torch.save(lenet.state_dict(), tmp_path / "c.pt")
    code, out, _ = verb("pack", "c.pt", "--model", "lenet-300-100", "-o", "net.secateur", "--exact")
    assert code == 0
    assert "times smaller" in out
    found = secateur.unpack(tmp_path / "net.secateur")
    assert all(np.array_equal(found[name], value.numpy()) for name, value in lenet.state_dict().items())
    code, _, err = verb("pack", "c.pt", "--model", "lenet-300-100", "-o", "net.secateur")
    assert (code, "--force" in err) == (1, True)
    code, _, _ = verb("pack", "c.pt", "--model", "lenet-300-100", "-o", "net.secateur", "--force", "--bits", "5")
    assert code == 0
    sizes = ("--sizes", "x=batch,1,height,28")
    code, _, err = verb("pack", "c.pt", "--model", "lenet-300-100", "-o", "net.secateur", "--force", *sizes)
    assert (code, "dimension 2 of 'x'" in err) == (1, True)


def test_a_plan_of_a_file_with_free_lengths_is_for_some(verb: Verb) -> None:
    golden = str(Path(__file__).parents[1] / "golden" / "1.1-lengths.secateur")
    code, out, _ = verb("inspect", golden, "--plan", "--lengths", "height=12,width=9", "--format", "json")
    assert code == 0
    assert [8, 3, 2] in [step["shape"] for step in json.loads(out)["steps"]]
    code, _, err = verb("inspect", golden, "--plan")
    assert (code, "lengths not given; expected height, width: give them as in --lengths height=16" in err) == (2, True)
    code, _, err = verb("inspect", golden, "--plan", "--lengths", "height=9,height=3,width=4")
    assert (code, "'height' stands twice" in err) == (2, True)


def test_a_network_that_mixes_images_is_inspected_run_and_exported(verb: Verb, tmp_path: Path) -> None:
    made = Builder()
    x = made.input("x", (3,))
    mean = made.emit("mean", made.emit("gather_images", x, images=named("batch")), axes=(1,), keepdims=False)
    packfile.write(made.graph([made.emit("sub", x, mean)]), tmp_path / "net.secateur")
    code, out, _ = verb("inspect", "net.secateur", "--plan", "--batch", "4", "--format", "json")
    kinds = [kind for kind, _ in json.loads(out)["stages"]]
    assert (code, kinds) == (0, ["once for all images", "image by image"])
    assert "image by" in verb("inspect", "net.secateur", "--plan", "--batch", "4")[1]
    images = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", images)
    assert verb("run", "net.secateur", "--input", "x.npy")[0] == 0
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), images - images.mean(0), rtol=1e-5, atol=1e-6)
    assert verb("export", "net.secateur", "-o", "net.onnx")[0] == 0


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("pack", "c.pt"), 2, "name it with --model"),
        (("pack", "c.pt", "--model", "lenet-300-100"), 1, "c.pt"),
        (("pack", ".", "-o", "net.secateur"), 1, "kept no best network"),
        (("pack", "c.pt", "--model", "lenet-5", "--input", "3x"), 2, "expected the shape of one image"),
        (
            ("pack", "c.pt", "--model", "lenet-5", "--sizes", "x"),
            2,
            "--sizes 'x': expected sizes of an argument of forward",
        ),
        (("inspect", "x.secateur", "--format", "yaml"), 2, "expected table or json"),
        (("inspect", "x.secateur", "--plan", "--lengths", "height=a"), 2, "expected whole numbers by name"),
        (("bench", "x.secateur", "--batch", "0"), 2, "--batch '0': expected whole numbers from 1 on separated by"),
        (("bench", "x.secateur", "--batch", "1.5"), 2, "--batch '1.5': expected whole numbers separated by commas"),
        (("bench", "x.secateur", "--batch", ""), 2, "--batch '': expected whole numbers from 1 on separated by commas"),
        (("bench", "x.secateur", "--threads", "a"), 2, "separated by commas, as in 1,2"),
    ],
)
def test_bad_words_are_one_line(verb: Verb, words: tuple[str, ...], code: int, text: str) -> None:
    found, out, err = verb(*words)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert text in err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (
            ("run", "--input", "x.npy", "--threads", "1000000"),
            1,
            "threads: expected a whole number from 1 to 1024, got",
        ),
        (("inspect", "--plan", "--threads", str(10**14)), 1, "threads: expected a whole number from 1 to 1024, got"),
        (("inspect", "--plan", "--batch", "9" * 20), 1, "batch: expected a whole number from 0 to 9223372036854775807"),
        (("bench", "--threads", str(10**11)), 2, f"threads [{10**11}]: expected whole numbers from 1 to 1024"),
        (("bench", "--batch", "9" * 20), 2, "expected whole numbers from 1 to 9223372036854775807"),
        (
            ("bench", "--peers", "torch", "--batch", str(10**15)),
            1,
            "images of (1, 2, 2) take more memory than there is: ask for fewer",
        ),
        (("bench", "--seconds", "nan"), 2, "seconds nan: expected a number above 0"),
        (("bench", "--seconds", "inf"), 2, "seconds inf: expected a number above 0"),
        (("bench", "--seconds", "0"), 2, "seconds 0.0: expected a number above 0"),
        (("bench", "--seconds", "-1"), 2, "seconds -1.0: expected a number above 0"),
    ],
)
def test_numbers_that_make_no_sense_are_one_line(
    verb: Verb, packed: Path, tmp_path: Path, words: tuple[str, ...], code: int, text: str
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 2, 2), np.float32))
    found, out, err = verb(words[0], str(packed), *words[1:])
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert text in err


def test_the_rate_of_a_step_is_that_of_its_own_images(
    verb: Verb, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(name: str, images: int) -> PlanStep:
        return PlanStep(name, "conv2d", "", "", (4,), images, 0.5, 50_000_000, 20_000_000, 8, 0.0, images * 1e-3)

    plan = Plan("scalar", "built in", 1, ((16, 1, 4),), 64, (step("alone", 1), step("together", 16)))

    class Planned:
        lengths = ()

        def plan(self, batch: int, rounds: int, lengths: dict[str, int]) -> Plan:
            return plan

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("secateur.runtime.load", lambda *arguments, **named: Planned())
    _, out, _ = verb("inspect", str(packed), "--plan", "--batch", "64")
    rows = {line.split("│")[1].strip(): line.split("│")[-4:-1] for line in out.splitlines() if "conv2d" in line}
    assert [each.strip() for each in rows["alone"]] == ["1", "1,000.0 µs", "20.0"]
    assert [each.strip() for each in rows["together"]] == ["16", "16,000.0 µs", "20.0"]
    assert "64 images in blocks of 4 × 16" in out


def test_bench_compares_engines_and_names_the_missing(
    verb: Verb, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(graph: Graph, threads: int) -> Callable[[object], object]:
        raise MissingExtraError("openvino is not installed: pip install 'secateur[bench]'")

    monkeypatch.setitem(PEERS, "openvino", absent)
    words = ("bench", str(packed), "--batch", "1,3", "--peers", "torch,openvino", "--seconds", "0.01")
    code, out, _ = verb(*words, "--format", "json")
    found = json.loads(out)
    assert code == 0
    assert {(row["engine"], row["batch"]) for row in found["rows"]} == {
        (engine, batch) for engine in ("secateur", "torch") for batch in (1, 3)
    }
    assert found["missing"] == {"openvino": "openvino is not installed: pip install 'secateur[bench]'"}
    assert all(row["low_ms"] <= row["median_ms"] <= row["high_ms"] and row["n"] >= 7 for row in found["rows"])
    code, out, _ = verb(*words)
    assert (code, "missing: openvino" in out, "best rival" in out) == (0, True, False)


@pytest.mark.parametrize(
    ("present", "asked", "told"),
    [
        (
            ("torch",),
            "torch,onnxruntime,openvino",
            "torch, the best of those installed; onnxruntime and openvino would",
        ),
        (
            ("torch", "onnxruntime"),
            "torch,onnxruntime,openvino",
            "the best of those installed; openvino would be added",
        ),
        (("torch", "onnxruntime", "openvino"), "torch", "the best of those timed; not timed: onnxruntime and openvino"),
        (("torch", "onnxruntime", "openvino"), "torch,onnxruntime,openvino", "times as fast as the best rival ("),
    ],
)
def test_only_who_beats_the_rivals_that_people_use_beats_the_best_rival(
    verb: Verb, packed: Path, monkeypatch: pytest.MonkeyPatch, present: str, asked: str, told: str
) -> None:
    def absent(graph: Graph, threads: int) -> Callable[[object], object]:
        raise MissingExtraError("it is not installed: pip install 'secateur[bench]'")

    for name in ("onnxruntime", "openvino"):
        monkeypatch.setitem(PEERS, name, PEERS["torch"] if name in present else absent)
    specs = {name: object() if name in present else None for name in PEERS}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: specs.get(name, object()))
    words = ("bench", str(packed), "--batch", "1", "--peers", asked, "--seconds", "0.01")
    code, out, err = verb(*words)
    assert code == 0, err
    assert told in out
    whole = "best rival" in told
    assert ("pip install 'secateur[bench]'" in out) == ("installed" in told)
    (ratio,) = json.loads(verb(*words, "--format", "json")[1])["ratios"]
    assert ratio["best_rival"] == (ratio["fastest_other"] if whole else None)


def test_engines_that_compute_something_else_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "torch", lambda graph, threads: lambda x: np.ones((len(x), 3), np.float32) * 99)
    with pytest.raises(BenchError, match="torch and secateur differ by"):
        bench(network(), batches=(2,), peers=("torch",), seconds=0.01)


def test_rivals_that_cannot_run_are_named_and_the_others_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def unmade(graph: Graph, threads: int) -> Callable[[object], object]:
        raise ExportError("value 'x' has an empty axis")

    def failing(x: object) -> object:
        raise RuntimeError("no compiler found\nset VERBOSE=1")

    monkeypatch.setitem(PEERS, "openvino", unmade)
    monkeypatch.setitem(PEERS, "torch-compile", lambda graph, threads: failing)
    monkeypatch.setitem(PEERS, "onnxruntime", lambda graph, threads: lambda x: np.ones((len(x), 0), np.float32))
    peers = ("torch", "torch-compile", "onnxruntime", "openvino")
    found = bench(network(), batches=(1, 3), peers=peers, seconds=0.01)
    assert {(row.engine, row.batch) for row in found.rows} == {
        (engine, batch) for engine in ("secateur", "torch") for batch in (1, 3)
    }
    assert found.missing == {
        "openvino": "value 'x' has an empty axis",
        "torch-compile": "RuntimeError: no compiler found",
        "onnxruntime": "gives (1, 0) where secateur gives (1, 3)",
    }


def test_a_layer_without_inputs_is_timed_where_it_can_be() -> None:
    conv: dict[str, Attribute] = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
    node = Node("y", "conv2d", ("x",), {"weight": "w", "bias": "b"}, conv, (3, 2, 2))
    weights = {"w": Weight.of(np.zeros((3, 0, 3, 3), np.float32)), "b": Weight.of(np.ones(3, np.float32))}
    graph = Graph({"x": (0, 4, 4)}, ("y",), (node,), weights)
    found = bench(graph, batches=(2,), peers=("torch",), seconds=0.01)
    assert "secateur" in {row.engine for row in found.rows}
    assert len(found.rows) + len(found.missing) == 2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_where_our_outputs_are_not_finite_the_others_may_be_anything(
    monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    def answer(last: float) -> None:
        rival = np.array([[5, 1, last]], np.float32)
        monkeypatch.setitem(PEERS, "openvino", lambda graph, threads: lambda x: rival)

    node = Node("y", "linear", ("x",), {"weight": "w", "bias": "b"}, {}, (3,))
    bias = Weight.of(np.array([value, 1, 2], np.float32))
    graph = Graph({"x": (4,)}, ("y",), (node,), {"w": Weight.of(np.zeros((3, 4), np.float32)), "b": bias})
    answer(2)
    found = bench(graph, batches=(1,), peers=("torch", "openvino"), seconds=0.01)
    assert [row.max_abs_diff for row in found.rows] == [0, 0, 0]
    for wrong in (np.nan, np.inf, 3.0):
        answer(wrong)
        with pytest.raises(BenchError, match="openvino and secateur differ by"):
            bench(graph, batches=(1,), peers=("openvino",), seconds=0.01)


def of_tokens() -> Graph:
    """Takes tokens and a mask of a length that is free, gives what it calls scores and kept."""
    build = Builder()
    ids, mask = (build.input(name, (named("length"),), "int64") for name in ("input_ids", "mask"))
    rows = build.emit("embedding", ids, weights={"weight": Weight.of(np.arange(12, dtype=np.float32).reshape(6, 2))})
    kept = build.emit("cast", mask, element="float32")
    column = build.emit("reshape", kept, shape=(named("length"), 1))
    scores = build.emit("sum", build.emit("mul", rows, column), axes=(1,), keepdims=False)
    outputs = Nest("dict", (("scores", Value(0)), ("kept", Value(1))))
    return build.graph([scores, kept], Signature((("input_ids", Value(0)), ("mask", Value(1))), outputs))


def test_arrays_by_name_go_in_and_out(verb: Verb, tmp_path: Path) -> None:
    packfile.write(of_tokens(), tmp_path / "net.secateur")
    ids, mask = np.array([[1, 2, 3], [0, 5, 5]]), np.array([[1, 1, 0], [0, 1, 1]])
    np.savez(tmp_path / "x.npz", input_ids=ids, mask=mask)
    code, _, error = verb("run", "net.secateur", "--input", "x.npz")
    assert code == 1
    assert "has 2 outputs (scores, kept): name a .npz file for all of them, as in --output y.npz" in error
    assert verb("run", "net.secateur", "--input", "x.npz", "--output", "y.npz")[0] == 0
    with np.load(tmp_path / "y.npz") as found:
        np.testing.assert_array_equal(found["scores"], [[6, 8], [20, 22]])
        np.testing.assert_array_equal(found["kept"], mask)
    np.savez(tmp_path / "x.npz", input_ids=ids)
    assert "inputs input_ids: expected input_ids, mask" in verb("run", "net.secateur", "--input", "x.npz")[2]


def test_what_goes_in_and_out_is_shown(verb: Verb, tmp_path: Path) -> None:
    packfile.write(of_tokens(), tmp_path / "net.secateur")
    shown = verb("inspect", "net.secateur")[1]
    assert "takes input_ids (N, length) int64; mask (N, length) int64\n" in shown
    assert "gives scores (N, 2) float32; kept (N, length) float32\n" in shown
    described = json.loads(verb("inspect", "net.secateur", "--format", "json")[1])
    assert [each["name"] for each in described["outputs"]] == ["scores", "kept"]


def test_an_onnx_model_has_the_names_of_what_goes_in_and_out(verb: Verb, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    packfile.write(of_tokens(), tmp_path / "net.secateur")
    assert verb("export", "net.secateur")[0] == 0
    found = onnx.load(tmp_path / "net.onnx").graph
    assert [each.name for each in (*found.input, *found.output)] == ["input_ids", "mask", "scores", "kept"]


@pytest.mark.parametrize("text", ["x=length", "x:a=length", "x:1=", ":1=length"])
def test_a_dimension_that_is_none_is_refused(text: str, verb: Verb, tmp_path: Path) -> None:
    torch.save({}, tmp_path / "w.pt")
    code, _, error = verb("pack", "w.pt", "--model", "lenet5", "--dynamic", text)
    assert code != 0
    assert f"--dynamic '{text}': expected a dimension's name, as in input_ids:1=length, or length" in error


def test_analyze_says_where_the_time_goes(verb: Verb, packed: Path, tmp_path: Path) -> None:
    quick = ("--peers", "none", "--seconds", "0.01")
    code, out, _ = verb("analyze", str(packed), *quick, "--html", "page.html")
    assert code == 0
    assert max(map(len, (line for line in out.splitlines() if line[:1] in "┏┃│└"))) <= 120
    assert "why it is not faster" in out
    assert "50.0%" in next(line for line in out.splitlines() if line.startswith("│ fc "))
    page = (tmp_path / "page.html").read_text()
    assert "fc" in page
    assert 'data-file="analysis.json"' in page
    code, out, _ = verb("analyze", str(packed), *quick, "--json")
    found = json.loads(out)
    (layer,) = (each for each in found["layers"] if each["layer"])
    assert (layer["name"], layer["zeros"], layer["multiply_adds"]) == ("fc", 0.5, 12)
    assert found["file_bytes"] == packed.stat().st_size


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("none.secateur",), 1, "none.secateur: cannot be read: No such file or directory"),
        (("text",), 1, "text: not a .secateur file"),
        (("folder",), 1, "folder: a folder without a best network: expected a run that kept one, or a .secateur file"),
        (("a net.secateur", "--batch", "0"), 2, "batch 0: expected a whole number from 1 on"),
        (("a net.secateur", "--threads", "0"), 1, "threads: expected a whole number from 1 to 1024, got 0"),
        (("a net.secateur", "--lengths", "height=4"), 2, "lengths height; expected none"),
        (("a net.secateur", "--peers", "abacus"), 2, "peers ['abacus']: expected some of torch"),
        (("a net.secateur", "--seconds", "0"), 2, "--seconds 0.0: expected a number above 0"),
        (
            ("a net.secateur", "--peers", "none", "--seconds", "0.001", "--html", "folder"),
            1,
            "folder: cannot be written",
        ),
        (("three.secateur",), 2, "a batch of 1: the network takes 3 images only: ask for --batch 3"),
    ],
)
def test_what_cannot_be_analysed_is_one_line(
    verb: Verb, packed: Path, tmp_path: Path, words: tuple[str, ...], code: int, text: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("no network, but a text")
    signature = dataclasses.replace(Signature.plain("x", 1), images=3)
    packfile.write(dataclasses.replace(network(), signature=signature), tmp_path / "three.secateur")
    found, out, err = verb("analyze", *words)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert text in err


def test_an_engine_runs_lists_of_arrays(packed: Path) -> None:
    engine = secateur.Engine(str(packed), batch_size=2, num_cores=1)
    x = np.random.default_rng(0).standard_normal((2, 1, 2, 2), np.float32)
    (found,) = engine.run([x])
    weight = network().weights["fc.weight"].values()
    expected = torch.relu(torch.from_numpy(x).flatten(1) @ torch.from_numpy(weight).T).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(RunError, match="a batch of 1: expected 2; make an Engine with batch_size=1"):
        engine.run([x[:1]])
    assert secateur.Engine(packed).batch_size == 1
