"""A PyTorch network becomes a file that computes the same without PyTorch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import secateur
from networks import FAMILIES, make_example, make_graph, make_network, run_network
from secateur import packfile
from secateur.errors import PackError
from secateur.runtime import reference

WITHOUT_TORCH = """
import sys; sys.modules["torch"] = None
import numpy as np
from secateur import packfile
from secateur.runtime import reference
for path in sys.argv[1:]:
    np.save(path + ".out.npy", reference.run(packfile.read(path), np.load(path + ".in.npy")))
"""


def test_every_family_is_packed_and_runs_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    paths = {name: str(tmp_path / f"{name}.secateur") for name in FAMILIES}
    for name, path in paths.items():
        example = make_example(name, 3)
        packfile.write(make_graph(name, 0.9), path)
        np.save(path + ".in.npy", example.numpy())
    command = [sys.executable, "-c", WITHOUT_TORCH, *paths.values()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for name, path in paths.items():
        expected = run_network(make_network(name, 0.9), make_example(name, 3)).numpy()
        assert np.abs(np.load(path + ".out.npy") - expected).max() < 1e-5 * np.abs(expected).max(), name


@pytest.mark.parametrize("simplified", [False, True])
@pytest.mark.parametrize("ratio", [0, 0.5, 0.9, 0.99])
def test_networks_above_100_kilobytes_take_no_more_than_their_bound(
    ratio: float, simplified: bool, tmp_path: Path
) -> None:
    """Headers and all, random weights, the bound being that of the network as it was."""
    path = tmp_path / "net.secateur"
    for name in ("lenet-300-100", "lenet-5"):
        network = make_network(name, ratio)
        bound = sum(
            packfile.bound_bytes(secateur.graph.Weight.of(value.numpy())) for value in network.state_dict().values()
        )
        secateur.pack(network, path, example=make_example(name, 1), simplified=simplified, force=True)
        assert path.stat().st_size <= (0.85 if ratio < 0.99 else 1.01) * bound


def test_the_weights_are_those_of_the_state_dict(tmp_path: Path) -> None:
    network = make_network("lenet-5", 0.9)
    secateur.pack(network, tmp_path / "net.secateur", example=make_example("lenet-5", 1), simplified=False)
    found = secateur.unpack(tmp_path / "net.secateur")
    state = network.state_dict()
    assert found.keys() == state.keys()
    assert all(np.array_equal(found[name], value.numpy()) for name, value in state.items())
    save_file({name: torch.from_numpy(value) for name, value in found.items()}, tmp_path / "net.safetensors")
    assert (tmp_path / "net.safetensors").stat().st_size > 5 * (tmp_path / "net.secateur").stat().st_size


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_formats_keep_every_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 5)).to(dtype)
    secateur.prune(network, 0.8)
    secateur.pack(network, tmp_path / "net.secateur", example=torch.randn(2, 40, dtype=dtype), simplified=False)
    for name, value in secateur.unpack(tmp_path / "net.secateur").items():
        assert np.array_equal(value, network.state_dict()[name].float().numpy())


def test_rounded_networks_stay_close(tmp_path: Path) -> None:
    network, x = make_network("lenet-300-100", 0.9), make_example("lenet-300-100", 20)
    expected = run_network(network, x).numpy()
    sizes = {}
    for bits, most in ((8, 0.02), (5, 0.2)):
        path = tmp_path / f"{bits}.secateur"
        apart = secateur.pack(network, path, example=x, bits=bits)
        found = reference.run(packfile.read(path), x.numpy())
        assert apart == pytest.approx(np.abs(found - expected)[0].max() / np.abs(expected[0]).max(), rel=1e-3)
        assert 0 < np.abs(found - expected).max() < most * np.abs(expected).max()
        sizes[bits] = path.stat().st_size
    assert sizes[5] < sizes[8] < 45_000


class Doubling(nn.Module):
    """Answers otherwise once it has been exported."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        return x if torch.compiler.is_exporting() else 2 * x


@pytest.mark.parametrize("bits", [None, 4])
def test_a_network_that_computes_something_else_is_not_kept(bits: int | None, tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"output is off by .* from PyTorch's: report this as a bug; nothing was kept"):
        secateur.pack(Doubling(), tmp_path / "net.secateur", example=torch.randn(1, 4), bits=bits)
    assert list(tmp_path.iterdir()) == []


class Awkward(nn.Module):
    """Changes what it is given, and answers with numbers, one of them a scalar for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.fc(x.mul_(2))
        return {"one": y[:, 0], "all": y}


def test_inputs_changed_in_place_scalars_and_dictionaries(tmp_path: Path) -> None:
    network, x = Awkward(), torch.randn(3, 4)
    before = x.clone()
    secateur.pack(network, tmp_path / "net.secateur", example=x)
    assert torch.equal(x, before)
    found = secateur.load(tmp_path / "net.secateur")(x.numpy())
    for each, wanted in zip(found, network(x).values(), strict=True):
        np.testing.assert_allclose(each, wanted.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_an_existing_file_and_the_networks_mode_stay(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.Dropout()).train()
    secateur.pack(network, tmp_path / "net", example=torch.randn(2, 4))
    assert network.training
    with pytest.raises(PackError, match="exists"):
        secateur.pack(network, tmp_path / "net", example=torch.randn(2, 4))
    secateur.pack(network, tmp_path / "net", example=torch.randn(2, 4), force=True)
