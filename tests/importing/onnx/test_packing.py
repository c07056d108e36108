"""An ONNX file becomes a packed one, or a session, that gives what ONNX Runtime makes of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import secateur
from conftest import RunCli
from onnx_models import by_runtime, model_of, saved
from secateur.errors import RunError
from secateur.exporting.onnx_files import ORT, pack_onnx

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'secateur[bench]'")

PLANES = "float[N,3,6,6] x, float rate"
BODY = "c = Conv<pads=[1,1,1,1]>(x, w, b) s = Mul(c, rate) r = Relu(s) g = GlobalAveragePool(r) y = Flatten(g)"


def convolution() -> Any:
    return model_of(PLANES, BODY, 13, w=(4, 3, 3, 3), b=(4,))


def test_a_packed_file_runs_as_its_onnx_does(tmp_path: Path) -> None:
    model = convolution()
    found = pack_onnx(saved(model, tmp_path), tmp_path / "net.secateur", bind={"rate": 2.0})
    assert (found.by, found.apart < 1e-5) == (ORT, True)
    x = np.random.default_rng(3).normal(size=(5, 3, 6, 6)).astype(np.float32)
    (wanted,) = by_runtime(model, {"x": x, "rate": np.array(2.0, np.float32)})
    for session in (
        secateur.load(tmp_path / "net.secateur"),
        secateur.load(tmp_path / "model.onnx", bind={"rate": 2.0}),
    ):
        np.testing.assert_allclose(session(x), wanted, atol=1e-5)


def test_what_has_no_batch_is_called_without_one(tmp_path: Path) -> None:
    model = model_of(
        "float[3,4] x", "t = ReduceSum<keepdims=0>(x, first) y = Neg(t)", 13, "y, t", first=np.array([0], np.int64)
    )
    pack_onnx(saved(model, tmp_path), tmp_path / "net.secateur")
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    made = secateur.load(tmp_path / "net.secateur")(x=x)
    for name, wanted in zip(("y", "t"), by_runtime(model, {"x": x}), strict=True):
        np.testing.assert_array_equal(made[name], wanted)


def test_the_command_line_packs_a_file(run_cli: RunCli, tmp_path: Path) -> None:
    path, packed = saved(convolution(), tmp_path), tmp_path / "net.secateur"
    done = run_cli("pack", str(path), "-o", str(packed), "--shape", "x=1x3x6x6", "--bind", "rate=0.5")
    assert (done.returncode, packed.exists()) == (0, True), done.stderr
    assert "of those of ONNX Runtime" in done.stdout
    done = run_cli("pack", str(path), "-o", str(packed), "--force", "--sizes", "x=batch,3,6,6")
    assert done.returncode == 2
    assert "is a whole network, so it takes no --sizes" in done.stderr


def test_a_file_is_packed_in_eight_bits_by_inputs_of_its_names(run_cli: RunCli, tmp_path: Path) -> None:
    path, x = saved(convolution(), tmp_path), np.random.default_rng(3).normal(size=(32, 3, 6, 6)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    np.savez(tmp_path / "images.npz", images=x)
    words = ["pack", str(path), "-o", "net.secateur", "--bind", "rate=0.5", "--quantize", "int8", "--calibration"]
    done = run_cli(*words, "x.npz")
    assert done.returncode == 0, done.stderr
    (moved,) = re.findall(r"eight bits moved them by at most ([\d.]+)% of the largest", done.stdout)
    assert 0 < float(moved) < 5
    done = run_cli(*words, "images.npz", "--force")
    assert done.returncode != 0
    assert "expected inputs ['x'], got ['images']" in done.stderr


def test_the_command_line_looks_into_a_file_and_runs_it(run_cli: RunCli, tmp_path: Path) -> None:
    model = convolution()
    path = saved(model, tmp_path)
    done = run_cli("inspect", str(path), "--bind", "rate=2.0", "--format", "json")
    found = json.loads(done.stdout)
    assert found["weights"][0] | {"density": 1.0} == {
        "name": "w",
        "shape": [4, 3, 3, 3],
        "dtype": "float32",
        "density": 1.0,
        "bytes": 432,
    }
    assert found["inputs"] == [{"name": "x", "shape": ["N", "3", "6", "6"], "element": "float32"}]
    x = np.random.default_rng(3).normal(size=(5, 3, 6, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    done = run_cli("run", str(path), "--bind", "rate=2.0", "--input", "x.npy", "--output", "y.npy")
    assert done.returncode == 0, done.stderr
    (wanted,) = by_runtime(model, {"x": x, "rate": np.array(2.0, np.float32)})
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), wanted, atol=1e-5)
    done = run_cli(
        "bench", str(path), "--bind", "rate=2.0", "--peers", "onnxruntime", "--seconds", "0.01", "--batch", "1"
    )
    assert (done.returncode, "onnxruntime" in done.stdout) == (0, True), done.stderr


def test_an_output_without_a_batch_needs_an_image(tmp_path: Path) -> None:
    model = model_of("float[N,4] x", "y = Relu(x) c = Neg(w)", 13, "y, c", w=(3,))
    session = secateur.load(saved(model, tmp_path))
    np.testing.assert_array_equal(session(x=np.ones((2, 4), np.float32))["c"].shape, (3,))
    with pytest.raises(RunError, match="an output without a batch"):
        session(x=np.ones((0, 4), np.float32))
