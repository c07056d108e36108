"""Fuzz the reader of ONNX files with atheris (pip install atheris onnx), guided by the coverage of its Python.

    python benchmarks/fuzz_onnx.py [-max_total_time=600] [any option of libFuzzer]
    python benchmarks/fuzz_onnx.py --mutated 1000 [FILE.onnx …]

An input's first byte says how deep it goes in: as a whole file, or as a list of changes to one of some small models, of
which there is one for each family of operations: another operation, size, number, name, attribute or edge. Whatever
comes: a Graph, which is then simplified, or an error of Secateur's in one line; nothing else, within 10 seconds and
1 GiB. With --mutated so many files are made by random changes, of the bytes or of what they say, to the models and to
the files that are named, without atheris; the slowest and the largest are told.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

try:
    import atheris
except ImportError:
    atheris = None

if atheris is not None and "--mutated" not in sys.argv:
    # Coverage is not seen of modules that an editable install finds by a finder of its own.
    sys.meta_path[:] = [finder for finder in sys.meta_path if "Redirecting" not in type(finder).__name__]
    sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
    with atheris.instrument_imports(include=["secateur.importing.onnx", "secateur.network"]):
        from secateur.importing.onnx import read
        from secateur.network.simplification import simplify
else:
    from secateur.importing.onnx import read
    from secateur.network.simplification import simplify

import numpy as np
import onnx
import onnx.parser

from secateur.errors import SecateurError

SECONDS, BYTES = 10, 1 << 30
seen = {"executions": 0, "graphs": 0, "refused": 0}

BODIES = (
    ("float[N,3,8,8] x", "c = Conv<pads=[1,1,1,1]>(x, w4) b = BatchNormalization(c, v, v, v, v) r = Relu(b) "
     "p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r) g = GlobalAveragePool(p) f = Flatten(g) y = Gemm(f, w2, v)"),
    ("float[N,6,4] x", "m = ReduceMean<axes=[-1]>(x) d = Sub(x, m) s = Mul(d, d) q = ReduceMean<axes=[-1]>(s) "
     "e = Add(q, one) r = Sqrt(e) n = Div(d, r) k = Transpose<perm=[0,2,1]>(n) t = MatMul(n, k) "
     "p = Softmax<axis=-1>(t) y = MatMul(p, n)"),
    ("int64[N,L] x", "e = Gather(w2, x) h = Shape(e) i = Gather(h, two) c = ConstantOfShape(h) a = Add(e, c) "
     "o = Concat<axis=0>(h, i) y = ReduceSum<keepdims=0>(a, two)"),
    ("float[N,3,8,8] x", "u = Resize(x, , scales) d = ConvTranspose<strides=[2,2]>(u, turned) "
     "s = Slice(d, two, six, two) p = Pad(s, around) t = Tile(p, ones) y = ReduceMax<axes=[2]>(t)"),
    ("float[T,N,4] x", "h, l, c = LSTM<hidden_size=4>(x, w3, w3) q = Squeeze(h, ones1) r = Expand(one, ones) "
     "z = Where(flag, q, r) y = Cast<to=1>(z)"),
    ("float[N,4] x", "q = QuantizeLinear(x, one, zero) d = DequantizeLinear(q, one, zero) m = MatMul(d, w2) "
     "l = Loop(three, , m) <body = b (int64 i, bool c, float[N,4] h) => (bool o, float[N,4] n) "
     "{ o = Identity(c) n = Relu(h) }> a = Einsum<equation=\"ij,jk->ik\">(l, w2) y = TopK(a, ones1)"),
    ("float[2,4] x", "r = Range(zeroi, three0, onei) f = Cast<to=1>(r) i = If(flag) <then_branch = a () => (float t) "
     "{ t = Identity(one) }, else_branch = b () => (float t) { t = Neg(one) }> s = Mul(x, i) o = ScatterND(s, at, v) "
     "y = CumSum(o, onei)"),
)  # fmt: skip
WEIGHTS: dict[str, Any] = {
    "w4": np.ones((4, 3, 3, 3), np.float32), "w3": np.ones((1, 16, 4), np.float32), "w2": np.ones((4, 4), np.float32),
    "turned": np.ones((3, 4, 3, 3), np.float32),
    "v": np.ones(4, np.float32), "one": np.float32(1), "zero": np.uint8(3), "two": np.array([1], np.int64),
    "six": np.array([6], np.int64), "ones": np.array([1, 1, 1, 1], np.int64), "ones1": np.array([1], np.int64),
    "scales": np.array([1, 1, 2, 2], np.float32), "around": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    "flag": np.array(True), "three": np.array(3, np.int64), "zeroi": np.array(0, np.int64),
    "onei": np.array(1, np.int64), "three0": np.array(3, np.int64), "at": np.array([[0]], np.int64),
}  # fmt: skip
OPERATIONS = sorted({each.name for each in onnx.defs.get_all_schemas() if each.domain in ("", "com.microsoft")})
NUMBERS = (0, 1, -1, 2, 3, 7, 64, 1 << 16, (1 << 31) - 1, -(1 << 31), 1 << 40, (1 << 62) + 1, -(1 << 63))


def models() -> Iterator[Any]:
    for inputs, body in BODIES:
        text = f'<ir_version: 8, opset_import: ["": 13]> net ({inputs}) => (y) {{ {body} }}'
        model = onnx.parser.parse_model(text)
        for name, array in WEIGHTS.items():
            if name in body:
                model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        yield model


MODELS = [each.SerializeToString() for each in models()]


# ---- Changes to what a model says. choose: a number below another. ----

Choose = Callable[[int], int]


def _number(choose: Choose) -> int:
    return NUMBERS[choose(len(NUMBERS))]


def another_operation(model: Any, choose: Choose) -> None:
    _node(model, choose).op_type = OPERATIONS[choose(len(OPERATIONS))]


def another_edge(model: Any, choose: Choose) -> None:
    node = _node(model, choose)
    names = [name for each in model.graph.node for name in (*each.input, *each.output)] + [""]
    some = node.input if choose(2) or not node.output else node.output
    if some and choose(4):
        some[choose(len(some))] = names[choose(len(names))]
    else:
        some.append(names[choose(len(names))])


def another_attribute(model: Any, choose: Choose) -> None:
    node = _node(model, choose)
    if not node.attribute:
        return
    attribute = node.attribute[choose(len(node.attribute))]
    attribute.i, attribute.f = _number(choose), float(_number(choose))
    if attribute.ints:
        attribute.ints[choose(len(attribute.ints))] = _number(choose)
    if attribute.s:
        attribute.s = (b"", b"NOTSET", b"SAME_UPPER", b"reverse", b"\xff\xfe", b"linear", b"ii->i")[choose(7)]
    if not choose(6):
        attribute.type = choose(15)


def another_size(model: Any, choose: Choose) -> None:
    tensor = _tensor(model, choose)
    if tensor.dims and choose(3):
        tensor.dims[choose(len(tensor.dims))] = _number(choose)
    else:
        tensor.dims.append(_number(choose))


def other_numbers(model: Any, choose: Choose) -> None:
    tensor = _tensor(model, choose)
    raw = bytearray(tensor.raw_data)
    for _ in range(1 + choose(8)):
        if raw:
            raw[choose(len(raw))] = choose(256)
    tensor.raw_data = bytes(raw)


def another_format(model: Any, choose: Choose) -> None:
    _tensor(model, choose).data_type = choose(27)


def another_input(model: Any, choose: Choose) -> None:
    kind = model.graph.input[choose(len(model.graph.input))].type.tensor_type
    if kind.shape.dim and choose(3):
        size = kind.shape.dim[choose(len(kind.shape.dim))]
        if choose(2):
            size.dim_value = _number(choose)
        else:
            size.dim_param = ("", "N", "batch", "2*N", "N//0", "1", "(" * 50, "x" * 500)[choose(8)]
    else:
        kind.elem_type = choose(27)


def another_version(model: Any, choose: Choose) -> None:
    model.opset_import[0].version = (0, 1, 5, 7, 9, 11, 13, 15, 18, 21, 25, 1 << 40)[choose(12)]


def external(model: Any, choose: Choose) -> None:
    tensor = _tensor(model, choose)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    place = ("/etc/passwd", "../x", "", "x", "/dev/zero", "model.onnx", "\0", "a" * 5000)[choose(8)]
    for key, value in (("location", place), ("offset", str(_number(choose))), ("length", str(_number(choose)))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


CHANGES = (
    another_operation, another_edge, another_attribute, another_size, other_numbers, another_format, another_input,
    another_version, external,
)  # fmt: skip


def _node(model: Any, choose: Choose) -> Any:
    return model.graph.node[choose(len(model.graph.node))]


def _tensor(model: Any, choose: Choose) -> Any:
    held = model.graph.initializer
    return held[choose(len(held))] if held else held.add()


def changed(content: bytes, choose: Choose, count: int) -> bytes:
    model = onnx.ModelProto()
    model.ParseFromString(content)
    for _ in range(count):
        CHANGES[choose(len(CHANGES))](model, choose)
    return bytes(model.SerializeToString())


def damaged(content: bytes, choose: Choose, count: int) -> bytes:
    """With other bytes, cut short, or with a part twice."""
    made = bytearray(content)
    for _ in range(count):
        if made:
            made[choose(len(made))] = choose(256)
    kind, at = choose(8), choose(len(made) + 1)
    return bytes(made[:at] if kind == 0 else made + made[at:] if kind == 1 else made)


# ---- What is done with a file ----


class Timeout(Exception):
    pass


def opened(path: Path) -> None:
    """Raises AssertionError for what is neither a graph nor an error that says what is wrong."""
    seen["executions"] += 1
    try:
        simplify(read(path), widen=True)
        seen["graphs"] += 1
    except SecateurError as error:
        seen["refused"] += 1
        if "\n" in str(error).replace(str(path), "") or len(str(error)) > 20_000:
            raise AssertionError(f"not one line: {error!r}"[:500]) from error


FOLDER = Path(tempfile.mkdtemp())
PATH = FOLDER / "model.onnx"


class Bytes:
    """Numbers from bytes, 0 once they are used up."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def __call__(self, most: int) -> int:
        found = self.data[self.at : self.at + 2]
        self.at += 2
        return int.from_bytes(found, "little") % most


def test_one(data: bytes) -> None:
    if seen["executions"] % 5_000 == 0:
        print(", ".join(f"{count} {name}" for name, count in seen.items()), flush=True)
    choose = Bytes(data[1:])
    whole = not data or data[0] % 4 == 0
    content = data[1:] if whole else changed(MODELS[choose(len(MODELS))], choose, 1 + choose(4))
    PATH.write_bytes(content)
    opened(PATH)


def mutated(count: int, paths: list[Path]) -> None:
    """So many files; tells which took longest, and how much memory there was at most."""
    whole = [*MODELS, *(path.read_bytes() for path in paths)]
    resource.setrlimit(resource.RLIMIT_AS, (BYTES * 4, BYTES * 4))
    slowest = 0.0
    for number in range(count):
        source = random.Random(number)
        content = whole[number % len(whole)]
        change = changed if source.random() < 0.6 else damaged
        PATH.write_bytes(change(content, source.randrange, 1 + source.randrange(4)))
        signal.alarm(SECONDS * 6 if len(content) > 1 << 20 else SECONDS)
        begun = time.perf_counter()
        opened(PATH)
        slowest = max(slowest, time.perf_counter() - begun)
        signal.alarm(0)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(", ".join(f"{number} {name}" for name, number in seen.items()))
    print(f"slowest {slowest:.1f} s, {most} MB at most; files of up to {max(map(len, whole)):,} bytes")


def fuzz() -> None:
    with tempfile.TemporaryDirectory() as corpus:
        for number, content in enumerate(MODELS):
            (Path(corpus) / f"whole-{number}").write_bytes(b"\0" + content)
            for at in range(8):
                (Path(corpus) / f"changed-{number}-{at}").write_bytes(
                    bytes([1, number, 0]) + random.Random(at).randbytes(24)
                )
        options = ["-max_len=6000", f"-timeout={SECONDS}", f"-rss_limit_mb={BYTES >> 20}", *sys.argv[1:]]
        atheris.Setup([sys.argv[0], *options, corpus], test_one)
        atheris.Fuzz()


def main() -> None:
    os.chdir(FOLDER)
    if "--mutated" in sys.argv:
        at = sys.argv.index("--mutated")
        mutated(int(sys.argv[at + 1]), list(map(Path, sys.argv[at + 2 :])))
    else:
        fuzz()


if __name__ == "__main__":
    main()
