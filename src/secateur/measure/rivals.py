"""The engines that people already have, set up as their users would for speed. Importing this needs none of them.

In float32 they run the network as it is; in eight bits they run it as their own tools quantise it: ONNX Runtime's
`quantize_static` (QDQ, a scale per channel, activations uint8, weights int8) and, for OpenVINO where it is installed,
NNCF, both calibrated on the same inputs.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.errors import MissingExtraError, RunError
from secateur.measure.timing import interleave, median_interval
from secateur.network.formats import FORMATS
from secateur.network.graph import Graph
from secateur.runtime import has_dot_products
from secateur.support import settings

Array = NDArray[Any]
Predict = Callable[..., Any]
"""An array (N, …) for each input, in their order → the output's, or a tuple of several outputs'."""
Model = bytes
"""An ONNX file."""

USUAL = ("onnxruntime", "openvino")
"""What people run networks in on a CPU: without both, the fastest of the others is nobody's best rival."""

CALIBRATION = (4, 16)
"""Batches, and images in each, of the noise that rivals are calibrated on."""


def random_inputs(graph: Graph, batch: int, seed: int) -> tuple[Array, ...]:
    """N(0, 1) of the shape of every input, in their order; where one holds whole numbers zeros, since they stand for
    places, and true where it holds truth values, since they mask. Raises RunError where that is too much."""
    random = np.random.default_rng(seed)
    return tuple(_random(random, (batch, *shape), graph.elements.get(name)) for name, shape in graph.inputs.items())


def _random(random: np.random.Generator, shape: tuple[int, ...], element: str | None) -> Array:
    try:
        if element is None or FORMATS[element].mantissa:
            return random.standard_normal(shape, np.float32)
        return np.full(shape, element == "bool", FORMATS[element].numbers)
    except (MemoryError, ValueError) as error:  # the latter for sizes beyond any machine
        raise RunError(
            f"{shape[0]} images of {shape[1:]} take more memory than there is: ask for fewer at once"
        ) from error


def only_or_all(outputs: Sequence[Array]) -> Any:
    """The only one, or a tuple of all."""
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def onnxruntime_engine(model: Model, threads: int) -> Predict:
    _need("onnxruntime", "bench")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that go on spinning after a run would take the core from the engine that is timed next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return lambda *given: only_or_all(session.run(None, dict(zip(names, given, strict=True))))


def openvino_engine(model: Any, threads: int, precision: str | None = "f32") -> Predict:
    """Compiled for each shape of the inputs when that first comes. model: a Model, or OpenVINO's own.

    precision: what is computed in that is not in eight bits; None leaves it to OpenVINO, which takes bfloat16 where the
    processor has it.
    """
    _need("openvino", "bench")
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    if precision is not None:
        settings["INFERENCE_PRECISION_HINT"] = precision
    read = core.read_model(io.BytesIO(model)) if isinstance(model, bytes) else model
    places = _places(read, model)

    @functools.lru_cache(maxsize=8)
    def request(*shapes: tuple[int, ...]) -> Any:
        read.reshape({place: list(shape) for place, shape in enumerate(shapes)})
        return core.compile_model(read, "CPU", settings).create_infer_request()

    def run(*given: Array) -> Any:
        taken = [given[place] for place in places]
        found = request(*(each.shape for each in taken)).infer(dict(enumerate(taken)), share_inputs=True)
        return only_or_all([found[place] for place in range(len(found))])

    return run


def _places(read: Any, model: Any) -> list[int]:
    """Which of an ONNX file's inputs OpenVINO's model takes, in its order: it drops those that nothing reads."""
    names = _input_names(model) if isinstance(model, bytes) else []
    return [
        next((place for place, name in enumerate(names) if name in each.names), own)
        for own, each in enumerate(read.inputs)
    ]


Batch = Array | tuple[Array, ...]
"""An array, or one for each input in their order."""


def _arrays(batch: Batch) -> tuple[Array, ...]:
    return batch if isinstance(batch, tuple) else (batch,)


def quantised_by_onnxruntime(model: Model, batches: Sequence[Batch]) -> Model:
    """The network in eight bits as ONNX Runtime's own tool makes it. batches: what scales are calibrated on.

    Weights take 7 bits where the processor has no dot product of bytes, as ONNX Runtime's documentation advises: there
    its sums of two products saturate in 16 bits.
    """
    _need("onnx", "bench")
    _need("onnxruntime", "bench")
    with tempfile.TemporaryDirectory() as folder, _quiet(), _without_warnings():
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self, names: Sequence[str]) -> None:
                self.given = iter([dict(zip(names, _arrays(batch), strict=True)) for batch in batches])

            def get_next(self) -> Mapping[str, Array] | None:
                return next(self.given, None)

        given, prepared, made = (Path(folder) / f"{name}.onnx" for name in ("given", "prepared", "made"))
        given.write_bytes(model)
        quant_pre_process(str(given), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared), str(made), Reader(_input_names(model)), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, reduce_range=not has_dot_products(),
        )  # fmt: skip
        return made.read_bytes()


def quantised_for_openvino(model: Model, batches: Sequence[Batch]) -> Any:
    """The network in eight bits, an ONNX file or OpenVINO's own: by NNCF where it is installed, else by ONNX Runtime.

    NNCF is OpenVINO's own tool; what it made was mostly as fast, or faster by up to 1.4 times.
    """
    _need("openvino", "bench")
    if importlib.util.find_spec("nncf") is None:
        return quantised_by_onnxruntime(model, batches)
    import openvino

    with _quiet(), settings.NNCF.during("1"):  # which keeps it from sending telemetry
        import nncf

        each_alone = (image for batch in batches for image in zip(*_arrays(batch), strict=True))
        images = [only_or_all([each[None] for each in image]) for image in each_alone]
        read = openvino.Core().read_model(io.BytesIO(model))
        return nncf.quantize(read, nncf.Dataset(images), subset_size=len(images))


def _input_names(model: Model) -> list[str]:
    import onnx

    return [str(each.name) for each in onnx.load_from_string(model).graph.input]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress and advice of tools, which would stand among what is printed here."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Of ONNX Runtime's sessions that its own tools make. Afterwards they are there as usual: what was asked for before
    cannot be read."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(2)


def _need(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(f"{package} is not installed: pip install 'secateur[{extra}]'")


def _onnx(graph: Graph) -> Model:
    _need("onnx", "bench")
    from secateur.exporting.onnx import to_onnx

    return to_onnx(graph)


def _noise(graph: Graph) -> list[tuple[Array, ...]]:
    batches, images = CALIBRATION
    return [random_inputs(graph, graph.images or images, 1 + seed) for seed in range(batches)]


def _torch(graph: Graph, threads: int) -> Predict:
    """PyTorch eager, in the memory layout that is faster on one image."""
    _need("torch", "torch")
    import torch

    from secateur.exporting.rebuilding import GraphNetwork

    torch.set_num_threads(threads)
    network = GraphNetwork(graph).eval()
    layouts = [torch.contiguous_format]
    if any(node.op == "conv2d" for node in graph.nodes):
        layouts.append(torch.channels_last)
    runs = {str(layout): _torch_run(network, layout, torch.inference_mode) for layout in layouts}
    x = random_inputs(graph, graph.images or 1, 0)
    times = interleave({name: functools.partial(run, *x) for name, run in runs.items()}, seconds=0.1)
    return runs[min(times, key=lambda name: median_interval(times[name])[1])]


def _torch_compile(graph: Graph, threads: int) -> Predict:
    _need("torch", "torch")
    import torch

    from secateur.exporting.rebuilding import GraphNetwork

    torch.set_num_threads(threads)
    compiled = torch.compile(GraphNetwork(graph).eval(), dynamic=False)
    return _torch_run(compiled, torch.contiguous_format, torch.no_grad)


def _torch_run(network: Any, layout: Any, without_gradients: Any) -> Predict:
    import torch

    def run(*arrays: Array) -> Any:
        with without_gradients():
            given = (torch.from_numpy(each) for each in arrays)
            made = network(*(each.contiguous(memory_format=layout) if each.ndim == 4 else each for each in given))
            outputs = list(made.values()) if isinstance(made, dict) else made
            outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            return only_or_all([each.numpy() for each in outputs])

    return run


def _onnxruntime(graph: Graph, threads: int) -> Predict:
    return onnxruntime_engine(_onnx(graph), threads)


def _openvino(graph: Graph, threads: int) -> Predict:
    _need("openvino", "bench")
    return openvino_engine(_onnx(graph), threads)


def _onnxruntime_int8(graph: Graph, threads: int) -> Predict:
    return onnxruntime_engine(quantised_by_onnxruntime(_onnx(graph), _noise(graph)), threads)


def _openvino_int8(graph: Graph, threads: int) -> Predict:
    return openvino_engine(quantised_for_openvino(_onnx(graph), _noise(graph)), threads, precision=None)


PEERS: Mapping[str, Callable[[Graph, int], Predict]] = {
    "torch": _torch,
    "torch-compile": _torch_compile,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "onnxruntime-int8": _onnxruntime_int8,
    "openvino-int8": _openvino_int8,
}
"""Name → what makes an engine out of a graph for a number of threads; MissingExtraError where it is not installed."""


def in_eight_bits(peer: str) -> bool:
    return peer.endswith("-int8")


def quantiser(peer: str) -> str:
    """Whose tool quantises the network for a rival in eight bits."""
    ours_to_choose = peer == "openvino-int8" and importlib.util.find_spec("nncf") is not None
    package, name = ("nncf", "NNCF") if ours_to_choose else ("onnxruntime", "ONNX Runtime")
    narrower = "" if ours_to_choose or has_dot_products() else ", weights in 7 bits: this processor has no VNNI"
    return f"{name} {importlib.metadata.version(package)}{narrower}"
