"""What every public verb owes to any network: the right numbers, or one line that says why not; and no trace."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune
from torch.utils._pytree import tree_leaves

import secateur
from grown import HEADS, Grown, Standardised, images, networks, picture, plain_outputs
from secateur.pruning.score import METHODS

Result = TypeVar("Result")
RATIOS = st.sampled_from([0.0, 0.3, 0.5, 0.8])
LOGITS = ("mean", "flatten", "training only")
"""Heads that give logits alone in evaluation mode."""


def examples(count: int) -> Callable[[Any], Any]:
    return settings(max_examples=count, deadline=None, database=None, derandomize=True)


class Tally:
    """How often a verb did it, so that one which always refuses is noticed."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.refusals: set[str] = set()

    def attempt(self, act: Callable[[], Result]) -> Result | None:
        """What the verb gives, None where it refuses in one line."""
        found, refusal = None, ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of what is not pruned
                found = act()
        except secateur.SecateurError as error:
            refusal = str(error)
        assert "\n" not in refusal
        assert "unexpected" not in refusal
        self.counts["refused" if refusal else "done"] += 1
        self.refusals |= {refusal}
        return found

    def check(self, share: float) -> None:
        done, refused = self.counts["done"], self.counts["refused"]
        assert done >= share * (done + refused), (self.counts, self.refusals)


def batches() -> list[tuple[Tensor, Tensor]]:
    return [(images(8, seed), torch.arange(8) % 5) for seed in (1, 2)]


@contextmanager
def inputs_stay(*given: Tensor) -> Iterator[None]:
    before = [each.clone() for each in given]
    yield
    for one, other in zip(given, before, strict=True):
        assert torch.equal(one, other), "an input was changed"


def weights_of(network: nn.Module) -> dict[str, nn.Module]:
    kinds = (nn.Linear, nn.Conv2d)
    return {name: module for name, module in network.named_modules() if isinstance(module, kinds)}


def zeros(network: nn.Module) -> dict[str, Tensor]:
    return {name: layer.get_parameter("weight").detach() == 0 for name, layer in weights_of(network).items()}


def learns(network: nn.Module) -> None:
    """A step of training goes through, and changes something."""
    network.train()
    before = [each.detach().clone() for each in network.parameters()]
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    found = network(images(4))
    held = found.values() if isinstance(found, dict) else found if isinstance(found, tuple) else (found,)
    sum(each.square().sum() for each in held).backward()
    optimizer.step()
    assert any(not torch.equal(one, other) for one, other in zip(before, network.parameters(), strict=True))


def test_magnitudes_zeros_are_pytorchs_and_nothing_else_changes() -> None:
    tally = Tally()

    @given(network=networks(), ratio=RATIOS)
    @examples(20)
    def check(network: Grown, ratio: float) -> None:
        x, twin = images(2), copy.deepcopy({name: layer.weight for name, layer in weights_of(network).items()})
        before = picture(network, frozenset(f"{name}.weight" for name in twin))
        with inputs_stay(x):
            log = tally.attempt(lambda: secateur.prune(network, ratio, example=x))
        assert picture(network, frozenset(f"{name}.weight" for name in twin)) == before
        for name, layer in weights_of(network).items():
            expected = nn.Linear(1, 1)
            expected.weight = twin[name]  # type: ignore[assignment]
            if log is not None and name in log.total:
                torch_prune.l1_unstructured(expected, "weight", round(ratio * twin[name].numel()))  # type: ignore[no-untyped-call, operator]
            assert torch.equal(layer.get_parameter("weight"), expected.weight.detach())
        total = sum(each.numel() for each in zeros(network).values())
        lasting = {name for name, layer in weights_of(network).items() if not isinstance(layer, Standardised)}
        share = sum(int(each.sum()) for name, each in zeros(network).items() if name in lasting) / total
        assert tally.attempt(lambda: secateur.sparsity(network)) == pytest.approx(share)
        learns(network)

    check()
    tally.check(0.9)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "magnitude"])
def test_every_method_changes_weights_alone(method: str) -> None:
    tally = Tally()

    @given(network=networks(LOGITS))
    @examples(3 if method == "synflow" else 6)
    def check(network: Grown) -> None:
        names = frozenset(f"{name}.weight" for name in weights_of(network))
        before, calibration = picture(network, names), batches()
        with inputs_stay(*(each for pair in calibration for each in pair)):
            log = tally.attempt(
                lambda: secateur.prune(network, 0.5, method=method, calibration=calibration, example=images(2))
            )
        assert picture(network, names) == before
        if log is not None:
            found = zeros(network)
            assert all(int(found[name].sum()) == round(0.5 * found[name].numel()) for name in log.total)
        learns(network)

    check()
    tally.check(0.5)


@pytest.mark.parametrize("how", ["batchnorm", "moments", "reconstruct", "joint"])
def test_repairs_keep_the_number_of_zeros_and_change_nothing_but_layers_and_statistics(how: str) -> None:
    tally = Tally()

    @given(network=networks(LOGITS))
    @examples(6)
    def check(network: Grown) -> None:
        dense = copy.deepcopy(network) if all(each.is_leaf for each in kept(network)) else Grown.__new__(Grown)
        if not hasattr(dense, "stem"):
            return  # PyTorch cannot copy it
        tally.attempt(lambda: secateur.prune(network, 0.5, example=images(2)))
        open_names = frozenset(
            f"{name}.{leaf}"
            for name, module in network.named_modules()
            for leaf in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
            if isinstance(module, (nn.Linear, nn.Conv2d, nn.BatchNorm2d))
        )
        before, other, calibration = picture(network, open_names), picture(dense), batches()
        counts = {name: int(each.sum()) for name, each in zeros(network).items()}
        with inputs_stay(*(each for pair in calibration for each in pair)):
            tally.attempt(lambda: secateur.repair(network, how, calibration, dense=dense))
        assert picture(network, open_names) == before
        assert picture(dense) == other
        assert {name: int(each.sum()) for name, each in zeros(network).items()} == counts
        learns(network)

    check()
    tally.check(0.7)


def kept(network: nn.Module) -> list[Tensor]:
    return [each for module in network.modules() for each in vars(module).values() if isinstance(each, Tensor)]


def test_a_shrunk_network_gives_the_same_and_learns() -> None:
    tally = Tally()

    @given(network=networks(), ratio=RATIOS)
    @examples(15)
    def check(network: Grown, ratio: float) -> None:
        x = images(2)
        tally.attempt(lambda: secateur.prune(network, ratio, pattern="channel-l2", example=x))
        before, expected = picture(network), plain_outputs(network, images(3, 5))
        with inputs_stay(x):
            small = tally.attempt(lambda: secateur.shrink(network, x))
        assert picture(network) == before
        if small is not None:
            for one, other in zip(plain_outputs(small, images(3, 5)), expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
            learns(small)
        learns(network)

    check()
    tally.check(0.6)


def test_a_packed_network_gives_the_same_and_its_names_tell_the_truth(tmp_path: Path) -> None:
    tally = Tally()

    @given(network=networks(), exact=st.booleans())
    @examples(12)
    def check(network: Grown, exact: bool) -> None:
        path, x = tmp_path / "net.secateur", images(2)
        before = picture(network)
        with inputs_stay(x):
            done = tally.attempt(lambda: secateur.pack(network, path, example=x, simplified=not exact, force=True))
        assert picture(network) == before
        if done is not None:
            for count in (1, 3):
                found = secateur.load(path, threads=1)(images(count, 7).numpy())
                expected = plain_outputs(network, images(count, 7))
                for one, other in zip(tree_leaves(found), expected, strict=True):
                    np.testing.assert_allclose(one, other.numpy(), rtol=2e-4, atol=2e-4)
            if exact:
                state = network.state_dict()
                for name, held in secateur.unpack(path).items():
                    assert name not in state or np.array_equal(held, state[name].numpy()), name
        assert not list(tmp_path.glob("*.writing*"))
        learns(network)

    check()
    tally.check(0.5)


def test_a_compiled_network_gives_the_same_before_and_after_a_step() -> None:
    @given(network=networks(HEADS[:3]))
    @examples(4)
    def check(network: Grown) -> None:
        torch.compiler.reset()
        network.eval()
        fast = torch.compile(network, backend="secateur")
        for _ in range(2):
            with torch.no_grad():
                found = fast(images(3))
            for one, other in zip(
                found if isinstance(found, tuple) else (found,), plain_outputs(network, images(3)), strict=True
            ):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
            learns(network)
            network.eval()

    check()


def test_frozen_zeros_stay_whatever_the_network_holds() -> None:
    @given(network=networks())
    @examples(8)
    def check(network: Grown) -> None:
        tally = Tally()
        tally.attempt(lambda: secateur.prune(network, 0.5, example=images(2)))
        before = zeros(network)
        optimizer = torch.optim.AdamW(network.parameters(), 0.1)
        with secateur.frozen_zeros(network, optimizer):
            for each in network.parameters():
                each.grad = torch.ones_like(each)
            optimizer.step()
        assert all(bool(zeros(network)[name][each].all()) for name, each in before.items())

    check()
