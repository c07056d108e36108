import threading

import pytest
import torch
from torch import nn

from secateur import prune
from secateur.errors import ModelError
from secateur.pruning import walking
from secateur.pruning.reconstruction import reconstruct


class Twice(nn.Module):
    """A layer that runs twice, one between, and a sentence's attention, whose matrices are not modules' calls."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.between = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.attention, self.last = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.shared(torch.relu(self.between(torch.relu(self.shared(torch.relu(self.first(x)))))))
        return self.last(x + self.attention(x, x, x)[0])


def _pruned(network: type[nn.Module], held: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    dense = network()
    pruned = network()
    pruned.load_state_dict(dense.state_dict())
    prune(pruned, 0.6, example=torch.randn(2, 5, 6))
    batches = [torch.randn(4, 5, 6) for _ in range(3)]
    monkeypatch.setattr(walking, "HELD_BYTES", held)
    reconstruct(pruned, dense, batches)
    return pruned.state_dict()


@pytest.mark.parametrize("held", [1 << 30, 6_000])
def test_runs_that_stand_still_see_what_runs_from_the_start_see(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    anew = _pruned(Twice, 0, monkeypatch)
    walked = _pruned(Twice, held, monkeypatch)
    assert all(torch.equal(value, walked[name]) for name, value in anew.items())


class Keeping(nn.Module):
    """Keeps what a shortcut needs on itself, so that batches which stand still would overwrite each other's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.skip = torch.relu(self.first(x))
        y = self.second(self.skip)
        return self.last(y + self.skip)


class Looking(Keeping):
    """Looks at a layer's weight before the layer runs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.second.weight.norm()
        y = torch.relu(self.first(x))
        return self.last(self.second(y / scale) + y)


class Locked(Keeping):
    """Holds a lock while its layers run: a batch that stands still would have the next one wait for ever."""

    lock = threading.Lock()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.lock:
            y = torch.relu(self.first(x))
            return self.last(self.second(y) + y)


class Counted(Keeping):
    """Lets four run at a time: two batches may stand still, which two examples show, but no third one."""

    permits = threading.Semaphore(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.permits:
            y = torch.relu(self.first(x))
            return self.last(self.second(y) + y)


class Turning(Keeping):
    """Layers whose order depends on the batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        if float(x.sum()) > 60:
            return self.last(self.second(x))
        y = self.last(x)
        return y + self.second(x)[..., :3]


@pytest.mark.parametrize("network", [Keeping, Looking, Locked, Counted, Turning])
def test_where_runs_may_not_stand_still_they_begin_anew(
    network: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "_LEAST_PATIENCE", 0.2)
    anew = _pruned(network, 0, monkeypatch)
    walked = _pruned(network, 1 << 30, monkeypatch)
    assert all(torch.equal(value, walked[name]) for name, value in anew.items())


def test_runs_are_in_what_the_caller_is_in() -> None:
    seen = set()

    class Asking(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.add(torch.is_autocast_enabled("cpu"))
            return super().forward(x)

    network, dense = (nn.Sequential(Asking(4, 4), nn.Linear(4, 4)) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        reconstruct(network, dense, [torch.randn(8, 4)])
    assert seen == {True}


def test_a_network_runs_once_for_all_layers() -> None:
    network = nn.Sequential(*(nn.Linear(8, 8) for _ in range(6)))
    calls: list[int] = []
    dense = nn.Sequential(*(nn.Linear(8, 8) for _ in range(6)))
    network[0].forward = lambda x: (calls.append(len(x)), nn.Linear.forward(network[0], x))[1]  # type: ignore
    reconstruct(network, dense, [torch.randn(16, 8)] * 4)
    assert calls.count(16) == 4  # each batch once; others are examples


def test_a_run_that_fails_says_so_and_leaves_no_thread() -> None:
    class Failing(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) == 3:
                raise ValueError("three are too many")
            return self[1](self[0](x))

    network, dense = Failing(nn.Linear(4, 4), nn.Linear(4, 4)), Failing(nn.Linear(4, 4), nn.Linear(4, 4))
    before = threading.active_count()
    with pytest.raises(ModelError, match="three are too many"):
        reconstruct(network, dense, [torch.randn(4, 4), torch.randn(3, 4)])
    assert threading.active_count() == before
    assert network.training
    assert not network[0]._forward_hooks
    assert not network[0]._forward_pre_hooks
