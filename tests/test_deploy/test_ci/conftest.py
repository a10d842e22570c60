"""Small networks on the disk, and the files of a simulated job."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


def write_net(path, *, n_classes=3, scale=1.0, padding=0, external=False, batch="N"):
    """Write x (N, 4) -> y (N, n_classes): a matrix product, with bytes beside it that nobody reads."""
    weight = scale * np.arange(4 * n_classes, dtype=np.float32).reshape(4, n_classes)
    initializers = [numpy_helper.from_array(weight, "w")]
    if padding:
        initializers.append(numpy_helper.from_array(np.zeros(padding, np.uint8), "padding"))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, n_classes])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    if external:
        onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)
    else:
        onnx.save(model, path)
    return path


@pytest.fixture(name="write_net")
def _write_net():
    return write_net
