"""Under which precision a file is measured: what it is not is refused before anything starts, with what to pass."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from backends.base import CompileOptions
from backends.testing import quantised_cnn
from benchmarks.process.warmup import WarmUpLimits
from benchmarks.runner import Settings, SubjectSpec, measure

QUICK = Settings(trials=1, rounds=3, block_ns=1_000_000, warm_up=WarmUpLimits(min_ns=0, max_ns=10_000_000))


def measured(path, backend="ort", precision="fp32", **arguments):
    spec = SubjectSpec(model=path, backend=backend, options=CompileOptions(precision=precision))
    return measure(spec, settings=QUICK, **arguments)


@pytest.mark.parametrize("backend", ["ort", "openvino"])
def test_a_quantised_file_names_int8_once_before_anything_is_started(backend, tmp_path):
    def launch(*_, **__):
        raise AssertionError("a process was started")

    said = []
    found = measured(quantised_cnn(tmp_path / "m.onnx"), backend, launch=launch, progress=said.append)
    assert found.failure_kind == "OptionError"
    assert "int8" in found.failure
    assert found.failure.endswith("pass --precision int8")
    assert not any("trial" in line or "reference" in line for line in said)


@pytest.mark.parametrize("kind", ["float16", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("backend", ["ort", pytest.param("openvino", marks=pytest.mark.slow)])
def test_half_and_double_precision_give_a_number_in_two_tries(save_model, kind, backend, tmp_path):
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    weight = numpy_helper.from_array(np.random.default_rng(0).standard_normal((16, 16)).astype(kind), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Softmax", ["h"], ["y"])]
    path = save_model(tmp_path / "m.onnx", nodes, [("x", element, ("n", 16))], [("y", element, ("n", 16))], [weight])
    tries = [measured(path, backend)]
    if tries[0].failure is not None:
        word = tries[0].failure.rpartition("--precision ")[2]
        tries.append(measured(path, backend, word))
    assert tries[-1].failure is None, [each.failure for each in tries]
    assert tries[-1].agreement.ok


@pytest.mark.parametrize("backend", ["ort", pytest.param("openvino", marks=pytest.mark.slow)])
def test_weights_alone_in_integers_are_measured_in_fp32(save_model, backend, tmp_path):
    held = [
        numpy_helper.from_array(np.random.default_rng(0).integers(-100, 100, (16, 8)).astype(np.int8), "q"),
        numpy_helper.from_array(np.array(0.02, np.float32), "s"),
    ]
    nodes = [helper.make_node("DequantizeLinear", ["q", "s"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])]
    ends = [("x", TensorProto.FLOAT, ("n", 16))], [("y", TensorProto.FLOAT, ("n", 8))]
    path = save_model(tmp_path / "m.onnx", nodes, *ends, held)
    assert measured(path, backend).failure is None
