"""Small models to test the promises of a backend on: a few kilobytes, identical at every call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backends.base import Array

if TYPE_CHECKING:
    import onnx

__all__ = ["quantised_cnn", "small_cnn", "token_model", "unknown_operator", "with_external_data"]

_OPSET = 20
_IR_VERSION = 10


def small_cnn(path: Path, *, batch: int | str = 2) -> Path:
    """Write a (batch, 3, 8, 8) CNN: convolution, depthwise convolution, residual addition, pooling, classifier."""
    import onnx
    from onnx import helper

    generator = np.random.default_rng(0)
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 1, 3, 3), "w3": (8, 8, 1, 1), "w4": (5, 8), "b4": (5,)}
    weights = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="depthwise", pads=[1, 1, 1, 1], group=8),
        helper.make_node("Conv", ["c2", "w3"], ["c3"], name="pointwise"),
        helper.make_node("Add", ["c3", "r1"], ["a1"], name="residual"),
        helper.make_node("Relu", ["a1"], ["r2"], name="relu2"),
        helper.make_node("MaxPool", ["r2"], ["p1"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["p1"], ["p2"], name="average"),
        helper.make_node("Flatten", ["p2"], ["f1"], name="flatten"),
        helper.make_node("Gemm", ["f1", "w4", "b4"], ["y"], name="classifier", transB=1),
    ]
    float32 = onnx.TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("x", float32, [batch, 3, 8, 8])]
    outputs = [helper.make_tensor_value_info("y", float32, [batch, 5])]
    return _write(path, nodes, inputs, outputs, weights)


def token_model(path: Path) -> Path:
    """Write a model with int64 tokens (batch, length) and a scalar as inputs, two outputs, free batch and length."""
    import onnx
    from onnx import helper

    generator = np.random.default_rng(0)
    weights = {
        "table": generator.standard_normal((10, 4)).astype(np.float32),
        "w": generator.standard_normal((4, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["embedded"], name="embed"),
        helper.make_node("Mul", ["embedded", "scale"], ["scaled"], name="scale_by"),
        helper.make_node("MatMul", ["scaled", "w"], ["y"], name="project"),
    ]
    float32, int64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    inputs = [
        helper.make_tensor_value_info("tokens", int64, ["batch", "length"]),
        helper.make_tensor_value_info("scale", float32, []),
    ]
    outputs = [
        helper.make_tensor_value_info("y", float32, ["batch", "length", 3]),
        helper.make_tensor_value_info("embedded", float32, ["batch", "length", 4]),
    ]
    return _write(path, nodes, inputs, outputs, weights)


def quantised_cnn(path: Path) -> Path:
    """Write a CNN in QDQ form: a convolution and a classifier on 8-bit integers, with float pooling in between."""
    import onnx
    from onnx import helper

    generator = np.random.default_rng(0)
    weights: dict[str, Array] = {
        "w1": generator.integers(-64, 64, (8, 3, 3, 3)).astype(np.int8),
        "w2": generator.integers(-64, 64, (5, 8)).astype(np.int8),
        "w_scale": np.array(0.01, np.float32),
        "w_zero": np.array(0, np.int8),
        "scale": np.array(0.05, np.float32),
        "zero": np.array(128, np.uint8),
        "relu_zero": np.array(0, np.uint8),
    }
    nodes = [
        *_quantised("x", "xd", "scale", "zero"),
        helper.make_node("DequantizeLinear", ["w1", "w_scale", "w_zero"], ["w1d"], name="w1_dequantise"),
        helper.make_node("Conv", ["xd", "w1d"], ["c"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        *_quantised("r", "rd", "scale", "relu_zero"),
        helper.make_node("GlobalAveragePool", ["rd"], ["p"], name="average"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        *_quantised("f", "fd", "scale", "relu_zero"),
        helper.make_node("DequantizeLinear", ["w2", "w_scale", "w_zero"], ["w2d"], name="w2_dequantise"),
        helper.make_node("Gemm", ["fd", "w2d"], ["g"], name="classifier", transB=1),
        *_quantised("g", "y", "scale", "zero"),
    ]
    float32 = onnx.TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("x", float32, [2, 3, 8, 8])]
    outputs = [helper.make_tensor_value_info("y", float32, [2, 5])]
    return _write(path, nodes, inputs, outputs, weights)


def _quantised(source: str, target: str, scale: str, zero: str) -> list[onnx.NodeProto]:
    from onnx import helper

    return [
        helper.make_node("QuantizeLinear", [source, scale, zero], [f"{source}q"], name=f"{source}_quantise"),
        helper.make_node("DequantizeLinear", [f"{source}q", scale, zero], [target], name=f"{target}_dequantise"),
    ]


def unknown_operator(path: Path) -> Path:
    """Write a model whose only node has an unknown operator, ``NoSuchOperator``."""
    import onnx
    from onnx import helper

    nodes = [helper.make_node("NoSuchOperator", ["x"], ["y"], name="strange")]
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3])]
    outputs = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3])]
    return _write(path, nodes, inputs, outputs, {})


def with_external_data(path: Path, *, location: str = "weights.bin") -> Path:
    """Write `small_cnn` with its weights in a separate file, `location`, beside it."""
    import onnx

    model = onnx.load(small_cnn(path))
    onnx.save(model, path, save_as_external_data=True, location=location, size_threshold=0)
    return path


def _write(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: Mapping[str, Array],
) -> Path:
    import onnx
    from onnx import helper

    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    onnx.save(model, path)
    return path
