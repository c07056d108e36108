"""How few weights are enough after retraining: `python benchmarks/retraining.py [network …]`.

Dense networks come from the cache and are trained where they are missing (resnet-18: 30 epochs). The LeNets are pruned
gradually by one global threshold, output layer included, to less than 1/68 and 1/111 of their weights; resnet-18 is
pruned gradually to 90 % in every layer but the last. Half of the loss of resnet-18 and lenet-5-caffe is agreement with
the dense network. Errors are on test data; nothing was chosen by them. A
retraining that is interrupted goes on at its last epoch when the same command is run again.
"""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from secateur.experiments.cache import NetworkCache
from secateur.measure.correctness import accuracy
from secateur.modules.layers import weight_of, weighted_layers
from secateur.pruning.pruning import prune
from secateur.pruning.retraining import retrain
from secateur.records.recipes import Retraining, recipe_for
from secateur.records.spec import Cell, identity
from secateur.support.progress import ConsoleReporter
from secateur.support.settings import user_cache
from secateur.training.models import find_architecture


@dataclass(frozen=True, slots=True)
class Aim:
    """A network, how far it is pruned, how it learns again, and what is expected of it."""

    model: str
    data: str
    epochs: int
    ratio: float
    scope: str
    keep_output: bool
    retraining: Retraining
    expected: str


AIMS = (
    Aim("lenet-300-100", "mnist", 20, 1 - 1 / 69, "global", False, Retraining("gradual", 20), "1/68, 1.9 % error"),
    Aim(
        "lenet-5-caffe", "mnist", 20, 1 - 1 / 112, "global", False,
        Retraining("gradual", 40, distill=0.5), "1/111, 0.9 % error",
    ),
    Aim(
        "resnet-18", "cifar-10", 30, 0.9, "layer", True,
        Retraining("gradual", 30, learning_rate=0.05, ramp=0.5, distill=0.5), "90 % per layer, no loss",
    ),
)  # fmt: skip


def measure(aim: Aim) -> None:
    cache = NetworkCache(device="cpu", reporter=ConsoleReporter())
    recipe = recipe_for(aim.model, epochs=aim.epochs)
    cell = Cell(aim.model, aim.data, "magnitude", aim.scope, aim.ratio, 0, recipe)
    dense, trained = cache.trained(cell)
    data, network = cache.dataset(cell), copy.deepcopy(dense)
    checkpoint = user_cache() / "networks" / f"{identity(aim)}-{trained.key}.checkpoint"
    log = retrain(
        network,
        data,
        aim.ratio,
        aim.retraining,
        recipe=recipe,
        cut=lambda each, ratio: prune(each, ratio, scope=aim.scope, keep_output=aim.keep_output),
        device="cpu",
        precision=trained.precision,
        channels_last=find_architecture(aim.model).convolutional,
        reporter=cache.reporter,
        label=f"retraining {aim.model}",
        checkpoint=checkpoint,
    )
    report(aim, network, trained.test.value, accuracy(network, data, data.test).value, log.seconds)
    Path(checkpoint).unlink(missing_ok=True)


def report(aim: Aim, network: nn.Module, dense: float, now: float, seconds: float) -> None:
    weights = [weight_of(layer) for layer in weighted_layers(network).values()]
    kept, total = sum(int(torch.count_nonzero(each)) for each in weights), sum(each.numel() for each in weights)
    print(
        f"{aim.model} on {aim.data}, {aim.retraining.way}, {aim.scope}: {kept:,} of {total:,} weights "
        f"(1/{total / kept:.1f}), {100 - 100 * now:.2f} % error (dense {100 - 100 * dense:.2f} %) "
        f"after {seconds:.0f} s of retraining; aim: {aim.expected}",
        flush=True,
    )


def main() -> None:
    wanted = sys.argv[1:] or [aim.model for aim in AIMS]
    print(f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}, seed 0")
    for aim in AIMS:
        if aim.model in wanted:
            measure(aim)


if __name__ == "__main__":
    main()
