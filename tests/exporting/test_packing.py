"""A PyTorch network becomes a file that computes the same without PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing._internal.two_tensor import TwoTensor

import secateur
from networks import FAMILIES, make_example, make_graph, make_network, run_network
from secateur import packfile
from secateur.errors import ExportError, PackError, SecateurError
from secateur.exporting.packing import pack
from secateur.exporting.quantising import Report
from secateur.importing.aten import to_graph
from secateur.modules.guarding import outputs
from secateur.modules.inputs import as_inputs
from secateur.network.graph import Weight
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
        bound = sum(packfile.bound_bytes(Weight.of(value.numpy())) for value in network.state_dict().values())
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
    for name, wanted in network(x).items():
        np.testing.assert_allclose(found[name], wanted.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_an_existing_file_and_the_networks_mode_stay(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.Dropout()).train()
    secateur.pack(network, tmp_path / "net", example=torch.randn(2, 4))
    assert network.training
    with pytest.raises(PackError, match="exists"):
        secateur.pack(network, tmp_path / "net", example=torch.randn(2, 4))
    secateur.pack(network, tmp_path / "net", example=torch.randn(2, 4), force=True)


class OfModule(nn.Module):
    """What `function` makes of a module and the inputs."""

    def __init__(self, module: nn.Module, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.r, self.head, self.function = module, nn.Linear(4, 2), function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.head(self.function(self.r, *inputs))


def first(module: nn.Module, x: Tensor) -> Tensor:
    made = module(x)
    return made[0] if isinstance(made, tuple) else made


WHOLE: dict[str, tuple[nn.Module, Callable[..., Tensor], Tensor]] = {
    **{
        each.__name__: (each(3, 4, batch_first=True), first, torch.randn(2, 5, 3)) for each in (nn.LSTM, nn.GRU, nn.RNN)
    },
    **{each.__name__: (each(3, 4), first, torch.randn(2, 3)) for each in (nn.LSTMCell, nn.GRUCell, nn.RNNCell)},
    "MultiheadAttention": (
        nn.MultiheadAttention(4, 2, batch_first=True),
        lambda module, x: module(x, x, x)[0],
        torch.randn(2, 5, 4),
    ),
    "TransformerEncoderLayer": (nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), first, torch.randn(2, 5, 4)),
    "TransformerDecoderLayer": (
        nn.TransformerDecoderLayer(4, 2, 8, batch_first=True),
        lambda module, x: module(x, x),
        torch.randn(2, 5, 4),
    ),
    "Embedding": (nn.Embedding(9, 4), first, torch.zeros(2, 5, dtype=torch.int64)),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_modules_that_are_more_than_an_operation_are_packed(kind: str, tmp_path: Path) -> None:
    module, function, x = WHOLE[kind]
    network = OfModule(module, function).eval()
    pack(network, tmp_path / "net.secateur", example=x)
    with torch.no_grad():
        expected = network(x).numpy()
    np.testing.assert_allclose(secateur.load(tmp_path / "net.secateur")(x.numpy()), expected, rtol=1e-5, atol=1e-5)


class Bessel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.i0e(x)


def test_a_module_that_no_graph_can_hold_is_named(tmp_path: Path) -> None:
    network = OfModule(Bessel(), first)
    with pytest.raises(ExportError, match=r"^module 'r' \(Bessel\): [^\n]*$"):
        pack(network, tmp_path / "net.secateur", example=torch.zeros(2, 4))
    assert list(tmp_path.iterdir()) == []


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        os.write(2, b"from C\n")
        if x.sum() > 0:
            return x
        return -x


def test_a_refusal_leaves_stderr_alone_and_keeps_what_pytorch_printed_as_a_note(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line = r"module 'r' \(Branching\): its control flow depends on values, .*: if x.sum\(\) > 0:$"
    with pytest.raises(ExportError, match=line) as caught:
        to_graph(OfModule(Branching(), first), torch.randn(2, 4))
    assert capfd.readouterr() == ("", "")
    assert isinstance(caught.value.__cause__, Exception)
    assert "from C" in "".join(vars(caught.value.__cause__)["__notes__"])


def test_what_a_network_that_is_traced_prints_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    def speak(module: nn.Module, x: Tensor) -> Tensor:
        print("here", file=sys.stderr)
        return module(x)

    to_graph(OfModule(nn.ReLU(), speak), torch.randn(2, 4))
    assert capfd.readouterr().err == "here\n"


A, B = torch.randn(2, 4), torch.randn(2, 4)


class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head(x - 2 * y)


def without_weights(inputs: int, outputs: int) -> nn.Module:
    with pytest.warns(UserWarning, match="zero-element"):
        return nn.Linear(inputs, outputs)


@pytest.mark.parametrize(
    ("network", "example"),
    [
        (Keywords(), (A, B)),
        (Keywords(), [A.numpy(), B.double().numpy()]),
        (Keywords(), {"y": B, "x": A}),
        (OfModule(nn.Identity(), lambda _, x, y: x - 2 * y), (A, B)),
        (nn.Linear(4, 2), A.double().numpy()),
        (nn.Linear(4, 2), A.half()),
        (without_weights(4, 0), A),
        (nn.Sequential(without_weights(4, 0), without_weights(0, 3)), A),
        (nn.DataParallel(nn.Linear(4, 2)), A),
    ],
)
def test_inputs_of_every_form_and_the_smallest_networks_are_packed(
    network: nn.Module, example: Any, tmp_path: Path
) -> None:
    pack(network, path := tmp_path / "net.secateur", example=example)
    given = [each.float().numpy() for each in as_inputs(example, network).tensors]
    expected = outputs(network, as_inputs(example, network).like(torch.empty(0)))
    found = secateur.load(path)(*given)
    assert isinstance(found, np.ndarray)
    assert np.allclose(found, expected[0], atol=1e-5)


def test_an_averaged_model_is_packed_under_the_names_of_what_it_averages(tmp_path: Path) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(nn.Sequential(nn.Linear(4, 2)))
    pack(averaged, path := tmp_path / "net.secateur", example=A)
    assert packfile.read(path).weights.keys() == {"0.weight", "0.bias"}


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of PyTorch from 2.8 on
        made: nn.Module = torch.jit.script(nn.Linear(4, 2))
    return made


def exported() -> nn.Module:
    made: nn.Module = torch.export.export(nn.Linear(4, 2), (A,)).module()
    return made


def of_two_tensors() -> nn.Module:
    network = nn.Linear(4, 2)
    both = TwoTensor(torch.randn(2, 4), torch.randn(2, 4))  # type: ignore[no-untyped-call]
    network.weight = nn.Parameter(both)
    return network


@pytest.mark.parametrize(
    ("network", "example", "text"),
    [
        (scripted(), A, "the network is a ScriptModule"),
        (nn.Sequential(scripted()), A, "module '0' is a ScriptModule"),
        (exported(), A, "has no evaluation mode: expected it as before export"),
        (of_two_tensors(), A, "weight 'weight' is a TwoTensor: expected plain tensors"),
        (nn.Linear(4, 2), A[:0], r"example of shape \(0, 4\): expected a batch"),
        (nn.Linear(4, 2), A.long(), r"Linear fails on inputs of shape \(1, 4\): "),
        (nn.Linear(4, 2), A[:, :3], r"Linear fails on inputs of shape \(1, 3\): "),
        (nn.LazyLinear(2), A, "is lazy and has no values yet"),
        (nn.Linear(4, 2, device="meta"), A, "is on the meta device and has no values"),
    ],
)
def test_what_cannot_be_traced_is_refused_in_one_line(
    network: nn.Module, example: Tensor, text: str, tmp_path: Path
) -> None:
    with pytest.raises(SecateurError, match=text) as caught:
        pack(network, tmp_path / "net.secateur", example=example)
    assert "\n" not in str(caught.value)


def test_too_little_memory_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(reference, "run_all", fail)
    with pytest.raises(PackError, match=r"^packing 4 MiB of weights takes up to 12 MiB of memory beside them, .*$"):
        pack(nn.Linear(1024, 1024), tmp_path / "net.secateur", example=torch.randn(1, 1024))
    assert list(tmp_path.iterdir()) == []


def test_a_network_is_packed_in_eight_bits(tmp_path: Path) -> None:
    """With what calibration may be, and what the return value tells."""
    network, x = make_network("lenet-300-100", 0.8), make_example("lenet-300-100", 64)
    expected, path, reports = run_network(network, x).numpy(), tmp_path / "net.secateur", list[Report]()
    for calibration in (x, x.numpy(), [x[:32], x[32:].numpy()], iter([(x,)])):
        apart = secateur.pack(
            network, path, example=x, quantize="int8", calibration=calibration, force=True, tell=reports.append
        )
        found = secateur.load(path)(x.numpy())
        assert np.array_equal(found, reference.run(packfile.read(path), x.numpy()))
        assert apart == pytest.approx(np.abs(found - expected)[0].max() / np.abs(expected[0]).max(), rel=1e-3)
        assert apart < 0.05
    assert [len(report.layers) for report in reports] == [3] * 4
    assert path.stat().st_size < 100_000


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"quantize": "int8"}, "needs calibration data: calibration=some hundred inputs"),
        ({"quantize": "int4", "calibration": 1}, "quantize 'int4': expected None or 'int8'"),
        ({"calibration": torch.ones(2, 4)}, "are for quantize='int8': give that too, or neither"),
        ({"keep_float": ["0"]}, "are for quantize='int8': give that too, or neither"),
        ({"quantize": "int8", "calibration": torch.ones(2, 4), "bits": 8}, "with bits=8: weights are eight bits"),
        ({"quantize": "int8", "calibration": torch.ones(2, 4), "simplified": False}, "with simplified=False"),
        ({"quantize": "int8", "calibration": 3}, "calibration of type int: expected arrays, or batches"),
        ({"quantize": "int8", "calibration": torch.ones(2, 5)}, r"expected shape \(N, 4\), got \(2, 5\)"),
        ({"quantize": "int8", "calibration": torch.ones(2, 4), "keep_float": ["1"]}, "no such layer; there are 0"),
    ],
)
def test_what_does_not_go_with_eight_bits_is_refused(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 3))
    with pytest.raises(SecateurError, match=message):
        secateur.pack(network, tmp_path / "net.secateur", example=torch.ones(1, 4), **given)
    assert list(tmp_path.iterdir()) == []
