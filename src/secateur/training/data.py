"""Data sets as in-memory uint8 images with a fixed train, validation and test split."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.errors import DataError, MissingExtraError, UsageError
from secateur.records.spec import USUAL_IMAGES
from secateur.support.references import import_callable, is_object, own_code
from secateur.training.catalogue import (
    Normalisation,
    Numbers,
    Source,
    find_source,
    member_path,
    normalised_name,
    provenance,
    require,
    split_normalisation,
)
from secateur.training.objects import find_task
from secateur.training.tasks import Task

SPLIT_SEED = 20150608  # any constant: the split has to be the same everywhere, for ever
_AT_ONCE = 250


@dataclass(frozen=True, slots=True)
class Split:
    """images: (N, C, H, W) uint8. labels: (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> Split:
        return Split(self.images[index], self.labels[index])

    def part(self, number: int, count: int) -> Split:
        """One of `count` parts: every count-th image from a number on."""
        return self if count == 1 else self.take(torch.arange(number, len(self), count))


@dataclass(frozen=True, slots=True)
class Dataset:
    """mean and std are per channel, for pixels scaled to [0, 1]. augment is what training is advised to do.

    source says where the bytes came from; digest identifies them.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int
    augment: str
    source: str
    digest: str

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def normalisation(self) -> Normalisation:
        return Normalisation(self.mean, self.std)

    @property
    def told(self) -> str:
        """What is counted, and how it is given."""
        return f"images, given as {self.normalisation.describe()}"

    @property
    def card(self) -> dict[str, Any]:
        """What is to be known of the data to build a network for them again, for JSON."""
        return {
            "input": list(self.shape), "classes": self.classes, "mean": list(self.mean), "std": list(self.std),
        }  # fmt: skip

    def pieces(self, which: str) -> int:
        """Into how many parts a split can be cut."""
        return len(getattr(self, which))

    def shown(self, count: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """So many validation images, drawn by seed, and their labels, some at a time."""
        generator = torch.Generator().manual_seed(seed)
        for index in torch.split(torch.randperm(len(self.validation), generator=generator)[:count], _AT_ONCE):
            part = self.validation.take(index)
            yield normalise(part.images, self.mean, self.std), part.labels

    def calibration(self, count: int, seed: int, augment: str = "auto") -> Calibration:
        """`count` training images; of the usual number as many as there are."""
        count = min(count, len(self.train)) if count == USUAL_IMAGES else count
        return Calibration(self, count, seed, augment=augment)

    def example(self, count: int = 1, *, seed: int | None = None) -> Tensor:
        """(count, C, H, W) float: normalised validation images, the first ones or drawn by seed."""
        if seed is None:
            index = torch.arange(count) % len(self.validation)
        else:
            index = torch.randint(len(self.validation), (count,), generator=torch.Generator().manual_seed(seed))
        return normalise(self.validation.images[index], self.mean, self.std)


@dataclass(frozen=True, slots=True)
class Calibration:
    """`count` training images drawn by seed, without replacement: batches of normalised images and labels.

    They are drawn when they are gone through, which can be done several times. augment: as in Recipe, for `augmented`.
    """

    dataset: Dataset
    count: int
    seed: int
    batch_size: int = 128
    augment: str = "auto"

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self._batches(lambda images: images)

    def augmented(self, turn: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The same images as training shows them: shifted and mirrored, always alike in one turn, if it does that."""
        generator = torch.Generator().manual_seed((self.seed + 1_000_003 * turn) % 2**63)
        return self._batches(lambda images: augmentation(self.dataset, self.augment)(images, generator))

    def check(self) -> None:
        """Raises DataError, as going through them does, where the training split holds fewer images."""
        data = self.dataset
        if not 1 <= self.count <= len(data.train):
            raise DataError(
                f"calibration with {self.count} images: expected 1 to {len(data.train)}, as many as the training split "
                f"of {data.name!r} holds"
            )

    def _batches(self, change: Callable[[Tensor], Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        self.check()
        data = self.dataset
        order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(self.seed))[: self.count]
        for index in torch.split(order, self.batch_size):
            part = data.train.take(index)
            yield normalise(change(part.images), data.mean, data.std), part.labels


Data = Dataset | Task
"""What networks are trained and measured on: images in memory, or whatever a Task gives."""


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(N, C, H, W) uint8 → float32: (pixel / 255 - mean) / std, on the images' own device."""
    scale, shift = _scale_and_shift(mean, std, images.device)
    return torch.addcmul(shift, images.float(), scale)


@functools.lru_cache(maxsize=8)
def _scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """(1, C, 1, 1) each: made once, as making tensors costs as much as using them on a small batch."""
    with torch.inference_mode(False):
        scale = torch.tensor([1 / (255 * each) for each in std], device=device)
        shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device)
    return scale.view(1, -1, 1, 1), shift.view(1, -1, 1, 1)


def load_data(
    name: str, data_dir: str | Path | None = None, *, mean: Numbers | None = None, std: Numbers | None = None
) -> Dataset:
    """A data set by name, or a user's own as "package.module:callable" (see from_arrays for what it returns).

    mean and std: of pixels scaled to [0, 1], one number or one for each channel, instead of the data set's own.
    Raises DataError where files are missing (saying where it looked and which command gets them) or damaged,
    UsageError for an unknown name.
    """
    return images_of(find_data(normalised_name(name, mean, std), data_dir))


def images_of(data: Data) -> Dataset:
    """Data of which images are asked. Raises UsageError for a task."""
    if isinstance(data, Task):
        raise UsageError(f"task {data.name!r} is no data set of images in memory, which is asked for here")
    return data


def find_data(name: str, data_dir: str | Path | None = None) -> Data:
    """As load_data; and a Task, where the user's callable gives one, or a program holds one of that name."""
    if is_object(name):
        return _checked_task(find_task(name), None)
    plain, other = split_normalisation(name)
    found = _own(plain) if ":" in plain else _built_in(plain, data_dir)
    if isinstance(found, Task):
        return _checked_task(found, other)
    return found if other is None else normalised(found, name, other)


def _checked_task(task: Task, normalisation: Normalisation | None) -> Task:
    if normalisation is not None:
        raise UsageError(f"mean and std are for images of 0 to 255: task {task.name!r} gives inputs as they are")
    task.check()
    return task


def _built_in(name: str, data_dir: str | Path | None) -> Dataset:
    source = find_source(name)
    if name == "digits":
        return _digits()
    folder = require(source, data_dir)
    return _LOADERS[name](source, folder)


def normalised(dataset: Dataset, name: str, normalisation: Normalisation) -> Dataset:
    """The data set under another name and normalisation. Raises DataError for another number of channels."""
    channels = dataset.shape[0]
    mean = _per_channel(dataset.name, "mean", normalisation.mean, channels)
    std = _per_channel(dataset.name, "std", normalisation.std, channels)
    return dataclasses.replace(dataset, name=name, mean=mean, std=std)


def _per_channel(name: str, what: str, values: Any, channels: int) -> tuple[float, ...]:
    listed = tuple(values) if isinstance(values, Iterable) else (values,)
    numbers = all(isinstance(value, int | float) and math.isfinite(value) for value in listed)
    if not numbers or len(listed) not in (1, channels) or (what == "std" and min(listed) <= 0):
        raise DataError(
            f"data {name!r}: {what} {values!r}: expected one number{' above 0' if what == 'std' else ''}, or one for "
            f"each of its {channels} channels"
        )
    return tuple(float(value) for value in (listed * channels if len(listed) == 1 else listed))


def from_arrays(
    name: str,
    train: tuple[Any, Any],
    test: tuple[Any, Any],
    validation: tuple[Any, Any] | None = None,
    *,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    augment: str = "none",
    source: str = "",
) -> Dataset:
    """A Dataset from (images, labels) pairs of tensors or arrays: (N, C, H, W) uint8 and (N,) integers.

    Without a validation pair, a tenth of the training images (5,000 at most) is held out by a fixed draw.
    Without mean and std, they are those of the training images. Raises DataError where a pair is malformed.
    """
    training = _checked(name, "train", train)
    testing = _checked(name, "test", test)
    if validation is not None:
        held_out = _checked(name, "validation", validation)
    elif len(training) == 1:
        raise DataError(
            f"data {name!r}, train split: holds 1 image: expected 2 or more, as one is held out to validate; or give a "
            "validation pair"
        )
    else:
        training, held_out = _hold_out(training, min(5000, max(1, len(training) // 10)))
    _check_shapes(name, (training, held_out, testing))
    classes = 1 + max(int(split.labels.max()) for split in (training, held_out, testing))
    measured_mean, measured_std = moments(training.images)
    channels = training.images.shape[1]
    return Dataset(
        name, training, held_out, testing,
        measured_mean if mean is None else _per_channel(name, "mean", mean, channels),
        measured_std if std is None else _per_channel(name, "std", std, channels),
        classes, augment, source, _digest_of(training, held_out, testing),
    )  # fmt: skip


def fit(dataset: Dataset, taker: str, channels: int | None, size: int | None) -> Dataset:
    """The data set as a network (named `taker`) takes it: upscaled, bilinear and back to uint8, where smaller.

    channels and size: what the network takes; None takes any. Raises DataError where channels differ or the
    images are larger than the network's input.
    """
    own_channels, height, width = dataset.shape
    fits = channels in (None, own_channels)
    if fits and (size is None or (height, width) == (size, size)):
        return dataset
    if not fits or size is None or max(height, width) > size:
        raise DataError(
            f"data {dataset.name!r} has {own_channels}×{height}×{width} images but {taker!r} takes "
            f"{channels or 'any'}×{size or 'any'}×{size or 'any'}: choose another data set or network"
        )
    grown = [_upscale(split, size) for split in (dataset.train, dataset.validation, dataset.test)]
    return dataclasses.replace(dataset, train=grown[0], validation=grown[1], test=grown[2])


def _upscale(split: Split, size: int) -> Split:
    images = F.interpolate(split.images.float(), (size, size), mode="bilinear", align_corners=False)
    return Split(images.round().to(torch.uint8), split.labels)


def augmentation(dataset: Dataset, augment: str) -> Callable[[Tensor, torch.Generator], Tensor]:
    """What a Recipe's augment does to a batch of images (N, C, H, W) uint8; "auto" is what the data set advises."""
    advised = dataset.augment if augment == "auto" else augment
    return crop_and_flip if advised == "crop-flip" else lambda images, _: images


def crop_and_flip(images: Tensor, generator: torch.Generator, padding: int = 4) -> Tensor:
    """(N, C, H, W) uint8: each image shifted by up to `padding` pixels over zeros, half of them mirrored.

    The whole batch is one gather, so augmentation costs little beside a training step (He et al. 2016, §4.2).
    """
    count, channels, height, width = images.shape
    device = images.device
    shift = torch.randint(0, 2 * padding + 1, (2, count), generator=generator).to(device)
    mirror = torch.randint(0, 2, (count, 1), generator=generator).to(device)
    padded = F.pad(images, (padding,) * 4)
    rows = shift[0, :, None] + torch.arange(height, device=device)
    across = torch.arange(width, device=device)
    columns = shift[1, :, None] + torch.where(mirror == 1, width - 1 - across, across)
    every = torch.arange(count, device=device)[:, None, None, None]
    plane = torch.arange(channels, device=device)[None, :, None, None]
    return padded[every, plane, rows[:, None, :, None], columns[:, None, None, :]]


def _digits() -> Dataset:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("data 'digits' needs scikit-learn: pip install 'secateur[torch]'") from error
    bunch = load_digits()
    images = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
    everything = Split(images, torch.from_numpy(bunch.target.astype(np.int64)))
    rest, test = _hold_out(everything, 360)
    train, validation = _hold_out(rest, 240)
    return _assemble("digits", train, validation, test, *moments(train.images), "none", "embedded in scikit-learn")


def _load_idx_set(mean: float, std: float) -> Callable[[Source, Path], Dataset]:
    def load(source: Source, folder: Path) -> Dataset:
        paths = [member_path(folder, member) or folder / member for member in source.members]
        train = Split(read_idx(paths[0], 3)[:, None], read_idx(paths[1], 1).long())
        test = Split(read_idx(paths[2], 3)[:, None], read_idx(paths[3], 1).long())
        for split, images, labels in ((train, paths[0], paths[1]), (test, paths[2], paths[3])):
            if len(split.images) != len(split.labels):
                raise DataError(
                    f"{images} holds {len(split.images)} images but {labels} {len(split.labels)} labels; "
                    f"fetch them again: secateur data fetch {source.name}"
                )
        train, validation = _hold_out(train, min(5000, len(train) // 10))
        origin = provenance(source, folder)
        return _assemble(source.name, train, validation, test, (mean,), (std,), "none", origin)

    return load


def _load_cifar(source: Source, folder: Path) -> Dataset:
    batches = [_read_cifar_batch(folder / member) for member in source.members]
    train = Split(torch.cat([b.images for b in batches[:-1]]), torch.cat([b.labels for b in batches[:-1]]))
    train, validation = _hold_out(train, min(5000, len(train) // 10))
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    origin = provenance(source, folder)
    return _assemble(source.name, train, validation, batches[-1], mean, std, "crop-flip", origin)


_LOADERS: dict[str, Callable[[Source, Path], Dataset]] = {
    "mnist": _load_idx_set(0.1307, 0.3081),
    "fashion-mnist": _load_idx_set(0.2860, 0.3530),
    "cifar-10": _load_cifar,
}


def read_idx(path: Path, dimensions: int) -> Tensor:
    """A uint8 IDX file, gzipped or not, of the given number of dimensions. Raises DataError where damaged."""
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}; fetch it again") from error
    header = 4 + 4 * dimensions
    expected = struct.pack(">I", 0x0800 + dimensions)
    if content[:4] != expected or len(content) < header:
        raise DataError(
            f"{path}: expected an IDX file of {dimensions}-dimensional bytes (magic {expected.hex()}), "
            f"got {content[:4].hex() or 'nothing'}"
        )
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if int(np.prod(shape, dtype=object)) != len(content) - header:
        raise DataError(
            f"{path}: its header says {'×'.join(map(str, shape))} bytes but {len(content) - header} follow; "
            "fetch it again"
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())


def _read_cifar_batch(path: Path) -> Split:
    """Records of one label byte and 3,072 pixel bytes, red, green and blue planes in row order."""
    raw = np.fromfile(path, np.uint8)
    if raw.size == 0 or raw.size % 3073:
        raise DataError(f"{path}: expected records of 3,073 bytes, got {raw.size} bytes; fetch it again")
    records = raw.reshape(-1, 3073)
    if records[:, 0].max() > 9:
        raise DataError(f"{path}: expected labels 0 to 9, got {records[:, 0].max()}; fetch it again")
    images = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy())
    return Split(images, torch.from_numpy(records[:, 0].astype(np.int64)))


def _own(name: str) -> Dataset | Task:
    make = import_callable(name, "data", or_a=Task)
    if isinstance(make, Task):
        return make
    with own_code(DataError, f"data {name!r}: calling it failed"):
        made = make()
    if isinstance(made, Task):
        return made
    if isinstance(made, Dataset):
        return _identified(name, made)
    if isinstance(made, tuple) and len(made) in (2, 3):
        train, *validation, test = made
        return from_arrays(name, train, test, validation[0] if validation else None, source=name)
    raise DataError(
        f"data {name!r}: expected a Task, a Dataset, or (train, test) or (train, validation, test) pairs of images and "
        f"labels, got {type(made).__name__}"
    )


def _identified(name: str, made: Dataset) -> Dataset:
    """A data set that somebody made, checked; its digest is that of the images and labels that it holds now."""
    parts = {"train": made.train, "validation": made.validation, "test": made.test}
    train, validation, test = (_checked(name, which, (part.images, part.labels)) for which, part in parts.items())
    _check_shapes(name, (train, validation, test))
    most = max(int(split.labels.max()) for split in (train, validation, test))
    if made.classes <= most:
        raise DataError(f"data {name!r}: expected labels below its {made.classes} classes, got {most}")
    channels = train.images.shape[1]
    mean = _per_channel(name, "mean", made.mean, channels)
    std = _per_channel(name, "std", made.std, channels)
    digest = _digest_of(train, validation, test)
    return dataclasses.replace(made, train=train, validation=validation, test=test, mean=mean, std=std, digest=digest)


def _check_shapes(name: str, splits: Iterable[Split]) -> None:
    shapes = {tuple(split.images.shape[1:]) for split in splits}
    if len(shapes) > 1:
        raise DataError(f"data {name!r}: expected images of one shape in all splits, got {sorted(shapes)}")


def _checked(name: str, which: str, pair: tuple[Any, Any]) -> Split:
    where = f"data {name!r}, {which} split"
    try:
        images, labels = (_as_tensor(each) for each in pair)
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise DataError(f"{where}: expected a pair of images and labels, tensors or arrays: {reason}") from error
    if images.dtype != torch.uint8 or images.dim() != 4 or images.numel() == 0:
        raise DataError(
            f"{where}: expected uint8 images (N, C, H, W), got {images.dtype} {tuple(images.shape)}: give pixels of "
            "0 to 255 and at least one image; mean and std normalise them"
        )
    if labels.dim() != 1 or labels.dtype not in _WHOLE or len(labels) != len(images):
        raise DataError(f"{where}: expected {len(images)} integer labels, got {labels.dtype} {tuple(labels.shape)}")
    if int(labels.min()) < 0:
        raise DataError(f"{where}: expected labels from 0 on")
    return Split(images.contiguous(), labels.long())


_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def _as_tensor(values: Any) -> Tensor:
    """On the CPU and dense; a copy where the array is read-only or runs backwards."""
    if isinstance(values, Tensor):
        return values.detach().cpu().to_dense()
    array = np.asarray(values)
    return torch.from_numpy(array if array.flags.writeable and min(array.strides, default=0) >= 0 else array.copy())


def _hold_out(split: Split, count: int) -> tuple[Split, Split]:
    """(rest, held out): a draw that depends on the number of images only."""
    order = torch.from_numpy(np.random.RandomState(SPLIT_SEED % 2**32).permutation(len(split)))
    return split.take(order[count:].sort().values), split.take(order[:count].sort().values)


def moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of pixels scaled to [0, 1]; a constant channel gets 1."""
    flat = images.transpose(0, 1).flatten(1).double() / 255
    mean = tuple(round(value, 4) for value in flat.mean(1).tolist())
    std = tuple(round(value, 4) or 1.0 for value in flat.std(1, correction=min(1, flat.shape[1] - 1)).tolist())
    return mean, std


def _assemble(
    name: str,
    train: Split,
    validation: Split,
    test: Split,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    augment: str,
    source: str,
) -> Dataset:
    digest = _digest_of(train, validation, test)
    return Dataset(name, train, validation, test, mean, std, 10, augment, source, digest)


def _digest_of(*splits: Split) -> str:
    digest = hashlib.sha256()
    for split in splits:
        digest.update(split.images.numpy().data)
        digest.update(split.labels.numpy().data)
    return digest.hexdigest()[:16]
