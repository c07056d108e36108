from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from samples import stripes
from secateur.errors import DataError, UsageError
from secateur.training.data import crop_and_flip, fit, from_arrays, load_data, normalise, read_idx


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def write_mnist(folder: Path, count: int = 40) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, n in (("train", count), ("t10k", 10)):
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", random.integers(0, 256, (n, 28, 28)))
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", np.arange(n) % 10)


def write_cifar(folder: Path, count: int = 20) -> np.ndarray:
    folder.mkdir(parents=True)
    records = np.random.default_rng(0).integers(0, 256, (count, 3073)).astype(np.uint8)
    records[:, 0] %= 10
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return records


def test_digits_are_split_once_and_for_all() -> None:
    data = load_data("digits")
    assert (len(data.train), len(data.validation), len(data.test)) == (1197, 240, 360)
    assert data.shape == (1, 8, 8)
    assert data.train.images.dtype == torch.uint8
    assert data.train.images.max() == 255
    assert data.digest == "2d99f8a701f8c0bb"
    everything = torch.cat([split.images.flatten(1).sum(1) for split in (data.train, data.validation, data.test)])
    assert len(everything) == 1797


def test_small_images_are_upscaled_to_what_a_network_takes() -> None:
    grown = fit(load_data("digits"), "lenet-5", 1, 28)
    assert grown.shape == (1, 28, 28)
    assert grown.train.images.dtype == torch.uint8
    assert grown.digest == load_data("digits").digest
    assert fit(load_data("digits"), "own", None, None).shape == (1, 8, 8)


def test_images_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"'digits' has 1×8×8 images but 'resnet' takes 3×any×any: choose"):
        fit(load_data("digits"), "resnet", 3, None)
    with pytest.raises(DataError, match=r"'digits' has 1×8×8 images but 'small' takes 1×4×4"):
        fit(load_data("digits"), "small", 1, 4)


def test_idx_files_load_gzipped_or_not(tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist")
    data = load_data("mnist", tmp_path)
    assert (len(data.train), len(data.validation), len(data.test), data.shape) == (36, 4, 10, (1, 28, 28))
    for path in (tmp_path / "mnist").glob("*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert load_data("mnist", tmp_path).digest == data.digest
    assert data.source == "not the publisher's content (MD5 sums differ)"


def test_the_real_mnist_is_recognised_as_the_publishers(real_data: Path | None) -> None:
    if real_data is None or not (real_data / "mnist").is_dir():
        pytest.skip("SECATEUR_DATA names no folder with mnist")
    data = load_data("mnist", real_data)
    assert data.source == "the publisher's content (MD5 sums match)"
    assert (len(data.train), len(data.validation), len(data.test)) == (55_000, 5_000, 10_000)


def test_cifar_records_become_planes(tmp_path: Path) -> None:
    records = write_cifar(tmp_path / "cifar-10-batches-bin")
    data = load_data("cifar-10", tmp_path)
    assert (len(data.train), len(data.validation), len(data.test), data.augment) == (90, 10, 20, "crop-flip")
    assert data.test.labels.tolist() == records[:, 0].tolist()
    assert int(data.test.images[3, 2, 1, 5]) == records[3, 1 + 2 * 1024 + 32 + 5]
    assert data.source == "files not checked against the publisher's archive"


def test_a_missing_data_set_says_where_it_looked_and_what_to_run(tmp_path: Path, own_cache: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_data("mnist", tmp_path)
    for part in (
        str(tmp_path / "mnist"),
        str(own_cache / "data" / "mnist"),
        "train-images",
        "secateur data fetch mnist",
    ):
        assert part in str(caught.value)
    with pytest.raises(UsageError, match="data 'imagenet': expected one of digits, mnist"):
        load_data("imagenet")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist")
    images = tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz"
    whole = images.read_bytes()
    images.write_bytes(whole[:-300])
    with pytest.raises(DataError, match=r"t10k-images.*cannot be read"):
        load_data("mnist", tmp_path)
    content = gzip.decompress(whole)
    with pytest.raises(DataError, match=r"its header says 10×28×28 bytes but 7839 follow"):
        _ = images.write_bytes(content[:-1]) and read_idx(images, 3)
    with pytest.raises(DataError, match=r"expected an IDX file of 1-dim.* \(magic 00000801\), got 00000803"):
        read_idx(images, 1)
    write_idx(images, np.zeros((9, 28, 28)))
    with pytest.raises(DataError, match=r"holds 9 images but .* 10 labels"):
        load_data("mnist", tmp_path)
    write_cifar(tmp_path / "cifar-10-batches-bin")
    batch = tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin"
    batch.write_bytes(batch.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"data_batch_2\.bin: expected records of 3,073 bytes, got 61459 bytes"):
        load_data("cifar-10", tmp_path)
    batch.write_bytes(b"\xff" * 3073)
    with pytest.raises(DataError, match="expected labels 0 to 9, got 255"):
        load_data("cifar-10", tmp_path)


def test_a_users_own_data_may_be_a_dataset_or_pairs() -> None:
    assert load_data("samples:stripes").shape == (1, 10, 10)
    with pytest.raises(DataError, match=r"expected a Task, a Dataset, or .* got Sequential"):
        load_data("samples:tiny")


def test_malformed_arrays_are_refused() -> None:
    images, labels = np.zeros((4, 1, 2, 2), np.uint8), np.arange(4)
    with pytest.raises(DataError, match=r"train split: expected uint8 images \(N, C, H, W\), got torch.float32"):
        from_arrays("x", (images.astype(np.float32), labels), (images, labels))
    with pytest.raises(DataError, match=r"test split: expected 4 integer labels, got torch.int64 \(3,\)"):
        from_arrays("x", (images, labels), (images, labels[:3]))
    with pytest.raises(DataError, match="labels from 0 on"):
        from_arrays("x", (images, labels - 1), (images, labels))
    with pytest.raises(DataError, match="images of one shape"):
        from_arrays("x", (images, labels), (np.zeros((4, 1, 3, 3), np.uint8), labels))


def test_normalisation_is_the_textbook_formula() -> None:
    images = torch.randint(0, 256, (3, 2, 4, 4), dtype=torch.uint8)
    expected = torch.stack([(images[:, 0] / 255 - 0.1) / 0.5, (images[:, 1] / 255 - 0.2) / 0.25], dim=1)
    torch.testing.assert_close(normalise(images, (0.1, 0.2), (0.5, 0.25)), expected)


def test_crop_and_flip_gives_shifted_or_mirrored_copies_only() -> None:
    images = torch.randint(1, 256, (200, 3, 6, 6), dtype=torch.uint8)
    out = crop_and_flip(images, torch.Generator().manual_seed(0), padding=2)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    mirrored = 0
    for index in range(len(images)):
        windows = [padded[index, :, y : y + 6, x : x + 6] for y in range(5) for x in range(5)]
        straight = any(torch.equal(window, out[index]) for window in windows)
        turned = any(torch.equal(window.flip(-1), out[index]) for window in windows)
        assert straight or turned
        mirrored += turned
    assert 70 < mirrored < 130


def test_example_images_depend_on_the_seed_only() -> None:
    data = stripes()
    assert torch.equal(data.example(5, seed=1), data.example(5, seed=1))
    assert not torch.equal(data.example(5, seed=1), data.example(5, seed=2))
    assert data.example(150).shape == (150, 1, 10, 10)


def test_a_normalisation_of_ones_own_makes_another_data_set_of_the_same_bytes() -> None:
    plain, other = load_data("digits"), load_data("digits", mean=0.5, std=[0.25])
    assert (other.name, other.mean, other.std) == ("digits (mean 0.5, std 0.25)", (0.5,), (0.25,))
    assert other.digest == plain.digest
    assert load_data(other.name).name == other.name
    assert load_data(other.name, mean=0, std=1).name == "digits (mean 0, std 1)"
    torch.testing.assert_close(other.example(3), (plain.validation.images[:3] / 255 - 0.5) / 0.25)
    assert load_data("samples:colour", mean=0, std=(1, 2, 3)).mean == (0.0, 0.0, 0.0)
    assert fit(other, "lenet-5", 1, 28).mean == (0.5,)


def test_normalisations_that_are_none_are_refused() -> None:
    pairs: tuple[tuple[Any, Any], ...] = (
        (0, None),
        (None, 1),
        (0, 0),
        (0, -1),
        (float("nan"), 1),
        (0, float("inf")),
        ((), ()),
        ("a", 1),
    )
    for mean, std in pairs:
        with pytest.raises(UsageError, match=r"(mean|std|normalisation).*: expected"):
            load_data("digits", mean=mean, std=std)
    with pytest.raises(
        DataError, match=r"data 'digits': mean \(0.1, 0.2\): expected one number, or one for each of its 1"
    ):
        load_data("digits", mean=(0.1, 0.2), std=1)
    images, labels = np.zeros((4, 3, 2, 2), np.uint8), np.arange(4)
    with pytest.raises(DataError, match=r"std \(1, 0, 1\): expected one number above 0, or one for each of its 3"):
        from_arrays("x", (images, labels), (images, labels), std=(1, 0, 1))
    assert from_arrays("x", (images, labels), (images, labels), mean=0, std=1).std == (1.0, 1.0, 1.0)


def test_arrays_may_be_read_only_backwards_or_lists() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 1, 2, 2), np.uint8)
    images.setflags(write=False)
    backwards = from_arrays("x", (images[::-1], [0, 1, 2, 0, 1, 2]), (images, np.arange(6)), (images, np.arange(6)))
    assert torch.equal(backwards.train.images, torch.from_numpy(images[::-1].copy()))


@pytest.mark.parametrize(
    "labels", [np.ones(4, bool), np.ones(4, complex), np.array(list("abcd")), np.ones((4, 1), int)]
)
def test_labels_that_are_no_whole_numbers_are_refused(labels: np.ndarray) -> None:
    images = np.zeros((4, 1, 2, 2), np.uint8)
    with pytest.raises(DataError, match="test split: expected"):
        from_arrays("x", (images, np.arange(4)), (images, labels))


def test_the_digest_is_of_the_images_that_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fewer.py").write_text(
        "import dataclasses, torch\nfrom secateur.training.data import load_data\nwhole = load_data('digits')\n"
        "def same(): return whole\n"
        "def fewer(): return dataclasses.replace(whole, train=whole.train.take(torch.arange(64)))\n"
        "def mixed(): return dataclasses.replace(whole, test=whole.validation)\n"
        "def low(): return dataclasses.replace(whole, classes=9)\n"
        "def uneven(): return dataclasses.replace(whole, mean=(0.1, 0.2))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    digests = {name: load_data(f"fewer:{name}").digest for name in ("same", "fewer", "mixed")}
    assert digests["same"] == load_data("digits").digest
    assert len(set(digests.values())) == 3
    for name, told in (
        ("low", "expected labels below its 9 classes, got 9"),
        ("uneven", "mean .* for each of its 1"),
    ):
        with pytest.raises(DataError, match=told):
            load_data(f"fewer:{name}")


def test_one_training_image_is_refused_unless_there_are_others_to_validate() -> None:
    one = np.zeros((1, 1, 4, 4), np.uint8), np.zeros(1, np.int64)
    with pytest.raises(DataError, match="holds 1 image: expected 2 or more, as one is held out to validate"):
        from_arrays("lonely", one, one)
    assert from_arrays("lonely", one, one, one).std == (1.0,)
    pixel = np.zeros((1, 1, 1, 1), np.uint8), np.zeros(1, np.int64)
    assert from_arrays("pixel", pixel, pixel, pixel).std == (1.0,)
