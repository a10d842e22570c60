"""A buffer that a network replaces by one of another shape when it runs, as caches of positions are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pruners.modules.calls import NetworkCall
from pruners.modules.outputs import outputs_of
from pruners.registry import create
from pruners.target import Constraints, Target
from pruners.task import PruningTask


class Cached(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)
        self.register_buffer("grid", torch.zeros(1, 1), persistent=False)

    def forward(self, x):
        if self.grid.shape[1] != x.shape[1]:
            self.grid = torch.arange(x.shape[1], dtype=torch.float32)[None].to(self.a.weight.dtype)
        return self.b(self.a(x + self.grid).relu())


@pytest.mark.parametrize("form", ["module", "graph"])
def test_the_buffer_is_made_anew_in_each_run(form):
    torch.manual_seed(0)
    model, x = Cached().eval(), torch.randn(2, 4)
    first, second = (outputs_of(model, NetworkCall((x,)))[0] for _ in range(2))
    assert torch.equal(first, second)
    assert model.grid.shape == (1, 1)
    target, constraints = Target(of="params", kept_fraction=0.6), Constraints(form=form)
    pruned = create("l1").prune(PruningTask(model=model, example_inputs=x, target=target, constraints=constraints))
    assert pruned.form == form
    assert pruned.model(x).shape == (2, 2)
