"""The graph form is called as the original is, and says in one line what it cannot do."""

from __future__ import annotations

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
        ((x, tokens[:, :3]), r"inputs of shape \['any', 5\] only, got \[3, 3\]"),
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
