"""Files of strangers: what is no network is told in one line, and asks for nothing that its bytes do not pay for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_models import model_of, onnx, saved
from secateur.errors import ExportError, FormatError, SecateurError, UsageError
from secateur.importing.onnx import read

ROWS = "float[N,4] x"


def dense(folder: Path) -> Any:
    return model_of(ROWS, "y = MatMul(x, w)", 13, w=(4, 3))


def external(location: str, offset: int = 0, length: int | None = None) -> Callable[[Path], Any]:
    """A model whose weight lies in another file, of 48 bytes."""

    def make(folder: Path) -> Any:
        (folder / "inside").mkdir(exist_ok=True)
        (folder / "inside" / "weights.bin").write_bytes(np.ones(12, np.float32).tobytes())
        (folder.parent / "outside.bin").write_bytes(np.ones(12, np.float32).tobytes())
        if not (folder / "link.bin").exists():
            (folder / "link.bin").symlink_to(folder.parent / "outside.bin")
        model = dense(folder)
        weight = model.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        said = {"location": location, "offset": str(offset), **({} if length is None else {"length": str(length)})}
        for key, value in said.items():
            entry = weight.external_data.add()
            entry.key, entry.value = key, value
        return model

    return make


def test_external_data_in_the_folder_is_read(tmp_path: Path) -> None:
    graph = read(saved(external("inside/weights.bin")(tmp_path), tmp_path))
    (weight,) = graph.weights.values()
    assert (weight.shape, float(weight.values().sum())) == ((3, 4), 12.0)


def huge_constant(folder: Path) -> Any:
    return model_of(ROWS, "c = ConstantOfShape(s) y = Add(x, c)", 13, s=np.array([1 << 20, 1 << 20, 4], np.int64))


def doubled(folder: Path) -> Any:
    """A constant that is put behind itself forty times."""
    body = " ".join(f"c{at + 1} = Concat<axis=0>(c{at}, c{at})" for at in range(40))
    return model_of(ROWS, f"{body} s = ReduceSum<keepdims=0>(c40) y = Add(x, s)", 13, c0=(64,))


def huge_sparse(folder: Path) -> Any:
    model = dense(folder)
    del model.graph.initializer[:]
    values = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [1.0])
    indices = onnx.helper.make_tensor("i", onnx.TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [1 << 20, 1 << 16]))
    return model


def negative_size(folder: Path) -> Any:
    model = dense(folder)
    model.graph.initializer[0].dims[0] = -4
    return model


def too_few_bytes(folder: Path) -> Any:
    model = dense(folder)
    model.graph.initializer[0].dims[0] = 1 << 20
    return model


def in_a_circle(folder: Path) -> Any:
    return model_of(ROWS, "a = Add(x, b) b = Relu(a) y = Neg(b)", 13)


def twice_the_same_name(folder: Path) -> Any:
    return model_of(ROWS, "a = Relu(x) a = Neg(x) y = Add(a, x)", 13)


def calls_itself(folder: Path) -> Any:
    model = dense(folder)
    own = onnx.helper.make_node("again", ["x"], ["y"], domain="local")
    opsets = [onnx.helper.make_opsetid("", 13), onnx.helper.make_opsetid("local", 1)]
    model.functions.append(onnx.helper.make_function("local", "again", ["x"], ["y"], [own], opsets))
    model.opset_import.append(opsets[1])
    model.graph.node[0].CopyFrom(own)
    return model


def forever(folder: Path) -> Any:
    body = "d = Identity(c) n = Relu(h)"
    loop = f"y = Loop (, , x) <body = b (int64 i, bool c, float[N,4] h) => (bool d, float[N,4] n) {{ {body} }}>"
    return model_of(ROWS, loop, 13)


def frequencies(folder: Path) -> Any:
    return model_of("float[N,4,1] x", "y = DFT(x, long)", 17, long=np.array(1 << 40))


def frames(folder: Path) -> Any:
    return model_of("float[N,16777216] x", "y = STFT(x, step, , long)", 17, step=np.array(1), long=np.array(1 << 12))


def windows(folder: Path) -> Any:
    return model_of("float[N,1,16777216] x", "y = LpPool<kernel_shape=[8388608], dilations=[2]>(x)", 18)


def blocks(folder: Path) -> Any:
    body = "y = QuantizeLinear<axis=1, block_size=67108864>(x, s)"
    return model_of("float[N,134217728] x", body, 21, s=(1, 2))


def places(folder: Path) -> Any:
    at, values = np.array([[0]], np.int64), np.ones((1, 4), np.float32)
    return model_of("float[2147483647,4] x", "y = ScatterND(x, at, v)", 13, at=at, v=values)


def sums(folder: Path) -> Any:
    return model_of("float[N,65536,1] x, float[N,1,65536] z", "y = Add(x, z)", 13)


def unknown(folder: Path) -> Any:
    return model_of(ROWS, "a = Det(x) b = Relu(a) c = NonZero(x) d = Cast<to=1>(c) y = Sum(b, d)", 13)


HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a folder above": (external("../outside.bin"), "lies outside of the model's folder"),
    "an absolute place": (external("/etc/passwd"), "lies outside of the model's folder"),
    "a link that leads out": (external("link.bin"), "lies outside of the model's folder"),
    "the folder itself": (external("inside"), "cannot be read"),
    "a device": (external("/dev/zero"), "lies outside of the model's folder"),
    "beyond the end": (external("inside/weights.bin", offset=1 << 40), "has no 48 bytes at"),
    "another length": (external("inside/weights.bin", length=1 << 40), "where its shape needs 48"),
    "a huge constant": (huge_constant, "more than a file of this size pays for"),
    "a constant that doubles": (doubled, "more than a file of this size pays for"),
    "a huge sparse tensor": (huge_sparse, "has shape"),
    "a negative size": (negative_size, "expected sizes that memory can hold"),
    "fewer bytes than its shape says": (too_few_bytes, "does not hold what its shape"),
    "a circle": (in_a_circle, "which nothing before it makes"),
    "a name that stands twice": (twice_the_same_name, "stands twice"),
    "a function that calls itself": (calls_itself, "calls itself"),
    "a loop without an end": (forever, "or for ever"),
    "frequencies without an end": (frequencies, "more than a file of this size pays for"),
    "frames without an end": (frames, "more than a file of this size pays for"),
    "windows without an end": (windows, "operations once loops and functions are laid out"),
    "blocks without an end": (blocks, "more than a file of this size pays for"),
    "places without an end": (places, "numbers an image, more than the limit of 268,435,456"),
    "a value without an end": (sums, "numbers an image, more than the limit of 268,435,456"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_strangers_file_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    make, told = HOSTILE[kind]
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(SecateurError) as error:
        read(saved(make(folder), folder))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"not protocol buffers at all", b"\x08\x07"])
def test_what_is_no_model_is_told_so(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(FormatError, match="ONNX"):
        read(path)


def test_a_model_that_is_cut_short_anywhere_is_one_line(tmp_path: Path) -> None:
    whole, path = dense(tmp_path).SerializeToString(), tmp_path / "model.onnx"
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(SecateurError):
            read(path)


def test_all_nodes_that_cannot_be_held_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as error:
        read(saved(unknown(tmp_path), tmp_path))
    assert "'a' (Det) is not supported" in str(error.value)
    assert "'c' (NonZero) gives as many numbers as its input decides" in str(error.value)


def test_shapes_and_values_are_for_inputs_that_there_are(tmp_path: Path) -> None:
    path = saved(dense(tmp_path), tmp_path)
    with pytest.raises(UsageError, match="shape of 'z': expected one of the inputs x"):
        read(path, shapes={"z": [1, 4]})
    with pytest.raises(UsageError, match=r"expected \(N, 4\), as the file has it"):
        read(path, shapes={"x": [1, 5]})
    with pytest.raises(UsageError, match="bind 'z': expected one of the inputs x"):
        read(path, bind={"z": 1})
    with pytest.raises(ExportError, match="has no inputs left"):
        read(path, bind={"x": np.ones((2, 4), np.float32)})


def test_bytes_that_were_changed_are_a_network_or_one_line(tmp_path: Path) -> None:
    random, path = np.random.default_rng(0), tmp_path / "model.onnx"
    whole, told = dense(tmp_path).SerializeToString(), []
    for _ in range(200):
        changed = bytearray(whole)
        for place in random.integers(0, len(whole), random.integers(1, 4)):
            changed[place] = random.integers(0, 256)
        path.write_bytes(changed)
        try:
            read(path)
        except SecateurError as error:
            told.append(str(error))
    assert told
    assert not any("\n" in each for each in told)


def test_names_that_are_no_text_are_told(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(dense(tmp_path).SerializeToString().replace(b"\x12\x01N", b"\x12\x01\xf2"))
    with pytest.raises(FormatError, match="does not make sense as ONNX"):
        read(path)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"nope\.onnx: cannot be read: No such file or directory$"):
        read(tmp_path / "nope.onnx")
