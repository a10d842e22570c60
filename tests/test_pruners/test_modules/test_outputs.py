"""Outputs that hardly vary, or hold infinities by design: a right network passes the check, a wrong one does not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners.errors import VerificationError
from pruners.graph import trace
from pruners.modules.outputs import distance, span_of
from pruners.surgery import apply
from pruners.verify import verify


class Twins(nn.Module):
    """Cosine similarity of two embeddings: next to one for every pair."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 32, 3, 2)
        self.h = nn.Linear(32, 24)

    def embed(self, x):
        return self.h(F.relu(self.b(F.relu(self.norm(self.a(x))))).mean((2, 3)))

    def forward(self, x, y):
        return F.cosine_similarity(self.embed(x), self.embed(y), dim=1)


class Offset(nn.Module):
    """A large constant, and the network's own share far below the digits of fp32."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.h = nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)

    def forward(self, x):
        return 1000 + 1e-4 * self.h(F.relu(self.norm(self.a(x))))


class Rounded(nn.Module):
    """Steps in the network: what rounding moves across one is no error."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b, self.h = (
            nn.Linear(64, 256),
            nn.BatchNorm1d(256),
            nn.Linear(256, 64),
            nn.Linear(64, 3),
        )

    def forward(self, x):
        return self.h(torch.floor(1000 * self.b(F.relu(self.norm(self.a(x))))))


INPUTS = {
    Twins: (torch.randn(2, 3, 12, 12), torch.randn(2, 3, 12, 12)),
    Offset: (torch.randn(4, 6),),
    Rounded: (torch.randn(32, 64),),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("made", [Twins, Offset, Rounded])
def test_rounding_is_told_from_a_mistake(made, seed, plan_for):
    torch.manual_seed(seed)
    model = made().eval()
    graph = trace(model, INPUTS[made])
    plan = plan_for(graph, seed=seed)
    compact = apply(model, plan, graph=graph)
    assert type(compact) is made
    compact.norm.eps = 0.5
    with pytest.raises(VerificationError, match="masked and compact network differ"):
        verify(model, plan, compact, graph=graph)


def test_differences_are_of_finite_numbers_at_the_same_places():
    inf, nan = math.inf, math.nan
    one = torch.tensor([1.0, -inf, nan, 3.0])
    assert distance(one, one.clone()) == 0
    assert distance(one, torch.tensor([1.5, -inf, nan, 3.0])) == 0.5
    assert distance(one, torch.tensor([1.0, inf, nan, 3.0])) == inf
    assert distance(one, torch.tensor([1.0, -inf, 0.0, 3.0])) == inf
    assert distance(one, torch.tensor([1.0, -inf, nan, nan])) == inf
    assert distance(torch.zeros(0), torch.zeros(0)) == 0
    assert span_of(one, 0.0) == 2
    assert span_of(torch.tensor([99.0, 100.0]), 0.02) == 2
    assert span_of(torch.tensor([5.0, 5.0]), 0.0) == 5
    assert span_of(torch.zeros(3), 0.5) == span_of(torch.full((2,), inf), 0.5) == 1
