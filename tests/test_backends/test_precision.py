"""Which arithmetic a file asks for, and that a quantised one is never measured under a wrong name."""

import platform

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from backends import CompileOptions
from backends.errors import OptionError
from backends.precision import layer_counts, precision_of
from backends.registry import create
from backends.testing import quantised_cnn, small_cnn

INT8 = CompileOptions(precision="int8")


def pair(source, target, kind="uint8"):
    zero = f"zero_{kind}"
    return [
        helper.make_node("QuantizeLinear", [source, "scale", zero], [f"{target}q"]),
        helper.make_node("DequantizeLinear", [f"{target}q", "scale", zero], [target]),
    ]


def write(path, nodes, *, weight=np.int8):
    generator = np.random.default_rng(0)
    weights = {
        "w": generator.integers(0, 60, (4, 4, 1, 1)).astype(weight),
        "v": generator.standard_normal((4, 4, 1, 1)).astype(np.float32),
        "scale": np.array(0.05, np.float32),
        "zero_w": np.array(0, weight),
        "zero_uint8": np.array(128, np.uint8),
        "zero_uint16": np.array(128, np.uint16),
    }
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 6, 6]) for name in ("x", "y")]
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def weight_dequantised():
    return helper.make_node("DequantizeLinear", ["w", "scale", "zero_w"], ["wd"])


def precision(path):
    return precision_of(onnx.load(path).graph)


def test_a_graph_between_eight_bit_factors_is_int8(tmp_path):
    path = quantised_cnn(tmp_path / "m.onnx")
    assert precision(path) == "int8"
    graph = onnx.load(path).graph
    assert layer_counts(graph, executed=False) == (2, 0)
    assert layer_counts(graph, executed=True) == (0, 2), "a runtime that leaves it so computes in float"
    plain = onnx.load(small_cnn(tmp_path / "plain.onnx")).graph
    assert layer_counts(plain, executed=False) == (0, 4)


@pytest.mark.parametrize(
    ("nodes", "weight"),
    [
        pytest.param([weight_dequantised(), helper.make_node("Conv", ["x", "wd"], ["y"])], np.int8, id="weights-alone"),
        pytest.param([*pair("x", "a"), helper.make_node("Conv", ["a", "v"], ["y"])], np.int8, id="activations-alone"),
        pytest.param(
            [*pair("x", "a", "uint16"), weight_dequantised(), helper.make_node("Conv", ["a", "wd"], ["y"])],
            np.int16,
            id="sixteen-bits",
        ),
    ],
)
def test_what_multiplies_no_eight_bit_integers_is_measured_in_floating_point(nodes, weight, tmp_path):
    path = write(tmp_path / "m.onnx", nodes, weight=weight)
    assert precision(path) == "fp32"
    for backend in ("ort", "openvino"):
        assert create(backend).compile(path).executed_precision == "fp32"
        with pytest.raises(OptionError, match=r"m.onnx is (typed )?fp32, int8 was asked for"):
            create(backend).compile(path, INT8)


def test_ort_counts_what_it_executes_on_integers(tmp_path):
    compiled = create("ort").compile(quantised_cnn(tmp_path / "m.onnx"), INT8)
    assert compiled.executed_precision == "int8"
    assert compiled.properties["compute_layers"] == "fp32: 0, int8: 2"
    nodes = [
        *pair("x", "a"), weight_dequantised(), helper.make_node("Conv", ["a", "wd"], ["b"]), *pair("b", "c"),
        helper.make_node("Conv", ["c", "v"], ["y"]),
    ]  # fmt: skip
    mixed = create("ort").compile(write(tmp_path / "mixed.onnx", nodes), INT8)
    assert mixed.properties["compute_layers"] == "fp32: 1, int8: 1", "the layer that the file leaves in float is said"


def test_ort_says_when_it_computes_a_quantised_layer_in_float(tmp_path):
    """Without a QuantizeLinear behind it, ONNX Runtime fuses no convolution: it runs in fp32 on dequantised factors."""
    conv = helper.make_node("Conv", ["a", "wd"], ["y"])
    path = write(tmp_path / "float.onnx", [*pair("x", "a"), weight_dequantised(), conv])
    said = r"executes mixed \(layers in fp32: 1, int8: 0\), not the int8 asked for; pass --precision mixed"
    with pytest.raises(OptionError, match=said):
        create("ort").compile(path, INT8)
    assert create("ort").compile(path, CompileOptions(precision="mixed")).executed_precision == "mixed"
    nodes = [
        *pair("x", "a"), weight_dequantised(), helper.make_node("Conv", ["a", "wd"], ["b"]), *pair("b", "c"),
        helper.make_node("Conv", ["c", "wd"], ["y"]),
    ]  # fmt: skip
    path = write(tmp_path / "part.onnx", nodes)
    with pytest.raises(OptionError, match=r"executes mixed \(layers in fp32: 1, int8: 1\), not the int8"):
        create("ort").compile(path, INT8)


@pytest.mark.skipif(
    platform.machine() in {"aarch64", "arm64"}, reason="OpenVINO computes a part of it in fp32 on aarch64, and says so"
)
def test_openvino_reads_int8_off_its_layers(tmp_path):
    pytest.importorskip("openvino")
    compiled = create("openvino").compile(quantised_cnn(tmp_path / "m.onnx"), INT8)
    assert compiled.executed_precision == "int8"
    assert compiled.properties["compute_layers"] == "int8: 2"


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ("ort", r"m.onnx is fp32, int8 was asked for; export the model in int8"),
        ("openvino", r"m.onnx is typed fp32, int8 was asked for; quantise the model first"),
        ("torch", r"torch computes no int8 model here; measure it on ort or openvino"),
    ],
)
def test_int8_is_not_made_up_for_a_file_that_is_not_quantised(backend, said, tmp_path):
    pytest.importorskip({"ort": "onnxruntime"}.get(backend, backend))
    with pytest.raises(OptionError, match=said):
        create(backend).compile(small_cnn(tmp_path / "m.onnx"), INT8)


def test_dynamic_quantisation_is_integer_arithmetic(tmp_path):
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
        helper.make_node("ConvInteger", ["xq", "w", "xz"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "xs"], ["y"]),
    ]
    compiled = create("ort").compile(write(tmp_path / "m.onnx", nodes), INT8)
    assert compiled.executed_precision == "int8"
