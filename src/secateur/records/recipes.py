"""How networks are trained, and how they learn again once they are pruned."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from secateur.errors import UsageError
from secateur.records.options import Option, at_least, check_declared, check_value, one_of, rule, with_plain_signature
from secateur.support.quantities import percent

AUGMENTS = ("auto", "none", "crop-flip")
PRECISIONS = ("auto", "fp32", "bf16")
SCHEDULES = ("one-shot", "iterative", "gradual", "rewind-rate", "rewind-weights", "scratch")


@with_plain_signature
@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained: SGD with (plain) momentum under a one-cycle schedule.

    learning_rate is the peak of the cycle. augment: "auto" takes what the data set recommends (crop and flip
    for CIFAR-10), or "none", "crop-flip". precision: "auto" takes bf16 autocast where the network and the
    device gain from it, or "fp32", "bf16". epochs = 0 leaves the initial weights.
    """

    epochs: Annotated[int, Option("Instead of the network's own recipe.", check=at_least(0))] = 20
    batch_size: Annotated[int, Option("Likewise.", check=at_least(1))] = 128
    learning_rate: Annotated[
        float,
        Option("Likewise: peak learning rate.", flag="--lr", check=rule(lambda rate: 0 < rate < math.inf, "above 0")),
    ] = 0.1
    momentum: Annotated[float, Option(flag="", check=rule(lambda share: 0 <= share < 1, "in [0, 1)"))] = 0.9
    weight_decay: Annotated[
        float, Option("Likewise.", check=rule(lambda decay: 0 <= decay < math.inf, "0 or more"))
    ] = 5e-4
    label_smoothing: Annotated[float, Option("Likewise.", check=rule(lambda share: 0 <= share < 1, "in [0, 1)"))] = 0.0
    augment: Annotated[str, Option("auto, none or crop-flip.", check=one_of(AUGMENTS))] = "auto"
    precision: Annotated[str, Option("auto, fp32 or bf16.", check=one_of(PRECISIONS))] = "auto"

    def __post_init__(self) -> None:
        check_declared(self)


_LENET = Recipe(epochs=20)
_RESNET = Recipe(epochs=200)
_RECIPES = {
    "lenet-300-100": _LENET,
    "lenet-5": _LENET,
    "lenet-5-caffe": dataclasses.replace(_LENET, learning_rate=0.05),
    "resnet-18": _RESNET,
    "resnet-50": _RESNET,
    "resnet-18-cifar": _RESNET,
    "resnet-50-cifar": _RESNET,
}


def recipe_for(model: str, **overrides: Any) -> Recipe:
    """The recipe of a built-in network, or the defaults for any other, with the overrides that are not None.

    Raises UsageError where a value is out of range.
    """
    changed = {name: value for name, value in overrides.items() if value is not None}
    return dataclasses.replace(_RECIPES.get(model, Recipe()), **changed)


@with_plain_signature
@dataclass(frozen=True, slots=True)
class Retraining:
    """How a network learns again once it is pruned, or while it is; with the recipe's batches and weight decay.

    epochs: in all, over every round. schedule:
    "one-shot": prune, then fine-tune under one cycle;
    "iterative": the same in `rounds` rounds, each of which removes the same share of what is left (Han et al. 2015);
    "gradual": the ratio rises along a cubic in the first `ramp` of the epochs, by a cut every `every` steps
    (Zhu & Gupta 2017);
    "rewind-rate": prune, then replay the end of the recipe's learning rates, one or more rounds (Renda et al. 2020);
    "rewind-weights": likewise, but the weights left also go back to what they were then (Frankle et al. 2020; with
    epochs = those of the recipe, to the initial weights: Frankle & Carbin 2019);
    "scratch": train the pruned architecture from fresh weights under the recipe's cycle (Liu et al. 2019).
    learning_rate: the peak of each cycle of the first three; None is the recipe's for "gradual", a tenth of it else.
    distill: the share of the loss that is agreement with the dense network at `temperature` (Hinton et al. 2015).
    """

    schedule: Annotated[
        str,
        Option(
            f"How pruned networks learn again: none, {', '.join(SCHEDULES)}.",
            flag="--retrain",
            many="schedules",
            first=("none",),
        ),
    ] = "one-shot"
    epochs: Annotated[int, Option("Epochs of retraining, over all rounds.", flag="--retrain-epochs", unset="10")] = 10
    learning_rate: Annotated[
        float | None,
        Option("Its peak learning rate.", flag="--retrain-lr", unset="the recipe's for gradual, else a tenth of it"),
    ] = None
    rounds: Annotated[
        int,
        Option("Rounds of pruning and retraining.", flag="--retrain-rounds", unset="5 for iterative, else 1"),
    ] = 1
    ramp: float = 0.75
    every: int = 100
    distill: Annotated[float, Option("Share of retraining's loss that is agreement with the dense.")] = 0.0
    temperature: float = 4.0

    def __post_init__(self) -> None:
        check_value("schedule", self.schedule, self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}")
        check_value("retraining epochs", self.epochs, self.epochs >= 1, "1 or more")
        check_value("rounds", self.rounds, 1 <= self.rounds <= self.epochs, f"1 to {self.epochs}, an epoch each")
        check_value("rounds", self.rounds, self.epochs % self.rounds == 0, f"a divisor of the {self.epochs} epochs")
        several = self.schedule in ("iterative", "rewind-rate", "rewind-weights")
        check_value("rounds", self.rounds, self.rounds == 1 or several, f"1, as {self.schedule!r} has one")
        if self.learning_rate is not None:
            check_value("learning rate", self.learning_rate, 0 < self.learning_rate < math.inf, "above 0")
            own = self.schedule in ("one-shot", "iterative", "gradual")
            check_value("learning rate", self.learning_rate, own, f"none, as {self.schedule!r} follows the recipe's")
        check_value(
            "ramp", self.ramp, 0 < self.ramp <= 1, "in (0, 1]: the share of the epochs in which the ratio rises"
        )
        check_value("every", self.every, self.every >= 1, "1 step or more")
        check_value("distill", self.distill, 0 <= self.distill <= 1, "in [0, 1]: a share of the loss")
        check_value("temperature", self.temperature, 0 < self.temperature < math.inf, "above 0")

    @property
    def way(self) -> str:
        """What was done, in a few words."""
        words = [self.schedule, f"{self.epochs} epochs"]
        words += [f"{self.rounds} rounds"] if self.rounds > 1 else []
        words += [f"{percent(self.distill)} distilled"] if self.distill else []
        return ", ".join(words)

    @property
    def starts_over(self) -> bool:
        """Whether the weights left are set back to earlier or fresh ones."""
        return self.schedule in ("rewind-weights", "scratch")

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with the epochs and the peak rate of one round.

        Raises UsageError where a round would rewind to before the recipe's first epoch.
        """
        length = self.epochs // self.rounds
        if self.schedule.startswith("rewind"):
            if length > recipe.epochs:
                raise UsageError(
                    f"retraining epochs {self.epochs}: {self.schedule!r} goes back {length} epochs a round, but the "
                    f"network was trained for {recipe.epochs}: expected {recipe.epochs * self.rounds} or fewer"
                )
            return recipe
        share = 1.0 if self.schedule in ("gradual", "scratch") else 0.1
        return dataclasses.replace(
            recipe, epochs=length, learning_rate=self.learning_rate or share * recipe.learning_rate
        )


_ROUNDS = {"iterative": 5}


def check_recipe(changes: Mapping[str, Any], weights: object) -> None:
    """Raises UsageError for changes to a recipe that name none of its fields, or are of a network that is loaded."""
    unknown = changes.keys() - {field.name for field in dataclasses.fields(Recipe)}
    if unknown:
        raise UsageError(f"recipe: {', '.join(sorted(unknown))} is none of its fields")
    if weights and changes:
        raise UsageError(f"weights load a trained network, so training options mean nothing: drop {', '.join(changes)}")


def retraining_for(schedule: str, **overrides: Any) -> Retraining:
    """The defaults of a schedule (five rounds for "iterative"), with the overrides that are not None."""
    changed = {name: value for name, value in overrides.items() if value is not None}
    rounds = {"rounds": _ROUNDS[schedule]} if schedule in _ROUNDS else {}
    return Retraining(schedule, **(rounds | changed))


class RecipeOptions(TypedDict, total=False):
    """Changes to a network's own recipe, for whoever reads types: the fields of Recipe."""

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    label_smoothing: float
    augment: str
    precision: str
