"""Folding of what the exporter leaves is exact, and leaves alone what it cannot fold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy.exporting.fold_batch_norm import fold_batch_norms
from deploy.exporting.inference import compiled_elsewhere
from deploy.exporting.onnx_check import check_onnx


def norm_graph(layer: onnx.NodeProto, constants: dict[str, np.ndarray], rank: int, n: int) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    constants |= {key: rng.uniform(0.5, 2.0, n).astype(np.float32) for key in ("scale", "shift", "mean", "var")}
    norm = helper.make_node("BatchNormalization", ["h", "scale", "shift", "mean", "var"], ["y"], epsilon=1e-3)
    shape = ["n", 4, 6, 6][:rank]
    graph = helper.make_graph(
        [layer, norm],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def folded(model: onnx.ModelProto, n: int) -> onnx.ModelProto:
    graph = ir.from_proto(model)
    assert fold_batch_norms(graph) == n
    return ir.to_proto(graph)


@pytest.mark.rounding
@pytest.mark.parametrize(
    ("operator", "weight", "bias", "attributes", "n"),
    [
        ("Conv", (6, 4, 3, 3), (6,), {}, 6),
        ("Conv", (6, 2, 3, 3), None, {"group": 2}, 6),
        ("ConvTranspose", (4, 5, 2, 2), (5,), {"strides": [2, 2]}, 5),
        ("ConvTranspose", (4, 3, 2, 2), None, {"group": 2}, 6),
        ("Gemm", (4, 5), (5,), {"alpha": 0.5, "beta": 2.0}, 5),
        ("Gemm", (5, 4), (1,), {"transB": 1}, 5),
        ("Gemm", (5, 4), None, {"transB": 1}, 5),
    ],
)
def test_our_own_folding_is_exact(tmp_path: Path, operator: str, weight, bias, attributes, n: int) -> None:
    rng = np.random.default_rng(1)
    constants = {"w": rng.normal(size=weight).astype(np.float32)}
    if bias is not None:
        constants["b"] = rng.normal(size=bias).astype(np.float32)
    layer = helper.make_node(operator, ["x", *constants], ["h"], **attributes)
    rank = len(weight)
    model = norm_graph(layer, constants, rank, n)
    x = rng.normal(size=[3, 4, 6, 6][:rank]).astype(np.float32)
    expected = evaluate(model, x, tmp_path / "before.onnx")
    model = folded(model, 1)
    assert [node.op_type for node in model.graph.node] == [operator]
    assert len(model.graph.initializer) == 2
    actual = evaluate(model, x, tmp_path / "after.onnx")
    check_onnx(tmp_path / "after.onnx")
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def evaluate(model: onnx.ModelProto, x: np.ndarray, path: Path) -> np.ndarray:
    onnx.save_model(model, path)
    if model.graph.node[0].op_type != "ConvTranspose":  # the reference evaluator cannot do it in groups
        return onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})[0]
    with compiled_elsewhere(path, "ort") as remote:
        return remote.run({"x": x})["y"]


def test_folding_leaves_a_value_that_is_also_an_output() -> None:
    model = norm_graph(helper.make_node("Conv", ["x", "w"], ["h"]), {"w": np.ones((6, 4, 1, 1), np.float32)}, 4, 6)
    model.graph.output.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, [None] * 4))
    folded(model, 0)


def test_folding_leaves_a_matrix_that_is_added() -> None:
    constants = {"w": np.ones((4, 5), np.float32), "b": np.ones((3, 5), np.float32)}
    model = norm_graph(helper.make_node("Gemm", ["x", "w", "b"], ["h"]), constants, 2, 5)
    folded(model, 0)
