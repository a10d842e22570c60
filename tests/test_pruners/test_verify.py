"""The check must see every mistake, and must refuse to say "equal" about nothing."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners.errors import VerificationError
from pruners.forms.module_form import resize_
from pruners.graph import trace
from pruners.groups import removed_positions
from pruners.plan import PruningPlan
from pruners.surgery import apply
from pruners.verify import verify

X = torch.randn(2, 3, 8, 8)


class Block(nn.Module):
    """A freshly initialised residual network with its last scale at zero: blind to its inner channels."""

    def __init__(self, scale=0.0):
        super().__init__()
        self.stem, self.stem_bn = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.a, self.a_bn = nn.Conv2d(8, 12, 1), nn.BatchNorm2d(12)
        self.b, self.b_bn = nn.Conv2d(12, 8, 1), nn.BatchNorm2d(8)
        self.gamma = nn.Parameter(torch.full((8, 1, 1), 1e-6))
        self.fc = nn.Linear(8, 4)
        nn.init.constant_(self.b_bn.weight, scale)

    def forward(self, x):
        x = F.relu(self.stem_bn(self.stem(x)))
        x = x + self.gamma * self.b_bn(self.b(F.relu(self.a_bn(self.a(x)))))
        return self.fc(x.mean((2, 3)))


@pytest.fixture
def case(plan_for):
    torch.manual_seed(0)
    model = Block()
    graph = trace(model, (X,))
    plan = plan_for(graph, removed=0.5, only={"a"})
    return model, graph, plan


def test_the_probe_sees_what_fresh_weights_hide(case):
    model, graph, plan = case
    check = verify(model, plan, apply(model, plan, graph=graph, check=False), graph=graph)
    assert check.sensitivity == 0
    assert check.probe_sensitivity > 0.01
    assert check.removed_channels == 6
    assert check.removed_parameters == 6 * (8 + 1 + 2 + 8)
    assert check.batch_sizes == (1, 2)
    assert check.to_json()["batch_sizes"] == [1, 2]


@pytest.mark.parametrize("name", ["a.weight", "a_bn.running_var", "b.weight", "a_bn.bias", "stem.weight", "gamma"])
def test_any_wrong_tensor_is_seen(case, name):
    model, graph, plan = case
    compact = apply(model, plan, graph=graph, check=False)
    with torch.no_grad():
        tensor = compact.state_dict()[name]
        tensor.view(-1)[0] += 1e-3
    with pytest.raises(VerificationError, match=rf"'{name}' of the compact network is not the original's"):
        verify(model, plan, compact, graph=graph)


def test_a_wrong_forward_is_seen_through_blind_weights(case):
    model, graph, plan = case
    compact = apply(model, plan, graph=graph, check=False)
    compact.b_bn.eps = 0.5
    with pytest.raises(VerificationError, match="differ by"):
        verify(model, plan, compact, graph=graph)


def test_other_units_than_the_plans_are_seen(case, plan_for):
    model, graph, plan = case
    other = plan_for(graph, removed=0.5, seed=9, only={"a"})
    assert other.kept != plan.kept
    with pytest.raises(VerificationError, match="is not the original's, cut by the plan"):
        verify(model, plan, apply(model, other, graph=graph, check=False), graph=graph)


def test_an_unpruned_network_is_not_called_compact(case):
    model, graph, plan = case
    with pytest.raises(VerificationError, match="has not the shape that the plan says"):
        verify(model, plan, copy.deepcopy(model), graph=graph)


def test_nothing_removed_is_vacuous(case):
    model, graph, plan = case
    empty = PruningPlan.model_validate({**plan.model_dump(), "sizes": {}, "kept": {}})
    with pytest.raises(VerificationError, match="removes nothing"):
        verify(model, empty, model, graph=graph)


def test_an_output_that_ignores_the_channels_is_vacuous(plan_for):
    class Deaf(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.c(x) + 0.0 * self.b(F.relu(self.a(x)))

    model = Deaf()
    graph = trace(model, (torch.randn(2, 4),))
    plan = plan_for(graph)
    with pytest.raises(VerificationError, match="the check is vacuous: masking the 3 removed channels"):
        verify(model, plan, apply(model, plan, graph=graph, check=False), graph=graph)


def test_a_compact_network_that_does_not_run_is_one_line(case):
    model, graph, plan = case
    compact = copy.deepcopy(model)
    resize_(compact, removed_positions(graph.groups, plan))
    compact.fc.register_forward_pre_hook(lambda layer, args: (args[0][:, :-1],))
    with pytest.raises(VerificationError, match=r"^the compact network does not run: RuntimeError: [^\n]*$"):
        verify(model, plan, compact, graph=graph)


def test_half_precision_is_checked_in_fp32(plan_for):
    model = Block(scale=1.0).half()
    graph = trace(model, (X.half(),))
    plan = plan_for(graph)
    assert apply(model, plan, graph=graph).a.weight.dtype == torch.float16
