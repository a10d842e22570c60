"""The graph form is called as the original is, and says in one line what it cannot do."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from torch import nn

from pruners.errors import SurgeryError
from pruners.graph import trace
from pruners.surgery import apply


class Two(nn.Module):
    """Two inputs; a size is written into the code."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 32), nn.Linear(32, 16), nn.Linear(16, 4)
        self.embed = nn.Embedding(9, 8)

    def forward(self, x, tokens, scale=None):
        x = x + self.embed(tokens).mean(1)
        y = self.c(torch.relu(self.b(torch.relu(self.a(x)).view(-1, 32))))
        return y if scale is None else y * scale


@pytest.fixture
def inputs():
    return torch.randn(3, 8), torch.randint(0, 9, (3, 5))


@pytest.fixture
def compact(inputs, plan_for):
    model = Two().eval()
    graph = trace(model, inputs)
    return apply(model, plan_for(graph, removed=0.5), graph=graph)


def test_it_has_the_signature_of_the_original(compact, inputs):
    x, tokens = inputs
    assert list(inspect.signature(compact.forward).parameters) == ["x", "tokens", "scale"]
    expected = compact(x, tokens)
    for got in (compact(x, tokens=tokens), compact(tokens=tokens, x=x), compact(x, tokens, None)):
        assert torch.equal(got, expected)


def test_other_calls_than_the_traced_one_are_one_line(compact, inputs):
    x, tokens = inputs
    for arguments, message in [
        ((x,), "Two as a graph: missing a required argument: 'tokens'"),
        ((x, tokens, x), "traced without 'scale': leave it out"),
        ((x, tokens, 2), "traced without 'scale': leave it out"),
        ((x, [tokens]), "traced with 'tokens' of another kind than list"),
        ((x, 3), "traced with 'tokens' of another kind than int"),
        ((x[:, :4], tokens), r"inputs of shape \['any', 8\] only, got \[3, 4\]"),
    ]:
        with pytest.raises(SurgeryError, match=message):
            compact(*arguments)


def test_a_wrapper_is_called_by_position(inputs, plan_for):
    model = nn.DataParallel(Two()).eval()
    graph = trace(model, inputs)
    compact = apply(model, plan_for(graph, removed=0.5), graph=graph, form="graph")
    assert compact(*inputs).shape == (3, 4)
    with pytest.raises(SurgeryError, match="traced with argument 2: it is missing"):
        compact(inputs[0])


class Drops(Two):
    def __init__(self):
        super().__init__()
        self.drop, self.rest = nn.Dropout(0.5), nn.Sequential(nn.ReLU(), nn.Dropout1d(0.9))

    def forward(self, x, tokens):
        x = torch.relu(self.a(self.drop(x + self.embed(tokens).mean(1)))).view(-1, 32)
        return self.c(self.rest(self.b(x)))


def test_rates_of_dropout_are_changed_afterwards(inputs, plan_for):
    model = Drops()
    graph = trace(model, inputs)
    compact = apply(model, plan_for(graph, removed=0.3), graph=graph, form="graph")
    middle = trace(compact, inputs)
    again = apply(compact, plan_for(middle, removed=0.3), graph=middle)  # pruned twice
    for network in (compact, copy.deepcopy(compact), again):
        assert network.training
        expected = network.eval()(*inputs)
        assert not torch.equal(network.train()(*inputs), expected)
        network.apply(lambda layer: setattr(layer, "p", 0.0) if isinstance(layer, (nn.Dropout, nn.Dropout1d)) else None)
        torch.testing.assert_close(network(*inputs), expected)
        network.get_submodule("rest.1").p = 1.0
        torch.testing.assert_close(network(*inputs), network.get_parameter("c.bias").expand(3, -1))
        torch.testing.assert_close(network.eval()(*inputs), expected)
    assert model.drop.p == 0.5
