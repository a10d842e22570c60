"""Masking and cutting the user's own module: what changes, what stays, what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners.errors import NothingToPruneError, PlanError
from pruners.forms.masking import mask
from pruners.graph import trace
from pruners.plan import PruningPlan
from pruners.surgery import apply
from pruners.verify import verify

X = torch.randn(2, 3, 8, 8)


class Mixed(nn.Module):
    """One of each layer that repeats its sizes."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.d = nn.Conv2d(8, 16, 3, padding=1, groups=8)
        self.prelu = nn.PReLU(16)
        self.t = nn.ConvTranspose2d(16, 6, 2, stride=2)
        self.tg = nn.ConvTranspose2d(6, 12, 1, groups=6)
        self.norm = nn.InstanceNorm2d(12, affine=True)
        self.fc1 = nn.Linear(12 * 4, 10)
        self.fc2 = nn.Linear(10, 2)

    def forward(self, x):
        x = self.prelu(self.d(F.relu(self.bn(self.a(x)))))
        x = F.adaptive_avg_pool2d(self.norm(self.tg(self.t(x))), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.o = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.c.weight = self.b.weight

    def forward(self, x):
        return self.o(F.relu(self.c(F.relu(self.b(F.relu(self.a(x)))))))


def test_sizes_that_layers_repeat_are_brought_up_to_date(plan_for):
    model = Mixed()
    graph = trace(model, (X,))
    small = apply(model, plan_for(graph, removed=0.5), graph=graph)
    assert (small.a.in_channels, small.a.out_channels) == (3, 4)
    assert small.bn.num_features == 4
    assert (small.d.in_channels, small.d.out_channels, small.d.groups) == (4, 8, 4)
    assert small.prelu.num_parameters == 8
    assert (small.t.in_channels, small.t.out_channels) == (8, 3)
    assert (small.tg.in_channels, small.tg.out_channels, small.tg.groups) == (3, 6, 3)
    assert small.norm.num_features == 6
    assert (small.fc1.in_features, small.fc1.out_features, small.fc2.in_features) == (24, 5, 5)
    assert small(X).shape == (2, 2)


def test_the_users_module_stays_and_the_copy_keeps_its_ways(plan_for):
    model = Mixed().train()
    model.d.weight.requires_grad_(False)
    calls = []
    model.a.register_forward_hook(lambda *_: calls.append(1))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    graph = trace(model, (X,))
    small = apply(model, plan_for(graph), graph=graph)
    assert type(small) is Mixed
    assert small.training
    assert not small.d.weight.requires_grad
    assert small.a.weight.requires_grad
    assert small.state_dict().keys() == state.keys()
    calls.clear()
    small(X)
    assert calls == [1]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_tied_weights_stay_tied(plan_for):
    model = Tied()
    graph = trace(model, (torch.randn(2, 3),))
    small = apply(model, plan_for(graph, removed=0.5), graph=graph)
    assert small.c.weight is small.b.weight
    assert small.b.weight.shape == (3, 3)


def test_the_mask_zeroes_rows_and_columns(plan_for):
    model = Tied()
    graph = trace(model, (torch.randn(2, 3),))
    plan = plan_for(graph, removed=0.5)
    masked = mask(model, plan)
    gone = list(plan.removed("a"))
    assert not masked.a.weight[gone].any()
    assert not masked.a.bias[gone].any()
    assert not masked.o.weight[:, gone].any()
    assert masked.o.weight.shape == model.o.weight.shape


def test_without_a_graph_the_model_is_traced_again(plan_for):
    model = Mixed()
    plan = plan_for(trace(model, (X,)))
    assert verify(model, plan, apply(model, plan)).removed_channels > 0


def test_plans_that_do_not_fit_are_refused(plan_for):
    model = Mixed()
    graph = trace(model, (X,))
    plan = plan_for(graph)
    with pytest.raises(PlanError, match="made for another network"):
        apply(Tied(), plan.model_copy(update={"inputs": trace(Tied(), (torch.randn(2, 3),)).inputs}))

    def changed(**update):
        return PruningPlan.model_validate({**plan.model_dump(), **update})

    with pytest.raises(PlanError, match="'a' has 8 units, the plan counts 9"):
        apply(model, changed(sizes={"a": 9}, kept={"a": (0,)}), graph=graph)
    with pytest.raises(PlanError, match="'fc2' is fixed: its channels are an output"):
        apply(model, changed(sizes={"fc2": 2}, kept={"fc2": (0,)}), graph=graph)
    with pytest.raises(PlanError, match="no channel group 'nowhere'"):
        apply(model, changed(sizes={"nowhere": 2}, kept={"nowhere": (0,)}), graph=graph)
    with pytest.raises(PlanError, match="'a' keeps at least 2 units, the plan keeps 1"):
        apply(model, changed(sizes={"a": 8}, kept={"a": (0,)}), graph=graph)
    with pytest.raises(NothingToPruneError, match="removes nothing"):
        apply(model, changed(sizes={}, kept={}), graph=graph)
