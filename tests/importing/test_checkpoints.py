from __future__ import annotations

import argparse
import collections
import io
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.utils.prune as torch_prune
from safetensors.torch import save_file, save_model
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from samples import Tied, build
from secateur.errors import ModelError
from secateur.importing.checkpoints import load_weights, read_weights_file


class Small(nn.Module):
    """A convolution, a BatchNorm and a linear layer, for images (N, 1, 6, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.conv(x)).relu().flatten(1))


def trained(seed: int = 1) -> Small:
    """With every entry away from what a new network has."""
    torch.manual_seed(seed)
    network = Small()
    for _ in range(3):
        network(torch.randn(8, 1, 6, 6))
    return network.eval()


def renamed(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {prefix + name: value for name, value in state.items()}


def outputs(network: nn.Module) -> Tensor:
    with torch.no_grad():
        found: Tensor = network.eval()(torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(7)))
    return found


def saved(held: object, folder: Path, suffix: str = ".pt") -> Path:
    path = folder / f"net{suffix}"
    if suffix == ".safetensors":
        save_file(held, path)  # type: ignore[arg-type]
    else:
        torch.save(held, path)
    return path


class Arguments:
    """Of a class that PyTorch does not know."""

    def __init__(self) -> None:
        self.lr = 0.1


class Attributes(dict[str, Any]):
    """A dictionary of a class that PyTorch does not know, as Lightning keeps hyperparameters."""


ADAM: dict[str, Any] = {"state": {0: {"exp_avg": torch.zeros(4, 1, 3, 3)}}, "param_groups": [{"lr": 0.1}]}

WRAPPED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "state_dict": (lambda state: {"state_dict": state, "epoch": 3}, "found under 'state_dict.'"),
    "model_state_dict and optimizer": (
        lambda state: {"model_state_dict": state, "optimizer_state_dict": ADAM, "epoch": 3, "loss": torch.tensor(1.0)},
        "found under 'model_state_dict.'",
    ),
    "any name": (lambda state: {"net_g": state, "scores": [0.1]}, "found under 'net_g.'"),
    "twice": (lambda state: {"model": {"params": state}}, "found under 'model.params.'"),
    "in a list": (lambda state: [3, state], "found under '1.'"),
    "DataParallel": (lambda state: renamed("module.", state), "found under 'module.'"),
    "several prefixes": (lambda state: renamed("module.model._orig_mod.", state), "under 'module.model._orig_mod.'"),
    "any prefix": (lambda state: renamed("encoder.q.", state), "found under 'encoder.q.'"),
    "Lightning": (
        lambda state: {
            "state_dict": renamed("model.", state) | {"loss.weight": torch.ones(5)},
            "hyper_parameters": Attributes(lr=0.1),
            "callbacks": {"best": np.float64(0.5)},
        },
        "found under 'state_dict.model.'; 'state_dict.loss.weight' beside it left out",
    ),
    "the same dictionary twice": (lambda state: {"model": state, "copy": state}, "found under 'model.'"),
    "equal dictionaries": (
        lambda state: {"model": state, "copy": {name: value.clone() for name, value in state.items()}},
        "found under 'model.'",
    ),
    "arguments": (
        lambda state: {"args": argparse.Namespace(lr=0.1), "own": Arguments(), "model": state,
                       "path": Path("x"), "best": np.float64(1), "log": collections.defaultdict(list, a=[1])},
        "found under 'model.'",
    ),
    "compiled within": (
        lambda state: {name.replace("conv.", "conv._orig_mod."): value for name, value in state.items()},
        "wrappers' names left out",
    ),
    "parts": (
        lambda state: {part: {name.removeprefix(f"{part}."): value for name, value in state.items()
                              if name.startswith(part)} for part in ("conv", "norm", "fc")},
        "",
    ),
    "profiled": (lambda state: state | {"total_ops": torch.zeros(1), "conv.total_params": torch.zeros(1)}, ""),
}  # fmt: skip


@pytest.mark.parametrize("form", WRAPPED)
def test_a_state_dict_is_found_wherever_it_lies_in_a_file(tmp_path: Path, form: str) -> None:
    wrap, told = WRAPPED[form]
    source, target = trained(), Small()
    notes = load_weights(target, saved(wrap(source.state_dict()), tmp_path))
    assert torch.equal(outputs(source), outputs(target))
    assert told in "; ".join(notes)
    assert bool(notes) == bool(told)


def test_what_pytorchs_own_wrappers_save_is_loaded(tmp_path: Path) -> None:
    source = trained()
    for wrapper in (
        nn.DataParallel(source),
        torch.optim.swa_utils.AveragedModel(source),
        torch.compile(source, backend="eager"),
        torch.compile(nn.DataParallel(source), backend="eager"),
    ):
        assert isinstance(wrapper, nn.Module)
        target = Small()
        (note,) = load_weights(target, saved(wrapper.state_dict(), tmp_path))
        assert note.startswith("found under '")
        assert torch.equal(outputs(source), outputs(target))


def test_a_network_that_is_wrapped_itself_takes_the_state_of_the_bare_one(tmp_path: Path) -> None:
    source = trained()
    for wrapper in (nn.DataParallel(Small()), nn.Sequential(collections.OrderedDict(inner=Small()))):
        load_weights(wrapper, saved(source.state_dict(), tmp_path))
        assert torch.equal(outputs(source), outputs(wrapper))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_same_forms_are_found_in_safetensors(tmp_path: Path, prefix: str) -> None:
    source, target = trained(), Small()
    state = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    notes = load_weights(target, saved(renamed(prefix, state), tmp_path, ".safetensors"))
    assert torch.equal(outputs(source), outputs(target))
    assert notes == ((f"found under {prefix!r}",) if prefix else ())


def pruned(network: Small) -> None:
    torch_prune.l1_unstructured(network.conv, "weight", 0.5)  # type: ignore[no-untyped-call]
    torch_prune.random_unstructured(network.fc, "bias", 0.4)  # type: ignore[no-untyped-call]


def old_weight_norm(network: Small) -> None:
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(network.conv)
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(network.fc, dim=None)  # type: ignore[arg-type]


def new_weight_norm(network: Small) -> None:
    parametrizations.weight_norm(network.conv, dim=1)
    parametrizations.weight_norm(network.fc)


def old_spectral_norm(network: Small) -> None:
    nn.utils.spectral_norm(network.conv)
    nn.utils.spectral_norm(network.fc, dim=1)


def new_spectral_norm(network: Small) -> None:
    parametrizations.spectral_norm(network.conv)
    parametrizations.spectral_norm(network.fc, dim=1)


@pytest.mark.parametrize(
    "change", [pruned, old_weight_norm, new_weight_norm, old_spectral_norm, new_spectral_norm], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_in_parts_are_put_together_as_pytorch_does(
    tmp_path: Path, change: Callable[[Small], None], prefix: str
) -> None:
    source, target = trained(), Small()
    change(source)
    source.train()(torch.randn(8, 1, 6, 6))
    source.eval()
    expected = outputs(source)
    (*_, note) = load_weights(target, saved(renamed(prefix, source.state_dict()), tmp_path))
    torch.testing.assert_close(outputs(target), expected)
    assert "worked into 2 tensors" in note
    if change is pruned:
        assert torch.equal(target.conv.weight == 0, source.conv.get_buffer("weight_mask") == 0)


def test_the_dimension_of_a_spectral_norm_is_found_where_both_would_do(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, target = nn.Sequential(nn.ConvTranspose2d(4, 4, 3)), nn.Sequential(nn.ConvTranspose2d(4, 4, 3))
    nn.utils.spectral_norm(source[0])
    images = torch.randn(2, 4, 5, 5)
    source.train()(images)
    load_weights(target, saved(source.state_dict(), tmp_path))
    torch.testing.assert_close(target.eval()(images), source.eval()(images))


def test_a_parametrization_that_the_file_does_not_tell_is_refused_with_the_remedy(tmp_path: Path) -> None:
    class Doubled(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 2 * weight

    for change in (
        lambda layer: parametrize.register_parametrization(layer, "weight", Doubled()),
        parametrizations.orthogonal,
    ):
        source = trained()
        change(source.fc)
        with pytest.raises(ModelError, match=r"'fc\.parametrizations\.weight\.original'.*remove_parametrizations"):
            load_weights(Small(), saved(source.state_dict(), tmp_path))


def test_masks_of_a_network_that_has_them_itself_stay_masks(tmp_path: Path) -> None:
    source, target = trained(), Small()
    torch_prune.l1_unstructured(source.conv, "weight", 0.5)  # type: ignore[no-untyped-call]
    torch_prune.identity(target.conv, "weight")  # type: ignore[no-untyped-call]
    assert load_weights(target, saved(source.state_dict(), tmp_path)) == ()
    assert torch.equal(target.conv.get_buffer("weight_mask"), source.conv.get_buffer("weight_mask"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_formats_are_cast_and_said(tmp_path: Path, dtype: torch.dtype) -> None:
    source, target = trained(), Small()
    state = {name: value.to(dtype) for name, value in source.state_dict().items()}  # the counter too, as averages do
    (note, _) = load_weights(target, saved(state, tmp_path))
    assert note == f"8 tensors from {str(dtype).removeprefix('torch.')} to float32"
    assert torch.equal(target.fc.weight, source.fc.weight.to(dtype).float())
    assert target.norm.num_batches_tracked == 3


def test_counters_may_be_absent(tmp_path: Path) -> None:
    source, target = trained(), Small()
    state = source.state_dict()
    del state["norm.num_batches_tracked"]
    assert load_weights(target, saved(state, tmp_path)) == ("'norm.num_batches_tracked' left as built",)
    assert torch.equal(outputs(source), outputs(target))


def test_a_counter_of_another_shape_is_left_as_built(tmp_path: Path) -> None:
    source, target = trained(), Small()
    state = source.state_dict() | {"norm.num_batches_tracked": torch.tensor([3])}
    assert load_weights(target, saved(state, tmp_path)) == ("'norm.num_batches_tracked' left as built",)
    assert torch.equal(outputs(source), outputs(target))


def test_a_checkpoint_of_another_device_is_loaded_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = trained(), Small()
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda _: "cuda:3")
        path = saved(source.state_dict(), tmp_path)
    assert load_weights(target, path) == ("saved on cuda:3, loaded to the CPU",)
    assert torch.equal(outputs(source), outputs(target))


def test_two_state_dicts_that_both_fit_are_refused(tmp_path: Path) -> None:
    one, other = trained(1).state_dict(), trained(2).state_dict()
    for held in (
        {"model": one, "ema": other},
        [one, other],
        renamed("student.", one) | renamed("teacher.", other),
        one | renamed("ema.", other),
        {"model": renamed("module.", one), "ema": other},
    ):
        with pytest.raises(ModelError, match=r"2 state dicts that fit and differ, under '.*' and '.*': save"):
            load_weights(Small(), saved(held, tmp_path))


def with_entry(name: str, change: Callable[[Tensor], object]) -> dict[str, Any]:
    state = trained().state_dict()
    return {**state, name: change(state[name])}


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "empty": (dict, "is empty: expected a state dict"),
    "a tensor": (lambda: torch.ones(3), r"got Tensor without"),
    "a number": (lambda: {"epoch": 3}, "got dict without tensors"),
    "a module": (trained, r"it is a pickled \S*test_checkpoints\.Small, .*save network\.state_dict\(\)"),
    "a module within": (lambda: {"model": trained(), "ema": None}, r"pickled \S*test_checkpoints\.Small"),
    "sparse": (lambda: with_entry("fc.weight", Tensor.to_sparse), r"'fc\.weight' is a sparse tensor .*to_dense"),
    "sparse rows": (lambda: with_entry("fc.weight", Tensor.to_sparse_csr), r"'fc\.weight' is a sparse tensor"),
    "nested": (
        lambda: with_entry("fc.weight", lambda _: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])),
        r"'fc\.weight' has no one shape, as it is nested, but the network expects \(5, 64\)",
    ),
    "meta": (lambda: with_entry("fc.weight", lambda weight: weight.to("meta")), "saved without its numbers"),
    "whole numbers": (lambda: with_entry("fc.weight", Tensor.long), r"'fc\.weight' holds torch\.int64 where .*float32"),
    "truths": (lambda: with_entry("fc.weight", Tensor.bool), r"holds torch\.bool where the network has"),
    "complex": (lambda: with_entry("fc.weight", lambda weight: weight + 1j), r"holds torch\.complex64"),
    "no numbers": (lambda: with_entry("fc.weight", lambda weight: weight * torch.nan), r"320 of its 320 values"),
    "one infinite": (
        lambda: with_entry("fc.bias", lambda bias: torch.tensor([1.0, 2, 3, 4, torch.inf])),
        r"1 of its 5 values are no finite numbers",
    ),
    "too large": (
        lambda: with_entry("fc.bias", lambda bias: bias.double() + 1e300),
        r"no finite numbers in torch\.float32",
    ),
    "statistics": (lambda: with_entry("norm.running_var", lambda var: var * torch.nan), r"'norm\.running_var': 4 of"),
    "another shape": (
        lambda: with_entry("fc.bias", lambda bias: torch.zeros(7)),
        r"'fc\.bias' has shape \(7,\) but the network expects \(5,\); is it the same network with the same number",
    ),
    "under a prefix": (
        lambda: {"net": renamed("module.", {"conv.weight": torch.ones(4, 1, 3, 3), "odd": torch.ones(1)})},
        r"under 'net\.module\.', 'conv\.bias' \(and 6 more\) is missing; 'net\.module\.odd' is not in the network",
    ),
    "another network": (
        lambda: nn.Linear(3, 2).state_dict(),
        r"'conv\.weight' \(and 7 more\) is missing; 'weight' \(and 1 more\) is not in the network; name the network",
    ),
    "one billion times one number": (
        lambda: trained().state_dict()
        | {"fc.weight_orig": torch.ones(1).expand(1 << 40), "fc.weight_mask": torch.ones(1)},
        "is not in the network",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings(
    "ignore:Sparse CSR tensor support:UserWarning", "ignore:The PyTorch API of nested:UserWarning"
)
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_state_dict_of_the_network_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    make, told = REFUSED[case]
    network = trained(3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ModelError, match=told) as caught:
        load_weights(network, saved(make(), tmp_path))
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.filterwarnings("ignore:.*quantiz.*:UserWarning", "ignore:.*quantiz.*:DeprecationWarning")
def test_quantized_weights_are_refused(tmp_path: Path) -> None:
    state = with_entry("fc.weight", lambda weight: torch.quantize_per_tensor(weight.detach(), 0.1, 0, torch.qint8))
    with pytest.raises(ModelError, match=r"'fc\.weight' is quantized"):
        load_weights(Small(), saved(state, tmp_path))


def test_one_weight_of_the_network_cannot_have_two_values(tmp_path: Path) -> None:
    state = {name: tensor.clone() for name, tensor in Tied().state_dict().items()}
    load_weights(Tied(), saved(state, tmp_path))
    state["second.weight"] += 1
    with pytest.raises(ModelError, match=r"'first\.weight' and 'second\.weight' differ"):
        load_weights(Tied(), saved(state, tmp_path))


class Wicked:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    target = tmp_path / "made"
    for held in (Wicked(target), {"model": trained().state_dict(), "hook": Wicked(target)}):
        with pytest.raises(ModelError, match="opened safely"):
            load_weights(Small(), saved(held, tmp_path))
    legacy = tmp_path / "old.pt"
    torch.save({"own": Wicked(target)}, legacy, _use_new_zipfile_serialization=False)
    with pytest.raises(ModelError, match=r"it holds a \w+\.mkdir, and opening that would run code"):
        load_weights(Small(), legacy)
    assert not target.exists()


def test_names_in_a_file_reach_nobodys_terminal_as_they_are(tmp_path: Path) -> None:
    state = trained().state_dict()
    del state["fc.bias"]
    loud = type("\x1b[31mred", (Small,), {"__module__": __name__})
    globals()[loud.__name__] = loud
    for held in ({**state, "\x1b]0;title\x07": torch.ones(1)}, {"\x1b[2J\nmodel": state}, loud()):
        with pytest.raises(ModelError) as caught:
            load_weights(Small(), saved(held, tmp_path))
        assert str(caught.value).isprintable()
        assert r"\x1b" in str(caught.value)


def test_files_that_are_none_are_refused_before_they_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "zero.pt").symlink_to("/dev/zero")
    (tmp_path / "folder.pt").mkdir()
    (tmp_path / "page.pth").write_text("<!DOCTYPE html>")
    (tmp_path / "pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    (tmp_path / "nothing.pt").touch()
    with open(tmp_path / "vast.pt", "wb") as file:
        file.truncate(1 << 42)
    with open(tmp_path / "zeros.safetensors", "wb") as file:
        file.truncate(1 << 30)
    for name, told in {
        "pipe.pt": "expected a file, got a named pipe",
        "zero.pt": "expected a file, got a device",
        "folder.pt": "expected a file, got a folder",
        "page.pth": "begins with b'<!DOCTYPE",
        "pointer.safetensors": "begins with b'version http",
        "nothing.pt": "begins with b''",
        "vast.pt": "4,398.0 GB do not fit",
        "zeros.safetensors": "no safetensors file of 1,073,741,824 bytes does",
    }.items():
        with pytest.raises(ModelError, match=told):
            read_weights_file(tmp_path / name)


def test_damaged_and_foreign_archives_are_refused_in_one_line(tmp_path: Path) -> None:
    whole = saved(trained().state_dict(), tmp_path).read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of PyTorch from 2.8 on
        torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "script.pt")  # type: ignore[no-untyped-call]
    with zipfile.ZipFile(tmp_path / "squeezed.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for member in zipfile.ZipFile(io.BytesIO(whole)).infolist():
            archive.writestr(member.filename, zipfile.ZipFile(io.BytesIO(whole)).read(member))
    for name, told in {
        "cut.pt": "opened safely",
        "script.pt": r"holds a TorchScript program, .*state_dict\(\)",
        "squeezed.pt": "compressed archive",
    }.items():
        with pytest.raises(ModelError, match=told) as caught:
            load_weights(Small(), tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_checkpoint_of_before_archives_is_loaded(tmp_path: Path) -> None:
    source, target = trained(), Small()
    torch.save({"model": source.state_dict()}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert load_weights(target, tmp_path / "old.pth") == ("found under 'model.'",)
    assert torch.equal(outputs(source), outputs(target))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_checkpoints_load_from_both_formats(tmp_path: Path, suffix: str) -> None:
    source, target = (build("lenet-5", seed=seed) for seed in (1, 2))
    path = tmp_path / f"net{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": source.state_dict()}, path)
    else:
        save_file(source.state_dict(), path)
    load_weights(target, read_weights_file(path))
    assert all(
        torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    )


def test_tied_weights_survive_a_safetensors_checkpoint(tmp_path: Path) -> None:
    source, target = Tied(), Tied()
    save_model(source, str(tmp_path / "tied.safetensors"))
    load_weights(target, read_weights_file(tmp_path / "tied.safetensors"))
    assert torch.equal(source.second.weight, target.second.weight)


def test_checkpoints_that_do_not_fit_name_the_place(tmp_path: Path) -> None:
    network = build("lenet-5", seed=1)
    state = network.state_dict()
    save_file({**state, "fc3.bias": torch.zeros(12)}, tmp_path / "shape.safetensors")
    with pytest.raises(ModelError, match=r"'fc3\.bias' has shape \(12,\) but the network expects \(10,\)"):
        load_weights(network, read_weights_file(tmp_path / "shape.safetensors"))
    save_file({"conv1.weight": state["conv1.weight"], "odd": torch.zeros(1)}, tmp_path / "few.safetensors")
    with pytest.raises(ModelError, match=r"'conv1\.bias' \(and 8 more\) is missing; 'odd' is not in the network"):
        load_weights(network, read_weights_file(tmp_path / "few.safetensors"))


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save(build("lenet-5", seed=1), tmp_path / "whole.pt")
    with pytest.raises(ModelError, match="not a checkpoint that can be opened safely"):
        load_weights(Tied(), read_weights_file(tmp_path / "whole.pt"))


def test_missing_and_foreign_checkpoint_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        read_weights_file(tmp_path / "absent.pt")
    with pytest.raises(ModelError, match=r"expected a \.pt, \.pth or \.safetensors file"):
        read_weights_file(tmp_path / "net.onnx")


def test_a_checkpoint_that_changed_since_it_was_named_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(Tied().state_dict(), path)
    named = read_weights_file(path)
    torch.save({**Tied().state_dict(), "more": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="changed while it was in use"):
        load_weights(Tied(), named)
