"""`secateur pack --quantize int8`: runs, files, what it says and what it refuses."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import secateur
from networks import make_example, make_network
from secateur import packfile
from secateur.cli import main
from secateur.cli.quantising import Quantising
from secateur.experiments.delivery import Deliverable
from secateur.runtime import load

Pack = Callable[..., tuple[int, str]]


@pytest.fixture
def pack(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Pack:
    """Run the verb in this process: (exit code, what it said). It writes net8.secateur."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["pack", *map(str, words), "-o", "net8.secateur"])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    return run


def test_a_runs_network_is_calibrated_on_training_images_and_says_what_it_lost(pack: Pack, tmp_path: Path) -> None:
    secateur.sweep("samples:tiny", "digits", ratios=[0.5], out=tmp_path / "run", epochs=1, device="cpu", tolerance=100)
    code, said = pack("run", "--quantize", "int8", "--calibration-images", 200)
    assert code == 0, said
    assert "layers in eight bits, calibrated on 200 images" in said
    assert "accuracy on 360 test images: " in said
    assert "uint8" in packfile.read(tmp_path / "net8.secateur").value_elements.values()


def test_a_best_in_eight_bits_is_packed_in_float_only_with_a_word(pack: Pack, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    secateur.sweep(
        "samples:tiny", "digits", ratios=[0.5], out=folder, epochs=1, device="cpu", tolerance=100, quantize="int8"
    )
    told = "the run's best was measured in int8, this is in float32: --quantize int8 packs that"
    code, said = pack("run")
    assert (code, told in said) == (0, True), said
    code, said = pack("run", "--quantize", "int8", "--force")
    assert (code, told in said) == (0, False), said


def test_layers_that_a_run_left_in_float_stay_so_beside_what_is_asked(tmp_path: Path) -> None:
    x = make_example("lenet-300-100", 4)
    np.save(tmp_path / "x.npy", x.numpy())
    made = Deliverable(make_network("lenet-300-100"), x, packfile.Metadata(), (), keep_float=("fc3",))
    for asked, left in ((("fc1",), ("fc3", "fc1")), (("fc3",), ("fc3",)), ((), ("fc3",))):
        quantising = Quantising.asked("int8", asked, tmp_path / "x.npy", 1024, None)
        assert quantising.keywords(made)["keep_float"] == left


def test_a_packed_file_becomes_one_in_eight_bits_with_calibration_from_a_file(pack: Pack, tmp_path: Path) -> None:
    x = make_example("lenet-5", 64)
    secateur.pack(make_network("lenet-5", 0.5), tmp_path / "net.secateur", example=x)
    np.save("x.npy", x.numpy())
    np.savez("x.npz", images=x.numpy())
    for name in ("x.npy", "x.npz"):
        words = ["net.secateur", "--quantize", "int8", "--calibration", name, "--keep-float", "conv1", "--force"]
        code, said = pack(*words)
        assert code == 0, said
        assert "4 of 5 layers in eight bits, calibrated on 64 images" in said
        assert "float32: conv1: as asked" in said
    expected, found = (load(tmp_path / name)(x.numpy()) for name in ("net.secateur", "net8.secateur"))
    assert np.abs(np.asarray(found) - np.asarray(expected)).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["net.secateur"], "is packed already; --quantize int8 makes another of it"),
        (["net.secateur", "--quantize", "int8"], "give --calibration with inputs (N, …) in a .npy or .npz file"),
        (["net.secateur", "--quantize", "int4"], "--quantize 'int4': expected none or int8"),
        (["net.secateur", "--quantize", "int8", "--bits", "8", "--exact"], "packed already, so it takes no --bits or"),
        (["net.secateur", "--quantize", "int8", "--calibration", "cut.npz"], "cut.npz: expected a .npy or .npz file"),
        (["net.secateur", "--quantize", "int8", "--calibration", "text.npz"], "'read.me' in it is no array"),
        (["run", "--quantize", "int8", "--bits", "8"], "--quantize int8 with --bits: weights become eight bits; give"),
        (["run", "--quantize", "int8", "--exact"], "--quantize int8 with --exact: weights become eight bits; give one"),
        (["run", "--keep-float", "fc1"], "--keep-float and --calibration are for --quantize int8"),
        (["run", "--quantize", "int8", "--calibration-images", "0"], "--calibration-images 0: expected a whole number"),
        (["net.secateur", "--quantize", "int8", "--calibration", "none.npy"], "none.npy: expected a .npy or .npz file"),
        (["net.secateur", "--quantize", "int8", "--calibration", "net.secateur"], "expected a .npy or .npz file"),
        (["net.secateur", "--quantize", "int8", "--calibration", "y.npy"], "expected shape (N, 1, 28, 28), got (3, 2)"),
    ],
)
def test_what_does_not_go_together_is_one_line(pack: Pack, words: list[str], message: str, tmp_path: Path) -> None:
    secateur.pack(make_network("lenet-5", 0.5), tmp_path / "net.secateur", example=make_example("lenet-5", 1))
    np.save(tmp_path / "y.npy", np.zeros((3, 2), np.float32))
    np.savez(tmp_path / "whole.npz", x=np.zeros((3, 2), np.float32))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:100])
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("read.me", "hello")
    code, said = pack(*words)
    assert code != 0
    assert message in " ".join(said.split())
    assert not (tmp_path / "net8.secateur").exists()
