"""Equal parts are written with their sizes, so that unequal ones are the same nodes with other numbers."""

from __future__ import annotations

import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from deploy.exporting.export import export_onnx


class Halves(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(48, 4, 1)
        self.inner = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x):
        one, two = self.first(x).relu().chunk(2, 1)
        return self.last(torch.cat([one, two, self.inner(two)], 1))


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_chunk_is_a_split_with_sizes(dynamic, tmp_path):
    torch.manual_seed(0)
    network, x, path = Halves().eval(), torch.randn(2, 3, 8, 8), tmp_path / "dense.onnx"
    export_onnx(network, x, path, dynamic_batch=dynamic)
    graph = onnx.load(path).graph
    (split,) = (node for node in graph.node if node.op_type == "Split")
    (sizes,) = (numpy_helper.to_array(each) for each in graph.initializer if each.name == split.input[1])
    assert sizes.tolist() == [16, 16]
    assert [attribute.name for attribute in split.attribute] == ["axis"]
    (output,) = onnxruntime.InferenceSession(str(path)).run(None, {"x": x.numpy()})
    assert torch.allclose(torch.from_numpy(output), network(x), atol=1e-4)
