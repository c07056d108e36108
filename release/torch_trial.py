"""What of Secateur works with the PyTorch that is installed? Lines of JSON: a part, and what went wrong."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import secateur


class Network(nn.Module):
    """Convolutions with a shortcut, normalisation, attention and a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.mixing = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.memory = nn.LSTM(16, 16, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = nn.functional.avg_pool2d(x + self.body(x), 4).flatten(2).transpose(1, 2)
        x, _ = self.memory(self.mixing(x))
        out: Tensor = self.head(x.mean(1))
        return out


IMAGES = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(16) % 4


def network() -> nn.Module:
    torch.manual_seed(0)
    return Network().eval()


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 16), nn.ReLU(), nn.Linear(16, 4)
    ).eval()


def prune(_: Path) -> None:
    pruned = network()
    assert abs(secateur.prune(pruned, 0.8, example=IMAGES).sparsity - 0.8) < 0.01
    secateur.repair(pruned, "reconstruct", [(IMAGES, LABELS)], dense=network())
    secateur.prune(pruned, 0.9, method="snip", calibration=[(IMAGES, LABELS)])


def shrink(_: Path) -> None:
    pruned = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 4, 3)).eval()
    secateur.prune(pruned, 0.5, pattern="channel-l2", example=IMAGES)
    assert len(secateur.shrink(pruned, IMAGES).state_dict()["0.weight"]) < 16


def pack(folder: Path) -> None:
    secateur.pack(network(), folder / "net.secateur", example=IMAGES)


def load(folder: Path) -> None:
    """What was packed gives what PyTorch gives, whatever the batch."""
    net = secateur.load(folder / "net.secateur")
    with torch.inference_mode():
        np.testing.assert_allclose(net(IMAGES.numpy()[:5]), network()(IMAGES[:5]).numpy(), rtol=1e-3, atol=1e-4)


def quantise(folder: Path) -> None:
    secateur.pack(plain(), folder / "bytes.secateur", example=IMAGES, quantize="int8", calibration=IMAGES)


def retrain(_: Path) -> None:
    batches = [(IMAGES, LABELS)]
    task = secateur.Task(batches, batches, batches, loss=nn.functional.cross_entropy, metric="top-1", name="trial")
    learning = plain()
    secateur.retrain(learning, task, 0.7, secateur.Retraining("one-shot", epochs=2))
    assert secateur.sparsity(learning) > 0.5


def export(folder: Path) -> None:
    """To ONNX, and from there to a module of PyTorch's layers."""
    from secateur import packfile
    from secateur.exporting.onnx import write_onnx

    write_onnx(packfile.read(folder / "net.secateur"), folder / "net.onnx")
    with torch.inference_mode():
        torch.testing.assert_close(
            secateur.from_onnx(folder / "net.onnx")(IMAGES), network()(IMAGES), rtol=1e-3, atol=1e-4
        )


def compile_in_place(_: Path) -> None:
    own = plain()
    with torch.inference_mode():
        made = torch.compile(own, backend="secateur")(IMAGES)
        torch.testing.assert_close(made, own(IMAGES), rtol=1e-3, atol=1e-4)


def sweep(folder: Path) -> None:
    found = secateur.sweep("lenet-300-100", "digits", out=folder / "run", ratios=(0, 0.5), epochs=1, latency_on="none")
    assert not found.failures


PARTS: dict[str, Callable[[Path], None]] = {
    "prunes": prune,
    "shrinks": shrink,
    "packs": pack,
    "loads": load,
    "8 bits": quantise,
    "retrains": retrain,
    "exports": export,
    "compiles": compile_in_place,
    "sweeps": sweep,
}


def main() -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        for name, part in PARTS.items():
            wrong = ""
            try:
                part(Path(folder))
            except Exception as error:
                wrong = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            print(json.dumps([name, wrong]), flush=True)


if __name__ == "__main__":
    main()
