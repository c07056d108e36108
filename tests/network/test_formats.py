"""The table of number formats, held against PyTorch, ONNX and safetensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from secateur.network.formats import FLOAT_FORMATS, FORMATS, Format

safetensors_torch = pytest.importorskip("safetensors.torch")


@pytest.mark.parametrize(("name", "held"), FORMATS.items())
def test_a_format_is_as_wide_as_pytorchs_and_is_named_as_onnx_and_safetensors_name_it(name: str, held: Format) -> None:
    onnx = pytest.importorskip("onnx")
    dtype = getattr(torch, name)
    assert held.bits == 8 * dtype.itemsize == 8 * held.carrier.itemsize
    file = safetensors_torch.save({"w": torch.zeros(1, dtype=dtype)})
    assert f'"dtype":"{held.safetensors}"'.encode() in file
    element = getattr(onnx.TensorProto, held.onnx)
    assert onnx.helper.tensor_dtype_to_np_dtype(element).name == name
    if held.numbers is not None:
        assert held.numbers.name == name


@pytest.mark.parametrize(("name", "held"), [pair for pair in FORMATS.items() if pair[1].mantissa])
def test_a_floating_point_format_has_pytorchs_range_and_precision(name: str, held: Format) -> None:
    info = torch.finfo(getattr(torch, name))
    assert info.eps == 2.0**-held.mantissa
    assert info.smallest_normal == 2.0 ** (2 - 2 ** (held.exponent - 1))
    assert held.bits == 1 + held.exponent + held.mantissa


def test_weights_are_floating_point_or_whole_numbers_or_truth_values() -> None:
    assert set(FLOAT_FORMATS) == {"float32", "float16", "bfloat16"}
    assert {name for name, held in FORMATS.items() if held.weighs} == {*FLOAT_FORMATS, "int8", "int32", "int64", "bool"}
    assert all(np.issubdtype(held.carrier, np.unsignedinteger) for held in FORMATS.values())
