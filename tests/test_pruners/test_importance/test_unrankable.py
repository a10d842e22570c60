"""A group that a criterion has nothing to rank by stays whole and is named; the rest of the network is pruned."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pruners import Target
from pruners.errors import MethodError, SelectorError, TargetError
from pruners.registry import create
from pruners.target import Constraints
from pruners.task import PruningTask

X = torch.randn(4, 8)
HALF = Target(of="flops", kept_fraction=0.6)


class Net(nn.Module):
    """A layer with an orthogonal weight, whose rows no tensor of its own holds; one with a BatchNorm; one without."""

    def __init__(self):
        super().__init__()
        self.a = nn.utils.parametrizations.orthogonal(nn.Linear(8, 8))
        self.b, self.norm, self.c, self.h = nn.Linear(8, 32), nn.BatchNorm1d(32), nn.Linear(32, 24), nn.Linear(24, 4)

    def forward(self, x):
        return self.h(torch.relu(self.c(torch.relu(self.norm(self.b(self.a(x)))))))


def task(target=HALF, **more):
    torch.manual_seed(0)
    labelled = lambda: iter(lambda: (X, torch.tensor([0, 1, 2, 3])), None)  # noqa: E731 - endless
    return PruningTask(
        model=Net().eval(),
        example_inputs=(X,),
        target=target,
        batches=labelled,
        loss=nn.functional.cross_entropy,
        **more,
    )


ORTHOGONAL = "a.parametrizations.weight.0"


@pytest.mark.parametrize(
    ("method", "settings", "whole"),
    [
        ("l1", {}, {ORTHOGONAL: "has no filters"}),
        ("criterion", {"criterion": "l2"}, {ORTHOGONAL: "has no filters"}),
        ("criterion", {"criterion": "fpgm"}, {ORTHOGONAL: "has no filters"}),
        ("criterion", {"criterion": "bn_scale"}, {ORTHOGONAL: "has no BatchNorm", "c": "has no BatchNorm"}),
        ("criterion", {"criterion": "l1", "steps": 2}, {ORTHOGONAL: "has no filters"}),
        ("criterion", {"criterion": "activation_mean", "batches_per_step": 1}, {}),
        ("uniform", {}, {}),
    ],
)
def test_what_cannot_be_ranked_stays_whole_and_is_named(method, settings, whole):
    pruned = create(method, **settings).prune(task())
    assert not set(whole) & set(pruned.plan.kept)
    assert pruned.macs_after <= 0.6 * pruned.macs_before
    for name, reason in whole.items():
        assert f"{name!r}: " in pruned.unranked
        assert reason in pruned.unranked
    assert bool(pruned.unranked) == bool(whole)


def test_a_target_out_of_reach_without_it_is_refused():
    with pytest.raises(TargetError):
        create("criterion", criterion="bn_scale").prune(task(Target(of="flops", kept_fraction=0.2)))


def test_ratios_that_name_it_say_why_it_stays():
    target = Target(of="ratios", ratios={ORTHOGONAL: 0.5})
    with pytest.raises(SelectorError, match="may not be pruned: l1 cannot rank it: it has no filters"):
        create("l1").prune(task(target))


def test_a_criterion_that_ranks_nothing_is_refused_in_one_line():
    with pytest.raises(MethodError, match=r"^method 'criterion' can rank no group: '0': bn_scale [^\n]*$"):
        create("criterion", criterion="bn_scale").prune(
            PruningTask(
                model=nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), example_inputs=(X,), target=HALF
            )
        )


def test_a_module_is_excluded_with_all_that_lies_in_it():
    pruned = create("uniform").prune(task(constraints=Constraints(exclude=("a",))))
    assert ORTHOGONAL not in pruned.plan.kept
    assert set(pruned.plan.kept) == {"b", "c"}
