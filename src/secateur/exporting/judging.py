"""ONNX Runtime, set up to judge what a file computes rather than to be fast, and what it is judged by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from secateur.network.graph import Graph

WHOLE_SUMS = ("session.x64quantprecision", "1")
"""ONNX Runtime's setting that keeps products of uint8 and int8 from saturating in pairs where a processor has no dot
product of bytes (AVX2, and AVX-512 without VNNI)."""


def session_of(model: bytes | str | Path, optimised: Path | None = None) -> Any:
    """An onnxruntime.InferenceSession of an ONNX file or its bytes; optimised: where to write what it made of it.

    ONNX Runtime with WHOLE_SUMS refuses a file in which several nodes read one int8 constant ("Attempt to replace the
    existing tensor"). Such a file is judged in float32 between its QuantizeLinear and DequantizeLinear, where nothing
    saturates. Raises ImportError without ONNX Runtime, and what ONNX Runtime raises for a file it cannot run.
    """
    import onnxruntime

    def opened(level: Any) -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = level
        options.add_session_config_entry(*WHOLE_SUMS)
        if optimised:
            options.optimized_model_filepath = str(optimised)
        given = model if isinstance(model, bytes) else str(model)
        return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])

    levels = onnxruntime.GraphOptimizationLevel
    try:
        return opened(levels.ORT_ENABLE_ALL)
    except Exception as refusal:  # ONNX Runtime's own kinds share no base but this one
        if "replace the existing tensor" not in str(refusal):
            raise
        return opened(levels.ORT_ENABLE_BASIC)


LEAST_SHARE = 0.01
"""What the largest of an output of shares counts as at least."""
_MOVES = {"reshape", "permute", "slice", "concat"}


def least_sizes(graph: Graph) -> list[float]:
    """For each output, what its largest counts as at least where engines are compared.

    Engines approximate sigmoid to so many digits of 1, not of the result (ONNX Runtime's is off by 1e-7 where that is
    1e-8), so that where nothing is found anywhere they are far apart as shares of the largest.
    """
    nodes = {node.name: node for node in graph.nodes}

    def holds_shares(value: str) -> bool:
        node = nodes.get(value)
        if node is not None and node.op in _MOVES:
            return all(map(holds_shares, node.inputs))
        return node is not None and node.op == "sigmoid"

    return [LEAST_SHARE if holds_shares(output) else 0.0 for output in graph.outputs]
