"""The networks that decide.py judges, with what it asks of each: an image classifier by name, and all-MiniLM-L6-v2 as a
trained module with a Task of its own."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from minilm import Encoder, Pairs, Sentences, Tokens, dynamically_quantised, onnx_file
from numpy.typing import NDArray
from torch import Tensor, nn

import secateur
from secateur.experiments.cache import NetworkCache
from secateur.exporting.onnx import to_onnx
from secateur.importing.aten import to_graph
from secateur.measure.correctness import accuracy
from secateur.measure.intervals import smallest_loss
from secateur.measure.rivals import quantised_by_onnxruntime
from secateur.modules.guarding import copied
from secateur.modules.inputs import as_inputs
from secateur.network.simplification import simplify
from secateur.pruning.repairing import recalibrate
from secateur.pruning.retraining import retrain
from secateur.records.recipes import recipe_for, retraining_for
from secateur.records.spec import Cell
from secateur.training.data import Calibration, Dataset
from secateur.training.tasks import Task

Array = NDArray[Any]
Predict = Callable[..., Any]
"""An array for each input → the output's, or a module."""

EXAMPLES = 1024
"""For scales and statistics."""
SEARCHED, SHOWN = 512, 256
"""Sentences that a search repairs by, and that show it what harm each layer does: each takes as long as nine
images of CIFAR do in a ResNet-18."""
LENGTH, PAIRS = 32, 32
"""Tokens of a sentence, which 4 % of those of the STS benchmark exceed, and pairs of sentences of a batch."""


@dataclass(frozen=True)
class Subject:
    """A trained network and its task.

    shown(N) → a batch of inputs. calibration: batches of them. onnx(network): its file as a user exports it, of any
    batch. in_eight_bits: what ONNX Runtime's own tool makes of that. without_channels(ratio, everywhere): of a copy, by
    Torch-Pruning; everywhere: the same share of every layer. learn(network, epochs). score(engine or module, split) →
    where 1 is the most. search: as secateur.search, of this network and data. told: a score in words. untold: points
    that the validation data cannot tell from no loss.
    """

    title: str
    dense: nn.Module
    shown: Callable[[int], tuple[Array, ...]]
    calibration: Sequence[tuple[Array, ...]]
    onnx: Callable[[nn.Module], bytes]
    in_eight_bits: Callable[[bytes], bytes]
    without_channels: Callable[[float, bool], nn.Module]
    learn: Callable[[nn.Module, int], object]
    score: Callable[[Predict, str], float]
    search: Callable[..., Any]
    told: Callable[[float], str]
    validation: float
    test: float
    untold: float


def images(asked: argparse.Namespace) -> Subject:
    """A network and data that are known by name."""
    cell = Cell(
        model=asked.network,
        data=asked.data,
        method="magnitude",
        scope="layer",
        seed=0,
        ratio=0.0,
        recipe=recipe_for(asked.network, epochs=asked.epochs),
    )
    cache = NetworkCache(device="cpu")
    dense, trained = cache.trained(cell)
    data = cache.dataset(cell)
    calibration = [(each.numpy(),) for each, _ in Calibration(data, min(EXAMPLES, len(data.train)), 0)]

    def score(run: Predict, split: str) -> float:
        def predict(given: Tensor) -> Tensor:
            return torch.from_numpy(np.array(run(given.numpy())))

        return accuracy(run if isinstance(run, nn.Module) else predict, data, getattr(data, split), batch_size=64).value

    def learn(network: nn.Module, epochs: int) -> None:
        retrain(network, data, 0.0, retraining_for("one-shot", epochs=epochs), recipe=cell.recipe, device="cpu")

    return Subject(
        title=f"{asked.network} on {asked.data}, {asked.epochs} epochs",
        dense=dense.eval(),
        shown=lambda batch: (np.ascontiguousarray(data.example(batch).numpy()),),
        calibration=calibration,
        onnx=lambda network: to_onnx(simplify(to_graph(network, as_inputs(data.example(), network)))),
        in_eight_bits=lambda model: quantised_by_onnxruntime(model, calibration),
        without_channels=partial(_images_without_channels, dense, data),
        learn=learn,
        score=score,
        search=partial(secateur.search, asked.network, asked.data, epochs=asked.epochs),
        told=lambda found: f"{found:.2%} of {trained.test.n:,} test images",
        validation=score(dense.eval(), "validation"),
        test=trained.test.value,
        untold=round(smallest_loss(len(data.validation)), 3),
    )


def _images_without_channels(dense: nn.Module, data: Dataset, ratio: float, everywhere: bool) -> nn.Module:
    network = copied(dense).eval()
    outputs = [
        module for module in network.modules() if isinstance(module, nn.Linear) and module.out_features == data.classes
    ]
    _take_channels(network, data.example(), ratio, everywhere, ignored_layers=outputs)
    recalibrate(network, (images for images, _ in Calibration(data, EXAMPLES, 0)))
    return network


def _take_channels(network: nn.Module, example: Any, ratio: float, everywhere: bool, **more: Any) -> None:
    import torch_pruning

    torch_pruning.pruner.MetaPruner(
        network, example, importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=not everywhere, pruning_ratio=ratio, **more,
    ).step()  # fmt: skip


class Embedder(nn.Module):
    """Ids of tokens and which of them are none but padding, (N, T) each → a vector of length 1 for each, (N, 384)."""

    def __init__(self) -> None:
        super().__init__()
        self.bert = Encoder().bert

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        seen = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return nn.functional.normalize((hidden * seen).sum(1) / seen.sum(1), dim=1)


def spearman_of_pairs(predict: Predict, batches: Any) -> float:
    """Spearman's correlation of the cosines of sentences that stand side by side, of vectors of length 1, with how
    alike people found them."""
    from scipy.stats import spearmanr

    cosines, scores = [], []
    for inputs, target in batches:
        vectors = predict(inputs)
        cosines.append((vectors[0::2] * vectors[1::2]).sum(1))
        scores.append(target[0::2])
    return float(spearmanr(torch.cat(cosines).numpy(), torch.cat(scores).numpy()).statistic)


def likeness(vectors: Tensor, target: Tensor) -> Tensor:
    """The mean squared error of the cosines, where 5 of the scores is 1."""
    return ((vectors[0::2] * vectors[1::2]).sum(1) - target[0::2] / 5).square().mean()


def _batches(folder: Path, part: str) -> list[tuple[Tokens, Tensor]]:
    """Pairs of sentences, one after the other, with the score of the pair for each of both."""
    pairs = Pairs.of(folder, part)
    sides = [sentence for pair in zip(pairs.left, pairs.right, strict=True) for sentence in pair]
    scores = torch.tensor(pairs.scores).repeat_interleave(2)
    return [(tokens, scores[some]) for some, tokens in Sentences().padded(sides, 2 * PAIRS, LENGTH)]


def trained_on_sentences(folder: Path) -> tuple[nn.Module, Task]:
    """all-MiniLM-L6-v2 and the STS benchmark in English, of which the development part is to choose by."""
    task = Task(
        train=_batches(folder, "train"), validation=_batches(folder, "dev"), test=_batches(folder, "test"),
        loss=likeness, metric=spearman_of_pairs, name="stsb",
    )  # fmt: skip
    return Embedder().eval(), task


def sentences(folder: Path) -> Subject:
    """What decide.py asks of these."""
    dense, task = trained_on_sentences(folder)
    calibration = [tuple(each.numpy() for each in tokens.values()) for tokens, _ in task.first("train", EXAMPLES)]

    def score(run: Predict, split: str) -> float:
        def predict(tokens: Tokens) -> Tensor:
            if isinstance(run, nn.Module):
                return run(**tokens)
            return torch.from_numpy(np.array(run(*(each.numpy() for each in tokens.values()))))

        return task.score(predict, split).value

    def shown(batch: int) -> tuple[Array, ...]:
        return tuple(each.numpy() for each in task.example(batch).values())

    def learn(network: nn.Module, epochs: int) -> None:
        retrain(network, task, 0.0, retraining_for("one-shot", epochs=epochs), device="cpu")

    return Subject(
        title=f"all-MiniLM-L6-v2 on the STS benchmark, {LENGTH} tokens",
        dense=dense,
        shown=shown,
        calibration=calibration,
        onnx=partial(onnx_file, length=LENGTH),
        in_eight_bits=dynamically_quantised,
        without_channels=partial(_sentences_without_channels, dense, task),
        learn=learn,
        score=score,
        search=partial(secateur.search, dense, task, name="minilm", calibration_images=SEARCHED, images=SHOWN),
        told=lambda found: f"Spearman's correlation {found:.4f} on the test part",
        validation=score(dense, "validation"),
        test=score(dense, "test"),
        untold=0.1,  # of 1,500 pairs
    )


def _sentences_without_channels(dense: nn.Module, task: Task, ratio: float, everywhere: bool) -> nn.Module:
    """Whole heads of attention, and features between the two layers of each feed-forward; the vectors stay as wide."""
    network: Any = copied(dense).eval()
    layers = network.bert.encoder.layer
    inner = {layer.intermediate.dense for layer in layers}
    attentions = [layer.attention.self for layer in layers]
    heads = {part: each.num_attention_heads for each in attentions for part in (each.query, each.key, each.value)}
    others = [
        module for module in network.modules()
        if isinstance(module, (nn.Linear, nn.Embedding, nn.LayerNorm)) and module not in inner and module not in heads
    ]  # fmt: skip
    of_heads = {"num_heads": heads, "prune_num_heads": True, "prune_head_dims": False, "head_pruning_ratio": ratio}
    _take_channels(network, task.example(), ratio, everywhere, ignored_layers=others, **of_heads)
    for each in attentions:
        each.num_attention_heads = each.query.out_features // each.attention_head_size
        each.all_head_size = each.query.out_features
    made: nn.Module = network
    return made
