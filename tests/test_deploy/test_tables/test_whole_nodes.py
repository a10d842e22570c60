"""A plan space tells which layers keep their own channels in every plan, and why."""

from __future__ import annotations

import onnx
import torch
from torch import nn

from benchmarks.tables.aligned import why_whole
from deploy.exporting.export import export_onnx
from deploy.tables.plan_space import plan_space_of
from pruners.graph import trace


class Refusing(nn.Module):
    """Layers coupled with the input, feeding a refused operator, or an output; some of no module."""

    def __init__(self):
        super().__init__()
        self.stem, self.back = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 3, 3, padding=1)
        self.ordered, self.beside = nn.Conv2d(3, 32, 3), nn.Linear(32, 32)
        self.token, self.sums = nn.Parameter(torch.randn(32, 8)), nn.Parameter(torch.randn(8, 8))
        self.out = nn.Parameter(torch.randn(8, 5))

    def forward(self, x):
        x = x + self.back(self.stem(x).relu())
        x = self.ordered(x).relu().mean((2, 3))
        x = self.beside(x) + x.cumsum(1)
        x = (x @ self.token).relu()
        return (x @ self.sums).cumsum(1) @ self.out


def test_layers_that_no_plan_prunes_say_why(tmp_path):
    torch.manual_seed(0)
    network, inputs, dense = Refusing().eval(), (torch.randn(2, 3, 8, 8),), tmp_path / "dense.onnx"
    export_onnx(network, inputs, dense)
    graph = trace(network, inputs)
    space = plan_space_of(network, graph, inputs, dense)
    nodes = onnx.load(dense).graph.node
    added = "add joins it with a tensor that cannot shrink"
    assert {nodes[layer.node].name: layer.reason for layer in space.whole_layers} == {
        "back/Conv": added,
        "ordered/Conv": "cumsum takes its channels in order",
        "beside/Gemm": "add_1 joins it with a tensor that cannot shrink",
        "MatMul_1": "cumsum_1 takes its channels in order",
        "MatMul_2": "its channels are an output of the network",
    }
    why = why_whole(dense, space, space.whole)
    assert why["stem/Conv"] == "the plan keeps all of stem, which 2 layers produce or consume"
    assert why["back/Conv"] == f"{why['stem/Conv']}; its own channels cannot be pruned: {added}"
    assert why["ordered/Conv"] == "its own channels cannot be pruned: cumsum takes its channels in order"
