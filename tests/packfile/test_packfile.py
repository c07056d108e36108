"""A network goes into a file and comes out with the same bits; the file is small, whole or not there at all."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

import graph_strategies
from packed import graph_of, linear, pruned, same_weights, weights
from secateur import packfile
from secateur.errors import FormatError, PackError, SpaceError, UsageError
from secateur.network.formats import WEIGHT_FORMATS
from secateur.network.graph import Graph, Weight
from secateur.packfile import codecs, reading
from secateur.packfile.quantisation import tabulate

QUICK = settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(weight=weights())
def test_every_bit_of_a_weight_survives(weight: Weight) -> None:
    made = codecs.encode(weight)
    found = codecs.decode(made.codec, made.content, weight.dtype, weight.shape)
    assert (found.dtype, found.shape) == (weight.dtype, weight.shape)
    assert np.array_equal(found.bits, weight.bits)
    assert len(made.content) <= weight.bits.nbytes
    assert codecs.encode(weight) == made


@QUICK
@given(held=st.dictionaries(st.text(max_size=8), weights(), max_size=5), bits=st.sampled_from([None, 4]))
def test_a_file_holds_any_weights_under_any_names(held: dict[str, Weight], bits: int | None, tmp_path: Path) -> None:
    held = {name.encode(errors="replace").decode(): weight for name, weight in held.items()}
    path = tmp_path / "any.secateur"
    packfile.write(graph_of(held), path, bits=bits, force=True)
    assert same_weights(packfile.read(path), graph_of(held))  # constants are not rounded
    assert packfile.describe(path).bytes == path.stat().st_size


@QUICK
@given(graph=graph_strategies.graphs())
def test_every_operation_survives(graph: Graph, tmp_path: Path) -> None:
    path = tmp_path / "graph.secateur"
    packfile.write(graph, path, force=True)
    found = packfile.read(path)
    assert (found.inputs, found.outputs, found.nodes) == (graph.inputs, graph.outputs, graph.nodes)
    assert list(found.inputs) == list(graph.inputs)
    assert same_weights(found, graph)


@pytest.mark.parametrize("codebook", packfile.CODEBOOKS)
@QUICK
@given(weight=weights(), bits=st.sampled_from(packfile.BITS))
def test_rounding_keeps_zeros_and_its_promise_about_errors(weight: Weight, bits: int, codebook: str) -> None:
    made, expected = codecs.encode_lossy(weight, bits, codebook)
    found = codecs.decode(made.codec, made.content, weight.dtype, weight.shape)
    assert np.array_equal(found.bits, expected.bits)
    if expected is weight:
        assert made.error == 0
        return
    before, after = weight.values().astype(np.float64), found.values().astype(np.float64)
    assert np.array_equal(before == 0, after == 0)
    assert np.abs(before - after).max() <= made.error <= 1.02 * np.abs(before - after).max()
    if codebook != "channel":
        assert len(np.unique(after[after != 0])) <= 1 << bits


def test_names_that_the_format_uses_itself_can_be_packed(tmp_path: Path) -> None:
    path = tmp_path / "names.secateur"
    names = ["__metadata__", "secateur.graph", "secateur.pool", "", 'a "quoted"\n\\name', "größe", "x" * 1000]
    held = {name: Weight.of(pruned(100, 100, density=0.9, seed=i)) for i, name in enumerate(names)}
    packfile.write(graph_of(held), path)
    assert same_weights(packfile.read(path), graph_of(held))


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    graph = linear(pruned(64, 200), pruned(64, density=1.0))
    for bits in (None, 5):
        for name in ("one", "two"):
            packfile.write(graph, tmp_path / name, bits=bits, force=True)
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_facts_about_the_network_come_back(tmp_path: Path) -> None:
    path = tmp_path / "facts.secateur"
    meta = packfile.Metadata(mean=(0.1307, 1e-30), std=(0.3081, 2), classes=("null", "größer", ""))
    packfile.write(linear(pruned(10, 20)), path, meta=meta)
    found = packfile.read_packed(path)
    assert found.metadata == replace(meta, producer="secateur 0.1.0")
    assert found.error == 0


def test_a_file_is_a_valid_safetensors_file(tmp_path: Path) -> None:
    path = tmp_path / "net.secateur"
    packfile.write(linear(pruned(300, 784), pruned(300, density=1)), path)
    with safe_open(path, "np") as file:
        assert file.metadata()["secateur"].startswith("1.0 ")
        assert sorted(file.keys()) == ["fc.weight", "secateur.graph", "secateur.pool"]
        assert all(file.get_tensor(name).dtype == np.uint8 for name in file.keys())  # noqa: SIM118


@pytest.mark.parametrize("density", [0.01, 0.05, 0.1, 0.2, 0.5, 1.0])
def test_random_masks_and_values_stay_within_their_bound(density: float, tmp_path: Path) -> None:
    path = tmp_path / "net.secateur"
    packfile.write(linear(pruned(256, 512, density=density), pruned(256, density=1)), path)
    found = packfile.describe(path)
    assert found.bytes == os.path.getsize(path)
    assert found.share < 0.86


def test_bits_without_any_pattern_cost_no_more_than_they_have(tmp_path: Path) -> None:
    random = np.random.default_rng(0).integers(0, 2**32, (100, 300), dtype=np.uint32)
    path = tmp_path / "net.secateur"
    packfile.write(graph_of({"noise": Weight("float32", random)}), path)
    found = packfile.describe(path)
    assert found.weights[0].codec == "raw"
    assert found.share < 1.01


def test_masks_with_structure_are_smaller_than_their_entropy(tmp_path: Path) -> None:
    columns = 0.5 * np.linspace(0.0, 1.0, 500) ** 4
    random = np.random.default_rng(0)
    values = np.where(random.random((400, 500)) < columns, np.float32(1), np.float32(0)).astype(np.float32)
    path = tmp_path / "net.secateur"
    packfile.write(linear(values), path)
    mask_only = packfile.bound_bytes(Weight.of(values)) - np.count_nonzero(values) * 4
    expected = -np.sum(np.log2(np.maximum(1e-9, np.where(values != 0, columns, 1 - columns)))) / 8
    assert expected < 0.85 * mask_only
    assert path.stat().st_size < 1.1 * expected + 300


def test_rounded_weights_take_a_fraction(tmp_path: Path) -> None:
    graph = linear(pruned(300, 784), pruned(300, density=1))
    sizes = []
    for bits in (None, 8, 6, 5, 4):
        packfile.write(graph, tmp_path / "net", bits=bits, force=True)
        sizes.append(packfile.describe(tmp_path / "net").bytes)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 3.5


def test_only_layers_are_rounded(tmp_path: Path) -> None:
    path = tmp_path / "net"
    held = {"scale": Weight.of(pruned(50, 50, density=1))}
    packfile.write(graph_of(held), path, bits=4)
    assert packfile.describe(path).error == 0
    assert same_weights(packfile.read(path), graph_of(held))


def test_a_description_adds_up(tmp_path: Path) -> None:
    path = tmp_path / "net"
    packfile.write(linear(pruned(300, 784), pruned(300, density=1)), path, bits=5)
    found = packfile.describe(path)
    weight, bias = found.weights
    assert (weight.name, weight.shape, weight.dtype, weight.codec) == ("fc.weight", (300, 784), "float32", "levels")
    assert weight.density == pytest.approx(0.1, abs=1e-4)
    assert weight.bound == pytest.approx(300 * 784 * (0.469 + 3.2) / 8, rel=1e-3)
    assert (bias.density, bias.bound, bias.share) == (1, 1200, bias.bytes / 1200)
    assert found.error == max(weight.error, bias.error) > 0
    assert found.dense_bytes == 4 * (300 * 784 + 300)
    assert 0 < found.bytes - weight.bytes - bias.bytes < 600


def test_unpack_gives_ordinary_arrays(tmp_path: Path) -> None:
    path = tmp_path / "net"
    narrow = Weight("bfloat16", np.array([[0x3FC0, 0x8000], [0, 0xC000]], np.uint16))
    half = Weight.of(np.array([1.5, -0.0], np.float16))
    packfile.write(graph_of({"w": Weight.of(pruned(20, 30)), "half": half, "brain": narrow}), path)
    found = packfile.unpack(path)
    assert {name: value.dtype.name for name, value in found.items()} == {
        "w": "float32", "half": "float16", "brain": "float32"
    }  # fmt: skip
    assert np.array_equal(found["w"], pruned(20, 30))
    assert found["brain"].tolist() == [[1.5, 0.0], [0.0, -2.0]]
    assert all(value.flags.writeable for name, value in found.items() if name != "brain")


def test_opening_takes_the_network_and_its_largest_tensor(tmp_path: Path) -> None:
    path = tmp_path / "net"
    shapes = [(300, 500), (800, 700), (200, 300), (100,)]
    held = {str(shape): Weight.of(pruned(*shape, density=1)) for shape in shapes}
    packfile.write(graph_of(held), path)
    sizes = [weight.bits.nbytes for weight in held.values()]
    del held
    tracemalloc.start()
    try:
        kept = packfile.read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(kept.weights) == 4
    assert sum(sizes) < peak < sum(sizes) + max(sizes) + 300_000


def test_an_existing_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "net.secateur"
    packfile.write(linear(pruned(4, 5)), path)
    before = path.read_bytes()
    with pytest.raises(PackError, match=r"net\.secateur exists: choose another name, or replace it with --force"):
        packfile.write(linear(pruned(8, 5)), path)
    assert path.read_bytes() == before
    packfile.write(linear(pruned(8, 5)), path, force=True)
    assert packfile.read(path).weights["fc.weight"].shape == (8, 5)


def test_paths_with_spaces_and_other_letters(tmp_path: Path) -> None:
    path = tmp_path / "ein Ordner" / "mein Netz ü.secateur"
    path.parent.mkdir()
    packfile.write(linear(pruned(4, 5)), path)
    assert packfile.read(str(path)).outputs == ("fc",)
    assert os.listdir(path.parent) == [path.name]


def test_a_folder_that_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="cannot be written: No such file or directory"):
        packfile.write(linear(pruned(4, 5)), tmp_path / "missing" / "net.secateur")


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """Not as root, who may write anywhere."""
    user = os.geteuid()
    os.seteuid(user or 65534)
    yield
    os.seteuid(user)


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path: Path, as_nobody: None) -> None:
    if os.getuid() != 0:
        tmp_path.chmod(0o500)
    with pytest.raises(PackError, match=r"net\.secateur: cannot be written: Permission denied"):
        packfile.write(linear(pruned(4, 5)), tmp_path / "net.secateur")


@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_what_was_there(existing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.secateur"
    if existing:
        packfile.write(linear(pruned(4, 5)), path)
    before = sorted((each.name, each.read_bytes()) for each in tmp_path.iterdir())

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SpaceError, match=r"cannot be written: No space left on device; make room and run the same"):
        packfile.write(linear(pruned(8, 5)), path, force=True)
    assert sorted((each.name, each.read_bytes()) for each in tmp_path.iterdir()) == before


def test_what_verify_raises_keeps_the_file_from_its_name(tmp_path: Path) -> None:
    def verify(found: Graph) -> None:
        raise PackError(f"{len(found.weights)} weights are too many")

    with pytest.raises(PackError, match="1 weights are too many"):
        packfile.write(linear(pruned(4, 5)), tmp_path / "net.secateur", verify=verify)
    assert list(tmp_path.iterdir()) == []


def test_writing_takes_the_weights_memory_twice_at_most(tmp_path: Path) -> None:
    graph = linear(np.random.default_rng(0).normal(size=(512, 2048)).astype(np.float32))
    packfile.write(graph, tmp_path / "first.secateur")  # what is imported for it
    tracemalloc.start()
    packfile.write(graph, tmp_path / "net.secateur")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2 * 512 * 2048 * 4


def test_a_coder_that_errs_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(codec: int, content: bytes, dtype: str, shape: tuple[int, ...]) -> Weight:
        return Weight(dtype, np.zeros(shape, WEIGHT_FORMATS[dtype].carrier))

    monkeypatch.setattr(reading, "decode", wrong)
    with pytest.raises(PackError, match=r"weight 'fc.weight' did not read back as it was written"):
        packfile.write(linear(pruned(4, 5)), tmp_path / "net.secateur")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("bits", "codebook"), [(7, "uniform"), (0, "uniform"), (4, "huffman")])
def test_choices_that_do_not_exist_are_named(bits: int, codebook: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected one of"):
        packfile.write(linear(pruned(4, 5)), tmp_path / "net.secateur", bits=bits, codebook=codebook)


def test_files_that_are_none_say_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"gone\.secateur: cannot be read: No such file"):
        packfile.read(tmp_path / "gone.secateur")
    with pytest.raises(FormatError, match="cannot be read: it is a folder, expected a file"):
        packfile.read(tmp_path)
    (tmp_path / "text").write_text("no network at all, but more than eight bytes of text")
    with pytest.raises(FormatError, match="its first bytes are others"):
        packfile.read(tmp_path / "text")
    (tmp_path / "text").write_text("none")
    with pytest.raises(FormatError, match="4 bytes are too few"):
        packfile.read(tmp_path / "text")


def test_zeros_do_not_make_many_values_look_few() -> None:
    """Whether a weight has few values is found out in less memory than the weight itself takes."""
    words = np.zeros(1 << 20, "<f4")
    words[::8] = np.random.default_rng(0).normal(size=1 << 17)
    weight = Weight.of(words.reshape(1024, 1024))
    tracemalloc.start()
    found = tabulate(weight)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found is None
    assert most < weight.bits.nbytes


def test_few_values_are_tabulated_piece_by_piece() -> None:
    words = np.random.default_rng(0).choice(np.array([0, -0.0, 1.5, -2, 7], np.float32), 200_000)
    weight = Weight.of(words)
    found = tabulate(weight)
    assert found is not None
    assert np.array_equal(np.unique(found[0]), [-2, -1, 0, 1, 2])
    assert [float(words[found[0] == rank][0]) for rank in (-2, 0, 1, 2)] == [-2, 0, 1.5, 7]
