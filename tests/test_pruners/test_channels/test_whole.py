"""What stays whole is named, whatever the operator: in the graph, and where a target cannot be met."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pruners import Target
from pruners.errors import NothingToPruneError, TargetError
from pruners.graph import trace
from pruners.registry import create
from pruners.task import PruningTask

OUTPUT = "its channels are an output of the network"
X = torch.randn(2, 6, 8)


class Net(nn.Module):
    """A recurrent layer whose state is an output, an operator that is not known, a layer that nothing uses."""

    def __init__(self):
        super().__init__()
        self.inner, self.norm = nn.Linear(8, 16), nn.LayerNorm(16)
        self.r = nn.LSTM(16, 24, batch_first=True)
        self.head, self.unused = nn.Linear(24, 3), nn.Linear(3, 3)
        self.mixing = nn.Parameter(torch.eye(3) + 0.1 * torch.rand(3, 3))

    def forward(self, x):
        y, (h, _) = self.r(self.norm(self.inner(x)))
        return self.head(y) @ torch.linalg.inv(self.mixing), h


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.r = nn.GRU(8, 24, batch_first=True)

    def forward(self, x):
        return self.r(x)[0]


class Masked(nn.Module):
    """An operator that is not known, but only on a constant of the code."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        mask = x.new_ones(x.shape[1], x.shape[1]).tril()
        return self.b(mask @ self.a(x))


def prune(net, kept):
    task = PruningTask(model=net, example_inputs=(X,), target=Target(of="params", kept_fraction=kept))
    return create("l1").prune(task)


def test_the_graph_names_every_layer_that_stays_whole_and_why():
    assert trace(Net(), (X,)).whole == {
        "r": OUTPUT,
        "head": "matmul joins it with a tensor that cannot shrink",
        "unused": "what the network computes in evaluation does not use it",
        "mixing": "aten.linalg_inv.default is unknown to the label engine",
    }


def test_the_error_of_an_unreachable_target_names_what_stays_whole():
    with pytest.raises(
        TargetError, match=rf"these layers stay whole: 'r' \({OUTPUT}\), 'head' \(.*\), 'unused' \(.*\) and 1 more$"
    ):
        prune(Net(), 0.1)


def test_the_error_of_a_network_without_a_choice_names_what_stays_whole():
    with pytest.raises(NothingToPruneError, match=rf"^no layer of the network can lose a channel; .*'r' \({OUTPUT}\)$"):
        prune(Bare(), 0.5)


def test_an_unknown_operator_on_a_constant_holds_nothing():
    graph = trace(Masked(), (X,))
    assert not graph.unknown
    assert graph.group("a").prunable
