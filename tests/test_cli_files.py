"""The verbs of .secateur files, with good input and bad."""

from __future__ import annotations

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
from secateur.bench import PEERS, bench
from secateur.cli import main
from secateur.errors import BenchError, MissingExtraError
from secateur.graph import Graph, Node, Weight
from secateur.runtime import reference

Verb = Callable[..., tuple[int, str, str]]


@pytest.fixture
def verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Run a verb in this process, in an empty folder: (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)

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


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("pack", "c.pt"), 2, "name it with --model"),
        (("pack", "c.pt", "--model", "lenet-300-100"), 1, "c.pt"),
        (("pack", ".", "-o", "net.secateur"), 1, "kept no best network"),
        (("pack", "c.pt", "--model", "lenet-5", "--input", "3x"), 2, "expected the shape of one image"),
        (("inspect", "x.secateur", "--format", "yaml"), 2, "expected table or json"),
        (("bench", "x.secateur", "--batch", "0"), 2, "expected whole numbers from 1 on"),
    ],
)
def test_bad_words_are_one_line(verb: Verb, words: tuple[str, ...], code: int, text: str) -> None:
    found, out, err = verb(*words)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert text in err


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
    assert (code, "missing: openvino" in out, "best rival" in out) == (0, True, True)


def test_engines_that_compute_something_else_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "torch", lambda graph, threads: lambda x: np.ones((len(x), 3), np.float32) * 99)
    with pytest.raises(BenchError, match="torch and secateur differ by"):
        bench(network(), batches=(2,), peers=("torch",), seconds=0.01)
