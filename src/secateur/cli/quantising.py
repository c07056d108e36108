"""What pack says and asks where a network is to compute in eight bits."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from secateur.cli.printing import say
from secateur.errors import QuantiseError, UsageError
from secateur.escaping import one_line

if TYPE_CHECKING:
    from secateur.experiments.delivery import Deliverable
    from secateur.exporting.quantising import Report
    from secateur.packfile import Metadata

QUANTISED = ("none", "int8")


@dataclass(frozen=True, slots=True)
class Quantising:
    """What was asked for.

    quantize: None leaves the network in float32. images: of a run's training split, where no file holds the calibration
    data.
    """

    quantize: str | None
    keep_float: tuple[str, ...]
    file: Path | None
    images: int
    data_dir: Path | None

    @staticmethod
    def asked(
        quantize: str, keep_float: tuple[str, ...], file: Path | None, images: int, data_dir: Path | None
    ) -> Quantising:
        """Raises UsageError for words that make no sense, or not together."""
        if quantize not in QUANTISED:
            raise UsageError(f"--quantize {quantize!r}: expected {' or '.join(QUANTISED)}")
        if quantize == "none" and (keep_float or file is not None):
            raise UsageError("--keep-float and --calibration are for --quantize int8: give that too, or neither")
        if images < 1:
            raise UsageError(f"--calibration-images {images}: expected a whole number from 1 on")
        return Quantising(None if quantize == "none" else quantize, keep_float, file, images, data_dir)

    def refuse(self, others: Mapping[str, object]) -> None:
        """Raises UsageError for flags that say otherwise of weights. others: flag → its value, None if not given."""
        if self.quantize is None:
            return
        for flag, value in others.items():
            if value is not None:
                raise UsageError(
                    f"--quantize {self.quantize} with {flag}: weights become eight bits; give one of the two"
                )

    def keywords(self, made: Deliverable) -> dict[str, Any]:
        """Those of exporting.packing.pack."""
        if self.quantize is None:
            return {}
        data = self._calibration(made)
        kept = tuple(dict.fromkeys((*made.keep_float, *self.keep_float)))  # what the run left so, and what is asked
        return {"quantize": self.quantize, "calibration": data, "keep_float": kept, "tell": say_report}

    def _calibration(self, made: Deliverable) -> Any:
        if self.file is not None:
            return read_calibration(self.file, made.metadata)
        dataset = made.dataset(self.data_dir)
        if dataset is None:
            raise UsageError("--quantize int8 needs calibration data: give --calibration with inputs in a .npy or .npz")
        from secateur.training.data import Calibration

        return [images for images, _ in Calibration(dataset, min(self.images, len(dataset.train)), seed=0)]

    def say_otherwise(self, made: Deliverable) -> None:
        """Where a run's network was measured in eight bits and is packed in float32."""
        if self.quantize is None and made.quantize != "none":
            way = made.quantize
            say(f"the run's best was measured in {way}, this is in float32: --quantize {way} packs that")

    def say_accuracies(self, made: Deliverable, packed: Path) -> None:
        """Of a run's network before and after, on the same images."""
        dataset = made.dataset(self.data_dir) if self.quantize is not None else None
        if dataset is None:
            return
        import torch

        from secateur.measure.correctness import accuracy
        from secateur.runtime import load

        session = load(packed)
        after = accuracy(lambda images: torch.from_numpy(session(images.numpy())), dataset, dataset.test)
        before = accuracy(made.network, dataset, dataset.test)
        say(
            f"accuracy on {after.n:,} test images: {before.text} in float32, {after.text} in eight bits "
            f"({-after.lost_from(before) + 0.0:+.2f} points)"
        )


def quantise_file(source: Path, output: Path, asked: Quantising, force: bool) -> None:
    """A packed network becomes another packed one, without PyTorch."""
    if asked.quantize is None:
        raise UsageError(f"{source}: is packed already; --quantize int8 makes another of it that is in eight bits")
    if asked.file is None:
        raise UsageError(f"{source}: give --calibration with inputs (N, …) in a .npy or .npz file")
    from secateur import packfile
    from secateur.exporting.quantising import quantise

    packfile.check_free(output, force)
    packed = packfile.read_packed(source)
    data = read_calibration(asked.file, packed.metadata)
    try:
        graph, report = quantise(packed.graph, [data], keep_float=asked.keep_float, each_alone=True)
    except QuantiseError as error:
        raise QuantiseError(f"{source}: {error}") from error
    packfile.write(graph, output, force=force, meta=packed.metadata)
    say_report(report)
    say(f"packed: {output}, {output.stat().st_size:,} bytes, from {source} ({source.stat().st_size:,} bytes)")


def read_calibration(file: Path, metadata: Metadata, *, named: bool = False) -> Any:
    """The array of a .npy file, or those of a .npz file by name; uint8 images normalised as the network's were.

    named: by name even if there is one only, as the inputs of an ONNX file have names that were chosen.
    """
    import numpy as np

    from secateur.runtime.loading import normalisation_of
    from secateur.support.replacing import open_regular

    normalise = normalisation_of(metadata)
    try:
        with open_regular(file) as stream:
            held = np.load(stream, allow_pickle=False)
            arrays = {"": held} if isinstance(held, np.ndarray) else {name: held[name] for name in held.files}
            if other := [name for name, each in arrays.items() if not isinstance(each, np.ndarray)]:
                raise ValueError(f"{other[0]!r} in it is no array")
    except OSError as error:
        raise UsageError(f"{file}: expected a .npy or .npz file of inputs: {error.strerror or error}") from error
    except (ValueError, EOFError, MemoryError, SyntaxError, BadZipFile, zlib.error) as error:
        raise UsageError(f"{file}: expected a .npy or .npz file of inputs: {one_line(str(error))}") from error
    images = normalise is not None and all(each.dtype == np.uint8 for each in arrays.values())
    found = {name: normalise(each) if images and normalise else each for name, each in arrays.items()}
    return next(iter(found.values())) if "" in found or (len(found) == 1 and not named) else found


def say_report(report: Report) -> None:
    for line in report.summary:
        say(line)
    whole = [layer for layer in report.layers if layer.element == "int8" and layer.noise_db is not None]
    if whole:
        worst = min(whole, key=lambda layer: layer.noise_db or 0.0)
        say(f"int8: {', '.join(layer.name for layer in whole)}; noisiest {worst.name}, {worst.noise_db:.1f} dB")
    for layer in report.left_float:
        say(f"float32: {layer.name}: {layer.reason}")
