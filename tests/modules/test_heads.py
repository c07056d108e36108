"""Which layers give the outputs, on networks built as the common architectures are."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samples import Backwards, Tied
from secateur.errors import UsageError
from secateur.modules.heads import output_layers
from secateur.pruning.pruning import prune, zero_counts


class Untraceable(nn.Module):
    """Its control flow depends on values, and its output layer is registered first."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 6)
        self.body = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.head(x if x.sum() > 0 else -x)


class Classifier(nn.Module):
    """Around a body that cannot be traced, an output layer that is registered before it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.body = nn.Linear(6, 3), Untraceable()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x))


class CastLinear(nn.Linear):
    """A subclass with a forward of its own, as the heads of image-model collections have."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.to(input.dtype), self.bias)


class Mobile(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.classifier = CastLinear(8, 4)
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.head(self.conv(x).mean((2, 3), keepdim=True)).flatten(1))


class Expectation(nn.Module):
    """A convolution that holds 0, 1, 2, 3 and does not learn: the mean of a distribution over bins."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 1, 1, bias=False).requires_grad_(False)
        self.conv.weight.copy_(torch.arange(4.0).view(1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.view(len(x), 4, 4, x.shape[2]).transpose(2, 1).softmax(1)).view(len(x), 4, x.shape[2])


class Detector(nn.Module):
    """Boxes and classes on two scales, joined in evaluation mode; maps in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, 2, 1)
        self.boxes = nn.ModuleList(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 16, 1)) for _ in "ab")
        self.classes = nn.ModuleList(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 5, 1)) for _ in "ab")
        self.expectation = Expectation()

    def forward(self, x: Any) -> Any:
        if isinstance(x, dict):
            return self.forward(x["img"])
        first = self.stem(x).relu()
        maps = [first, self.down(first).relu()]
        for i in range(2):
            maps[i] = torch.cat([self.boxes[i](maps[i]), self.classes[i](maps[i])], 1)
        if self.training:
            return maps
        boxes, classes = torch.cat([each.flatten(2) for each in maps], 2).split((16, 5), 1)  # type: ignore[no-untyped-call]
        return torch.cat([self.expectation(boxes), classes.sigmoid()], 1), maps


class Tasks(nn.Module):
    """Two tasks, a third head in training mode only, and an optional argument."""

    def __init__(self) -> None:
        super().__init__()
        self.depth, self.body, self.label = nn.Linear(6, 3), nn.Linear(6, 6), nn.Linear(6, 3)
        self.extra = nn.Linear(6, 2)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        x = self.body(x).relu()
        if mask is not None:
            x = x * mask
        found = {"depth": self.depth(x), "label": self.label(x)}
        return found | ({"extra": self.extra(x)} if self.training else {})


class Cascade(nn.Module):
    """The first output is also given to the layer of the second."""

    def __init__(self) -> None:
        super().__init__()
        self.two, self.one, self.body = nn.Linear(10, 4), nn.Linear(6, 4), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(x).relu()
        first = self.one(x)
        return first, self.two(torch.cat([x, first], 1))


class Written(nn.Module):
    """Two heads write into one tensor, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.box, self.label, self.body = nn.Linear(6, 4), nn.Linear(6, 3), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        found = torch.zeros(len(x), 7)
        found[:, :4] = self.box(x)
        found[:, 4:].copy_(self.label(x))
        return found


class Language(nn.Module):
    """The output layer's weight is that of the embedding, and is used without calling the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.fc, self.embedding = nn.Linear(6, 9, bias=False), nn.Linear(6, 6), nn.Embedding(9, 6)
        self.embedding.weight = self.head.weight

    def forward(self, ids: Tensor) -> Tensor:
        return F.linear(self.fc(self.embedding(ids)), self.embedding.weight)


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
    return nn.Sequential(nn.Linear(6, 6), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))


ROWS, PIXELS, WORDS = torch.ones(2, 6), torch.ones(2, 3, 8, 8), torch.ones(2, 3, 6)
SCALES = ("boxes.0.1", "classes.0.1", "boxes.1.1", "classes.1.1")
NETWORKS: list[tuple[Callable[[], nn.Module], Tensor, tuple[str, ...]]] = [
    (Backwards, torch.ones(2, 1, 9, 9), ("head",)),
    (Tied, ROWS, ("out",)),
    (Classifier, ROWS, ("fc",)),
    (Mobile, PIXELS, ("classifier",)),
    (Detector, PIXELS, SCALES),
    (Tasks, ROWS, ("depth", "label")),
    (Cascade, ROWS, ("one", "two")),
    (Language, torch.zeros(2, 3).long(), ("head",)),
    (encoder, WORDS, ("1.layers.1.linear2",)),
    (lambda: nn.DataParallel(Tasks()), ROWS, ("module.depth", "module.label")),
    (lambda: torch.optim.swa_utils.AveragedModel(Tasks()), ROWS, ("module.depth", "module.label")),
    (lambda: nn.Linear(6, 6), ROWS, ("",)),
    (nn.ReLU, ROWS, ()),
]


@pytest.mark.parametrize(("make", "x", "expected"), NETWORKS)
@pytest.mark.parametrize("training", [True, False])
def test_each_output_has_its_layer_with_and_without_an_example_in_either_mode(
    make: Callable[[], nn.Module], x: Tensor, expected: tuple[str, ...], training: bool
) -> None:
    network = make().train(training)
    assert output_layers(network) == expected
    assert output_layers(network, x) == expected
    assert all(module.training is training for module in network.modules())


@pytest.mark.parametrize(("make", "expected"), [(Untraceable, ("head",)), (Written, ("box", "label"))])
def test_where_tracing_leaves_it_open_an_example_is_asked_for(
    make: Callable[[], nn.Module], expected: tuple[str, ...]
) -> None:
    network = make()
    message = r"without inputs it is open .* expected example=… \(a batch of inputs\), or keep_output=NAME, .* body"
    with pytest.raises(UsageError, match=message):
        prune(network, 0.5)
    assert sum(zero_counts(network).values()) == 0
    assert output_layers(network, ROWS) == expected
    assert "body" in prune(copy.deepcopy(network), 0.5, keep_output=expected).total
    calibrated = prune(network, 0.5, method="wanda", calibration=[(ROWS, torch.zeros(2).long())])
    assert set(calibrated.total) == {"body"}


def test_a_layer_that_does_not_learn_is_neither_pruned_nor_the_output_unless_none_learns() -> None:
    network = Detector()
    with pytest.warns(UserWarning, match=r"left dense: expectation.conv \(does not learn\)"):
        log = prune(network, 0.5)
    assert not {"expectation.conv", *SCALES} & set(log.total)
    assert log.left == {"expectation.conv": "does not learn"}
    assert torch.equal(network.expectation.conv.weight.flatten(), torch.arange(4.0))
    frozen = Backwards().requires_grad_(False)
    assert set(prune(frozen, 0.5).total) == {"again", "body"}


def test_several_layers_can_be_named_to_stay_whole() -> None:
    network = Tasks()
    assert set(prune(network, 0.5, keep_output=["body", "extra"]).total) == {"depth", "label"}
    with pytest.raises(UsageError, match="keep_output 'deep' names no layer: expected one of depth, body"):
        prune(network, 0.5, keep_output=["body", "deep"])


class Table(nn.Module):
    """Asks what kind of thing it was given, and hands a number of its shape to a function in C."""

    def __init__(self) -> None:
        super().__init__()
        self.out, self.other, self.body = nn.Linear(6, 2), nn.Linear(6, 2), nn.Linear(6, 6)

    def forward(self, x: Any) -> Tensor:
        if not isinstance(x, Tensor):
            return self.other(x[0])
        x = self.body(x)
        return self.out(x * torch.linspace(0.5, 1.5, x.shape[-1]))


def test_a_forward_that_asks_for_tensors_is_traced_as_with_one() -> None:
    assert output_layers(Table()) == output_layers(Table(), ROWS) == ("out",)
