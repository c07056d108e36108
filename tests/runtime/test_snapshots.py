"""A Snapshot notices every write to a tensor, by whatever way, and nothing else."""

from __future__ import annotations

import mmap
import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from secateur.errors import UsageError
from secateur.runtime.snapshots import Snapshot

SIZES = (7, 300, 100_000)  # the last has pages of its own


@given(st.sampled_from(SIZES), st.data())
def test_one_bit_anywhere_is_noticed(size: int, data: Any) -> None:
    tensor, others = torch.randn(size), torch.zeros(3)
    taken = Snapshot([others, tensor])
    assert taken.holds([others, tensor])
    place, bit = data.draw(st.integers(0, 4 * size - 1)), data.draw(st.integers(0, 7))
    tensor.numpy().view(np.uint8)[place] ^= np.uint8(1 << bit)
    assert not taken.holds([others, tensor])


WRITES: dict[str, Callable[[nn.Parameter], Any]] = {
    "data": lambda w: w.data.mul_(2),
    "data item": lambda w: w.data.view(-1).__setitem__(5, 7.0),
    "numpy": lambda w: w.detach().numpy().__imul__(2),
    "storage": lambda w: w.untyped_storage().copy_(torch.ones_like(w).untyped_storage()),
    "negated": lambda w: w.data.neg_(),
    "reversed": lambda w: w.data.copy_(w.data.flip(0)),
    "inference mode": lambda w: torch.inference_mode()(w.detach().add_)(1),
    "foreach": lambda w: torch._foreach_add_([w.data], 1.0),
    "set": lambda w: w.set_((w.data * 2).untyped_storage(), 0, w.shape, w.stride()),
    "replaced data": lambda w: setattr(w, "data", w.data * 2),
    "read from a file": lambda w: _read_into(w.detach().numpy()),
}


def _read_into(array: Any) -> None:
    """The kernel writes here, not this process."""
    with tempfile.TemporaryFile() as file:
        file.write(bytes(array.nbytes))
        file.seek(0)
        file.readinto(array)


@pytest.mark.parametrize("way", WRITES)
@pytest.mark.parametrize("rows", [3, 300])
def test_every_way_to_write_is_noticed(way: str, rows: int) -> None:
    weight = nn.Parameter(torch.randn(rows, 300))
    with torch.no_grad():
        taken = Snapshot([weight])
        assert taken.holds([weight])
        WRITES[way](weight)
        assert not taken.holds([weight])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad])
def test_an_optimizers_step_is_noticed(make: Any, fused: bool) -> None:
    weight = nn.Parameter(torch.randn(300, 300))
    optimizer = make([weight], lr=0.1, fused=fused)
    weight.sum().backward()  # type: ignore[no-untyped-call]
    taken = Snapshot([weight])
    optimizer.step()
    assert not taken.holds([weight])


def test_statistics_that_a_batch_norm_updates_are_noticed() -> None:
    norm = nn.BatchNorm1d(5).train()
    taken = Snapshot([norm.get_buffer("running_mean")])
    norm(torch.randn(4, 5))
    assert not taken.holds([norm.get_buffer("running_mean")])


def test_reading_and_writing_the_same_change_nothing() -> None:
    tensor = torch.randn(100_000)
    taken = Snapshot([tensor])
    for _ in range(3):
        tensor.data.copy_(tensor.clone())
        float(tensor.sum())
        assert taken.holds([tensor])


def test_snapshots_of_one_memory_do_not_hide_changes_from_each_other() -> None:
    tensor = torch.randn(100_000)
    early = Snapshot([tensor])
    tensor.data[50_000] += 1
    late, part = Snapshot([tensor]), Snapshot([tensor[10_000:90_000]])
    assert (early.holds([tensor]), late.holds([tensor])) == (False, True)
    tensor.data[20_000] += 1
    assert not late.holds([tensor])
    assert not part.holds([tensor[10_000:90_000]])


def test_tensors_that_are_views_or_channels_last_are_looked_at_where_they_lie() -> None:
    planes = torch.randn(40, 16, 9, 9).contiguous(memory_format=torch.channels_last)
    every_other = torch.randn(100_000)[::2]
    taken = Snapshot([planes, every_other])
    for tensor in (planes, every_other):
        assert taken.holds([planes, every_other])
        tensor.data[-1] += 1
        assert not taken.holds([planes, every_other])
        taken = Snapshot([planes, every_other])


@pytest.mark.parametrize("shared", [False, True])
def test_what_others_write_to_a_file_mapped_into_memory_is_noticed(shared: bool, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(400_000))
    tensor = torch.from_file(str(path), shared=shared, size=100_000)
    taken = Snapshot([tensor])
    assert taken.holds([tensor])
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as other:
        other[200_000] = 1
    assert tensor[50_000] != 0
    assert not taken.holds([tensor])


def test_a_child_of_fork_sees_its_own_changes_and_not_its_parents() -> None:
    tensor = torch.zeros(100_000)
    taken = Snapshot([tensor])
    child = multiprocessing.get_context("fork").Process(target=_check_in_child, args=(tensor, taken))
    child.start()
    tensor.data[1] = 1
    child.join()
    assert child.exitcode == 0
    assert not taken.holds([tensor])


def _check_in_child(tensor: Tensor, taken: Snapshot) -> None:
    tensor.data[1] = 0
    assert taken.holds([tensor])
    tensor.data[50_000] = 1
    assert not taken.holds([tensor])


def test_what_has_no_bytes_to_look_at_is_refused() -> None:
    with pytest.raises(UsageError, match=r"of shape \(2, 2\) is torch.sparse_coo: expected numbers in strided memory"):
        Snapshot([torch.eye(2).to_sparse()])
    freed = torch.zeros(8)
    freed.untyped_storage().resize_(0)
    with pytest.raises(UsageError, match=r"of shape \(8,\) has 0 bytes of memory: expected 32"):
        Snapshot([freed])
