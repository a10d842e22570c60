"""Groups keep their names while a network shrinks, also where parts of a layer become one group."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners.channels.group_names import named_as_before
from pruners.graph import trace
from pruners.groups import ChannelGroup, Member
from pruners.plan import PruningPlan
from pruners.registry import create
from pruners.surgery import apply
from pruners.target import Target
from pruners.task import PruningTask


class Parts(nn.Module):
    """A layer in three unequal parts: cut to equal sizes, they cannot be told apart any more."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        first, second, third = self.stem(x).split([1, 2, 5], 1)
        x = torch.cat([third, F.relu(first), second], 1)
        return self.head(F.relu(self.conv(x)).mean((2, 3)))


def network():
    torch.manual_seed(0)
    return Parts()


def plan_for(graph, kept):
    sizes = {group.name: group.n_units for group in graph.groups}
    return PruningPlan.from_kept(
        kept, sizes, graph=graph.fingerprint, inputs=graph.inputs, method="drawn", settings={}, policy=graph.policy
    )


def test_names_stay_where_groups_become_fewer():
    x, model = torch.zeros(2, 3, 8, 8), network()
    graph = trace(model, (x,))
    assert [group.name for group in graph.groups] == ["stem", "stem#2", "stem#3", "conv", "head"]
    plan = plan_for(graph, {"stem#2": (1,), "conv": (0, 2, 5)})
    compact = apply(model, plan, graph=graph)
    names = [group.name for group in trace(compact, (x,), after=(graph, plan)).groups]
    assert "stem#3" in names
    assert "conv" in names
    assert "stem#3" not in [group.name for group in trace(compact, (x,)).groups]


def test_plans_of_successive_cuts_are_joined_by_channels():
    x, model = torch.zeros(2, 3, 8, 8), network()
    graph = trace(model, (x,))
    plan = plan_for(graph, {"stem#2": (1,)})
    compact = apply(model, plan, graph=graph)
    left = trace(compact, (x,), after=(graph, plan))
    later = plan_for(left, {"stem#3": (0, 3)})
    twice = apply(compact, later, graph=left).state_dict()
    at_once = apply(model, plan.then(later), graph=graph).state_dict()
    assert all(torch.equal(tensor, at_once[name]) for name, tensor in twice.items())


@pytest.mark.parametrize("method", ["criterion", pytest.param("taylor", marks=pytest.mark.slow)])
def test_methods_in_steps_prune_on(method):
    model = network()
    with torch.no_grad():
        model.stem.weight[1:3] *= 0.01
        model.stem.bias[1:3] *= 0.01
    settings = {
        "criterion": {"criterion": "l1", "normalisation": "none", "decision": "global", "steps": 4},
        "taylor": {"steps": 4, "batches_per_step": 1, "updates_between": 0, "normalise": False, "flops_strength": 0.0},
    }
    batch = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])

    def batches():
        while True:
            yield batch

    task = PruningTask(
        model=model,
        example_inputs=(torch.zeros(2, 3, 8, 8),),
        target=Target(of="flops", kept_fraction=0.3),
        batches=batches,
        loss=F.cross_entropy,
    )
    pruned = create(method, **settings[method]).prune(task)
    assert len(pruned.plan.kept["stem#2"]) == 1  # gone in the first step
    assert len(pruned.plan.kept["stem#3"]) < 5  # decided on later, by its own name
    again = apply(model, pruned.plan)
    assert {n: t.shape for n, t in again.state_dict().items()} == {
        n: t.shape for n, t in pruned.model.state_dict().items()
    }


def group(name, *units):
    member = Member(path="conv.weight", axis=0, indices=tuple((unit,) for unit in units), produces=True)
    return ChannelGroup(name=name, n_units=len(units), members=(member,))


def test_what_became_one_and_what_became_several_is_told():
    before = [group("a", 0, 1), group("a#2", 2, 3), group("b", 4, 5, 6, 7)]
    plan = PruningPlan(graph="g", inputs=(), method="m", sizes={"a#2": 2}, kept={"a#2": (1,)})
    now = [group("a", 0, 1, 2), group("b", 3, 4), group("b#2", 5, 6)]
    assert [one.name for one in named_as_before(before, plan, now)] == ["a+a#2", "b/1", "b/2"]


def test_units_in_another_order_are_no_group_of_that_name():
    before = [group("a", 0, 1, 2)]
    plan = PruningPlan(graph="g", inputs=(), method="m", sizes={"a": 3}, kept={"a": (0, 2)})
    assert [one.name for one in named_as_before(before, plan, [group("a", 0, 1)])] == ["a"]
    assert [one.name for one in named_as_before(before, plan, [group("a", 1, 0)])] == ["a/1"]
