from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import CosineAnnealingLR

import secateur
from secateur.errors import UsageError
from secateur.pruning.pruning import zero_counts

Make = Callable[[Iterable[nn.Parameter]], Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "momentum and weight decay": lambda p: SGD(p, lr=0.05, momentum=0.9, weight_decay=5e-4),
    "fused": lambda p: SGD(p, lr=0.05, momentum=0.9, weight_decay=5e-4, fused=True),
    "nesterov": lambda p: SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: Adam(p, lr=0.01, weight_decay=1e-3),
    "adamw": lambda p: AdamW(p, lr=0.01, weight_decay=0.1, amsgrad=True),
    "rmsprop": lambda p: RMSprop(p, lr=0.001, momentum=0.9),
}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8),
        nn.ReLU(), nn.Flatten(), nn.Linear(288, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 8, (4, 32), generator=generator)
    images = torch.randn(4, 32, 1, 8, 8, generator=generator)
    for part, batch in zip(labels, images, strict=True):
        batch[torch.arange(32), 0, part] += 2
    return list(zip(images, labels, strict=True))


def train(network: nn.Module, optimizer: Optimizer, epochs: int = 10) -> float:
    """Ten epochs in somebody's own loop, with momentum already running; returns the last loss."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("first_lr", group["lr"])
    schedule = CosineAnnealingLR(optimizer, epochs)
    loss = torch.zeros(())
    for _ in range(epochs):
        for images, labels in batches():
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    return loss.item()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ten_epochs_revive_no_weight(name: str) -> None:
    network = net().train()
    optimizer = OPTIMIZERS[name](network.parameters())
    train(network, optimizer, 2)
    secateur.prune(network, 0.9, keep_output=False)
    before = zero_counts(network)
    patterns = {key: value == 0 for key, value in network.state_dict().items() if value.dim() > 1}
    with secateur.frozen_zeros(network, optimizer):
        loss = train(network, optimizer)
    assert before["7"] == round(0.9 * 288 * 32)
    assert zero_counts(network) == before
    assert all(torch.equal(network.state_dict()[key] == 0, zeros) for key, zeros in patterns.items())
    assert loss < 1.2
    train(network, optimizer, 1)
    assert sum(zero_counts(network).values()) < sum(before.values()) / 2, "nothing needed to be held"


def test_closures_and_the_several_evaluations_of_one_step() -> None:
    network = net().eval()
    secateur.prune(network, 0.8)
    before = zero_counts(network)
    optimizer = LBFGS(network.parameters(), lr=0.1, max_iter=3)
    images, labels = batches()[0]

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    first = closure().item()
    with secateur.frozen_zeros(network, optimizer):
        for _ in range(5):
            optimizer.step(closure)  # type: ignore[no-untyped-call]
    assert zero_counts(network) == before
    assert closure().item() < first


def test_it_holds_without_a_with_until_it_is_detached() -> None:
    network = net()
    optimizer = OPTIMIZERS["momentum and weight decay"](network.parameters())
    secateur.prune(network, 0.9)
    before = zero_counts(network)
    hold = secateur.frozen_zeros(network, optimizer)
    train(network, optimizer, 1)
    assert zero_counts(network) == before
    secateur.prune(network, 0.95)
    hold.refresh()
    train(network, optimizer, 1)
    more = zero_counts(network)
    assert more["7"] == round(0.95 * 288 * 32)
    hold.detach()
    train(network, optimizer, 1)
    assert zero_counts(network) != more
    assert len(optimizer._optimizer_step_post_hooks) == 0


def test_gradient_scaling_and_a_skipped_step() -> None:
    network = net()
    optimizer = OPTIMIZERS["momentum and weight decay"](network.parameters())
    secateur.prune(network, 0.9)
    before = zero_counts(network)
    scaler = torch.amp.GradScaler("cpu", init_scale=1e38)
    with secateur.frozen_zeros(network, optimizer):
        for images, labels in batches() * 5:
            optimizer.zero_grad()
            scaler.scale(F.cross_entropy(network(images), labels)).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
    assert zero_counts(network) == before
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def test_dead_channels_stay_dead_in_biases_and_batch_norm() -> None:
    network = net().train()
    optimizer = OPTIMIZERS["momentum and weight decay"](network.parameters())
    train(network, optimizer, 1)
    for tensor in network[0].weight, network[0].bias, network[1].weight, network[1].bias:
        assert isinstance(tensor, nn.Parameter)
        tensor.data[2:5] = 0
    with secateur.frozen_zeros(network, optimizer):
        train(network, optimizer, 3)
    state = network.state_dict()
    for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
        assert [bool((row == 0).all()) for row in state[name]] == [False] * 2 + [True] * 3 + [False] * 3


def test_pruned_scales_stay_zero_while_their_shifts_learn() -> None:
    network = net().train()
    optimizer = OPTIMIZERS["momentum and weight decay"](network.parameters())
    train(network, optimizer, 1)
    secateur.prune(network, 0.5, norms=True)
    before, shift = zero_counts(network, norms=True), network.state_dict()["1.bias"].clone()
    assert before["1"] == before["4"] == 4
    with secateur.frozen_zeros(network, optimizer):
        train(network, optimizer, 3)
    assert zero_counts(network, norms=True) == before
    assert not torch.equal(network.state_dict()["1.bias"], shift)


def test_parameters_that_the_optimizer_is_given_later_are_held_too() -> None:
    network = net()
    secateur.prune(network, 0.9)
    before = zero_counts(network)
    optimizer = SGD(network[0].parameters(), lr=0.05, momentum=0.9)
    with secateur.frozen_zeros(network, optimizer):
        train(network, optimizer, 1)
        optimizer.add_param_group({"params": [*network[3].parameters(), *network[7].parameters()]})
        train(network, optimizer, 1)
    assert zero_counts(network) == before


def test_a_residual_branch_that_starts_at_zero_may_learn() -> None:
    network = net()
    assert isinstance(network[4], nn.BatchNorm2d)
    nn.init.zeros_(network[4].weight)
    network[5] = nn.Identity()  # as before an addition; a ReLU passes no gradient at zero
    secateur.prune(network, 0.5)
    optimizer = SGD(network.parameters(), lr=0.1)
    with secateur.frozen_zeros(network, optimizer):
        train(network, optimizer, 2)
    assert network[4].bias.abs().max() > 0


def test_an_optimizer_of_another_network_is_refused() -> None:
    network = net()
    secateur.prune(network, 0.9)
    with pytest.raises(UsageError, match="optimizer updates none of the 3 parameters of Sequential that have zeros"):
        secateur.frozen_zeros(network, SGD(net().parameters(), lr=0.1))


def test_a_network_without_zeros_trains_as_ever() -> None:
    one, two = net(), net()
    first, second = (SGD(network.parameters(), lr=0.1, momentum=0.9) for network in (one, two))
    train(one, first, 2)
    with secateur.frozen_zeros(two, second):
        train(two, second, 2)
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())
