"""A network that opens an autocast itself is pruned as itself, and checked in a precision that no autocast rounds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pruners.errors import SurgeryError, VerificationError
from pruners.graph import trace
from pruners.surgery import apply
from pruners.verify import verify

X = torch.randn(4, 16)


class Mixed(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.a, self.b, self.h, self.dtype = nn.Linear(16, 64), nn.Linear(64, 48), nn.Linear(48, 4), dtype
        self.gain = 1.0

    def forward(self, x):
        with torch.autocast("cpu", dtype=self.dtype):
            x = torch.relu(self.a(x))
            with torch.autocast("cpu", enabled=False):
                x = torch.relu(self.b(x.type_as(self.b.weight))) * self.gain
        return self.h(x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_network_under_its_own_autocast_is_pruned_as_itself(dtype, plan_for):
    torch.manual_seed(0)
    model = Mixed(dtype).eval()
    graph = trace(model, (X,))
    assert {group.name: group.n_units for group in graph.groups if group.prunable} == {"a": 64, "b": 48}
    plan = plan_for(graph)
    compact = apply(model, plan, graph=graph)
    assert type(compact) is Mixed
    with pytest.raises(SurgeryError, match="opens an autocast, which a graph form would run without"):
        apply(model, plan, graph=graph, form="graph")
    compact.gain = 1.01
    with pytest.raises(VerificationError, match="masked and compact network differ"):
        verify(model, plan, compact, graph=graph)
