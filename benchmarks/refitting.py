"""What layers refitted by themselves save a search: `python benchmarks/refitting.py DIR [RATIO ...]`.

Of all-MiniLM-L6-v2 and 512 sentences of 32 tokens of the STS benchmark's training part (DIR: stsb-en-train.csv, -dev
and -test), each linear layer cut by magnitude to the same ratio: processor seconds on one thread, and how far the
vectors of 256 sentences of the development part are from the dense network's, as a share of their spread, of the cut
alone, with layers refitted by themselves, and reconstructed. A search asks this of hundreds of networks. Needs what
benchmarks/minilm.py needs.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from subjects import SEARCHED, SHOWN, trained_on_sentences
from torch import Tensor, nn

import secateur
from secateur.modules.guarding import copied
from secateur.pruning.refitting import Refits
from secateur.pruning.repairing import Shown
from secateur.records.environment import environment


def spent(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.process_time()
    found = work()
    return found, time.process_time() - started


def main() -> None:
    torch.set_num_threads(1)
    dense, task = trained_on_sentences(Path(sys.argv[1]))
    calibration = list(task.first("train", SEARCHED))
    shown = [inputs for inputs, _ in task.first("validation", SHOWN)]
    names = [name for name, module in dense.named_modules() if isinstance(module, nn.Linear)]
    print(environment())
    refits, seconds = spent(partial(Refits, dense, names, Shown(dense, calibration)))
    print(f"sums of all layers: {seconds:.1f} s, once")
    expected = vectors(dense, shown)
    for ratio in map(float, sys.argv[2:] or ["0.5", "0.8"]):
        cut = copied(dense)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", secateur.errors.PruneWarning)  # embeddings, which stay whole
            secateur.prune(cut, ratio, example=calibration[0][0], keep_output=False)
        alone, reconstructed = copied(cut), copied(cut)
        refitting = partial(refits.refit, alone)
        (_, first), (_, again) = spent(refitting), spent(refitting)
        _, whole = spent(partial(secateur.repair, reconstructed, "reconstruct", calibration, dense=dense))
        told = [f"{apart(vectors(each, shown), expected):.3%}" for each in (cut, alone, reconstructed)]
        print(f"{ratio:.0%}: cut alone {told[0]}; refitted {told[1]}, {first:.1f} s, {again:.2f} s where the zeros are "
              f"known; reconstructed {told[2]}, {whole:.1f} s", flush=True)  # fmt: skip


def vectors(network: nn.Module, shown: list[Any]) -> Tensor:
    with torch.no_grad():
        return torch.cat([network(**tokens) for tokens in shown])


def apart(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).square().sum() / (expected - expected.mean(0)).square().sum())


if __name__ == "__main__":
    main()
