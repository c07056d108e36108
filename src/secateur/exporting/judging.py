"""ONNX Runtime, set up to judge what a file computes rather than to be fast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WHOLE_SUMS = ("session.x64quantprecision", "1")
"""ONNX Runtime's setting that keeps products of uint8 and int8 from saturating in pairs where a processor has no dot
product of bytes (AVX2, and AVX-512 without VNNI)."""


def session_of(model: bytes | str | Path) -> Any:
    """An onnxruntime.InferenceSession of an ONNX file or its bytes. Raises ImportError without ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry(*WHOLE_SUMS)
    given = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
