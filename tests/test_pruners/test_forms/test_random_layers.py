"""What a graph form drops at random in training: alike the original, at rates that can be changed afterwards."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from pruners.forms.graph_network import GraphNetwork
from pruners.graph import trace
from pruners.surgery import apply


class DropPath(nn.Module):
    """As in timm."""

    def __init__(self, drop_prob):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x):
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep = 1 - self.drop_prob
        return x * x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep).div_(keep)


class Block(nn.Module):
    """Functions of dropout, fused attention, stochastic depth called twice, branches that are dropped."""

    def __init__(self):
        super().__init__()
        self.a, self.qkv, self.b, self.head = nn.Linear(8, 32), nn.Linear(32, 96), nn.Linear(32, 32), nn.Linear(32, 4)
        self.attn_drop, self.depth, self.path = nn.Dropout(0.3), StochasticDepth(0.5, "row"), DropPath(0.4)

    def forward(self, x):
        n, length, _ = x.shape
        x = F.dropout(self.a(x).relu(), 0.5, self.training)
        q, k, v = self.qkv(x).view(n, length, 3, 4, 8).permute(2, 0, 3, 1, 4)
        rate = self.attn_drop.p if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, dropout_p=rate).transpose(1, 2).flatten(2)
        x = x + self.depth(self.b(x).relu())
        x = x + self.depth(self.b(x).relu())
        return self.head(self.path(F.dropout1d(x, 0.2, self.training)))


RATES = {"dropout": "p", "attn_drop": "p", "depth": "p", "path": "drop_prob", "dropout_1": "p"}


@pytest.fixture
def compact(plan_for):
    model, inputs = Block(), (torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0)),)
    graph = trace(model, inputs)
    return apply(model, plan_for(graph, removed=0.3), graph=graph, form="graph"), inputs


def test_each_rate_is_changed_by_itself(compact):
    network, (x,) = compact
    assert {name for name, layer in network.named_modules() if hasattr(layer, RATES.get(name, "p"))} == RATES.keys()
    expected = network.eval()(x)
    for name, rate in RATES.items():
        alone = copy.deepcopy(network).train()
        for other, its_rate in RATES.items():
            if other != name:
                setattr(alone.get_submodule(other), its_rate, 0.0)
        torch.manual_seed(0)
        assert not torch.allclose(alone(x), expected, atol=1e-3), name
        setattr(alone.get_submodule(name), rate, 0.0)
        torch.testing.assert_close(alone(x), expected)


def test_training_draws_as_the_original_does(plan_for):
    model, inputs = Block(), (torch.randn(3, 5, 8),)
    graph = trace(model, inputs)
    compact = apply(model, plan_for(graph, removed=0.3, only={"qkv"}), graph=graph, form="graph").train()
    for name in ("dropout", "dropout_1"):
        compact.get_submodule(name).p = 0.0
    compact.get_submodule("attn_drop").p = 0.0
    torch.manual_seed(0)
    rows = torch.stack([compact(inputs[0]) for _ in range(200)])
    bias = model.head.bias.expand_as(rows)
    dropped = (rows == bias).all(-1).all(-1).float().mean()  # whole examples
    assert 0.3 < dropped < 0.5


def test_a_graph_form_pruned_again_keeps_its_layers(compact, plan_for):
    network, inputs = compact
    graph = trace(network, inputs)
    again = apply(network, plan_for(graph, removed=0.3), graph=graph).train()
    for name, rate in RATES.items():
        if name != "attn_drop":  # torch does not tell where a fused attention stood
            setattr(again.get_submodule(name), rate, 0.0)
    (fused,) = (layer for layer in again.modules() if type(layer).__name__ == "AttentionDropout")
    fused.p = 0.0
    torch.testing.assert_close(again(*inputs), again.eval()(*inputs))


class SinglePrecision(nn.Module):
    """It is judged in double precision first, in which its graph does not run."""

    def __init__(self):
        super().__init__()
        self.a, self.drop, self.b, self.head = nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 64), nn.Linear(64, 4)
        self.n_heads = 4

    def forward(self, x):
        x = self.b(self.drop(self.a(x)).relu().float())
        x = x.view(*x.shape[:2], self.n_heads, x.shape[-1] // self.n_heads)
        return self.head(x.relu().flatten(2))


def test_a_network_that_runs_in_single_precision_only_is_judged_with_its_dropout(plan_for):
    model, inputs = SinglePrecision().eval(), (torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0)),)
    graph = trace(model, inputs)
    assert isinstance(apply(model, plan_for(graph, removed=0.3), graph=graph), SinglePrecision)


class OneSize(nn.Module):
    """Its code holds the sizes, and it cannot be traced in training mode."""

    def __init__(self):
        super().__init__()
        self.a, self.drop, self.head = nn.Linear(8, 32), nn.Dropout(0.5), nn.Linear(8, 4)

    def forward(self, x):
        x = self.drop(self.a(x).relu())
        if self.training and x.sum().item() > 0:
            x = x + 1
        return self.head(x.view(3, 4, 8))


def test_a_network_of_one_size_is_handed_out_as_a_graph_after_it_was_judged(plan_for):
    model, inputs = OneSize().eval(), (torch.randn(3, 8, generator=torch.Generator().manual_seed(0)),)
    graph = trace(model, inputs)
    compact = apply(model, plan_for(graph, removed=0.3), graph=graph)
    assert isinstance(compact, GraphNetwork)
    assert compact.get_submodule("drop").p == 0.5
    assert compact.eval()(*inputs).shape == (3, 4, 4)
