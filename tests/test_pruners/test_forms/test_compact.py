"""Compact networks on disk: code + plan + safetensors, strict, no pickle."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners.errors import PlanError
from pruners.forms.compact import load, save_weights
from pruners.graph import trace
from pruners.surgery import apply


class Tied(nn.Module):
    def __init__(self, hidden=6):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.bn, self.o = nn.BatchNorm1d(hidden), nn.Linear(hidden, 2)
        self.c.weight = self.b.weight

    def forward(self, x):
        return self.o(self.bn(self.c(F.relu(self.b(F.relu(self.a(x)))))))


@pytest.fixture
def saved(tmp_path, plan_for):
    model = Tied()
    graph = trace(model, (torch.randn(2, 3),))
    plan = plan_for(graph, removed=0.5)
    compact = apply(model, plan, graph=graph)
    compact.train()(torch.randn(8, 3))
    path = tmp_path / "weights.safetensors"
    save_weights(compact, path)
    return compact.eval(), plan, path


def test_round_trip_into_freshly_built_code(saved):
    compact, plan, path = saved
    loaded = load(Tied().eval(), plan, path)
    assert loaded.c.weight is loaded.b.weight
    x = torch.randn(5, 3)
    assert torch.equal(loaded(x), compact(x))
    assert loaded.state_dict().keys() == compact.state_dict().keys()
    assert [item.name for item in path.parent.iterdir()] == ["weights.safetensors"]


def test_files_that_do_not_fit_are_one_line(saved, plan_for, tmp_path):
    compact, plan, path = saved
    with pytest.raises(PlanError, match=r"nowhere: no such file"):
        load(Tied(), plan, tmp_path / "nowhere")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PlanError, match=r"is not a complete safetensors file: [^\n]*$"):
        load(Tied(), plan, path)
    path.write_bytes(b"")
    with pytest.raises(PlanError, match="is not a complete safetensors file"):
        load(Tied(), plan, path)
    save_weights(Tied(), path)
    with pytest.raises(PlanError, match=r"'a.weight' is float32\(6, 3\), the plan makes it float32\(3, 3\)"):
        load(Tied(), plan, path)
    save_weights(nn.Linear(3, 2), path)
    with pytest.raises(PlanError, match=r"lacks 'a.bias'"):
        load(Tied(), plan, path)
    compact.register_buffer("extra", torch.zeros(1))
    save_weights(compact, path)
    with pytest.raises(PlanError, match="holds 'extra', which the network does not have"):
        load(Tied(), plan, path)


def test_a_plan_of_another_network_is_refused(saved):
    _, plan, path = saved
    with pytest.raises(PlanError, match="made for another network"):
        load(Tied(hidden=8), plan, path)
